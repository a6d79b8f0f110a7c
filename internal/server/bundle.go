package server

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/go-jose/go-jose/v4"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// bundleRefresh is what a SPIFFE bundle says of how often to ask again, in seconds.
const bundleRefresh = 300

// bundle is a SPIFFE bundle (SPIFFE Trust Domain and Bundle specification, section 4).
type bundle struct {
	Keys        []jose.JSONWebKey `json:"keys"`
	Sequence    int64             `json:"spiffe_sequence"`
	RefreshHint int               `json:"spiffe_refresh_hint"`
}

// serveBundle serves the roots that verifiers of a trust domain need now.
func (p *publisher) serveBundle(w http.ResponseWriter, r *http.Request) error {
	domain := r.PathValue("domain")
	if err := pki.CheckTrustDomain(domain); err != nil {
		return fault.Wrap(err, fault.NotFound, "%v", err)
	}
	roots, sequence := p.snapshot().Roots(domain)
	if len(roots) == 0 {
		return fault.New(fault.NotFound, "no certificate profile here issues SPIFFE IDs of trust domain %q", domain)
	}
	document := bundle{Sequence: sequence, RefreshHint: bundleRefresh}
	for _, der := range roots {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("parse root of trust domain %s: %w", domain, err)
		}
		document.Keys = append(document.Keys, jose.JSONWebKey{
			Key: root.PublicKey, Use: "x509-svid", Certificates: []*x509.Certificate{root},
		})
	}
	raw, err := json.Marshal(document)
	if err != nil {
		return fmt.Errorf("encode bundle: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=60")
	_, _ = w.Write(raw) // a client that has gone away is no error of ours
	return nil
}
