package api

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Authority makes CAs; they are durable when it returns.
type Authority interface {
	CreateRoot(ctx context.Context, o issue.Options, by audit.By) (*pki.CA, error)
	CreateIssuing(ctx context.Context, o issue.IssuingOptions, by audit.By) (*pki.CA, error)
	InstallCertificate(ctx context.Context, id pki.CAID, chain [][]byte, by audit.By) (*pki.CA, error)
	Import(ctx context.Context, o issue.ImportOptions, by audit.By) (*pki.CA, error)
}

func (s *Server) caRoutes() {
	const tag = "cas"
	register(s, operation{
		id: "list-cas", method: http.MethodGet, path: "/cas", tag: tag, access: auth.Read,
		summary: "List roots and issuing CAs",
	}, s.listCAs)
	register(s, operation{
		id: "create-ca", method: http.MethodPost, path: "/cas", tag: tag, access: auth.Administer,
		status: http.StatusCreated, summary: "Create a root or an issuing CA",
	}, s.createCA)
	register(s, operation{
		id: "import-ca", method: http.MethodPost, path: "/cas/import", tag: tag, access: auth.Administer,
		status: http.StatusCreated, summary: "Import an existing CA with its private key",
	}, s.importCA)
	register(s, operation{
		id: "get-ca", method: http.MethodGet, path: "/cas/{ca}", tag: tag, access: auth.Read,
		summary: "Show a CA",
	}, s.getCA)
	register(s, operation{
		id: "get-ca-csr", method: http.MethodGet, path: "/cas/{ca}/csr", tag: tag, access: auth.Read,
		summary: "Show the CSR of an issuing CA under an outside root",
	}, s.getCACSR)
	register(s, operation{
		id: "install-ca-certificate", method: http.MethodPost, path: "/cas/{ca}/certificate", tag: tag, access: auth.Administer,
		summary: "Install the certificate that an outside root made",
	}, s.installCertificate)
	register(s, operation{
		id: "update-ca-settings", method: http.MethodPut, path: "/cas/{ca}/settings", tag: tag, access: auth.Administer,
		summary: "Replace the addresses that a CA puts into certificates",
	}, s.updateCASettings)
	register(s, operation{
		id: "suspend-ca", method: http.MethodPost, path: "/cas/{ca}/suspend", tag: tag, access: auth.Administer,
		summary: "Suspend a CA: it signs no certificates",
	}, s.setCAState(pki.Suspended))
	register(s, operation{
		id: "activate-ca", method: http.MethodPost, path: "/cas/{ca}/activate", tag: tag, access: auth.Administer,
		summary: "Activate a suspended CA",
	}, s.setCAState(pki.Active))
	register(s, operation{
		id: "revoke-ca", method: http.MethodPost, path: "/cas/{ca}/revoke", tag: tag, access: auth.Administer,
		summary: "Revoke an issuing CA for good: it is on the CRL of the CA above, and signs no certificates",
	}, s.revokeCA)
}

