package server

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// publisher serves what anyone may have without signing in: CA certificates, CRLs, OCSP answers and SPIFFE bundles.
// Addresses of CAs have the CA's ID, as certificates do, or its name, for people.
type publisher struct {
	snapshot func() *catalog.Snapshot
	crl      func(ctx context.Context, ca pki.CAID) (der []byte, nextUpdate time.Time, err error)
	ocsp     func(ctx context.Context, request []byte) (response []byte, nextUpdate time.Time, err error)
	// ocspLifetime is from an answer to its next update.
	ocspLifetime time.Duration
	now          func() time.Time
	logger       *slog.Logger
}

// maxOCSPRequest bounds an OCSP request; one for a single certificate has about a hundred bytes (RFC 5019 section 5
// expects them below 255).
const maxOCSPRequest = 4 << 10

// certificateAge is how long a CA certificate may be kept by caches: it changes only when the CA is renewed.
const certificateAge = "public, max-age=3600"

func (p *publisher) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /ca/{file}", p.handle(p.serveCA))
	mux.HandleFunc("GET /crl/{file}", p.handle(p.serveCRL))
	mux.HandleFunc("POST /ocsp/{$}", p.handle(p.serveOCSP))
	mux.HandleFunc("POST /ocsp", p.handle(p.serveOCSP))
	mux.HandleFunc("GET /ocsp/{request...}", p.handle(p.serveOCSP))
	mux.HandleFunc("GET /.well-known/spiffe/bundle/{domain}", p.handle(p.serveBundle))
}

// handle renders the error of a handler as plain text: these clients read no problem documents.
func (p *publisher) handle(h func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		problem := fault.From(err)
		meaning := problem.Kind.Meaning()
		p.logger.Log(r.Context(), meaning.Level, "public request refused",
			telemetry.KeyResource, r.URL.Path, telemetry.KeyStatus, meaning.Status, telemetry.KeyError, err)
		text(w, meaning.Status, problem.Public+"\n")
	}
}

// find returns the CA that a file is named after, by ID or by name.
func (p *publisher) find(file, suffix string) (*pki.CA, error) {
	name, ok := strings.CutSuffix(file, suffix)
	snapshot := p.snapshot()
	if ca, found := snapshot.CA(pki.CAID(name)); ok && found && ca.Certificate != nil {
		return ca, nil
	}
	if ca, found := snapshot.CAByName(name); ok && found && ca.Certificate != nil {
		return ca, nil
	}
	return nil, fault.New(fault.NotFound, "there is no CA certificate or CRL %q here", file)
}

// serveCA serves a CA's certificate: PEM for people and tools, DER for what follows caIssuers addresses (RFC 5280
// section 4.2.2.1).
func (p *publisher) serveCA(w http.ResponseWriter, r *http.Request) error {
	file := r.PathValue("file")
	suffix := ".pem"
	if strings.HasSuffix(file, ".cer") {
		suffix = ".cer"
	}
	ca, err := p.find(file, suffix)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", certificateAge)
	if suffix == ".cer" {
		w.Header().Set("Content-Type", "application/pkix-cert")
		_, _ = w.Write(ca.Certificate) // a client that has gone away is no error of ours
		return nil
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Content-Disposition", `attachment; filename="`+ca.Name+`.pem"`)
	_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate}) // as above
	return nil
}

// serveCRL serves a CA's CRL (RFC 5280 section 4.2.1.13; media type of RFC 2585 section 4.2).
func (p *publisher) serveCRL(w http.ResponseWriter, r *http.Request) error {
	ca, err := p.find(r.PathValue("file"), ".crl")
	if err != nil {
		return err
	}
	der, next, err := p.crl(r.Context(), ca.ID)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/pkix-crl")
	// Short, so that a revocation is seen soon; caches may not keep it beyond nextUpdate anyhow.
	w.Header().Set("Cache-Control", "public, max-age=60")
	w.Header().Set("Expires", next.UTC().Format(http.TimeFormat))
	_, _ = w.Write(der) // a client that has gone away is no error of ours
	return nil
}

// serveOCSP answers OCSP over GET and POST (RFC 6960 appendix A).
func (p *publisher) serveOCSP(w http.ResponseWriter, r *http.Request) error {
	request, err := ocspRequest(w, r)
	if err != nil {
		return err
	}
	response, next, err := p.ocsp(r.Context(), request)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/ocsp-response")
	if r.Method == http.MethodGet && !next.IsZero() {
		// RFC 5019 section 6.2; short, as for CRLs.
		w.Header().Set("Cache-Control", "public, max-age=60, no-transform, must-revalidate")
		w.Header().Set("Expires", next.UTC().Format(http.TimeFormat))
		w.Header().Set("Last-Modified", next.Add(-p.ocspLifetime).UTC().Format(http.TimeFormat))
		sum := sha256.Sum256(response)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	}
	_, _ = w.Write(response) // a client that has gone away is no error of ours
	return nil
}

func ocspRequest(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Method == http.MethodPost {
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOCSPRequest))
		if err != nil {
			return nil, fault.Wrap(err, fault.TooLarge, "OCSP request cannot be read or has more than %d bytes", maxOCSPRequest)
		}
		return raw, nil
	}
	// Base64 has "/" and "+"; clients differ in what they escape, so the path is taken as it was sent.
	_, encoded, _ := strings.Cut(r.URL.EscapedPath(), "/ocsp/")
	if unescaped, err := url.PathUnescape(encoded); err == nil {
		encoded = unescaped
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) > maxOCSPRequest {
		return nil, fault.New(fault.Malformed, "OCSP request in the address is not base64 of at most %d bytes", maxOCSPRequest)
	}
	return raw, nil
}
