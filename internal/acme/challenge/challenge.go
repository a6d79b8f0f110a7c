// Package challenge owns the proof that an ACME client controls a name or an address: the validators of http-01,
// dns-01 (RFC 8555 section 8) and tls-alpn-01 (RFC 8737), for DNS names and IP addresses (RFC 8738).
//
// It must never connect to an address outside the networks that the profile lists, whatever a name resolves to and
// whatever a redirect asks for: every hop is resolved by itself, the addresses are judged, and the connection goes to
// the address that was judged, not to the name. It must never follow proxies of the environment, send cookies or
// unpack what was compressed, and never show a client what a host to which it was redirected has said, since that
// host may be one that only we can reach. It trusts nothing that a server answers; whatever comes is bounded before
// it is read.
//
// # Which problem a failure becomes
//
//   - dns: the name cannot be resolved, or has no address.
//   - connection: no connection to an address, none of the addresses may be connected to, or the connection broke.
//   - tls: the TLS handshake failed.
//   - incorrectResponse: the answer has not the form that the challenge demands: another status than 200, a redirect to
//     where we do not go, a body that is too long, a certificate without the right extensions.
//   - unauthorized: the answer has the form, and proves something else or nothing: another key authorization, no TXT
//     record. Also what the challenge can never prove, as a wildcard by http-01.
//   - unavailable: nobody was asked, because too many ask the same target now. That is no failure of the proof.
package challenge

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// The challenge types.
const (
	HTTP01    = "http-01"
	DNS01     = "dns-01"
	TLSALPN01 = "tls-alpn-01"
)

// Defaults of Config.
const (
	defaultHTTPPort = 80  // RFC 8555 section 8.3
	defaultTLSPort  = 443 // RFC 8737 section 3
	defaultTimeout  = 10 * time.Second
	maxPort         = 1<<16 - 1
)

// Request is one challenge to validate.
type Request struct {
	Type             string         // HTTP01, DNS01 or TLSALPN01
	Identifier       pki.Identifier // in canonical form, without "*."
	Wildcard         bool           // the order asks for "*." before the name; only dns-01 proves that
	Token            string
	KeyAuthorization string         // RFC 8555 section 8.1
	Networks         []netip.Prefix // that may be connected to; none: dns-01 only
}

// Config is what a Validator needs. The zero value is good.
type Config struct {
	HTTPPort int // that http-01 connects to; 0: 80
	TLSPort  int // that tls-alpn-01 and redirects to https connect to; 0: 443
	// Resolver is the address of the DNS server to ask, with or without a port; "": what the system is set up to use,
	// its hosts file included.
	Resolver string
	// Dial connects to an address "IP:port" over "tcp" or "udp". nil: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Timeout bounds a validation as a whole, whatever the other side does. 0: 10 seconds.
	Timeout time.Duration
}

// Validator validates challenges. It keeps nothing of a call that has ended and is safe for concurrent use.
type Validator struct {
	httpPort uint16
	tlsPort  uint16
	timeout  time.Duration
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	resolver resolver
	targets  targets
}

// New checks the configuration. It connects to nothing.
func New(c Config) (*Validator, error) {
	httpPort, tlsPort := c.HTTPPort, c.TLSPort
	if httpPort == 0 {
		httpPort = defaultHTTPPort
	}
	if tlsPort == 0 {
		tlsPort = defaultTLSPort
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	dial := c.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	lookup, err := newResolver(c.Resolver, dial)
	var errs []error
	if err != nil {
		errs = append(errs, err)
	}
	if httpPort < 1 || httpPort > maxPort {
		errs = append(errs, fault.New(fault.Malformed, "http-01 port %d is not within 1 and %d", httpPort, maxPort))
	}
	if tlsPort < 1 || tlsPort > maxPort {
		errs = append(errs, fault.New(fault.Malformed, "tls-alpn-01 port %d is not within 1 and %d", tlsPort, maxPort))
	}
	if timeout < 0 {
		errs = append(errs, fault.New(fault.Malformed, "validation timeout %s is negative", timeout))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Validator{
		httpPort: uint16(httpPort), tlsPort: uint16(tlsPort), timeout: timeout, dial: dial, resolver: lookup,
	}, nil
}

// Validate returns nil if the proof is there now. It tries once; whether to come again is for the caller. The error
// is a *fault.Error of a kind that the package's documentation tells, whose sentence may be shown to the client.
func (v *Validator) Validate(ctx context.Context, r Request) error {
	ctx, cancel := context.WithTimeout(ctx, v.timeout)
	defer cancel()
	switch {
	case r.Token == "" || r.KeyAuthorization == "":
		return fault.New(fault.Unauthorized, "%s challenge has no token or no key authorization", r.Type)
	case r.Wildcard && r.Type != DNS01:
		return fault.New(fault.Unauthorized, "%s cannot prove control of wildcard name %q; dns-01 can", r.Type, "*."+r.Identifier.Value)
	}
	switch r.Type {
	case HTTP01:
		return v.validateHTTP(ctx, r)
	case DNS01:
		return v.validateDNS(ctx, r)
	case TLSALPN01:
		return v.validateTLS(ctx, r)
	default:
		return fault.New(fault.Unauthorized, "challenge type %.40q is not one of http-01, dns-01, tls-alpn-01", r.Type)
	}
}

// digest is what dns-01 and tls-alpn-01 prove: the hash of the key authorization.
func digest(r Request) [sha256.Size]byte { return sha256.Sum256([]byte(r.KeyAuthorization)) }

// canonicalName returns the name of a redirect in lower case, or why it is none.
func canonicalName(host string) (string, error) {
	id, err := pki.NormalizeIdentifier(pki.Identifier{Type: pki.DNS, Value: strings.TrimSuffix(host, ".")})
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(id.Value, "*.") {
		return "", errors.New("name is a wildcard")
	}
	return id.Value, nil
}

// contains reports whether one of the networks has the address.
func contains(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(network netip.Prefix) bool { return network.Contains(addr) })
}
