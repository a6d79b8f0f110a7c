package challenge_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

func TestHTTPAccepts(t *testing.T) {
	t.Parallel()
	tests := map[string]http.HandlerFunc{
		"body":          func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthz) },
		"trailing-crlf": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthz+" \t\r\n\n") },
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			for _, c := range keyAuthz {
				_, _ = io.WriteString(w, string(c))
				w.(http.Flusher).Flush()
			}
		},
		"early-hints": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, keyAuthz)
		},
		"longest": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, keyAuthz+strings.Repeat("\n", 1024-len(keyAuthz)))
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, handler)
			if err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example")); err != nil {
				t.Error(err)
			}
		})
	}
}

// The request is what RFC 8555 section 8.3 says, and no more: no cookies, no credentials, no offer of compression.
func TestHTTPRequest(t *testing.T) {
	t.Parallel()
	got := make(chan *http.Request, 1)
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		got <- r
		_, _ = io.WriteString(w, keyAuthz)
	})
	if err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example")); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.Method != http.MethodGet || r.Host != "web.example" || r.RequestURI != wellKnow || !r.Close {
		t.Errorf("request is %s %s for host %q, close %t", r.Method, r.RequestURI, r.Host, r.Close)
	}
	want := http.Header{"Accept": {"*/*"}, "User-Agent": {"certloom (ACME http-01 validation)"}, "Connection": {"close"}}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestHTTPIgnoresProxies(t *testing.T) { // not parallel: it changes the environment
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("proxy was asked") }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	l := newLab(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthz) })
	if err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example")); err != nil {
		t.Error(err)
	}
}

