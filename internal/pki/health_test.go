package pki_test

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

func TestRenewal(t *testing.T) {
	t.Parallel()
	const life = 1000 * time.Minute
	for name, test := range map[string]struct {
		ages           []int // of certificates in minutes when the next was issued
		due, lapsing   int
		want           pki.Renewal
		withShare      int
		lapsingOfShare int
	}{
		"never":            {nil, 500, 750, 0, 60, 600},
		"Istio":            {[]int{500, 501, 499}, 501, 750, 501, 60, 601},
		"cert-manager":     {[]int{667, 667}, 667, 767, 667, 60, 767},
		"late each time":   {[]int{840, 850, 845}, 849, 949, 849, 75, 949},
		"after the end":    {[]int{1500}, 850, 950, 850, 75, 950},
		"several replicas": {[]int{10, 30, 5, 80}, 500, 750, 500, 75, 750},
		"once late":        {[]int{500, 840, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500}, 520, 750, 520, 75, 750},
		"clock back":       {[]int{-5}, 500, 750, 0, 75, 750},
	} {
		begin := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
		var learnt pki.Renewal
		for _, age := range test.ages {
			learnt = learnt.Learn(begin, begin.Add(life), begin.Add(time.Duration(age)*time.Minute))
		}
		if diff := learnt - test.want; diff < -20 || diff > 20 {
			t.Errorf("%s: learnt %d, want about %d", name, learnt, test.want)
		}
		renewAt, lapsingAt := learnt.Expect(begin, begin.Add(life), pki.DefaultLapsingShare)
		if due, lapsing := int(renewAt.Sub(begin)/time.Minute), int(lapsingAt.Sub(begin)/time.Minute); abs(due-test.due) > 20 || abs(lapsing-test.lapsing) > 20 {
			t.Errorf("%s: due at %d, lapsing at %d, want about %d and %d", name, due, lapsing, test.due, test.lapsing)
		}
		if _, lapsingAt := learnt.Expect(begin, begin.Add(life), test.withShare); abs(int(lapsingAt.Sub(begin)/time.Minute)-test.lapsingOfShare) > 20 {
			t.Errorf("%s: with a share of %d, lapsing at %s", name, test.withShare, lapsingAt.Sub(begin))
		}
		if lapsingAt.Before(renewAt) || !lapsingAt.Before(begin.Add(life)) {
			t.Errorf("%s: lapsing at %s, due at %s", name, lapsingAt, renewAt)
		}
	}
	if r := pki.Renewal(0).Learn(time.Time{}, time.Time{}, time.Now()); r != 0 {
		t.Errorf("of no certificate: %d", r)
	}
}

func abs(n int) int { return max(n, -n) }
