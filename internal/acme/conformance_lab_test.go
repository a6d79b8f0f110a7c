package acme_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certloom/certloom/internal/acme/acmetest"
)

// lab is what names of challenges lead to: a DNS server for which every name is 127.0.0.1 unless a test says something
// else, a web server and a TLS server.
type lab struct {
	httpPort, tlsPort int
	resolver          string

	mu      sync.Mutex                  // guards what follows
	pages   map[string]http.HandlerFunc // by host and path
	hits    map[string]int              // requests to pages
	records map[string][]string         // zone file lines, by name with a dot at its end
	asked   map[string]int              // "TYPE name. network"
	proofs  map[string]*tls.Certificate // by SNI
	alpn    map[string][]string         // what the server speaks for a name; default acme-tls/1
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{
		pages: map[string]http.HandlerFunc{}, hits: map[string]int{}, records: map[string][]string{}, asked: map[string]int{},
		proofs: map[string]*tls.Certificate{}, alpn: map[string][]string{},
	}
	web := httptest.NewServer(http.HandlerFunc(l.serveHTTP))
	t.Cleanup(web.Close)
	l.httpPort = web.Listener.Addr().(*net.TCPAddr).Port
	l.tlsPort = l.serveTLS(t)
	l.resolver = l.serveDNS(t)
	return l
}

func (l *lab) serveHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	at := strings.Trim(host, "[]") + r.URL.Path
	l.mu.Lock()
	l.hits[at]++
	page := l.pages[at]
	l.mu.Unlock()
	if page == nil {
		http.NotFound(w, r)
		return
	}
	page(w, r)
}

func (l *lab) serveTLS(t *testing.T) int {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		proof := l.proofs[hello.ServerName]
		if proof == nil {
			return nil, errors.New("no proof for that name")
		}
		protocols := l.alpn[hello.ServerName]
		if protocols == nil {
			protocols = []string{"acme-tls/1"}
		}
		return &tls.Config{Certificates: []tls.Certificate{*proof}, NextProtos: protocols}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wait.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port
}

func (l *lab) serveDNS(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{
		{Listener: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { l.answer(w, q, "tcp") })},
		{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { l.answer(w, q, "udp") })},
	} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		var wait sync.WaitGroup
		wait.Go(func() { _ = server.ActivateAndServe() })
		<-started
		t.Cleanup(func() {
			_ = server.Shutdown()
			wait.Wait()
		})
	}
	return listener.Addr().String()
}

func (l *lab) answer(w dns.ResponseWriter, query *dns.Msg, network string) {
	question := query.Question[0]
	name := strings.ToLower(question.Name)
	l.mu.Lock()
	l.asked[dns.TypeToString[question.Qtype]+" "+name+" "+network]++
	lines := l.records[name]
	l.mu.Unlock()
	answer := new(dns.Msg)
	answer.SetReply(query)
	for _, line := range lines {
		record, err := dns.NewRR(line)
		if err != nil {
			panic(err)
		}
		if kind := record.Header().Rrtype; kind == question.Qtype || kind == dns.TypeCNAME {
			answer.Answer = append(answer.Answer, record)
		}
	}
	if len(lines) == 0 && question.Qtype == dns.TypeA {
		answer.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.IPv4(127, 0, 0, 1),
		}}
	}
	_ = w.WriteMsg(answer)
}

const wellKnown = "/.well-known/acme-challenge/"

// page serves a page of a host.
func (l *lab) page(host, path string, handler http.HandlerFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pages[host+path] = handler
}

// prove shows an http-01 proof.
func (l *lab) prove(host, token, keyAuthorization string) {
	l.page(host, wellKnown+token, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthorization) })
}

func (l *lab) hit(at string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hits[at]
}

// record sets what the zone says of a name.
func (l *lab) record(name string, lines ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records[name] = lines
}

// proof sets the tls-alpn-01 certificate of a name.
func (l *lab) proof(name string, certificate *tls.Certificate, protocols ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proofs[name] = certificate
	if protocols != nil {
		l.alpn[name] = protocols
	}
}

