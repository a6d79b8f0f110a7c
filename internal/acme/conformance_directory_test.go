package acme_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
)

type directoryObject struct {
	NewNonce, NewAccount, NewOrder, RevokeCert, KeyChange, RenewalInfo, NewAuthz string
	Meta                                                                         map[string]any
}

func directoryRows() []row {
	return []row{
		{"DIR-1", func(t *testing.T, s *suite) {
			conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "https://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "GET /acme/directory HTTP/1.1\r\nHost: x\r\n\r\n")
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return // closed without an answer
			}
			defer answer.Body.Close()
			if answer.StatusCode < 300 {
				t.Errorf("plain HTTP is served: %d", answer.StatusCode)
			}
			if _, err := acme.New(acme.Config{BaseURL: "http://ca.example", Registerer: prometheus.NewRegistry()}); err == nil || !strings.Contains(err.Error(), "BaseURL") {
				t.Errorf("New takes a base URL of plain HTTP: %v", err)
			}
		}},
		{"DIR-2", func(t *testing.T, s *suite) {
			d := readDirectory(t, s, s.URL+"/acme/directory")
			for _, u := range []string{d.NewNonce, d.NewAccount, d.NewOrder, d.RevokeCert, d.KeyChange} {
				if !strings.HasPrefix(u, s.URL+"/acme/") {
					t.Errorf("%q is not a URL of this server", u)
				}
			}
		}},
		{"DIR-3", func(t *testing.T, s *suite) {
			if d := readDirectory(t, s, s.URL+"/acme/directory"); d.NewAuthz != "" {
				t.Errorf("newAuthz %q is offered", d.NewAuthz)
			}
		}},
		{"DIR-4", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			answer := c.Read(t, s.URL+"/acme/directory")
			if answer.Status != http.StatusOK || !bytes.Contains(answer.Body, []byte("newNonce")) || answer.Header.Get("Replay-Nonce") == "" {
				t.Errorf("POST-as-GET of the directory: %d %s", answer.Status, answer.Body)
			}
			nonce := c.Nonce()
			body := sign(t, c, protected(t, c, nonce, s.URL+"/acme/directory"), "")
			if first := c.Send(t, s.URL+"/acme/directory", []byte(body)); first.Status != http.StatusOK {
				t.Errorf("status %d", first.Status)
			}
			if again := c.Send(t, s.URL+"/acme/directory", []byte(body)); again.Status != http.StatusBadRequest || again.Problem(t).Type != "badNonce" {
				t.Errorf("the nonce was not used: %d %s", again.Status, again.Body)
			}
		}},
		{"DIR-5", directoryMeta},
		{"DIR-6", func(t *testing.T, s *suite) {
			for _, at := range []string{"/acme/directory", "/acme/p/challenge/directory"} {
				d := readDirectory(t, s, s.URL+at)
				// RFC 9773 section 4.1's example, which is of no certificate of ours: ARI answers.
				answer := s.client(t).Get(t, d.RenewalInfo+"/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
				if d.RenewalInfo == "" || answer.Status != http.StatusNotFound || answer.Problem(t).Type != "malformed" {
					t.Errorf("renewalInfo %q: %d %s", d.RenewalInfo, answer.Status, answer.Body)
				}
			}
		}},
		{"DIR-8", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			index := `<` + s.URL + `/acme/directory>;rel="index"`
			for _, answer := range []*acmetest.Response{
				c.Get(t, c.Prefix+"/new-nonce"), c.Read(t, c.KID), order(t, c, `[]`), c.Get(t, s.URL+"/acme/nowhere"),
				c.Get(t, c.KID), order(t, c, names("a.example.com")),
			} {
				if got := answer.Header.Values("Link"); len(got) == 0 || got[0] != index {
					t.Errorf("status %d has links %q", answer.Status, got)
				}
			}
			if got := c.Get(t, s.URL+"/acme/directory").Header.Values("Link"); len(got) != 0 {
				t.Errorf("the directory has links %q", got)
			}
		}},
		{"DIR-9", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made := ok(t, order(t, c, names("dir9.example.com")), http.StatusCreated).Order(t)
			authz := readAuthz(t, c, made.Authorizations[0])
			links := ok(t, c.Read(t, authz.Challenges[0].URL), http.StatusOK).Header.Values("Link")
			if len(links) != 2 || !strings.HasSuffix(links[0], `>;rel="index"`) || !strings.HasSuffix(links[1], `>;rel="up"`) {
				t.Errorf("links %q, want two lines", links)
			}
		}},
		{"DIR-10", wrongMethods},
		{"DIR-11", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			for _, at := range []string{"/acme/nowhere", "/acme", "/acme/", "/acme/order/", "/acme//directory", "/acme/../acme/directory", "/acme/p/nobody/directory"} {
				if got := c.Get(t, s.URL+at); got.Status != http.StatusNotFound || got.Problem(t).Type != "malformed" {
					t.Errorf("GET %s: %d %s", at, got.Status, got.Body)
				}
				refused(t, c.Read(t, s.URL+at), http.StatusNotFound, "malformed")
			}
		}},
		{"DIR-12", func(t *testing.T, s *suite) {
			c := s.client(t)
			for _, at := range []string{"/acme/directory", "/acme/new-order", "/acme/order/x", "/acme/renewal-info/x"} {
				request := httptest.NewRequestWithContext(t.Context(), http.MethodOptions, s.URL+at, nil)
				request.Header.Set("Origin", "https://app.example")
				request.Header.Set("Access-Control-Request-Method", "POST")
				h := c.Do(t, request).Header
				if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Allow-Headers") != "Content-Type" {
					t.Errorf("preflight of %s: %v", at, h)
				}
			}
			h := c.Get(t, s.URL+"/acme/new-nonce").Header
			if h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Access-Control-Expose-Headers") != "Link, Replay-Nonce, Location, Retry-After" {
				t.Errorf("CORS headers %v", h)
			}
		}},
		{"DIR-13", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.KID, strings.NewReader(sign(t, c, header(t, c, c.KID), "")))
			request.Header.Set("Content-Type", "application/jose+json")
			request.Header.Set("User-Agent", "")
			ok(t, c.Do(t, request), http.StatusOK)
		}},
		{"DIR-14", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			for _, answer := range []*acmetest.Response{c.Get(t, c.Prefix+"/new-nonce"), c.Read(t, c.KID), order(t, c, `[]`), c.Read(t, c.Prefix+"/new-nonce")} {
				if got := answer.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
					t.Errorf("status %d has Cache-Control %q", answer.Status, got)
				}
			}
		}},
		{"DIR-15", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			for name, change := range map[string]func(*http.Transport){
				"http/1.1":        func(tr *http.Transport) { tr.Protocols = new(http.Protocols); tr.Protocols.SetHTTP1(true) },
				"http/2":          func(tr *http.Transport) { tr.Protocols = new(http.Protocols); tr.Protocols.SetHTTP2(true) },
				"new-connections": func(tr *http.Transport) { tr.DisableKeepAlives = true },
			} {
				other := *c
				other.Handler = wire{s.transport(t, change)}
				obtained(t, s, &other, "spiffe://cluster.local/ns/demo/sa/"+strings.ReplaceAll(name, "/", "-"))
			}
		}},
		{"DIR-16", func(t *testing.T, s *suite) {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				client := s.transport(t, func(tr *http.Transport) {
					tr.TLSClientConfig.MinVersion, tr.TLSClientConfig.MaxVersion = version, version
				})
				c := s.client(t)
				c.Handler = wire{client}
				if got := c.Get(t, s.URL+"/acme/directory"); got.Status != http.StatusOK {
					t.Errorf("%s: %d %s", tls.VersionName(version), got.Status, got.Body)
				}
			}
		}},
		{"DIR-17", hostReflection},
		{"DIR-18", func(t *testing.T, s *suite) {
			owner, other := s.account(t, "server"), s.account(t, "server")
			made := owner.NewOrder(t, "dir18.example.com")
			valid := ok(t, owner.Finalize(t, made, acmetest.ServerCSR(t, "dir18.example.com")), http.StatusOK).Order(t)
			unknown := s.URL + "/acme/order/" + strings.Repeat("0", 36)
			for foreign, missing := range map[string]string{
				valid.URL:               unknown,
				valid.Authorizations[0]: s.URL + "/acme/authz/" + strings.Repeat("0", 36),
				valid.Certificate:       s.URL + "/acme/certificate/" + strings.Repeat("1", 40),
				owner.KID:               s.URL + "/acme/account/" + strings.Repeat("0", 36),
				made.Finalize:           unknown + "/finalize",
				owner.KID + "/orders":   s.URL + "/acme/account/" + strings.Repeat("0", 36) + "/orders",
				challengeOf(t, owner, valid.Authorizations[0]): s.URL + "/acme/challenge/" + strings.Repeat("0", 36) + "/" + strings.Repeat("0", 36),
			} {
				a, b := other.Read(t, foreign), other.Read(t, missing)
				if a.Status != b.Status || a.Status != http.StatusNotFound && a.Status != http.StatusBadRequest {
					t.Errorf("%s: status %d, of what does not exist %d", foreign, a.Status, b.Status)
				}
				if kind := a.Problem(t); kind.Type != b.Problem(t).Type {
					t.Errorf("%s: %s; of what does not exist %s", foreign, a.Body, b.Body)
				}
			}
		}},
	}
}

