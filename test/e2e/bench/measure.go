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
	clients []client
	servers []*testbed.Process                               // whose processor time is told; nil for one that it has not
	during  func(ctx context.Context, d time.Duration) error // something to do while it is measured; nil: nothing

	done      []time.Duration // how long each certificate took
	elapsed   time.Duration
	serverCPU []time.Duration // of each of servers
	clientCPU time.Duration
}

// client gets certificates, one after the other.
type client interface {
	// obtain gets the certificate number n.
	obtain(ctx context.Context, n int) error
	String() string
}

// turn runs the load, first uncounted to warm up, and then counted.
func (l *line) turn(ctx context.Context, warmUp, counted time.Duration) error {
	if _, err := l.load(ctx, warmUp); err != nil {
		return err
	}
	serversBefore, err := l.serversCPU()
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
	serversAfter, err := l.serversCPU()
	if err != nil {
		return err
	}
	if l.serverCPU == nil {
		l.serverCPU = make([]time.Duration, len(l.servers))
	}
	for i := range l.servers {
		l.serverCPU[i] += serversAfter[i] - serversBefore[i]
	}
	if during != nil {
		return <-during
	}
	return nil
}

// serversCPU returns the processor time that each server has used so far.
func (l *line) serversCPU() ([]time.Duration, error) {
	used := make([]time.Duration, len(l.servers))
	for i, server := range l.servers {
		if server == nil {
			continue
		}
		var err error
		if used[i], err = server.CPU(); err != nil {
			return nil, err
		}
	}
	return used, nil
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
			done, err := repeat(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, done...)
			if err != nil && first == nil {
				first = fmt.Errorf("%s, %s: %w", l.title, c, err)
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
// clean, and counted: its work is in the measured time, which lasts until the last client has finished. Without it a slow
// server would seem slower than it is.
func repeat(ctx context.Context, c client) ([]time.Duration, error) {
	var done []time.Duration
	for n := 0; ; n++ {
		started := time.Now()
		if err := c.obtain(context.WithoutCancel(ctx), n); err != nil {
			return done, err
		}
		done = append(done, time.Since(started))
		if ctx.Err() != nil {
			cause := context.Cause(ctx)
			if errors.Is(cause, errOver) {
				cause = nil
			}
			return done, cause
		}
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

// each is the processor time that server number i spent on a certificate.
func (l *line) each(i int) time.Duration {
	if len(l.done) == 0 {
		return 0
	}
	return l.serverCPU[i] / time.Duration(len(l.done))
}

// ownCPU is the processor time of this process: the clients, and the hosts that are validated.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
