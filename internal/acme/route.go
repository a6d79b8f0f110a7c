package acme

import (
	"context"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Limits on bodies. An order may have many names, a CSR too.
const (
	smallBody = 64 << 10
	largeBody = 256 << 10
)

// signer says whose signature a request must have (RFC 8555 section 6.2).
type signer uint8

const (
	byNobody  signer = iota // a GET
	byKey                   // the key in "jwk"
	byAccount               // the account that "kid" names
	byEither
)

// resourceDirectory is the one resource without a link to itself.
const resourceDirectory = "directory"

// route is one row of the route table.
type route struct {
	method   string
	path     string // after the directory's prefix
	resource string // label of metrics and log lines
	signer   signer
	limit    int64
	query    bool // the resource has a query
	serve    handler
}

// handler answers a request that has passed its checks.
type handler = func(s *Server, ctx context.Context, r *request) (*reply, error)

// table lists every resource, in the order of RFC 8555 section 7.1, ARI last.
func table() []route {
	return []route{
		{"GET", "/directory", resourceDirectory, byNobody, 0, false, (*Server).getDirectory},
		{"POST", "/directory", resourceDirectory, byAccount, smallBody, false, (*Server).getDirectory},
		{"GET", "/new-nonce", "newNonce", byNobody, 0, false, (*Server).newNonce},
		{"POST", "/new-nonce", "newNonce", byAccount, smallBody, false, (*Server).newNonce},
		{"POST", "/new-account", "newAccount", byKey, smallBody, false, (*Server).newAccount},
		{"POST", "/account/{id}", "account", byAccount, smallBody, false, (*Server).updateAccount},
		{"POST", "/account/{id}/orders", "orders", byAccount, smallBody, true, (*Server).listOrders},
		{"POST", "/key-change", "keyChange", byAccount, smallBody, false, (*Server).changeKey},
		{"POST", "/new-order", "newOrder", byAccount, largeBody, false, (*Server).newOrder},
		{"POST", "/order/{id}", "order", byAccount, smallBody, false, (*Server).getOrder},
		{"POST", "/authz/{order}/{index}", "authz", byAccount, smallBody, false, (*Server).authorization},
		{"POST", "/challenge/{order}/{index}/{type}", "challenge", byAccount, smallBody, false, (*Server).challenge},
		{"POST", "/order/{id}/finalize", "finalize", byAccount, largeBody, false, (*Server).finalize},
		{"POST", "/certificate/{serial}", "certificate", byAccount, smallBody, false, (*Server).getCertificate},
		{"POST", "/revoke-cert", "revokeCert", byEither, smallBody, false, (*Server).revokeCertificate},
		{"GET", "/renewal-info/{id}", "renewalInfo", byNobody, 0, false, (*Server).renewalInfo},
	}
}

// Prefixes of the two kinds of directory: the one whose profile the EAB credential selects, and those of profiles
// that validate by challenge.
const (
	mainPrefix   = "/acme"
	scopedPrefix = "/acme/p/{profile}"
)

// routes makes the handler.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, prefix := range []string{mainPrefix, scopedPrefix} {
		allowed := make(map[string][]string)
		for _, r := range table() {
			mux.Handle(r.method+" "+prefix+r.path, s.wrap(r))
			allowed[r.path] = append(allowed[r.path], r.method)
		}
		for at, methods := range allowed {
			if slices.Contains(methods, http.MethodGet) {
				methods = append(methods, http.MethodHead)
			}
			mux.Handle(prefix+at, s.wrap(wrongMethod(strings.Join(methods, ", "))))
		}
	}
	lost := s.wrap(route{resource: "unknown", serve: (*Server).notFound})
	mux.Handle("/", lost)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodOptions:
			preflight(w)
		case path.Clean(r.URL.Path) != r.URL.Path, r.URL.EscapedPath() != r.URL.Path:
			// ServeMux would redirect; a signed request cannot follow that. No URL of ours has an escape, and one resource
			// must not have many URLs.
			lost.ServeHTTP(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func (s *Server) notFound(_ context.Context, r *request) (*reply, error) {
	return nil, fault.New(fault.NotFound, "there is no resource at %.200q", r.http.URL.Path)
}

// wrongMethod answers a method that a resource does not have.
func wrongMethod(allow string) route {
	return route{resource: "unknown", serve: func(_ *Server, _ context.Context, r *request) (*reply, error) {
		r.header.Set("Allow", allow)
		return nil, fault.New(fault.MethodNotAllowed, "method %.20q is not one of %s, which this resource has", r.http.Method, allow)
	}}
}

// preflight answers the question of a browser that may send a request (RFC 8555 section 6.1).
func preflight(w http.ResponseWriter) {
	h := w.Header()
	allowOrigins(h)
	h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST")
	h.Set("Access-Control-Allow-Headers", "Content-Type")
	h.Set("Access-Control-Max-Age", "86400")
	w.WriteHeader(http.StatusNoContent)
}

func allowOrigins(h http.Header) {
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Expose-Headers", "Link, Replay-Nonce, Location, Retry-After")
}

// directory is one of the server's directories, as a request sees it.
type directory struct {
	scope  pki.ProfileID // "" for the main one
	prefix string        // of its URLs
}

// url returns the URL of a resource of the directory.
func (d directory) url(parts ...string) string { return d.prefix + strings.Join(parts, "") }

func (d directory) accountURL(id pki.AccountID) string { return d.prefix + "/account/" + string(id) }

// directory returns the directory that a request is for. Only profiles that validate by challenge have one of their
// own: without EAB, nothing else says what a client may have.
func (s *Server) directory(r *http.Request) (directory, error) {
	name := r.PathValue("profile")
	if name == "" {
		return directory{prefix: s.BaseURL + mainPrefix}, nil
	}
	p, ok := s.Catalog.Snapshot().ProfileByName(name)
	if !ok || p.Rules.Challenges == nil || p.Method != pki.ACMEClient {
		return directory{prefix: s.BaseURL + mainPrefix}, fault.New(fault.NotFound, "there is no ACME directory of a profile %.80q", name)
	}
	return directory{scope: p.ID, prefix: s.BaseURL + mainPrefix + "/p/" + p.Name}, nil
}
