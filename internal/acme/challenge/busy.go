package challenge

import (
	"net"
	"net/netip"
	"sync"

	"github.com/certloom/certloom/internal/fault"
)

// maxPerTarget is how many connections to one target there are at once. Whoever can place orders could otherwise have
// us knock on a door of his choice as often as we can, and one door that does not open would take all of our time from
// the other clients. What answers at all is done in milliseconds, so that this suffices for thousands a second.
const maxPerTarget = 64

// targets counts connections. It is safe for concurrent use and remembers nothing of targets without any.
type targets struct {
	mu    sync.Mutex // guards count
	count map[netip.Addr]int
}

// enter counts a connection until leave is called, once. It is Unavailable when the target has its share.
func (t *targets) enter(addr netip.Addr) (leave func(), err error) {
	key := site(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count[key] >= maxPerTarget {
		return nil, fault.New(fault.Unavailable, "%d validations are asking %s now; try again in a moment", maxPerTarget, addr)
	}
	if t.count == nil {
		t.count = make(map[netip.Addr]int)
	}
	t.count[key]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.count[key]--; t.count[key] == 0 {
			delete(t.count, key)
		}
	}, nil
}

// site is what counts as one target: whoever has an IPv6 address has a /64 of them.
func site(addr netip.Addr) netip.Addr {
	const network = 64
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.Prefix(network)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}

// counted is a connection that counts until it is closed.
type counted struct {
	net.Conn
	leave func() // may be called again
}

// Close closes the connection.
func (c *counted) Close() error {
	c.leave()
	return c.Conn.Close() //nolint:wrapcheck // stands in for it
}
