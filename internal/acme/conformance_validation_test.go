package acme_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/acme/acmetest"
)

// validationRows hold the validators to the challenges' definitions, through the server. Package challenge has the
// tables of answers; here stands that a failure of each kind makes the authorization invalid and a success valid.
func validationRows() []row {
	return []row{
		{"H01-1", httpProofs},
		{"H01-2", httpRedirects},
		{"H01-3", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			_, a := s.pending(t, c, dnsID("h01-3.test"))
			token := a.of(t, "http-01").Token
			var seen http.Header
			s.lab.page("h01-3.test", wellKnown+token, func(w http.ResponseWriter, r *http.Request) {
				seen = r.Header.Clone()
				w.Header().Set("Set-Cookie", "a=b")
				w.Header().Set("Content-Encoding", "gzip") // that it is not
				_, _ = io.WriteString(w, keyAuthorization(t, c, token))
			})
			s.answer(t, c, a, "http-01")
			if seen.Get("Cookie") != "" || strings.Contains(seen.Get("Accept-Encoding"), "gzip") {
				t.Errorf("request headers %v", seen)
			}
		}},
		{"H01-4", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			// IPv6 first, where nobody listens, then IPv4.
			s.lab.record("h01-4.test.", "h01-4.test. 1 IN AAAA ::1", "h01-4.test. 1 IN A 127.0.0.1")
			_, a := s.pending(t, c, dnsID("h01-4.test"))
			token := a.of(t, "http-01").Token
			s.lab.prove("h01-4.test", token, keyAuthorization(t, c, token))
			if got := s.answer(t, c, a, "http-01"); got.Status != "valid" {
				t.Errorf("authorization %+v", got)
			}
			_, b := s.pending(t, c, ipID("127.0.0.1"))
			token = b.of(t, "http-01").Token
			s.lab.prove("127.0.0.1", token, keyAuthorization(t, c, token))
			if got := s.answer(t, c, b, "http-01"); got.Status != "valid" {
				t.Errorf("authorization of an address %+v", got)
			}
		}},
		{"D01-1", dnsProofs},
		{"ALP-1", alpnProofs},
	}
}

func httpProofs(t *testing.T, s *suite) {
	c := s.scoped(t)
	try := func(t *testing.T, name string, page func(proof string) http.HandlerFunc) *authzObject {
		_, a := s.pending(t, c, dnsID(name))
		token := a.of(t, "http-01").Token
		s.lab.page(name, wellKnown+token, page(keyAuthorization(t, c, token)))
		return a
	}
	body := func(f func(proof string) string) func(string) http.HandlerFunc {
		return func(proof string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, f(proof)) }
		}
	}
	good := map[string]func(string) http.HandlerFunc{
		"exact":   body(func(p string) string { return p }),
		"newline": body(func(p string) string { return p + "\r\n \t\n" }),
		"host": func(proof string) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && r.Host == fmt.Sprintf("h01-1-host.test:%d", s.lab.httpPort) || r.Host == "h01-1-host.test" {
					_, _ = io.WriteString(w, proof)
				}
			}
		},
	}
	for name, page := range good {
		t.Run(name, func(t *testing.T) {
			a := try(t, "h01-1-"+name+".test", page)
			if got := s.answer(t, c, a, "http-01"); got.Status != "valid" {
				t.Errorf("authorization %+v", got.of(t, "http-01"))
			}
		})
	}
	bad := map[string]func(string) http.HandlerFunc{
		"empty":      body(func(string) string { return "" }),
		"token-only": body(func(p string) string { return strings.Split(p, ".")[0] }),
		"before":     body(func(p string) string { return " " + p }),
		"twice":      body(func(p string) string { return p + "\n" + p }),
		"other-key": body(func(p string) string {
			return strings.Split(p, ".")[0] + "." + acmetest.Thumbprint(t, acmetest.NewKey(t).Public())
		}),
		"upper": body(strings.ToUpper),
		"long":  body(func(p string) string { return p + strings.Repeat(" ", 1<<20) }),
		"status-500": func(p string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); _, _ = io.WriteString(w, p) }
		},
		"status-201": func(p string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201); _, _ = io.WriteString(w, p) }
		},
		"broken-conn": func(string) http.HandlerFunc {
			return func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		},
	}
	for name, page := range bad {
		t.Run("refuses/"+name, func(t *testing.T) {
			s.fails(t, c, try(t, "h01-1-"+name+".test", page), "http-01", "unauthorized", "incorrectResponse", "connection")
		})
	}
	// A name without an address, and one outside the networks of the profile.
	s.lab.record("h01-1-lost.test.", "h01-1-lost.test. 1 IN TXT x")
	_, a := s.pending(t, c, dnsID("h01-1-lost.test"))
	s.fails(t, c, a, "http-01", "dns")
	for _, address := range []string{"169.254.169.254", "192.0.2.1", "0.0.0.0", "10.0.0.1"} {
		name := "h01-1-" + strings.ReplaceAll(address, ".", "-") + ".test"
		s.lab.record(name+".", name+". 1 IN A "+address)
		_, a := s.pending(t, c, dnsID(name))
		s.fails(t, c, a, "http-01", "connection")
	}
	for _, address := range []string{"::ffff:192.0.2.1", "64:ff9b::a00:1", "fd00::1", "::"} {
		name := "h01-1-v6-" + fmt.Sprintf("%x", sha256.Sum256([]byte(address)))[:8] + ".test"
		s.lab.record(name+".", name+". 1 IN AAAA "+address)
		_, a := s.pending(t, c, dnsID(name))
		s.fails(t, c, a, "http-01", "connection", "dns")
	}
}