func (s *Server) revokeCA(ctx context.Context, in *struct {
	CAPath
	body[apiv1.RevokeCA]
},
) (*output[apiv1.CA], error) {
	ca, err := findCA(s.config.Catalog.Snapshot(), in.CA)
	if err != nil {
		return nil, err
	}
	reason, known := pki.Unspecified, in.Body.Reason == ""
	var names []string
	for _, candidate := range catalog.CAReasons() {
		names = append(names, candidate.String())
		if candidate.String() == in.Body.Reason {
			reason, known = candidate, true
		}
	}
	if !known {
		return nil, fault.New(fault.Malformed, "reason %.40q is not one of %s", in.Body.Reason, strings.Join(names, ", ")).WithField("/reason")
	}
	revoked, err := s.config.Catalog.RevokeCA(ctx, ca.ID, reason, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return s.answerCA(revoked)
}

// CAPath is the parameter of operations on one CA.
type CAPath struct {
	CA string `path:"ca" doc:"Name or identifier of the CA." maxLength:"100"`
}

// findCA finds a CA by name or identifier. Names come first: an administrator chose them.
func findCA(view *catalog.Snapshot, name string) (*pki.CA, error) {
	if ca, ok := view.CAByName(name); ok {
		return ca, nil
	}
	if ca, ok := view.CA(pki.CAID(name)); ok {
		return ca, nil
	}
	return nil, fault.New(fault.NotFound, "there is no CA %.100q", name).WithHint("list them: certloom ca list")
}

// namedCA is findCA for a name in a body or query, where an unknown one is the request's fault.
func namedCA(view *catalog.Snapshot, name, field string) (*pki.CA, error) {
	ca, err := findCA(view, name)
	if err != nil {
		found := fault.From(err)
		return nil, fault.New(fault.Malformed, "%s", found.Public).WithField(field).WithHint("%s", found.Hint)
	}
	return ca, nil
}

func (s *Server) listCAs(_ context.Context, in *PageQuery) (*output[apiv1.Page[apiv1.CA]], error) {
	view := s.config.Catalog.Snapshot()
	cas, next := cut(in, view.CAs(), func(ca *pki.CA) string { return ca.Name })
	page := apiv1.Page[apiv1.CA]{Items: make([]apiv1.CA, 0, len(cas)), Next: next}
	for _, ca := range cas {
		wire, err := wireCA(view, ca, false)
		if err != nil {
			return nil, err
		}
		page.Items = append(page.Items, wire)
	}
	return answer(page), nil
}

func (s *Server) getCA(_ context.Context, in *CAPath) (*output[apiv1.CA], error) {
	view := s.config.Catalog.Snapshot()
	ca, err := findCA(view, in.CA)
	if err != nil {
		return nil, err
	}
	return s.answerCA(ca)
}

// answerCA shows one CA with its certificates.
func (s *Server) answerCA(ca *pki.CA) (*output[apiv1.CA], error) {
	wire, err := wireCA(s.config.Catalog.Snapshot(), ca, true)
	if err != nil {
		return nil, err
	}
	return answer(wire), nil
}

// made shows a CA that a ceremony has made, here and in the catalog at once. It has been made, so a catalog that
// cannot be read is the next poll's affair.
func (s *Server) made(ctx context.Context, ca *pki.CA, err error) (*output[apiv1.CA], error) {
	if err != nil {
		return nil, err
	}
	if err := s.config.Catalog.Load(ctx); err != nil {
		s.config.Logger.WarnContext(ctx, "catalog not reloaded after a ceremony", telemetry.KeyError, err)
	}
	return s.answerCA(ca)
}

func (s *Server) createCA(ctx context.Context, in *struct{ body[apiv1.CreateCA] }) (*output[apiv1.CA], error) {
	var found findings
	by := auth.PrincipalOf(ctx).By()
	options := issue.Options{
		Name: in.Body.Name, CommonName: in.Body.CommonName, Organization: in.Body.Organization,
		Key: pki.KeyAlgorithm(in.Body.KeyAlgorithm), PathLen: in.Body.PathLength, Settings: found.settings(in.Body.Settings),
	}
	if in.Body.Validity != "" {
		options.Validity = found.duration("/validity", in.Body.Validity)
	}
	if in.Body.Constraints != nil {
		options.Constraints = issue.Constraints{TrustDomains: in.Body.Constraints.TrustDomains, DNS: in.Body.Constraints.DNS}
	}
	var parent pki.CAID
	if in.Body.Parent != "" {
		ca, err := namedCA(s.config.Catalog.Snapshot(), in.Body.Parent, "/parent")
		if err != nil {
			found = append(found, err)
		} else {
			parent = ca.ID
		}
		if in.Body.Kind == string(pki.RootCA) {
			found.add("/parent", "a root has no parent; CA %.60q was named", in.Body.Parent)
		}
	}
	if err := found.err(); err != nil {
		return nil, errors.Join(err, options.Check())
	}
	if in.Body.Kind == string(pki.RootCA) {
		ca, err := s.config.Authority.CreateRoot(ctx, options, by)
		return s.made(ctx, ca, err)
	}
	ca, err := s.config.Authority.CreateIssuing(ctx, issue.IssuingOptions{Options: options, Parent: parent, External: parent == ""}, by)
	return s.made(ctx, ca, err)
}

// settings checks addresses that a body may leave out.
func (f *findings) settings(wire *apiv1.CASettings) *pki.CASettings {
	if wire == nil {
		return nil
	}
	settings := settingsOf(wire)
	if err := catalog.CheckCASettings(settings, "/settings"); err != nil {
		*f = append(*f, err)
	}
	return &settings
}

func (s *Server) importCA(ctx context.Context, in *struct{ body[apiv1.ImportCA] }) (*output[apiv1.CA], error) {
	var found findings
	settings := found.settings(in.Body.Settings)
	chain, err := issue.ParseChain([]byte(in.Body.Chain))
	if err != nil {
		found = append(found, err)
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	ca, err := s.config.Authority.Import(ctx, issue.ImportOptions{
		Name: in.Body.Name, Chain: chain, Key: []byte(in.Body.Key), Settings: settings,
	}, auth.PrincipalOf(ctx).By())
	return s.made(ctx, ca, err)
}

func (s *Server) getCACSR(_ context.Context, in *CAPath) (*output[apiv1.CACSR], error) {
	ca, err := findCA(s.config.Catalog.Snapshot(), in.CA)
	if err != nil {
		return nil, err
	}
	if len(ca.CSR) == 0 {
		return nil, fault.New(fault.NotFound, "CA %q has no CSR: it was not made for an outside root", ca.Name)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: ca.CSR})
	return answer(apiv1.CACSR{Name: ca.Name, PEM: string(text)}), nil
}

func (s *Server) installCertificate(ctx context.Context, in *struct {
	CAPath
	body[apiv1.InstallCertificate]
},
) (*output[apiv1.CA], error) {
	ca, err := findCA(s.config.Catalog.Snapshot(), in.CA)
	if err != nil {
		return nil, err
	}
	chain, err := issue.ParseChain([]byte(in.Body.Chain))
	if err != nil {
		return nil, err
	}
	installed, err := s.config.Authority.InstallCertificate(ctx, ca.ID, chain, auth.PrincipalOf(ctx).By())
	return s.made(ctx, installed, err)
}

func (s *Server) updateCASettings(ctx context.Context, in *struct {
	CAPath
	body[apiv1.CASettings]
},
) (*output[apiv1.CA], error) {
	ca, err := findCA(s.config.Catalog.Snapshot(), in.CA)
	if err != nil {
		return nil, err
	}
	changed, err := s.config.Catalog.UpdateCASettings(ctx, ca.ID, settingsOf(&in.Body), auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return s.answerCA(changed)
}

func (s *Server) setCAState(state pki.State) func(context.Context, *CAPath) (*output[apiv1.CA], error) {
	return func(ctx context.Context, in *CAPath) (*output[apiv1.CA], error) {
		ca, err := findCA(s.config.Catalog.Snapshot(), in.CA)
		if err != nil {
			return nil, err
		}
		changed, err := s.config.Catalog.SetCAState(ctx, ca.ID, state, auth.PrincipalOf(ctx).By())
		if err != nil {
			return nil, err
		}
		return s.answerCA(changed)
	}
}
