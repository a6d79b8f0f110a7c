// Package console owns the pages that people see in a browser. So far it has the start page: what this server is, where
// its ACME directory and API are, and the CA certificates to download and trust.
//
// It must never show what takes a sign-in: everything on the start page is public. Templates are handed view structs
// made for them, and never records; styles come from a file, so that the content security policy allows nothing inline.
package console

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

//go:embed templates/*.html static/*
var files embed.FS

// Config is what a Console needs. All fields are required.
type Config struct {
	BaseURL string // the server's public URL, without a slash at its end
	Version string
	CAs     func() []*pki.CA
	Now     func() time.Time
}

// Console is safe for concurrent use.
type Console struct {
	config Config
	start  *template.Template
}

// New checks the configuration and the templates.
func New(config Config) (*Console, error) {
	if config.BaseURL == "" || config.CAs == nil || config.Now == nil {
		return nil, errors.New("console: BaseURL, CAs and Now are required")
	}
	start, err := template.ParseFS(files, "templates/start.html")
	if err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	return &Console{config: config, start: start}, nil
}

// Register adds the console's routes.
func (c *Console) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", c.serveStart)
	mux.Handle("GET /static/", secure(http.FileServerFS(files)))
}

// secure sets the headers of every page: nothing from elsewhere, nothing inline, no frames.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// startView is the start page.
type startView struct {
	Version   string
	Directory string
	API       string
	CAs       []caView // roots first
	Root      bool     // there is one among them
}

// caView is one CA on the start page.
type caView struct {
	Name        string
	Kind        string
	State       string
	Subject     string
	Expires     string
	Left        string
	Fingerprint string
	PEM, CER    string
	CRL         string
}

func (c *Console) serveStart(w http.ResponseWriter, r *http.Request) {
	view := startView{
		Version:   c.config.Version,
		Directory: c.config.BaseURL + "/acme/directory",
		API:       c.config.BaseURL + "/api/v1/openapi.json",
	}
	for _, ca := range c.config.CAs() {
		if entry, ok := c.caView(ca); ok {
			view.CAs = append(view.CAs, entry)
			view.Root = view.Root || ca.Kind == pki.RootCA
		}
	}
	// Whoever comes for something to trust should not have to search.
	slices.SortStableFunc(view.CAs, func(a, b caView) int { return strings.Compare(b.Kind, a.Kind) })
	var page bytes.Buffer
	if err := c.start.Execute(&page, view); err != nil {
		// A template that does not fit its view is a bug that the tests find; the reader is told no more than that.
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	secure(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(page.Bytes()) // a client that has gone away is no error of ours
	})).ServeHTTP(w, r)
}

// caView makes the entry of a CA; false for one that has no certificate yet.
func (c *Console) caView(ca *pki.CA) (caView, bool) {
	certificate, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		return caView{}, false
	}
	sum := sha256.Sum256(ca.Certificate)
	return caView{
		Name: ca.Name, Kind: string(ca.Kind), State: string(ca.State),
		Subject:     certificate.Subject.String(),
		Expires:     certificate.NotAfter.UTC().Format("2006-01-02"),
		Left:        left(certificate.NotAfter.Sub(c.config.Now())),
		Fingerprint: colons(sum[:]),
		PEM:         "/ca/" + string(ca.ID) + ".pem",
		CER:         "/ca/" + string(ca.ID) + ".cer",
		CRL:         "/crl/" + string(ca.ID) + ".crl",
	}, true
}

// left says how long something is still valid.
func left(d time.Duration) string {
	const (
		day  = 24 * time.Hour
		year = 365 * day
	)
	switch {
	case d <= 0:
		return "expired"
	case d < 2*time.Hour:
		return "within 2 hours"
	case d < 2*day:
		return fmt.Sprintf("in %d hours", d/time.Hour)
	case d < 730*day:
		return fmt.Sprintf("in %d days", d/day)
	default:
		return fmt.Sprintf("in %d years", (d+year/2)/year) // a CA that was made for 10 years just now has 10 years left
	}
}

// colons writes a fingerprint as browsers and openssl do.
func colons(sum []byte) string {
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = strings.ToUpper(hex.EncodeToString([]byte{b}))
	}
	return strings.Join(parts, ":")
}
