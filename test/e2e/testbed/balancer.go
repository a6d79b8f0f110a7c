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

// balancerPeriod is how often readiness is looked at: the time that kubelet and kube-proxy take together to notice that
// a container has ended.
const balancerPeriod = 500 * time.Millisecond

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
		tasks.Go(func() { one.watch(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		listener.Close()
		tasks.Wait()
	})
	return b
}

// watch keeps in mind whether the backend is ready.
func (b *backend) watch(ctx context.Context) {
	client := &http.Client{Timeout: balancerPeriod}
	check := answers(client, b.agent.Health+"/readyz")
	_ = Poll(ctx, balancerPeriod, func(ctx context.Context) error { // it ends with ctx only
		b.ready.Store(check(ctx) == nil)
		return errors.New("for ever")
	})
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