func TestHTTPOfAddress(t *testing.T) {
	t.Parallel()
	host := make(chan string, 1)
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		host <- r.Host
		_, _ = io.WriteString(w, keyAuthz)
	})
	r := request(challenge.HTTP01, "")
	r.Identifier = pki.Identifier{Type: pki.IP, Value: "127.0.0.1"}
	if err := l.validator(t).Validate(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := <-host; got != "127.0.0.1" {
		t.Errorf("host is %q", got)
	}
	l.dials.routes = map[string]string{fmt.Sprintf("[2001:db8::1]:%d", l.ports.http): fmt.Sprintf("127.0.0.1:%d", l.ports.http)}
	r.Identifier.Value = "2001:db8::1"
	r.Networks = networks("2001:db8::/32")
	if err := l.validator(t).Validate(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := <-host; got != "[2001:db8::1]" {
		t.Errorf("host is %q", got)
	}
}

func TestHTTPRefusesAnswers(t *testing.T) {
	t.Parallel()
	say := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, text)
		}
	}
	ok := "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
	body := func(text string) func(net.Conn) { return say(fmt.Sprintf(ok, len(text), text)) }
	tests := map[string]struct {
		serve func(net.Conn)
		kind  fault.Kind
		says  string
	}{
		"other-body":        {body("hello"), fault.Unauthorized, `answered with "hello", not with the key authorization "` + keyAuthz},
		"empty-body":        {body(""), fault.Unauthorized, `answered with ""`},
		"leading-space":     {body(" " + keyAuthz), fault.Unauthorized, "not with the key authorization"},
		"more-behind":       {body(keyAuthz + "x"), fault.Unauthorized, "not with the key authorization"},
		"token-only":        {body(token), fault.Unauthorized, "not with the key authorization"},
		"other-case":        {body(strings.ToUpper(keyAuthz)), fault.Unauthorized, "not with the key authorization"},
		"control-bytes":     {body("\x1b[31m\r\nfoo\x00\xff"), fault.Unauthorized, `"\x1b[31m\r\nfoo\x00\xff"`},
		"long-body":         {body(keyAuthz + strings.Repeat("\n", 1025)), fault.IncorrectResponse, "more than 1024 bytes"},
		"endless-body":      {endless("HTTP/1.1 200 OK\r\n\r\n", "a"), fault.IncorrectResponse, "more than 1024 bytes"},
		"endless-chunks":    {endless("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"), fault.IncorrectResponse, "more than 1024 bytes"},
		"endless-header":    {endless("HTTP/1.1 200 OK\r\n", "X: y\r\n"), fault.IncorrectResponse, "HTTP/1.1"},
		"endless-status":    {endless("HTTP/1.1 200 ", "K"), fault.IncorrectResponse, "HTTP/1.1"},
		"endless-interim":   {endless("", "HTTP/1.1 103 Early Hints\r\n\r\n"), fault.IncorrectResponse, "HTTP/1.1"},
		"status-404":        {say("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), fault.IncorrectResponse, "status 404, not 200"},
		"status-204":        {say("HTTP/1.1 204 No Content\r\n\r\n"), fault.IncorrectResponse, "status 204"},
		"status-206":        {say("HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n"), fault.IncorrectResponse, "status 206"},
		"status-401":        {say("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"), fault.IncorrectResponse, "status 401"},
		"status-303":        {say("HTTP/1.1 303 See Other\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), fault.IncorrectResponse, "status 303"},
		"status-300":        {say("HTTP/1.1 300 Multiple Choices\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), fault.IncorrectResponse, "status 300"},
		"no-location":       {say("HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n"), fault.IncorrectResponse, "no Location"},
		"control-location":  {say("HTTP/1.1 301 Moved\r\nLocation: http://\x1b[31m/\r\nContent-Length: 0\r\n\r\n"), fault.IncorrectResponse, "HTTP/1.1"},
		"not-http":          {say("220 mail.example ESMTP\r\n"), fault.IncorrectResponse, "HTTP/1.1"},
		"http2-preface":     {say("\x00\x00\x12\x04\x00\x00\x00\x00\x00"), fault.IncorrectResponse, "HTTP/1.1"},
		"nothing":           {func(net.Conn) {}, fault.Connection, "connection"},
		"half-a-header":     {say("HTTP/1.1 200 OK\r\nContent-Le"), fault.IncorrectResponse, "HTTP/1.1"},
		"half-a-body":       {say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(keyAuthz), token)), fault.IncorrectResponse, "HTTP/1.1"},
		"two-lengths":       {say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), fault.IncorrectResponse, "HTTP/1.1"},
		"compressed":        {compressed, fault.Unauthorized, "not with the key authorization"},
		"slow/no-answer":    {func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }, fault.Connection, "no answer in time"},
		"slow/half-a-body":  {stalled(fmt.Sprintf(ok, len(keyAuthz), token)), fault.Connection, "no answer in time"},
		"slow/never-closes": {stalled("HTTP/1.1 200 OK\r\n\r\n" + keyAuthz), fault.Connection, "no answer in time"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.ports.http = portOf(t, talk(t, test.serve).Addr())
			v, err := challenge.New(challenge.Config{HTTPPort: l.ports.http, Resolver: l.resolver, Timeout: timeoutFor(name)})
			if err != nil {
				t.Fatal(err)
			}
			err = v.Validate(t.Context(), request(challenge.HTTP01, "web.example"))
			wantFault(t, err, test.kind, test.says)
			if public := fault.From(err).Public; !strings.Contains(public, "127.0.0.1:") || !strings.Contains(public, "web.example") {
				t.Errorf("sentence %q names no address or no name", public)
			}
		})
	}
}

// endless repeats a text until nobody reads any more.
func endless(begin, again string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, err := io.WriteString(conn, begin)
		for err == nil {
			_, err = io.WriteString(conn, strings.Repeat(again, 1000))
		}
	}
}

// stalled says something and then waits for the other side to go.
func stalled(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		_, _ = io.Copy(io.Discard, conn)
	}
}

func compressed(conn net.Conn) {
	var body strings.Builder
	w := gzip.NewWriter(&body)
	_, _ = io.WriteString(w, keyAuthz)
	_ = w.Close()
	_, _ = http.ReadRequest(bufio.NewReader(conn))
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", body.Len(), body.String())
}

