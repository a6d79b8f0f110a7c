package challenge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const (
	// maxAddresses bounds how many addresses of one name are tried: one request of a client must not become many of
	// ours to somebody else.
	maxAddresses = 4
	// dialTimeout leaves time for the next address when one does not answer at all, as a broken IPv6 route does not.
	dialTimeout = 3 * time.Second
)

// target is where to connect to and for what.
type target struct {
	name      string       // for sentences: the DNS name or the address
	addresses []netip.Addr // all of them judged, in the order in which to try
	port      uint16
}

// target resolves an identifier and judges its addresses.
func (v *Validator) target(ctx context.Context, r Request, id pki.Identifier, port uint16) (target, error) {
	var addrs []netip.Addr
	switch id.Type {
	case pki.IP:
		addr, err := pki.ParseIP(id.Value)
		if err != nil {
			return target{}, fault.New(fault.Unauthorized, "%v", err)
		}
		addrs = []netip.Addr{addr}
	case pki.DNS:
		var err error
		if addrs, err = v.resolver.addresses(ctx, id.Value); err != nil {
			return target{}, err
		}
	default:
		return target{}, fault.New(fault.Unauthorized, "identifier type %.40q is not one of dns, ip", id.Type)
	}
	allowed := judge(addrs, r.Networks)
	if len(allowed) == 0 {
		return target{}, fault.New(fault.Connection, "%s: %s, which the profile's networks for validation do not include",
			id.Value, found(addrs))
	}
	return target{name: id.Value, addresses: allowed, port: port}, nil
}

// found tells which addresses a name has.
func found(addrs []netip.Addr) string {
	if len(addrs) == 1 {
		return fmt.Sprintf("its address is %s", addrs[0])
	}
	return fmt.Sprintf("its %d addresses begin with %s", len(addrs), addrs[0])
}

// judge returns the addresses that may be connected to, those of IPv6 first (RFC 6724, and Boulder), and of each
// family so few that both get their turn.
func judge(addrs []netip.Addr, networks []netip.Prefix) []netip.Addr {
	var six, four []netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap() // the kernel connects to the IPv4 address
		switch {
		case !permitted(addr, networks) || slices.Contains(six, addr) || slices.Contains(four, addr):
		case addr.Is4() && len(four) < maxAddresses/2:
			four = append(four, addr)
		case addr.Is6() && len(six) < maxAddresses/2:
			six = append(six, addr)
		}
	}
	return append(six, four...)
}

// permitted reports whether an address may be connected to. An IPv6 address that carries an IPv4 address leads to
// that, through a gateway or the kernel, so the networks must have both.
func permitted(addr netip.Addr, networks []netip.Prefix) bool {
	// On Linux, the unspecified address is this machine. Nobody who lists 0.0.0.0/0 thinks of it.
	if addr.IsUnspecified() || addr.IsMulticast() || addr.Zone() != "" || !contains(networks, addr) {
		return false
	}
	inner, ok := embedded(addr)
	return !ok || contains(networks, inner)
}

// embedded returns the IPv4 address within an address of NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), or the
// IPv4-compatible form (RFC 4291 section 2.5.5.1).
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	raw := addr.As16()
	last := netip.AddrFrom4([4]byte(raw[12:]))
	for _, prefix := range []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x00, 0x64, 0xff, 0x9b}), 96),
		netip.PrefixFrom(netip.AddrFrom16([16]byte{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}), 48),
	} {
		if prefix.Contains(addr) {
			return last, true
		}
	}
	if raw[0] == 0x20 && raw[1] == 0x02 {
		return netip.AddrFrom4([4]byte(raw[2:6])), true
	}
	compatible := netip.PrefixFrom(netip.IPv6Unspecified(), 96)
	return last, compatible.Contains(addr) && !addr.IsLoopback()
}

// connect tries the addresses one after the other. The connection ends with ctx: its deadline is set, and it is closed
// when ctx is cancelled. The error names the last address that was tried; it is Unavailable when one was not, because
// too many ask it.
func (v *Validator) connect(ctx context.Context, to target) (net.Conn, netip.AddrPort, error) {
	var last, busy error
	for _, addr := range to.addresses {
		at := netip.AddrPortFrom(addr, to.port)
		conn, err := v.dialOne(ctx, at)
		if err == nil {
			return conn, at, nil
		}
		if fault.Is(err, fault.Unavailable) {
			busy = err
			continue
		}
		last = fault.Wrap(err, fault.Connection, "no connection to %s (%s): %s", at, to.name, reason(err))
		if ctx.Err() != nil {
			break
		}
	}
	if busy != nil {
		return nil, netip.AddrPort{}, busy
	}
	return nil, netip.AddrPort{}, last
}

func (v *Validator) dialOne(ctx context.Context, at netip.AddrPort) (net.Conn, error) {
	leave, err := v.targets.enter(at.Addr())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := v.dial(ctx, "tcp", at.String())
	if err != nil {
		leave()
		return nil, fmt.Errorf("dial: %w", err)
	}
	return &counted{Conn: conn, leave: sync.OnceFunc(leave)}, nil
}

// bind makes a connection end with ctx. The returned function ends both the binding and the connection.
func bind(ctx context.Context, conn net.Conn) (release func()) {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // a connection that has no deadlines still ends with ctx
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return func() {
		stop()
		_ = conn.Close()
	}
}

// reason says why a connection failed, in words of ours: what the operating system and the library say may name local
// addresses.
func reason(err error) string {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.Canceled):
		return "validation was cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no route"
	case errors.Is(err, net.ErrClosed):
		return "no answer in time" // bind closed it
	default:
		return "connection failed"
	}
}
