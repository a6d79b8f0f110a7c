package testbed

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Balancer is one address for several agents, as a Kubernetes Service is: a new connection goes to one of those that are
// ready, at random. Whether they are is looked at twice a second, so that for a moment connections go to one that has gone.
type Balancer struct {
	Address string

	backends []*backend
}

type backend struct {
	agent *Agent
	ready atomic.Bool
}

const (
	// balancerPeriod is how often readiness is looked at: the time that kubelet and kube-proxy take together to notice that
	// a container has ended.
	balancerPeriod = 500 * time.Millisecond
	// A probe that is not answered in time counts when it is one of several in a row, as kubelet counts them.
	probeTimeout  = time.Second
	probesMissing = 3
)

// StartBalancer starts a balancer in front of agents that are ready.
func StartBalancer(t T, agents ...*Agent) *Balancer {
	t.Helper()
	listener, err := net.Listen("tcp", Addr(Ports(t, 1)))
	if err != nil {
		t.Fatal(err)
	}
	b := &Balancer{Address: listener.Addr().String()}
	for _, agent := range agents {
		one := &backend{agent: agent}
		one.ready.Store(true)
		b.backends = append(b.backends, one)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() { b.accept(ctx, listener) })
	for _, one := range b.backends {
		tasks.Go(func() { one.watch(ctx, t) })
	}
	t.Cleanup(func() {
		cancel()
		listener.Close()
		tasks.Wait()
	})
	return b
}

// watch keeps in mind whether the backend is ready.
func (b *backend) watch(ctx context.Context, t T) {
	check, missing := answers(&http.Client{Timeout: probeTimeout}, b.agent.Health+"/readyz"), 0
	_ = Poll(ctx, balancerPeriod, func(ctx context.Context) error { // it ends with ctx only
		err := check(ctx)
		var slow net.Error
		if errors.As(err, &slow) && slow.Timeout() {
			missing++
		} else {
			missing = 0
		}
		ready := err == nil || missing > 0 && missing < probesMissing && b.ready.Load()
		if b.ready.Swap(ready) != ready && ctx.Err() == nil {
			t.Logf("the agent at %s counts as ready: %v (%v)", b.agent.Address, ready, err)
		}
		return errors.New("for ever")
	})
}

// Await waits until all agents count as ready, as the restart of a Deployment waits for each new replica.
func (b *Balancer) Await(ctx context.Context, t T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	err := Poll(ctx, balancerPeriod/10, func(context.Context) error {
		for _, one := range b.backends {
			if !one.ready.Load() {
				return errors.New("an agent does not count as ready: " + one.agent.Address)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *Balancer) accept(ctx context.Context, listener net.Listener) {
	var connections sync.WaitGroup
	defer connections.Wait()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return // closed
		}
		connections.Go(func() { b.forward(ctx, connection) })
	}
}

// forward connects the two ends until one of them ends. Where there is nobody behind, the connection just breaks.
func (b *Balancer) forward(ctx context.Context, front net.Conn) {
	defer front.Close()
	var ready []*backend
	for _, one := range b.backends {
		if one.ready.Load() {
			ready = append(ready, one)
		}
	}
	if len(ready) == 0 {
		return
	}
	back, err := new(net.Dialer).DialContext(ctx, "tcp", ready[rand.IntN(len(ready))].agent.Address)
	if err != nil {
		return
	}
	defer back.Close()
	ended := make(chan struct{}, 2)
	copying := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // either end may break
		ended <- struct{}{}
	}
	go copying(back, front)
	go copying(front, back)
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
