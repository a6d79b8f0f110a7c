package testbed

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
)

// Proxy is a reverse proxy with a certificate of its own, as operators put in front of servers. It can lose answers:
// the server has done what was asked, and the client does not hear of it.
type Proxy struct {
	URL    string
	CAFile string // what clients verify the proxy with

	to   string // the server's HOST:PORT
	mu   sync.Mutex
	lose map[string]bool // kinds of request whose next answer is lost; guarded by mu
	lost []string        // those that were; guarded by mu
}

// StartProxy starts a proxy. The server that is started with it as an option is the one that it forwards to.
func StartProxy(t T) *Proxy {
	t.Helper()
	ca, err := newAuthority("e2e-proxy")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.leaf(pkix.Name{CommonName: "localhost"}, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	dir, port := Folder(t), Ports(t, 1)
	if err := writeFiles(dir, map[string][]byte{"proxy.pem": CertificatePEM(ca.cert.Raw)}); err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		URL: fmt.Sprintf("https://localhost:%d", port), CAFile: filepath.Join(dir, "proxy.pem"), lose: map[string]bool{},
	}
	p.serve(t, port, pair)
	return p
}

func (p *Proxy) serve(t T, port int, pair tls.Certificate) {
	t.Helper()
	listener, err := net.Listen("tcp", Addr(port))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p.handler(), TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}}}
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
}

var errLost = errors.New("the answer was lost")

func (p *Proxy) handler() http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: p.to})
			r.SetXForwarded()
		},
		// The way behind the proxy is inside a data centre; the server's certificate has its own root.
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		ModifyResponse: func(r *http.Response) error {
			if kind := kindOf(r.Request); p.loses(kind) {
				return errLost
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		},
	}
}

// LoseNext has the next answer to each of these kinds of request get lost: new-order, finalize, certificate, order.
func (p *Proxy) LoseNext(kinds ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, kind := range kinds {
		p.lose[kind] = true
	}
}

// Lost returns the kinds of request whose answers were lost, in order.
func (p *Proxy) Lost() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *Proxy) loses(kind string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lose[kind] {
		return false
	}
	delete(p.lose, kind)
	p.lost = append(p.lost, kind)
	return true
}

// kindOf names an ACME request by its URL; "" for a request that is none.
func kindOf(r *http.Request) string {
	path, ok := strings.CutPrefix(r.URL.Path, "/acme/")
	if !ok || r.Method != http.MethodPost {
		return ""
	}
	if strings.HasSuffix(path, "/finalize") {
		return "finalize"
	}
	kind, _, _ := strings.Cut(path, "/")
	return kind
}