// Redirects that are followed: the answer comes from elsewhere, on names that are allowed.
func TestHTTPFollowsRedirects(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"path":             "/other",
		"relative":         "other",
		"name":             "http://other.example/x",
		"upper-case":       "HTTP://OTHER.Example/x",
		"trailing-dot":     "http://other.example./x",
		"query":            "/x?a=b",
		"fragment":         "/x#part",
		"explicit-port":    "http://other.example:{port}/x",
		"scheme-relative":  "//other.example/x",
		"wildcard-in-path": "/*.x",
	}
	for name, location := range tests {
		for _, status := range []int{301, 302, 307, 308} {
			t.Run(fmt.Sprintf("%s/%d", name, status), func(t *testing.T) {
				t.Parallel()
				var port atomic.Int64
				l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == wellKnow {
						w.Header().Set("Location", strings.ReplaceAll(location, "{port}", fmt.Sprint(port.Load())))
						w.WriteHeader(status)
						return
					}
					_, _ = io.WriteString(w, keyAuthz)
				})
				port.Store(int64(l.ports.http))
				if err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example")); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func TestHTTPFollowsTenRedirects(t *testing.T) {
	t.Parallel()
	for redirects, accepted := range map[int]bool{10: true, 11: false} {
		left := redirects
		l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
			if left--; left >= 0 {
				http.Redirect(w, r, fmt.Sprintf("/%d", left), http.StatusFound)
				return
			}
			_, _ = io.WriteString(w, keyAuthz)
		})
		err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example"))
		if accepted && err != nil {
			t.Errorf("%d redirects: %v", redirects, err)
		}
		if !accepted {
			wantFault(t, err, fault.IncorrectResponse, "more than 10 redirects")
		}
	}
}

func TestHTTPFollowsToHTTPS(t *testing.T) {
	t.Parallel()
	secured := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.ServerName != "other.example" || r.Host != "other.example" {
			t.Errorf("server name %q, host %q", r.TLS.ServerName, r.Host)
		}
		_, _ = io.WriteString(w, keyAuthz)
	}))
	t.Cleanup(secured.Close)
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://other.example/x", http.StatusMovedPermanently)
	})
	l.ports.tls = portOf(t, secured.Listener.Addr())
	if err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example")); err != nil {
		t.Error(err)
	}
	// The same where no TLS is spoken.
	l.ports.tls = l.ports.http
	err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example"))
	wantFault(t, err, fault.TLS, "not TLS")
}

func TestHTTPRefusesRedirects(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ location, says string }{
		"ip":             {"http://127.0.0.1/x", "IP address"},
		"ip6":            {"http://[::1]/x", "IP address"},
		"ip6-mapped":     {"http://[::ffff:127.0.0.1]/x", "IP address"},
		"ip-decimal":     {"http://2130706433/x", "not a DNS name"},
		"ip-hex":         {"http://0x7f.1/x", "not a DNS name"},
		"ip-octal":       {"http://0177.0.0.01/x", "not a DNS name"},
		"port":           {"http://other.example:22/x", "port is not"},
		"port-80":        {"http://other.example:80/x", "port is not"},
		"port-0":         {"http://other.example:0/x", "port is not"},
		"port-overflow":  {"http://other.example:65616/x", "port is not"},
		"https-port":     {"https://other.example:6443/x", "port is not"},
		"user":           {"http://a@other.example/x", "user information"},
		"user-password":  {"http://a:b@other.example/x", "user information"},
		"empty-user":     {"http://@other.example/x", "user information"},
		"file":           {"file:///etc/passwd", "scheme"},
		"ftp":            {"ftp://other.example/", "scheme"},
		"javascript":     {"javascript:alert(1)", "scheme"},
		"gopher":         {"gopher://other.example:80/_x", "scheme"},
		"opaque":         {"http:other.example", "not a DNS name"},
		"no-host":        {"http:///x", "not a DNS name"},
		"wildcard":       {"http://*.other.example/x", "not a DNS name"},
		"underscore":     {"http://a_b.example/x", "not a DNS name"},
		"idn":            {"http://ä.example/x", "not a DNS name"},
		"nul":            {"http://other.example%00.evil/x", "not a URL"},
		"percent":        {"http://other%2eexample/x", "not a URL"},
		"two-dots":       {"http://other.example../x", "not a DNS name"},
		"long-path":      {"/" + strings.Repeat("a", 2000), "more than 2000 bytes"},
		"long-query":     {"/?" + strings.Repeat("a", 2000), "more than 2000 bytes"},
		"very-long":      {"/" + strings.Repeat("a", 5000), "too long"},
		"itself":         {wellKnow, "there before"},
		"itself-by-name": {"http://WEB.example" + wellKnow, "there before"},
		"fragment-only":  {"#again", "there before"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			requests := 0
			l := newLab(t, func(w http.ResponseWriter, _ *http.Request) {
				requests++
				w.Header()["Location"] = []string{test.location}
				w.WriteHeader(http.StatusFound)
			})
			err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example"))
			wantFault(t, err, fault.IncorrectResponse, test.says)
			if !strings.Contains(fault.From(err).Public, "redirects to") || requests != 1 {
				t.Errorf("%d requests, sentence %q", requests, fault.From(err).Public)
			}
		})
	}
}

