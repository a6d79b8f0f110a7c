package console

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/pki"
)

// startView is the public start page: what this server is, and what to trust. Everything on it is public.
type startView struct {
	Directory string
	API       string
	CAs       []caView // roots first
	Root      bool     // there is one among them
}

// caView is one CA on the start page.
type caView struct {
	Name          string
	Kind          string
	State         string // "" when it is active
	Subject       string
	Expires       stamp
	Fingerprint   string // SHA-256
	PEM, CER, CRL string // addresses
}

func (c *Console) start(v *visit) error {
	view := startView{Directory: c.config.BaseURL + "/acme/directory", API: c.config.BaseURL + "/api/v1/openapi.json"}
	for _, ca := range c.config.CAs() {
		if entry, ok := v.startCA(ca); ok {
			view.CAs = append(view.CAs, entry)
			view.Root = view.Root || ca.Kind == pki.RootCA
		}
	}
	// Whoever comes for something to trust should not have to search.
	slices.SortStableFunc(view.CAs, func(a, b caView) int { return strings.Compare(b.Kind, a.Kind) })
	return v.render("start", view)
}

// startCA makes the entry of a CA; false for one that has no certificate yet.
func (v *visit) startCA(ca *pki.CA) (caView, bool) {
	certificate, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		return caView{}, false
	}
	sum := sha256.Sum256(ca.Certificate)
	entry := caView{
		Name: ca.Name, Kind: v.text("common.kind." + string(ca.Kind)), Subject: certificate.Subject.String(),
		Expires: v.stamp(certificate.NotAfter), Fingerprint: pairs(hex.EncodeToString(sum[:])),
		PEM: "/ca/" + string(ca.ID) + ".pem", CER: "/ca/" + string(ca.ID) + ".cer", CRL: "/crl/" + string(ca.ID) + ".crl",
	}
	if ca.State != pki.Active {
		entry.State = v.text("common.state." + string(ca.State))
	}
	return entry, true
}