func httpRedirects(t *testing.T, s *suite) {
	c := s.scoped(t)
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		}
	}
	_, a := s.pending(t, c, dnsID("h01-2.test"))
	token := a.of(t, "http-01").Token
	s.lab.page("h01-2.test", wellKnown+token, redirect(fmt.Sprintf("http://other.h01-2.test:%d/proof?x=1", s.lab.httpPort)))
	s.lab.page("other.h01-2.test", "/proof", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthorization(t, c, token)) })
	if got := s.answer(t, c, a, "http-01"); got.Status != "valid" {
		t.Errorf("authorization behind a redirect %+v", got.of(t, "http-01"))
	}
	s.lab.record("rebound.h01-2.test.", "rebound.h01-2.test. 1 IN A 169.254.169.254")
	for name, to := range map[string]string{
		"ip-literal": fmt.Sprintf("http://127.0.0.1:%d/secret", s.lab.httpPort),
		"ip6":        fmt.Sprintf("http://[::1]:%d/secret", s.lab.httpPort),
		"port":       "http://h01-2.test:22/secret",
		"userinfo":   fmt.Sprintf("http://a:b@h01-2.test:%d/secret", s.lab.httpPort),
		"file":       "file:///etc/passwd",
		"gopher":     "gopher://h01-2.test/",
		"loop":       "",
		"long":       fmt.Sprintf("http://h01-2.test:%d/%s", s.lab.httpPort, strings.Repeat("a", 3000)),
		"rebound":    fmt.Sprintf("http://rebound.h01-2.test:%d/secret", s.lab.httpPort),
		"relative":   "//",
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			host := "h01-2-" + name + ".test"
			_, a := s.pending(t, c, dnsID(host))
			token := a.of(t, "http-01").Token
			target := to
			if name == "loop" {
				target = fmt.Sprintf("http://%s:%d%s", host, s.lab.httpPort, wellKnown+token)
			}
			s.lab.page(host, wellKnown+token, redirect(target))
			s.lab.page("127.0.0.1", "/secret", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the inside") })
			got := s.fails(t, c, a, "http-01", "incorrectResponse", "connection", "dns")
			if detail := got.of(t, "http-01").Error.Detail; strings.Contains(detail, "the inside") {
				t.Errorf("detail %q shows what the host said", detail)
			}
			if n := s.lab.hit("127.0.0.1/secret"); n != 0 {
				t.Errorf("the inside was asked %d times", n)
			}
		})
	}
}

func dnsProofs(t *testing.T, s *suite) {
	c := s.scoped(t)
	digest := func(proof string) string { sum := sha256.Sum256([]byte(proof)); return acmetest.Base64(sum[:]) }
	for name, lines := range map[string]func(at, value string) []string{
		"one": func(at, v string) []string { return []string{at + ` 1 IN TXT "` + v + `"`} },
		"several": func(at, v string) []string {
			return []string{at + ` 1 IN TXT "x"`, at + ` 1 IN TXT "` + v + `"`, at + ` 1 IN TXT ""`}
		},
		"split": func(at, v string) []string { return []string{at + ` 1 IN TXT "` + v[:10] + `" "` + v[10:] + `"`} },
	} {
		t.Run(name, func(t *testing.T) {
			host := "d01-" + name + ".test"
			_, a := s.pending(t, c, dnsID(host))
			at := "_acme-challenge." + host + "."
			s.lab.record(at, lines(at, digest(keyAuthorization(t, c, a.of(t, "dns-01").Token)))...)
			if got := s.answer(t, c, a, "dns-01"); got.Status != "valid" {
				t.Errorf("authorization %+v", got.of(t, "dns-01"))
			}
			s.lab.mu.Lock()
			defer s.lab.mu.Unlock()
			if s.lab.asked["TXT "+at+" tcp"] == 0 {
				t.Errorf("not asked over TCP: %v", s.lab.asked["TXT "+at+" udp"])
			}
		})
	}
	// A wildcard, over a CNAME.
	_, a := s.pending(t, c, dnsID("*.d01-wild.test"))
	s.lab.record("_acme-challenge.d01-wild.test.", "_acme-challenge.d01-wild.test. 1 IN CNAME alias.d01.test.")
	s.lab.record("alias.d01.test.", `alias.d01.test. 1 IN TXT "`+digest(keyAuthorization(t, c, a.of(t, "dns-01").Token))+`"`)
	if got := s.answer(t, c, a, "dns-01"); got.Status != "valid" {
		t.Errorf("authorization of a wildcard %+v", got.of(t, "dns-01"))
	}
	for name, lines := range map[string][]string{
		"none":  {"x. 1 IN A 127.0.0.1"},
		"wrong": {`_acme-challenge.d01-wrong.test. 1 IN TXT "` + digest("x.y") + `"`},
		"loop":  {"_acme-challenge.d01-loop.test. 1 IN CNAME _acme-challenge.d01-loop.test."},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			_, a := s.pending(t, c, dnsID("d01-"+name+".test"))
			s.lab.record("_acme-challenge.d01-"+name+".test.", lines...)
			s.fails(t, c, a, "dns-01", "unauthorized", "dns", "incorrectResponse")
		})
	}
	_, address := s.pending(t, c, ipID("127.0.0.2"))
	for _, challenge := range address.Challenges {
		if challenge.Type == "dns-01" {
			t.Error("dns-01 is offered for an address (RFC 8738 section 7)")
		}
	}
}

