package figures_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/figures"
	"github.com/certloom/certloom/internal/pki"
)

// ledger counts how often it is asked, and takes its time.
type ledger struct {
	mu    sync.Mutex
	takes time.Duration
	err   error
	walks map[int]int // by the number of patterns
}

func (l *ledger) IdentityFigures(ctx context.Context, sees []string, _ time.Time) (*pki.IdentityFigures, error) {
	l.mu.Lock()
	l.walks[len(sees)]++
	n, err := l.walks[len(sees)], l.err
	l.mu.Unlock()
	select {
	case <-time.After(l.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return &pki.IdentityFigures{Statuses: map[pki.IdentityStatus]int64{pki.IdentityOK: int64(n)}}, err
}

func (l *ledger) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *ledger) count(patterns int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.walks[patterns]
}

func (*ledger) Stats(context.Context) (pki.Stats, error) { return pki.Stats{Certificates: 7}, nil }

func (*ledger) LiveCertificates(context.Context, pki.CAID, time.Time) (int64, error) { return 5, nil }

func (*ledger) Issued(_ context.Context, n int, _ time.Time) ([]int64, error) {
	return make([]int64, n), nil
}

func (*ledger) ClustersIssued(context.Context, time.Time) (map[string]int64, error) {
	return map[string]int64{"east": 1}, nil
}

func (*ledger) Refusals(context.Context, time.Time) ([]pki.Refusals, error) {
	return []pki.Refusals{{Action: "order.refuse"}}, nil
}

// start runs a keeper until the test ends.
func start(t *testing.T, takes time.Duration) (*figures.Keeper, *ledger) {
	t.Helper()
	l := &ledger{takes: takes, walks: map[int]int{}}
	k, err := figures.New(figures.Config{Store: l, CAs: func() []*pki.CA { return []*pki.CA{{ID: "a"}} }, Now: time.Now, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = k.Run(t.Context()) }()
	return k, l
}

func get(t *testing.T, k *figures.Keeper, sees []string) *pki.Figures {
	t.Helper()
	f, err := k.Figures(t.Context(), sees)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pass lets time pass, and what is under way end.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestManyViewersShareOneWalk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, l := start(t, 100*time.Millisecond)
		var viewers sync.WaitGroup
		for range 100 {
			viewers.Go(func() { get(t, k, nil) })
		}
		viewers.Wait()
		if n := l.count(0); n != 1 {
			t.Errorf("%d walks for viewers at one time", n)
		}
		for range 50 { // five seconds
			get(t, k, nil)
			pass(100 * time.Millisecond)
		}
		if n := l.count(0); n != 2 && n != 3 {
			t.Errorf("%d walks within five seconds", n)
		}
		before := l.count(0)
		pass(time.Hour)
		if n := l.count(0) - before; n < 58 || n > 60 {
			t.Errorf("%d walks in an hour while nobody looks", n)
		}
	})
}

// What is a little old is shown at once, and taken anew meanwhile; what is very old is not.
func TestOldFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, l := start(t, 100*time.Millisecond)
		first := get(t, k, nil)
		pass(30 * time.Second)
		began := time.Now()
		if again := get(t, k, nil); again != first || time.Since(began) > 0 {
			t.Error("waits for figures although there are some")
		}
		pass(time.Second)
		if next := get(t, k, nil); next == first || !next.At.After(first.At) {
			t.Error("figures were not taken anew")
		}
		pass(time.Hour)
		if late := get(t, k, nil); time.Since(late.At) > time.Minute {
			t.Errorf("shows figures of the whole that are %s old", time.Since(late.At))
		}
		get(t, k, []string{"a"})
		pass(time.Hour)
		if late := get(t, k, []string{"a"}); time.Since(late.At) > time.Second {
			t.Errorf("shows figures of a part that are %s old", time.Since(late.At))
		}
		if n := l.count(1); n != 2 {
			t.Errorf("%d walks through a part", n)
		}
	})
}

// A walk that takes long is not taken often.
func TestSlowDatabaseIsSpared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, l := start(t, 2*time.Second)
		for range 300 {
			get(t, k, nil)
			pass(100 * time.Millisecond)
		}
		if n := l.count(0); n != 1 {
			t.Errorf("%d walks of two seconds within half a minute", n)
		}
	})
}

// Who sees a part gets the figures of that part, and nothing of the whole.
func TestSights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, l := start(t, time.Millisecond)
		if f := get(t, k, []string{"a", "b"}); f.Whole != nil || l.count(2) != 1 {
			t.Errorf("a part: %+v", f)
		}
		f := get(t, k, nil)
		if f.Whole == nil || f.Whole.Alive["a"] != 5 || f.Whole.Stats.Certificates != 7 || len(f.Whole.Issued) != 24*60 || len(f.Whole.Refusals) != 1 || f.Whole.Clusters["east"] != 1 {
			t.Errorf("the whole: %+v", f.Whole)
		}
		if f := get(t, k, []string{}); f.Whole != nil {
			t.Error("who sees nothing sees the whole")
		}
	})
}

func TestFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, l := start(t, time.Millisecond)
		l.fail(fault.Wrap(errors.New("no"), fault.Unavailable, "database does not answer"))
		if _, err := k.Figures(t.Context(), nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a failed walk: %v", err)
		}
		if _, err := k.Figures(t.Context(), nil); !fault.Is(err, fault.Unavailable) || l.count(0) != 1 {
			t.Errorf("again at once: %v after %d walks", err, l.count(0))
		}
		l.fail(nil)
		pass(5 * time.Second)
		first := get(t, k, nil)
		l.fail(fault.Wrap(errors.New("no"), fault.Unavailable, "database does not answer"))
		pass(5 * time.Second)
		get(t, k, nil)
		pass(5 * time.Second)
		if again := get(t, k, nil); again != first {
			t.Error("old figures are not shown while there are no others")
		}
	})
}

func TestWaitEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, _ := start(t, time.Minute) // longer than a walk may take
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := k.Figures(ctx, nil); !fault.Is(err, fault.Unavailable) {
			t.Errorf("patience ended with %v", err)
		}
		if _, err := k.Figures(t.Context(), nil); err == nil {
			t.Error("a walk without end gives figures")
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := figures.New(figures.Config{}); err == nil {
		t.Error("nothing is required")
	}
}
