package challenge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/certloom/certloom/internal/fault"
)

// resolver asks DNS. Either it has a server, or it does as the system is set up to do.
type resolver struct {
	server netip.AddrPort // invalid: the system's
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

const (
	dnsPort    = 53
	systemFile = "/etc/resolv.conf" // resolv.conf(5)
)

// newResolver reads the address of a server.
func newResolver(address string, dial func(ctx context.Context, network, address string) (net.Conn, error)) (resolver, error) {
	if address == "" {
		return resolver{dial: dial}, nil
	}
	if addr, err := netip.ParseAddr(address); err == nil {
		return resolver{server: netip.AddrPortFrom(addr, dnsPort), dial: dial}, nil
	}
	server, err := netip.ParseAddrPort(address)
	if err != nil || server.Port() == 0 {
		return resolver{}, fault.New(fault.Malformed, "resolver %.100q is not an IP address, with or without a port", address)
	}
	return resolver{server: server, dial: dial}, nil
}

// addresses returns the addresses of a name, at least one. Names under "localhost" are this machine and are not asked
// for (RFC 6761 section 6.3).
func (r resolver) addresses(ctx context.Context, name string) ([]netip.Addr, error) {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if !r.server.IsValid() {
		return r.systemAddresses(ctx, name)
	}
	// IPv6 first, as in the order in which they are tried.
	records, errs := r.lookup(ctx, name, dns.TypeAAAA, dns.TypeA)
	var addrs []netip.Addr
	for _, record := range slices.Concat(records...) {
		if addr, ok := address(record); ok {
			addrs = append(addrs, addr)
		}
	}
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case errs[1] != nil:
		return nil, errs[1]
	case errs[0] != nil:
		return nil, errs[0]
	default:
		return nil, fault.New(fault.DNS, "%s has neither A nor AAAA records", name)
	}
}

func address(record dns.RR) (netip.Addr, bool) {
	switch record := record.(type) {
	case *dns.A:
		return netip.AddrFromSlice(record.A.To4())
	case *dns.AAAA:
		return netip.AddrFromSlice(record.AAAA.To16())
	default:
		return netip.Addr{}, false
	}
}

// systemAddresses asks as other programs of this machine do: the hosts file first.
func (r resolver) systemAddresses(ctx context.Context, name string) ([]netip.Addr, error) {
	system := net.Resolver{PreferGo: true, Dial: r.dial}
	// The dot at the end keeps search domains away: "web" must not become "web.corp.example".
	addrs, err := system.LookupNetIP(ctx, "ip", name+".")
	if found, ok := errors.AsType[*net.DNSError](err); ok && found.IsNotFound {
		return nil, fault.Wrap(err, fault.DNS, "%s does not exist or has neither A nor AAAA records", name)
	}
	if err != nil {
		return nil, fault.Wrap(err, fault.DNS, "addresses of %s cannot be looked up: %s", name, reason(err))
	}
	if len(addrs) == 0 {
		return nil, fault.New(fault.DNS, "%s has neither A nor AAAA records", name)
	}
	return addrs, nil
}

// txt returns the TXT records of a name, the strings of each joined (RFC 8555 section 8.4, RFC 7208 section 3.3); none
// if the name has none.
func (r resolver) txt(ctx context.Context, name string) ([]string, error) {
	records, errs := r.lookup(ctx, name, dns.TypeTXT)
	if errs[0] != nil {
		return nil, errs[0]
	}
	var texts []string
	for _, record := range records[0] {
		if record, ok := record.(*dns.TXT); ok {
			texts = append(texts, unescape(strings.Join(record.Txt, "")))
		}
	}
	return texts, nil
}

// maxAliases bounds the CNAMEs that are followed for a name, in one answer and over several.
const maxAliases = 10

// lookup returns the records of each type, or why there are none.
func (r resolver) lookup(ctx context.Context, name string, qtypes ...uint16) (records [][]dns.RR, errs []error) {
	records, errs = make([][]dns.RR, len(qtypes)), make([]error, len(qtypes))
	servers, err := r.servers()
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
		return records, errs
	}
	for i, first := range r.askTogether(ctx, servers, dns.CanonicalName(name), qtypes) {
		records[i], errs[i] = r.resolve(ctx, servers, name, qtypes[i], first)
	}
	return records, errs
}

// resolve follows CNAMEs, beginning with the answer for the name itself: a server that is not recursive, or that serves
// only a part of the chain, ends its answer with an alias.
func (r resolver) resolve(ctx context.Context, servers []string, name string, qtype uint16, got outcome) ([]dns.RR, error) {
	aliases := chase{name: dns.CanonicalName(name)}
	for {
		if got.err != nil {
			return nil, got.err
		}
		asked := aliases.name
		records, err := aliases.read(got.answer, qtype)
		if err != nil {
			return nil, fault.New(fault.DNS, "DNS query for %s of %s: %v", dns.TypeToString[qtype], name, err)
		}
		if len(records) > 0 || aliases.name == asked {
			return records, nil
		}
		got = r.ask(ctx, servers, aliases.name, qtype)
	}
}

// chase follows aliases.
type chase struct {
	name string // canonical, whose records are wanted now
	seen []string
}

// read returns the records of a type in an answer, after following the aliases that are in it. No records and another
// name than before: that name has to be asked for.
func (c *chase) read(answer *dns.Msg, qtype uint16) ([]dns.RR, error) {
	for {
		var records []dns.RR
		alias := ""
		for _, record := range answer.Answer {
			header := record.Header()
			if header.Class != dns.ClassINET || dns.CanonicalName(header.Name) != c.name {
				continue
			}
			if header.Rrtype == qtype {
				records = append(records, record)
			} else if cname, ok := record.(*dns.CNAME); ok {
				alias = dns.CanonicalName(cname.Target)
			}
		}
		if len(records) > 0 || alias == "" {
			return records, nil
		}
		c.seen = append(c.seen, c.name)
		if len(c.seen) > maxAliases {
			return nil, fmt.Errorf("more than %d CNAMEs", maxAliases)
		}
		for _, name := range c.seen {
			if name == alias {
				return nil, fmt.Errorf("CNAMEs lead in a circle, by way of %s", shown(alias))
			}
		}
		c.name = alias
	}
}

// servers returns the servers to ask, in order.
func (r resolver) servers() ([]string, error) {
	if r.server.IsValid() {
		return []string{r.server.String()}, nil
	}
	config, err := dns.ClientConfigFromFile(systemFile)
	if err != nil {
		return nil, fault.Wrap(err, fault.DNS, "the system's DNS servers cannot be read")
	}
	const most = 3 // MAXNS of resolv.conf(5)
	servers := make([]string, 0, most)
	for _, server := range config.Servers[:min(len(config.Servers), most)] {
		servers = append(servers, net.JoinHostPort(server, config.Port))
	}
	if len(servers) == 0 {
		servers = append(servers, "127.0.0.1:53") // resolv.conf(5)
	}
	return servers, nil
}