func readDirectory(t *testing.T, s *suite, at string) directoryObject {
	t.Helper()
	answer := s.client(t).Get(t, at)
	if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("directory: %d %v", answer.Status, answer.Header)
	}
	var d directoryObject
	answer.Into(t, &d)
	return d
}

func directoryMeta(t *testing.T, s *suite) {
	d := readDirectory(t, s, s.URL+"/acme/directory")
	profiles, _ := d.Meta["profiles"].(map[string]any)
	if d.Meta["externalAccountRequired"] != true || profiles["istio"] == nil || profiles["server"] == nil {
		t.Errorf("meta %v", d.Meta)
	}
	for _, name := range []string{"termsOfService", "website", "caaIdentities"} {
		if value, there := d.Meta[name]; there {
			t.Errorf("%s is %v, not left out", name, value)
		}
	}
	if d = readDirectory(t, s, s.URL+"/acme/p/challenge/directory"); d.Meta["externalAccountRequired"] != nil {
		t.Errorf("a directory without EAB has meta %v", d.Meta)
	}
	replica := s.Replica(t, acme.Options{TermsOfService: "https://x.example/terms", Website: "https://x.example", CAAIdentities: []string{"x.example"}})
	on(s.client(t), replica).Get(t, s.URL+"/acme/directory").Into(t, &d)
	if d.Meta["termsOfService"] != "https://x.example/terms" || d.Meta["website"] != "https://x.example" || len(d.Meta["caaIdentities"].([]any)) != 1 {
		t.Errorf("meta %v", d.Meta)
	}
}