// A loop of several names ends too.
func TestHTTPRefusesRedirectLoop(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		other := map[string]string{"web.example": "a.example", "a.example": "b.example", "b.example": "a.example"}
		http.Redirect(w, r, "http://"+other[r.Host]+"/x", http.StatusFound)
	})
	err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example"))
	wantFault(t, err, fault.IncorrectResponse, "there before")
}

// The networks of the profile bound every connection, and each hop is judged by itself.
func TestHTTPStaysInNetworks(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		records  []string
		networks []string
		says     string
	}{
		"none":            {nil, nil, "web.example: its address is 127.0.0.1, which the profile's networks"},
		"other-network":   {nil, []string{"10.0.0.0/8"}, "127.0.0.1"},
		"metadata":        {[]string{"web.example. A 169.254.169.254"}, []string{"127.0.0.0/8", "10.0.0.0/8"}, "169.254.169.254"},
		"unspecified":     {[]string{"web.example. A 0.0.0.0"}, []string{"0.0.0.0/0"}, "0.0.0.0"},
		"unspecified-6":   {[]string{"web.example. AAAA ::"}, []string{"::/0", "0.0.0.0/0"}, "::"},
		"multicast":       {[]string{"web.example. A 224.0.0.1"}, []string{"0.0.0.0/0"}, "224.0.0.1"},
		"loopback-6":      {[]string{"web.example. AAAA ::1"}, []string{"127.0.0.0/8"}, "::1"},
		"mapped":          {[]string{"web.example. AAAA ::ffff:127.0.0.1"}, []string{"::/0"}, "127.0.0.1"},
		"compatible":      {[]string{"web.example. AAAA ::127.0.0.1"}, []string{"::/0"}, "::7f00:1"},
		"nat64":           {[]string{"web.example. AAAA 64:ff9b::7f00:1"}, []string{"::/0"}, "64:ff9b::7f00:1"},
		"nat64-local":     {[]string{"web.example. AAAA 64:ff9b:1::7f00:1"}, []string{"::/0"}, "64:ff9b:1::7f00:1"},
		"6to4":            {[]string{"web.example. AAAA 2002:7f00:1::1"}, []string{"::/0"}, "2002:7f00:1::1"},
		"several":         {[]string{"web.example. A 10.0.0.1", "web.example. A 10.0.0.2"}, []string{"127.0.0.0/8"}, "its 2 addresses begin with 10.0.0.1"},
		"redirect":        {[]string{"next.example. A 127.0.0.9"}, []string{"127.0.0.1/32"}, "next.example: its address is 127.0.0.9"},
		"redirect-public": {[]string{"next.example. A 203.0.113.1"}, []string{"127.0.0.1/32"}, "next.example: its address is 203.0.113.1"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://next.example/x", http.StatusFound)
			})
			l.zone.records = test.records
			r := request(challenge.HTTP01, "web.example")
			r.Networks = networks(test.networks...)
			wantFault(t, l.validator(t).Validate(t.Context(), r), fault.Connection, test.says)
			for _, dialled := range l.dials.to(l.ports.http) {
				addr := netip.MustParseAddrPort(strings.TrimPrefix(dialled, "tcp ")).Addr()
				if addr != netip.MustParseAddr("127.0.0.1") {
					t.Errorf("connected to %s", addr)
				}
			}
		})
	}
}

