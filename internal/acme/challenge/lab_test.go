package challenge_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const (
	token    = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	keyAuthz = token + "." + "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	wellKnow = "/.well-known/acme-challenge/" + token
)

// lab is a network of its own on the loopback interface: names, and one web server that is all of them.
type lab struct {
	zone  *zone
	ports struct{ http, tls int }
	dials *dials
	// resolver is the zone's server.
	resolver string
}

// newLab starts a DNS server and, if a handler is given, an HTTP server.
func newLab(t *testing.T, handler http.HandlerFunc) *lab {
	t.Helper()
	l := &lab{zone: &zone{}, dials: &dials{}}
	l.ports.http, l.ports.tls = 1, 1 // nobody listens there
	l.resolver = serveDNS(t, l.zone)
	if handler != nil {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		l.ports.http = portOf(t, server.Listener.Addr())
	}
	return l
}

func (l *lab) validator(t *testing.T) *challenge.Validator {
	t.Helper()
	v, err := challenge.New(challenge.Config{
		HTTPPort: l.ports.http, TLSPort: l.ports.tls, Resolver: l.resolver, Dial: l.dials.dial, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// request asks for a name with the whole of 127.0.0.0/8 allowed.
func request(kind, name string) challenge.Request {
	return challenge.Request{
		Type: kind, Identifier: pki.Identifier{Type: pki.DNS, Value: name}, Token: token, KeyAuthorization: keyAuthz,
		Networks: networks("127.0.0.0/8"),
	}
}

func networks(prefixes ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, 0, len(prefixes))
	for _, prefix := range prefixes {
		parsed = append(parsed, netip.MustParsePrefix(prefix))
	}
	return parsed
}

func portOf(t *testing.T, addr net.Addr) int {
	t.Helper()
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		t.Fatalf("%v is no TCP address", addr)
	}
	return tcp.Port
}

// dials records where to a validator connects; routes leads some addresses elsewhere, or nowhere.
type dials struct {
	mu     sync.Mutex // guards list
	list   []string
	routes map[string]string // from "IP:port"; "" refuses
}

func (d *dials) dial(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	d.list = append(d.list, network+" "+address)
	d.mu.Unlock()
	if to, ok := d.routes[address]; ok {
		if to == "" {
			return nil, errors.New("secret detail of the operating system")
		}
		address = to
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// to returns the addresses that were dialled with a port, in order.
func (d *dials) to(port int) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var addresses []string
	for _, line := range d.list {
		if strings.HasSuffix(line, fmt.Sprintf(":%d", port)) {
			addresses = append(addresses, line)
		}
	}
	return addresses
}

// zone is what a DNS server says. Names that are not there have the address 127.0.0.1.
type zone struct {
	mu      sync.Mutex // guards asked
	asked   []string
	records []string // in the form of a zone file
	handler func(w dns.ResponseWriter, query *dns.Msg) bool
}

func (z *zone) count(question string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	count := 0
	for _, asked := range z.asked {
		if asked == question {
			count++
		}
	}
	return count
}

func (z *zone) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	question := query.Question[0]
	z.mu.Lock()
	z.asked = append(z.asked, dns.TypeToString[question.Qtype]+" "+question.Name)
	z.mu.Unlock()
	if z.handler != nil && z.handler(w, query) {
		return
	}
	answer := new(dns.Msg)
	answer.SetReply(query)
	known := false
	for _, line := range z.records {
		record, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		if record.Header().Name != strings.ToLower(question.Name) {
			continue
		}
		known = true
		if rrtype := record.Header().Rrtype; rrtype == question.Qtype || rrtype == dns.TypeCNAME {
			answer.Answer = append(answer.Answer, record)
		}
	}
	if !known && question.Qtype == dns.TypeA {
		answer.Answer = []dns.RR{&dns.A{Hdr: header(question), A: net.IPv4(127, 0, 0, 1)}}
	}
	_ = w.WriteMsg(answer)
}

func header(question dns.Question) dns.RR_Header {
	return dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: 1}
}

// serveDNS serves a zone over TCP and UDP.
func serveDNS(t *testing.T, handler dns.Handler) string {
	t.Helper()
	listener := listen(t)
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{Listener: listener, Handler: handler}, {PacketConn: packets, Handler: handler}} {
		serve(t, server)
	}
	return listener.Addr().String()
}

func serve(t *testing.T, server *dns.Server) {
	t.Helper()
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.ActivateAndServe() })
	<-started
	t.Cleanup(func() {
		_ = server.Shutdown()
		wg.Wait()
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// talk serves each connection by a function.
func talk(t *testing.T, serve func(net.Conn)) net.Listener {
	t.Helper()
	listener := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		wg.Wait()
	})
	return listener
}

// wantFault checks an error's kind and sentence; "" as kind of no error is kind 0 with says "".
func wantFault(t *testing.T, err error, kind fault.Kind, says string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("error %v (%v), want kind %v", err, fault.From(err).Kind, kind)
	}
	if public := fault.From(err).Public; !strings.Contains(public, says) {
		t.Errorf("sentence %q does not contain %q", public, says)
	}
	checkSentence(t, err)
}

// checkSentence holds an error to what the package promises of all of them.
func checkSentence(t *testing.T, err error) {
	t.Helper()
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("error %v is no fault.Error", err)
	}
	kinds := []fault.Kind{fault.Connection, fault.DNS, fault.TLS, fault.Unauthorized, fault.IncorrectResponse}
	if !slices.Contains(kinds, refusal.Kind) {
		t.Errorf("error has kind %v", refusal.Kind)
	}
	if strings.ContainsFunc(refusal.Public, func(c rune) bool { return c < ' ' || c > '~' }) {
		t.Errorf("sentence %q has characters that are not printable ASCII", refusal.Public)
	}
	if len(refusal.Public) > 1000 {
		t.Errorf("sentence has %d bytes", len(refusal.Public))
	}
	if strings.Contains(refusal.Public, "secret") {
		t.Errorf("sentence %q tells what only the log may know", refusal.Public)
	}
}
