package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// A search by cluster or Pod goes through the runs of the index; here each run has one or two certificates.
func TestWorkloadInManyRuns(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t).Open(t)
	f := storetest.Seed(t, s)
	var east, rare []pki.Serial
	for i := range 60 {
		c := f.NewCertificate(t, storetest.Workload("demo", fmt.Sprintf("w%d", i)).String(), storetest.Now().Add(time.Duration(i)*time.Second))
		c.Workload = pki.Workload{Cluster: []string{"east", "west"}[i%2], Pod: "often"}
		if i < 2 {
			c.Workload.Pod = "rare"
			rare = append([]pki.Serial{c.Serial}, rare...)
		}
		if i%2 == 0 {
			east = append([]pki.Serial{c.Serial}, east...)
		}
		f.Record(t, c)
	}
	store.Run(t, s, `UPDATE certificate SET id = id * 3000 + 100000000, previous = 0`)
	store.Run(t, s, `UPDATE identity SET newest = newest * 3000 + 100000000`)
	for name, tt := range map[string]struct {
		filter pki.CertificateFilter
		want   []pki.Serial
	}{
		"cluster": {pki.CertificateFilter{Cluster: "east"}, east},
		"rare":    {pki.CertificateFilter{Pod: "rare"}, rare},
		"absent":  {pki.CertificateFilter{Pod: "absent"}, nil},
	} {
		for _, limit := range []int{1, 7, 1000} {
			if got := paged(t, s, tt.filter, limit); fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("%s in pages of %d: got %d certificates, want %d in order", name, limit, len(got), len(tt.want))
			}
		}
	}
}

func paged(t *testing.T, s *store.Store, filter pki.CertificateFilter, limit int) []pki.Serial {
	t.Helper()
	var all []pki.Serial
	for filter.Limit = limit; ; {
		page, err := s.Certificates(t.Context(), filter, storetest.Now())
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return all
		}
		for i := range page {
			all = append(all, page[i].Serial)
		}
		filter.Before = page[len(page)-1].Serial
	}
}
