package acme

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/fault"
)

// admission bounds how many finalizes run at once. One more waits for a moment and then is told to come again: an
// overload is answered, never hung on to, and never with a 4xx, which some clients take for the end of the order.
type admission struct {
	places  chan struct{}
	waiting chan struct{}
	wait    time.Duration
}

// waitersPerPlace is how many may wait for each place. At the usual speed of a place more would wait in vain.
const waitersPerPlace = 32

func newAdmission(places int, wait time.Duration) *admission {
	return &admission{places: make(chan struct{}, places), waiting: make(chan struct{}, places*waitersPerPlace), wait: wait}
}

// enter takes a place, which leave gives back.
func (a *admission) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-a.places }
	select {
	case a.places <- struct{}{}:
		return leave, nil
	default:
	}
	select {
	case a.waiting <- struct{}{}:
		defer func() { <-a.waiting }()
	default:
		return nil, overloaded()
	}
	timer := time.NewTimer(a.wait)
	defer timer.Stop()
	select {
	case a.places <- struct{}{}:
		return leave, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, overloaded()
}

func overloaded() error {
	return fault.New(fault.Unavailable, "too many requests are being worked on; try again in a moment")
}
