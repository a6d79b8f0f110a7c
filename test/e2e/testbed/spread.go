package testbed

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
)

// Spread returns an HTTP client that sends one request to one server and the next to the other, whatever the URL says,
// as a load balancer in front of them would. A server that cannot be reached is left out.
func Spread(t T, servers ...*Certloom) *http.Client {
	t.Helper()
	client := servers[0].HTTPClient(t)
	spread := &spreader{}
	for _, s := range servers {
		transport := client.Transport.(*http.Transport).Clone()
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.listen)
		}
		t.Cleanup(transport.CloseIdleConnections)
		spread.to = append(spread.to, transport)
	}
	return &http.Client{Transport: spread, Timeout: client.Timeout}
}

type spreader struct {
	to   []http.RoundTripper
	next atomic.Uint64
}

// RoundTrip sends the request to the next server that accepts a connection.
func (s *spreader) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	first := s.next.Add(1)
	for i := range s.to {
		resp, err = s.to[(int(first)+i)%len(s.to)].RoundTrip(req)
		var dial *net.OpError
		if err == nil || !errors.As(err, &dial) || dial.Op != "dial" {
			return resp, err // what may have been sent is not ours to send again
		}
	}
	return nil, err
}