func wrongMethods(t *testing.T, s *suite) {
	c := s.account(t, "server")
	made := c.NewOrder(t, "dir10.example.com")
	for at, allow := range map[string]string{
		c.KID: "POST", made.URL: "POST", made.Finalize: "POST", made.Authorizations[0]: "POST", c.Prefix + "/new-order": "POST",
		c.Prefix + "/new-account": "POST", c.Prefix + "/revoke-cert": "POST", c.Prefix + "/key-change": "POST",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			answer := c.Do(t, httptest.NewRequestWithContext(t.Context(), method, at, nil))
			if answer.Status != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != allow || answer.Problem(t).Type != "malformed" {
				t.Errorf("%s %s: %d, Allow %q, %s", method, at, answer.Status, answer.Header.Get("Allow"), answer.Body)
			}
		}
	}
	answer := c.Read(t, s.URL+"/acme/renewal-info/x")
	if refused(t, answer, http.StatusMethodNotAllowed, "malformed"); answer.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("Allow %q", answer.Header.Get("Allow"))
	}
}

// hostReflection sends other hosts in every way: no answer may show one.
func hostReflection(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Host = "evil.example" },
		func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "evil.example") },
		func(r *http.Request) { r.Header.Set("Forwarded", "host=evil.example;proto=http") },
		func(r *http.Request) { r.Header.Set("X-Original-URL", "https://evil.example/acme/directory") },
		func(r *http.Request) { r.Header.Set("X-Forwarded-Prefix", "/evil.example") },
	} {
		get := httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/acme/directory", nil)
		at := c.Prefix + "/new-order"
		post := httptest.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(sign(t, c, header(t, c, at), `{"identifiers":null}`)))
		post.Header.Set("Content-Type", "application/jose+json")
		for _, request := range []*http.Request{get, post} {
			change(request)
			answer := c.Do(t, request)
			if answer.Status != http.StatusOK && answer.Status != http.StatusCreated {
				t.Errorf("%s: %d %s", request.Method, answer.Status, answer.Body)
			}
			var all bytes.Buffer
			_ = answer.Header.Write(&all)
			if strings.Contains(all.String()+string(answer.Body), "evil") {
				t.Errorf("answer shows the other host: %s%s", all.String(), answer.Body)
			}
		}
	}
}

// transport returns an HTTP client like the suite's with a changed transport.
func (s *suite) transport(t *testing.T, change func(*http.Transport)) *http.Client {
	t.Helper()
	used, isTransport := s.Client.Transport.(*http.Transport)
	if !isTransport {
		t.Fatalf("transport is %T", s.Client.Transport)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: used.TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}}
	change(transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: s.Client.CheckRedirect}
}

// obtained gets a certificate for a SPIFFE ID and returns its order and PEM.
func obtained(t *testing.T, s *suite, c *acmetest.Client, id string) (*acmetest.Order, []byte) {
	t.Helper()
	made := ok(t, order(t, c, `{"identifiers":null}`), http.StatusCreated).Order(t)
	valid := ok(t, c.Finalize(t, made, acmetest.WorkloadCSR(t, id)), http.StatusOK).Order(t)
	if valid.Status != "valid" || valid.URL != made.URL {
		t.Fatalf("finalized order %+v", valid)
	}
	if u, err := url.Parse(valid.Certificate); err != nil || !strings.HasPrefix(valid.Certificate, s.URL+"/acme/") {
		t.Fatalf("certificate %q: %v", u, err)
	}
	return valid, ok(t, c.Read(t, valid.Certificate), http.StatusOK).Body
}
