package acme

import (
	"context"
	"sync"
)

// detached owns work that outlives its request. It bounds how much of it there is, and drain waits for it.
type detached struct {
	places chan struct{}
	broken func(ctx context.Context, panicked any) // told of work that panicked

	mu      sync.Mutex // guards what follows; nothing blocks under it
	closed  bool
	running map[string]bool
	all     sync.WaitGroup // Add only under mu and while not closed
}

func newDetached(places int, broken func(ctx context.Context, panicked any)) *detached {
	return &detached{places: make(chan struct{}, places), broken: broken, running: make(map[string]bool)}
}

// has reports whether work of that name runs here.
func (d *detached) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.running[name]
}

// start takes a place, asks begin whether there is something to do, and if so does work without waiting for it. The
// context of the work ends only when the work ends it. Unavailable when all places are taken.
func (d *detached) start(
	ctx context.Context, name string, begin func(context.Context) (bool, error), work func(context.Context),
) (started bool, err error) {
	if !d.enter(name) {
		return false, overloaded()
	}
	defer func() {
		if !started {
			d.leave(name)
		}
	}()
	if started, err = begin(ctx); !started || err != nil {
		return false, err
	}
	ctx = context.WithoutCancel(ctx)
	go func() {
		defer d.leave(name)
		defer func() {
			if p := recover(); p != nil {
				d.broken(ctx, p)
			}
		}()
		work(ctx)
	}()
	return true, nil
}

func (d *detached) enter(name string) bool {
	select {
	case d.places <- struct{}{}:
	default:
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		<-d.places
		return false
	}
	d.running[name] = true
	d.all.Add(1)
	return true
}

func (d *detached) leave(name string) {
	d.mu.Lock()
	delete(d.running, name)
	d.mu.Unlock()
	<-d.places
	d.all.Done()
}

// drain refuses new work and waits for what runs. Everything that runs has a deadline of its own.
func (d *detached) drain() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.all.Wait()
}
