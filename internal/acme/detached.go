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

// start does work without waiting for it, unless work of that name runs here: then started is false. The context of the
// work ends only when the work ends it. Unavailable when all places are taken.
func (d *detached) start(ctx context.Context, name string, work func(context.Context)) (started bool, err error) {
	select {
	case d.places <- struct{}{}:
	default:
		return false, overloaded()
	}
	if started, err = d.enter(name); !started {
		<-d.places
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

func (d *detached) enter(name string) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return false, overloaded()
	case d.running[name]:
		return false, nil
	}
	d.running[name] = true
	d.all.Add(1)
	return true, nil
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
