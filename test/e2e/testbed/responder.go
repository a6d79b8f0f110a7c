package testbed

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
)

// Responder answers http-01 validations for any number of names and clients at once (RFC 8555 section 8.3).
type Responder struct {
	keys sync.Map // token to key authorization
}

const challengePath = "/.well-known/acme-challenge/"

// StartResponder listens on that port of 127.0.0.1.
func StartResponder(t T, port int) *Responder {
	t.Helper()
	listener, err := net.Listen("tcp", Addr(port))
	if err != nil {
		t.Fatal(err)
	}
	r := &Responder{}
	server := &http.Server{Handler: r}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return r
}

// Set has the validation of a token succeed.
func (r *Responder) Set(token, keyAuthorization string) { r.keys.Store(token, keyAuthorization) }

// Clear takes it away.
func (r *Responder) Clear(token string) { r.keys.Delete(token) }

// ServeHTTP answers a validation.
func (r *Responder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	token, ok := strings.CutPrefix(req.URL.Path, challengePath)
	key, found := r.keys.Load(token)
	if !ok || !found {
		http.NotFound(w, req)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	fmt.Fprint(w, key)
}

// Prover answers tls-alpn-01 validations (RFC 8737) with the certificate that was set for a name.
type Prover struct {
	mu    sync.Mutex // guards certs
	certs map[string]*tls.Certificate
}

// StartProver listens on that port of 127.0.0.1.
func StartProver(t T, port int) *Prover {
	t.Helper()
	p := &Prover{certs: map[string]*tls.Certificate{}}
	listener, err := tls.Listen("tcp", Addr(port), &tls.Config{
		NextProtos: []string{"acme-tls/1"}, GetCertificate: p.certificate, MinVersion: tls.VersionTLS12,
	})
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
				_ = conn.(*tls.Conn).Handshake() // the validator tells what was wrong
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wait.Wait()
	})
	return p
}

// Set has handshakes for the name get that certificate.
func (p *Prover) Set(name string, cert *tls.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.certs[name] = cert
}

func (p *Prover) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cert := p.certs[hello.ServerName]; cert != nil {
		return cert, nil
	}
	return nil, fmt.Errorf("nothing to prove for %q", hello.ServerName)
}
