package job_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/certloom/certloom/internal/job"
	"github.com/certloom/certloom/internal/store/storetest"
)

// A job runs at the start and then again and again; one that fails is counted, and runs again as well.
func TestPeriodic(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) storetest.Database{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			driver, err := open(t).Open(t).Jobs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			registry := prometheus.NewRegistry()
			good, bad := make(chan bool, 10), make(chan bool, 10)
			runner, err := job.New(driver, job.Config{Now: time.Now, Registerer: registry, Jobs: []job.Periodic{
				{Name: "good", Every: time.Second, Run: func(context.Context) error { good <- true; return nil }},
				{Name: "bad", Every: time.Second, Run: func(context.Context) error { bad <- true; return errors.New("no") }},
			}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- runner.Run(ctx) }()
			for range 2 {
				<-good
				<-bad
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("Run: %v", err)
			}
			if n := testutil.CollectAndCount(registry, "certloom_job_runs_total"); n != 4 {
				t.Errorf("%d metrics of runs, want 4", n)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	driver, err := storetest.OpenSQLite(t).Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	run := func(context.Context) error { return nil }
	for name, jobs := range map[string][]job.Periodic{
		"refuses/no-name":   {{Every: time.Minute, Run: run}},
		"refuses/nothing":   {{Name: "a", Every: time.Minute}},
		"refuses/too-often": {{Name: "a", Every: time.Millisecond, Run: run}},
		"refuses/twice":     {{Name: "a", Every: time.Minute, Run: run}, {Name: "a", Every: time.Minute, Run: run}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := job.New(driver, job.Config{Now: time.Now, Jobs: jobs}); err == nil {
				t.Error("accepted")
			}
		})
	}
}