// A name that changes its address while we look (DNS rebinding) wins nothing: the connection goes to the address that
// was judged, and each hop asks once.
func TestHTTPConnectsToTheJudgedAddress(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wellKnow {
			http.Redirect(w, r, "http://web.example/again", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, keyAuthz)
	})
	r := request(challenge.HTTP01, "web.example")
	r.Networks = networks("127.0.0.1/32")
	if err := l.validator(t).Validate(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if count := l.zone.count("A web.example."); count != 2 {
		t.Errorf("asked %d times for the address of two hops", count)
	}
	at := fmt.Sprintf("tcp 127.0.0.1:%d", l.ports.http)
	if got := l.dials.to(l.ports.http); !slices.Equal(got, []string{at, at}) {
		t.Errorf("connected to %v", got)
	}
}

// What another host says to which we were redirected is not shown to the client: it may be one that only we reach.
func TestHTTPHidesWhatRedirectsLeadTo(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == wellKnow {
			http.Redirect(w, r, "http://internal.example/latest/meta-data", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "secret of the instance")
	})
	err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example"))
	wantFault(t, err, fault.Unauthorized, "22 bytes that are not the key authorization")
}

// IPv6 comes first, then IPv4, each address until one answers, and not more than a few.
func TestHTTPTriesAddresses(t *testing.T) {
	t.Parallel()
	l := newLab(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, keyAuthz) })
	at := func(addr string) string { return net.JoinHostPort(addr, fmt.Sprint(l.ports.http)) }
	l.zone.records = []string{
		"web.example. A 192.0.2.1", "web.example. A 192.0.2.2", "web.example. A 192.0.2.3", "web.example. A 192.0.2.1",
		"web.example. AAAA 2001:db8::1", "web.example. AAAA 2001:db8::2", "web.example. AAAA 2001:db8::3", "web.example. AAAA fe80::1",
	}
	l.dials.routes = map[string]string{
		at("2001:db8::1"): "", at("2001:db8::2"): "", at("192.0.2.1"): "", at("192.0.2.2"): at("127.0.0.1"),
	}
	r := request(challenge.HTTP01, "web.example")
	r.Networks = networks("192.0.2.0/24", "2001:db8::/32")
	if err := l.validator(t).Validate(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	want := []string{"tcp " + at("2001:db8::1"), "tcp " + at("2001:db8::2"), "tcp " + at("192.0.2.1"), "tcp " + at("192.0.2.2")}
	if diff := cmp.Diff(want, l.dials.to(l.ports.http)); diff != "" {
		t.Errorf("connections (-want +got):\n%s", diff)
	}
	l.dials.routes[at("192.0.2.2")] = ""
	err := l.validator(t).Validate(t.Context(), r)
	wantFault(t, err, fault.Connection, "no connection to "+at("192.0.2.2")+" (web.example): connection failed")
}

func TestHTTPConnectionRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.ports.http = unused(t)
	err := l.validator(t).Validate(t.Context(), request(challenge.HTTP01, "web.example"))
	wantFault(t, err, fault.Connection, fmt.Sprintf("127.0.0.1:%d (web.example): connection refused", l.ports.http))
}

// unused returns a port on which nobody listens.
func unused(t *testing.T) int {
	t.Helper()
	listener := listen(t)
	_ = listener.Close()
	return portOf(t, listener.Addr())
}

func TestHTTPEndsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	l := newLab(t, nil)
	l.ports.http = portOf(t, talk(t, func(conn net.Conn) {
		cancel()
		_, _ = io.Copy(io.Discard, conn)
	}).Addr())
	err := l.validator(t).Validate(ctx, request(challenge.HTTP01, "web.example"))
	wantFault(t, err, fault.Connection, "127.0.0.1")
}
