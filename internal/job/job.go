// Package job runs periodic work that replicas share: at each due time one of them runs it. River keeps the queue and
// elects the replica that fills it (docs/decisions/0010).
//
// A job must be idempotent, and must not mind when another replica runs the same at once: after a replica was killed
// nobody knows how far it had come. What must not be lost lies in tables of its own, never in the queue. The package
// knows nothing of what jobs do.
package job

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/rivertype"

	"github.com/certloom/certloom/internal/telemetry"
)

// Periodic is work that is due again and again.
type Periodic struct {
	Name    string                          // for logs and metrics: lower case, with hyphens
	Every   time.Duration                   // at least a second
	Timeout time.Duration                   // of one run; 0: defaultTimeout
	Run     func(ctx context.Context) error // its error is logged; the next due time is the next attempt
}

const (
	minEvery       = time.Second
	defaultTimeout = 5 * time.Minute
	// kept is how long the queue remembers what was done: long enough to look into it, short enough to stay small.
	kept = time.Hour
	// workers bounds how many jobs one replica runs at once.
	workers = 4
	// drain is how long jobs that run may take to end when the server stops. Their contexts end after that.
	drain = 5 * time.Second
)

// Config is what a Runner needs.
type Config struct {
	Jobs       []Periodic            // names are unique
	Now        func() time.Time      // required; measures runs. River has the system's clock
	Logger     *slog.Logger          // nil: nothing is logged
	Registerer prometheus.Registerer // nil: no metrics are exported
}

// Runner runs jobs. Make it with New; Run is called once.
type Runner struct {
	run func(ctx context.Context) error
}

// arguments are what the queue holds of a job: which one it is.
type arguments struct {
	Name string `json:"name"`
}

// Kind implements river.JobArgs.
func (arguments) Kind() string { return "certloom.periodic" }

// New checks the jobs. The driver is what the store has opened for the queue, with its tables up to date.
func New[TTx any](driver riverdriver.Driver[TTx], c Config) (*Runner, error) {
	if driver == nil || c.Now == nil {
		return nil, errors.New("job: driver and Now are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	w := &worker{jobs: map[string]Periodic{}, running: map[string]bool{}, logger: c.Logger, now: c.Now}
	var err error
	if w.metrics, err = newMetrics(c.Registerer); err != nil {
		return nil, err
	}
	var periodic []*river.PeriodicJob
	for _, j := range c.Jobs {
		if err := w.add(j); err != nil {
			return nil, err
		}
		periodic = append(periodic, river.NewPeriodicJob(river.PeriodicInterval(j.Every),
			func() (river.JobArgs, *river.InsertOpts) { return arguments{j.Name}, nil },
			&river.PeriodicJobOpts{ID: j.Name, RunOnStart: true}))
	}
	quiet := slog.New(quieter{c.Logger.Handler()})
	known := river.NewWorkers()
	river.AddWorker(known, w)
	client, err := river.NewClient(driver, &river.Config{
		CancelledJobRetentionPeriod: kept, CompletedJobRetentionPeriod: kept, DiscardedJobRetentionPeriod: kept,
		JobTimeout: -1, // each job has its own, see worker.Work
		Logger:     quiet, MaxAttempts: 1, PeriodicJobs: periodic, Workers: known,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: workers}},
	})
	if err != nil {
		return nil, fmt.Errorf("job: %w", err)
	}
	return &Runner{run: func(ctx context.Context) error { return serve(ctx, client) }}, nil
}

// Run runs jobs until ctx ends, and returns when those that were running have ended.
func (r *Runner) Run(ctx context.Context) error { return r.run(ctx) }

// serve gives the client a context that does not end with ctx: jobs that run may finish.
func serve[TTx any](ctx context.Context, client *river.Client[TTx]) error {
	apart := context.WithoutCancel(ctx)
	if err := client.Start(apart); err != nil {
		return fmt.Errorf("start jobs: %w", err)
	}
	<-ctx.Done()
	soft, cancel := context.WithTimeout(apart, drain)
	defer cancel()
	if client.Stop(soft) == nil {
		return nil
	}
	hard, cancel := context.WithTimeout(apart, drain)
	defer cancel()
	if err := client.StopAndCancel(hard); err != nil {
		return fmt.Errorf("stop jobs: %w", err)
	}
	return nil
}

// worker runs whichever job the queue names.
type worker struct {
	river.WorkerDefaults[arguments]
	jobs    map[string]Periodic
	logger  *slog.Logger
	now     func() time.Time
	metrics *metrics

	mu      sync.Mutex // guards running; nothing else is held with it
	running map[string]bool
}

func (w *worker) add(j Periodic) error {
	_, twice := w.jobs[j.Name]
	switch {
	case j.Name == "" || j.Run == nil:
		return errors.New("job: each job has a name and something to run")
	case twice:
		return fmt.Errorf("job: there are two of the name %q", j.Name)
	case j.Every < minEvery:
		return fmt.Errorf("job: %s is due every %s, more often than every %s", j.Name, j.Every, minEvery)
	}
	if j.Timeout == 0 {
		j.Timeout = defaultTimeout
	}
	w.jobs[j.Name] = j
	w.metrics.prepare(j.Name)
	return nil
}

// Work implements river.Worker. A job whose last run takes longer than its period is not run twice in a process; the
// queue would fill up with it otherwise.
func (w *worker) Work(ctx context.Context, queued *river.Job[arguments]) error {
	j, ok := w.jobs[queued.Args.Name]
	if !ok || !w.claim(j.Name) {
		return nil // a job of another version, which a replica of that version will have due again
	}
	defer w.release(j.Name)
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	began := w.now()
	err := j.Run(ctx)
	w.metrics.observe(j.Name, err, began, w.now())
	if err != nil {
		w.logger.WarnContext(ctx, "job failed", telemetry.KeyJob, j.Name, telemetry.KeyError, err)
	}
	return err
}

func (w *worker) claim(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running[name] {
		return false
	}
	w.running[name] = true
	return true
}

func (w *worker) release(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.running, name)
}

var _ rivertype.JobArgs = arguments{}
