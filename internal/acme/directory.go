package acme

import (
	"context"
	"fmt"
	"net/http"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
)

// directoryView is the directory object (RFC 8555 section 7.1.1, RFC 9773 section 7.1). There is no newAuthz: nothing
// can be pre-authorized on request.
type directoryView struct {
	NewNonce    string   `json:"newNonce"`
	NewAccount  string   `json:"newAccount"`
	NewOrder    string   `json:"newOrder"`
	RevokeCert  string   `json:"revokeCert"`
	KeyChange   string   `json:"keyChange"`
	RenewalInfo string   `json:"renewalInfo"`
	Meta        metaView `json:"meta"`
}

type metaView struct {
	TermsOfService          string            `json:"termsOfService,omitempty"`
	Website                 string            `json:"website,omitempty"`
	CAAIdentities           []string          `json:"caaIdentities,omitempty"`
	ExternalAccountRequired bool              `json:"externalAccountRequired,omitempty"`
	Profiles                map[string]string `json:"profiles,omitempty"`
}

// getDirectory answers GET and POST-as-GET. It comes with a nonce, which saves clients the first request for one, so it
// must not be cached.
func (s *Server) getDirectory(_ context.Context, r *request) (*reply, error) {
	if err := r.postAsGet(); err != nil {
		return nil, err
	}
	if r.http.Method != http.MethodPost {
		r.header.Set(headerNonce, s.Nonces.Issue())
	}
	d := r.dir
	return &reply{status: http.StatusOK, cache: "no-store", body: directoryView{
		NewNonce:    d.url("/new-nonce"),
		NewAccount:  d.url("/new-account"),
		NewOrder:    d.url("/new-order"),
		RevokeCert:  d.url("/revoke-cert"),
		KeyChange:   d.url("/key-change"),
		RenewalInfo: d.url("/renewal-info"),
		Meta: metaView{
			TermsOfService:          s.Options.TermsOfService,
			Website:                 s.Options.Website,
			CAAIdentities:           s.Options.CAAIdentities,
			ExternalAccountRequired: d.scope == "",
			Profiles:                profilesOf(s.Catalog.Snapshot(), d),
		},
	}}, nil
}

// profilesOf lists the profiles that orders of a directory may name, each with a description. In the main directory
// an account may use only that of its credential, but who reads the directory has no account yet.
func profilesOf(snapshot *catalog.Snapshot, d directory) map[string]string {
	profiles := make(map[string]string)
	for _, p := range snapshot.Profiles() {
		if p.State != pki.Active || !overACME(p) || d.scope != "" && p.ID != d.scope {
			continue
		}
		v := p.Rules.Validity
		profiles[p.Name] = fmt.Sprintf("%s certificates for %s, at most %s", p.Template, v.Default, v.Max)
	}
	return profiles
}

// overACME reports whether certificates of the profile are asked for over ACME.
func overACME(p *pki.Profile) bool { return p.Method == pki.MTLSOverACME || p.Method == pki.ACMEClient }

// newNonce answers HEAD with 200, GET and POST-as-GET with 204 (RFC 8555 section 7.2).
func (s *Server) newNonce(_ context.Context, r *request) (*reply, error) {
	if err := r.postAsGet(); err != nil {
		return nil, err
	}
	if r.http.Method != http.MethodPost {
		r.header.Set(headerNonce, s.Nonces.Issue())
	}
	status := http.StatusNoContent
	if r.http.Method == http.MethodHead {
		status = http.StatusOK
	}
	return &reply{status: status, cache: "no-store"}, nil
}
