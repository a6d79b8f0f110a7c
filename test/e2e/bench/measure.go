package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// line is one line of the table: a kind of work, and what was measured of it so far.
type line struct {
	title   string
	clients []*client
	server  *testbed.Process
	during  func(ctx context.Context, d time.Duration) error // something to do while it is measured; nil: nothing

	done      []time.Duration // how long each certificate took
	elapsed   time.Duration
	serverCPU time.Duration
	clientCPU time.Duration
}

// turn runs the load, first uncounted to warm up, and then counted.
func (l *line) turn(ctx context.Context, warmUp, counted time.Duration) error {
	if _, err := l.load(ctx, warmUp); err != nil {
		return err
	}
	serverBefore, err := l.server.CPU()
	if err != nil {
		return err
	}
	clientBefore, started := ownCPU(), time.Now()
	var during chan error
	if l.during != nil {
		during = make(chan error, 1)
		go func() { during <- l.during(ctx, counted) }()
	}
	done, err := l.load(ctx, counted)
	if err != nil {
		return err
	}
	l.elapsed += time.Since(started)
	l.done = append(l.done, done...)
	l.clientCPU += ownCPU() - clientBefore
	serverAfter, err := l.server.CPU()
	if err != nil {
		return err
	}
	l.serverCPU += serverAfter - serverBefore
	if during != nil {
		return <-during
	}
	return nil
}

// load has every client get one certificate after the other until the time is over, and returns how long each took.
func (l *line) load(ctx context.Context, d time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d, errOver)
	defer cancel()
	var (
		wait  sync.WaitGroup
		mu    sync.Mutex // guards all and first
		all   []time.Duration
		first error
	)
	for _, c := range l.clients {
		wait.Go(func() {
			done, err := c.repeat(ctx)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, done...)
			if err != nil && first == nil {
				first = fmt.Errorf("%s, %s: %w", l.title, c.name, err)
				cancel()
			}
		})
	}
	wait.Wait()
	return all, first
}

// errOver ends a load in the ordinary way.
var errOver = errors.New("the time is over")

// repeat gets certificates until ctx ends. The one that is on its way then is finished, for the next turn to start
// clean, but not counted.
func (c *client) repeat(ctx context.Context) ([]time.Duration, error) {
	var done []time.Duration
	for n := 0; ; n++ {
		started := time.Now()
		if err := c.obtain(context.WithoutCancel(ctx), n); err != nil {
			return done, err
		}
		if ctx.Err() != nil {
			cause := context.Cause(ctx)
			if errors.Is(cause, errOver) {
				cause = nil
			}
			return done, cause
		}
		done = append(done, time.Since(started))
	}
}

// rate is certificates per second.
func (l *line) rate() float64 { return float64(len(l.done)) / l.elapsed.Seconds() }

// percentile returns the latency that p of 100 certificates stay within.
func (l *line) percentile(p int) time.Duration {
	if len(l.done) == 0 {
		return 0
	}
	slices.Sort(l.done)
	return l.done[min(len(l.done)*p/100, len(l.done)-1)]
}

// each divides processor time by the certificates that it was spent on.
func (l *line) each(cpu time.Duration) time.Duration {
	if len(l.done) == 0 {
		return 0
	}
	return cpu / time.Duration(len(l.done))
}

// ownCPU is the processor time of this process: the clients, and the hosts that are validated.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