// alpnProof is the certificate of a tls-alpn-01 proof (RFC 8737 section 3), changed by the test.
func alpnProof(t *testing.T, san []byte, keyAuthorization string, change func(c *x509.Certificate)) *tls.Certificate {
	t.Helper()
	sum := sha256.Sum256([]byte(keyAuthorization))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: append([]byte{0x30, byte(len(san))}, san...)},
			{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: true, Value: append([]byte{4, 32}, sum[:]...)},
		},
	}
	change(template)
	key := acmetest.NewKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// general is a GeneralName of a context-specific primitive type.
func general(choice byte, value string) []byte {
	return append([]byte{0x80 | choice, byte(len(value))}, value...)
}

type authzObject struct {
	URL        string `json:"-"`
	Identifier struct{ Type, Value string }
	Status     string
	Expires    string
	Wildcard   *bool
	Challenges []challengeObject
}

type challengeObject struct {
	Type, URL, Status, Token, Validated string
	Error                               *acmetest.Problem
}

// of returns the challenge of a type.
func (a *authzObject) of(t testing.TB, kind string) challengeObject {
	t.Helper()
	for _, c := range a.Challenges {
		if c.Type == kind {
			return c
		}
	}
	t.Fatalf("authorization %+v has no %s", a, kind)
	return challengeObject{}
}

func readAuthz(t testing.TB, c *acmetest.Client, url string) *authzObject {
	t.Helper()
	a := &authzObject{URL: url}
	ok(t, c.Read(t, url), http.StatusOK).Into(t, a)
	return a
}

func challengeOf(t testing.TB, c *acmetest.Client, authz string) string {
	t.Helper()
	return readAuthz(t, c, authz).Challenges[0].URL
}

// settled waits until an authorization is no longer pending.
func (s *suite) settled(t testing.TB, c *acmetest.Client, url string) *authzObject {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for range 1000 {
		if a := readAuthz(t, c, url); a.Status != "pending" {
			return a
		}
		<-ticker.C
	}
	t.Fatal("authorization stays pending")
	return nil
}

// pending orders one name under challenges and returns its authorization.
func (s *suite) pending(t testing.TB, c *acmetest.Client, identifier string) (*acmetest.Order, *authzObject) {
	t.Helper()
	made := ok(t, order(t, c, `{"identifiers":[`+identifier+`]}`), http.StatusCreated).Order(t)
	if made.Status != "pending" || len(made.Authorizations) != 1 {
		t.Fatalf("order %+v", made)
	}
	return made, readAuthz(t, c, made.Authorizations[0])
}

func dnsID(name string) string { return `{"type":"dns","value":"` + name + `"}` }

func ipID(address string) string { return `{"type":"ip","value":"` + address + `"}` }

// keyAuthorization is what a challenge is proved with.
func keyAuthorization(t testing.TB, c *acmetest.Client, token string) string {
	t.Helper()
	return token + "." + acmetest.Thumbprint(t, c.Key.Public())
}

// answer starts a validation and returns the settled authorization.
func (s *suite) answer(t testing.TB, c *acmetest.Client, a *authzObject, kind string) *authzObject {
	t.Helper()
	ok(t, c.PostRaw(t, a.of(t, kind).URL, []byte("{}")), http.StatusOK)
	return s.settled(t, c, a.URL)
}

// fails starts a validation that must fail with one of the problem types.
func (s *suite) fails(t testing.TB, c *acmetest.Client, a *authzObject, kind string, problems ...string) *authzObject {
	t.Helper()
	got := s.answer(t, c, a, kind)
	problem := got.of(t, kind).Error
	if got.Status != "invalid" || problem == nil {
		t.Fatalf("authorization %+v, want it invalid", got)
	}
	for _, want := range problems {
		if strings.TrimPrefix(problem.Type, "urn:ietf:params:acme:error:") == want {
			return got
		}
	}
	t.Errorf("problem %+v, want one of %v", problem, problems)
	return got
}