func alpnProofs(t *testing.T, s *suite) {
	c := s.scoped(t)
	same := func(*x509.Certificate) {}
	_, a := s.pending(t, c, dnsID("alp-good.test"))
	s.lab.proof("alp-good.test", alpnProof(t, general(2, "alp-good.test"), keyAuthorization(t, c, a.of(t, "tls-alpn-01").Token), same))
	if got := s.answer(t, c, a, "tls-alpn-01"); got.Status != "valid" {
		t.Errorf("authorization %+v", got.of(t, "tls-alpn-01"))
	}
	_, a = s.pending(t, c, ipID("127.0.0.1"))
	s.lab.proof("1.0.0.127.in-addr.arpa", alpnProof(t, general(7, "\x7f\x00\x00\x01"), keyAuthorization(t, c, a.of(t, "tls-alpn-01").Token), same))
	if got := s.answer(t, c, a, "tls-alpn-01"); got.Status != "valid" {
		t.Errorf("authorization of an address %+v", got.of(t, "tls-alpn-01"))
	}
	identifier := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}
	for name, change := range map[string]func(c *x509.Certificate){
		"not-critical": func(c *x509.Certificate) { c.ExtraExtensions[1].Critical = false },
		"wrong-hash":   func(c *x509.Certificate) { c.ExtraExtensions[1].Value[5] ^= 1 },
		"trailing":     func(c *x509.Certificate) { c.ExtraExtensions[1].Value = append(c.ExtraExtensions[1].Value, 0) },
		"no-extension": func(c *x509.Certificate) { c.ExtraExtensions = c.ExtraExtensions[:1] },
		"old-oid": func(c *x509.Certificate) {
			c.ExtraExtensions[1].Id = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 30, 1}
		},
		"no-san": func(c *x509.Certificate) { c.ExtraExtensions = c.ExtraExtensions[1:] },
		"two-sans": func(c *x509.Certificate) {
			san := append(general(2, "alp-two-sans.test"), general(2, "x.test")...)
			c.ExtraExtensions[0].Value = append([]byte{0x30, byte(len(san))}, san...)
		},
		"other-san": func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = append([]byte{0x30, 8}, general(2, "x.test")...)
		},
		"twice": func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: identifier, Critical: true, Value: c.ExtraExtensions[1].Value})
		},
		"not-ours": func(c *x509.Certificate) { c.ExtraExtensions[1].Value = append([]byte{4, 32}, make([]byte, 32)...) },
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			host := "alp-" + name + ".test"
			_, a := s.pending(t, c, dnsID(host))
			s.lab.proof(host, alpnProof(t, general(2, host), keyAuthorization(t, c, a.of(t, "tls-alpn-01").Token), change))
			s.fails(t, c, a, "tls-alpn-01", "unauthorized", "incorrectResponse", "tls")
		})
	}
	// No acme-tls/1, no server, no SNI that it knows.
	_, a = s.pending(t, c, dnsID("alp-h2.test"))
	s.lab.proof("alp-h2.test", alpnProof(t, general(2, "alp-h2.test"), keyAuthorization(t, c, a.of(t, "tls-alpn-01").Token), same), "h2", "http/1.1")
	s.fails(t, c, a, "tls-alpn-01", "tls", "incorrectResponse", "unauthorized")
	_, a = s.pending(t, c, dnsID("alp-nobody.test"))
	s.fails(t, c, a, "tls-alpn-01", "tls", "connection")
}
