package api

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
	"github.com/certloom/certloom/internal/revoke"
)

// Issuer makes certificates; what it returns is durable.
type Issuer interface {
	Issue(ctx context.Context, r issue.Request) (*pki.Certificate, error)
	// Explain says what Issue would do, and does nothing.
	Explain(ctx context.Context, r issue.Request) (*issue.Explanation, error)
	// Chain returns a certificate and those above it, leaf first.
	Chain(c *pki.Certificate, includeRoot bool) ([][]byte, error)
}

// Revoker revokes certificates; it is durable when it returns.
type Revoker interface {
	Revoke(ctx context.Context, r revoke.Request) error
	// Hold revokes until Release.
	Hold(ctx context.Context, r revoke.Request) error
	Release(ctx context.Context, r revoke.Request) error
}

func (s *Server) certificateRoutes() {
	const tag = "certificates"
	register(s, operation{
		id: "list-certificates", method: http.MethodGet, path: "/certificates", tag: tag, access: auth.Inventory,
		summary: "List certificates, newest first",
	}, s.listCertificates)
	register(s, operation{
		id: "create-certificate", method: http.MethodPost, path: "/certificates", tag: tag, access: auth.Request,
		status: http.StatusCreated, summary: "Request a certificate under a profile with enrollment method rest-api",
	}, s.createCertificate)
	register(s, operation{
		id: "export-certificates", method: http.MethodGet, path: "/certificates/export", tag: tag, access: auth.Inventory,
		summary: "Export certificates as JSON, CSV or PEM, newest first", produces: []string{"application/json", "text/csv", pemType}, items: reflect.TypeFor[apiv1.Certificate](),
	}, s.exportCertificates)
	register(s, operation{
		id: "get-certificate", method: http.MethodGet, path: "/certificates/{serial}", tag: tag, access: auth.Inventory,
		summary: "Show a certificate",
	}, s.getCertificate)
	register(s, operation{
		id: "get-certificate-pem", method: http.MethodGet, path: "/certificates/{serial}/pem", tag: tag, access: auth.Inventory,
		summary: "Download a certificate as PEM", produces: []string{pemType},
	}, s.getCertificatePEM)
	register(s, operation{
		id: "revoke-certificates", method: http.MethodPost, path: "/certificates/revoke", tag: tag, access: auth.Operate,
		summary: "Revoke several certificates: named by their serials, or selected",
	}, s.revokeCertificates)
	register(s, operation{
		id: "revoke-certificate", method: http.MethodPost, path: "/certificates/{serial}/revoke", tag: tag, access: auth.Operate,
		summary: "Revoke a certificate",
	}, s.revokeCertificate)
	register(s, operation{
		id: "hold-certificate", method: http.MethodPost, path: "/certificates/{serial}/hold", tag: tag, access: auth.Operate,
		summary: "Revoke a certificate until it is released",
	}, func(ctx context.Context, in *SerialPath) (*output[apiv1.Certificate], error) {
		return s.changeCertificate(ctx, in, s.config.Revoker.Hold)
	})
	register(s, operation{
		id: "release-certificate", method: http.MethodPost, path: "/certificates/{serial}/release", tag: tag, access: auth.Operate,
		summary: "Release a certificate that is held",
	}, func(ctx context.Context, in *SerialPath) (*output[apiv1.Certificate], error) {
		return s.changeCertificate(ctx, in, s.config.Revoker.Release)
	})
}

// CertificateQuery are the parameters that select certificates.
type CertificateQuery struct {
	Text          string    `query:"q" doc:"What a person types: parts of the identity's name, the beginning of a Pod's or a cluster's name, or a serial or SHA-256 fingerprint in hexadecimal." maxLength:"200"`
	Identity      string    `query:"identity" doc:"SPIFFE ID, DNS name or address; a prefix when it ends with *." maxLength:"2048"`
	TrustDomain   string    `query:"trustDomain" doc:"Trust domain of the SPIFFE ID." maxLength:"255"`
	Namespace     string    `query:"namespace" doc:"Namespace of the SPIFFE ID." maxLength:"253"`
	Profile       string    `query:"profile" doc:"Name or identifier of the profile." maxLength:"100"`
	IssuingCA     string    `query:"issuingCa" doc:"Name or identifier of the CA." maxLength:"100"`
	Credential    string    `query:"credential" doc:"KID of the EAB credential." maxLength:"100"`
	Account       string    `query:"account" doc:"ACME account." maxLength:"100"`
	Cluster       string    `query:"cluster" doc:"Cluster of the agent that asked; a prefix when it ends with *." maxLength:"64"`
	Pod           string    `query:"pod" doc:"Name of the Pod that it went to; a prefix when it ends with *." maxLength:"254"`
	Status        string    `query:"status" doc:"What they are now." enum:"valid,renewal-due,expired,held,revoked"`
	Fingerprint   string    `query:"fingerprint" doc:"SHA-256, hexadecimal; colons are allowed." maxLength:"100"`
	IssuedAfter   time.Time `query:"issuedAfter" doc:"Issued at this time or later."`
	ExpiresBefore time.Time `query:"expiresBefore" doc:"Expire before this time."`
}

// filter translates the parameters; all that is wrong with them comes at once.
func (q *CertificateQuery) filter(ctx context.Context, view *catalog.Snapshot) (pki.CertificateFilter, error) {
	var found findings
	filter := pki.CertificateFilter{
		Sees: auth.PrincipalOf(ctx).Sees, Text: q.Text, Identity: q.Identity, TrustDomain: q.TrustDomain, Namespace: q.Namespace, CredentialID: pki.CredentialID(q.Credential),
		AccountID: pki.AccountID(q.Account), Cluster: q.Cluster, Pod: q.Pod,
		Status: pki.CertificateStatus(q.Status), IssuedAfter: q.IssuedAfter, ExpiresBefore: q.ExpiresBefore,
	}
	if q.Profile != "" {
		if p, err := namedProfile(view, q.Profile, "profile"); err != nil {
			found = append(found, err)
		} else {
			filter.ProfileID = p.ID
		}
	}
	if q.IssuingCA != "" {
		if ca, err := namedCA(view, q.IssuingCA, "issuingCa"); err != nil {
			found = append(found, err)
		} else {
			filter.CAID = ca.ID
		}
	}
	if q.Fingerprint != "" {
		raw, err := hex.DecodeString(strings.ReplaceAll(q.Fingerprint, ":", ""))
		if err != nil || len(raw) != 32 {
			found.add("fingerprint", "fingerprint %.100q is not 32 bytes in hexadecimal", q.Fingerprint)
		}
		filter.Fingerprint = raw
	}
	return filter, found.err()
}

func (s *Server) listCertificates(ctx context.Context, in *struct {
	CertificateQuery
	PageQuery
},
) (*output[apiv1.Page[apiv1.Certificate]], error) {
	view := s.config.Catalog.Snapshot()
	filter, err := in.filter(ctx, view)
	if in.After != "" {
		var cursorErr error
		filter.Before, cursorErr = parseSerial(in.After, "after")
		err = errors.Join(err, cursorErr)
	}
	if err != nil {
		return nil, err
	}
	filter.Limit = in.Limit
	now := s.config.Now()
	certificates, err := s.config.Store.Certificates(ctx, filter, now)
	if err != nil {
		return nil, err
	}
	page := apiv1.Page[apiv1.Certificate]{Items: make([]apiv1.Certificate, 0, len(certificates))}
	for i := range certificates {
		page.Items = append(page.Items, wireCertificate(view, &certificates[i], now))
	}
	if len(certificates) == in.Limit {
		page.Next = string(certificates[len(certificates)-1].Serial)
	}
	return answer(page), nil
}

func parseSerial(text, field string) (pki.Serial, error) {
	serial, err := pki.ParseSerial(text)
	if err != nil {
		return "", fault.New(fault.Malformed, "%v", err).WithField(field)
	}
	return serial, nil
}

// SerialPath is the parameter of operations on one certificate.
type SerialPath struct {
	Serial string `path:"serial" doc:"Serial number, hexadecimal." maxLength:"100"`
}

func (s *Server) certificate(ctx context.Context, text string) (*pki.Certificate, error) {
	serial, err := parseSerial(text, "serial")
	if err != nil {
		return nil, err
	}
	return s.config.Store.VisibleCertificate(ctx, serial, auth.PrincipalOf(ctx).Sees)
}

func (s *Server) getCertificate(ctx context.Context, in *SerialPath) (*output[apiv1.Certificate], error) {
	certificate, err := s.certificate(ctx, in.Serial)
	if err != nil {
		return nil, err
	}
	return s.answerCertificate(certificate)
}

// answerCertificate shows one certificate, with all that is in it.
func (s *Server) answerCertificate(certificate *pki.Certificate) (*output[apiv1.Certificate], error) {
	out := wireCertificate(s.config.Catalog.Snapshot(), certificate, s.config.Now())
	out.PEM = toPEM(certificate.DER)
	var err error
	if out.Details, err = details(certificate.DER); err != nil {
		return nil, err
	}
	return answer(out), nil
}

// pemOutput is PEM as it is written into a file.
type pemOutput struct {
	ContentType string `header:"Content-Type"`
	Body        []byte `contentType:"application/pem-certificate-chain"`
}

const pemType = "application/pem-certificate-chain" // RFC 8555 section 9.1

func (s *Server) getCertificatePEM(ctx context.Context, in *struct {
	SerialPath
	Chain bool `query:"chain" doc:"Append the certificates above it."`
},
) (*pemOutput, error) {
	certificate, err := s.certificate(ctx, in.Serial)
	if err != nil {
		return nil, err
	}
	ders := [][]byte{certificate.DER}
	if in.Chain {
		if ders, err = s.config.Issuer.Chain(certificate, true); err != nil {
			return nil, err
		}
	}
	return &pemOutput{ContentType: pemType, Body: []byte(toPEM(ders...))}, nil
}

func (s *Server) createCertificate(ctx context.Context, in *struct{ body[apiv1.CreateCertificate] }) (*output[apiv1.NewCertificate], error) {
	caller := auth.PrincipalOf(ctx)
	// To decide, not to show: a view that is too old is refused.
	view, err := s.config.Catalog.Current()
	if err != nil {
		return nil, err
	}
	var found findings
	p, err := namedProfile(view, in.Body.Profile, "/profile")
	if err != nil {
		// A requester may not find out which profiles there are.
		if caller.Role == pki.RoleRequester {
			return nil, caller.RequestUnder(&pki.Profile{Name: in.Body.Profile})
		}
		found, p = append(found, err), &pki.Profile{} // what else is wrong is told as well
	} else if err := caller.RequestUnder(p); err != nil {
		return nil, err
	} else if p.Method != pki.RESTAPI {
		found.add("/profile", "profile %q has enrollment method %s; certificates are requested here only under profiles with %s",
			p.Name, p.Method, pki.RESTAPI)
	}
	request := issue.Request{Profile: p, Client: caller.Client, Actor: caller.By().Actor, RequestID: caller.Request}
	if in.Body.Validity != "" {
		request.NotAfter = s.config.Now().Add(time.Duration(found.duration("/validity", in.Body.Validity)))
	}
	request.CSR, request.Identifiers = found.csr(in.Body.CSR, p)
	if err := found.err(); err != nil {
		return nil, err
	}
	certificate, err := s.config.Issuer.Issue(ctx, request)
	if err != nil {
		return nil, err
	}
	chain, err := s.config.Issuer.Chain(certificate, p.Rules.IncludeRoot)
	if err != nil {
		return nil, err
	}
	return answer(apiv1.NewCertificate{
		Certificate: wireCertificate(view, certificate, s.config.Now()),
		PEM:         toPEM(certificate.DER),
		ChainPEM:    toPEM(chain[1:]...),
	}), nil
}

// csr reads a request and the names that it asks for.
func (f *findings) csr(text string, p *pki.Profile) (*csr.Request, []pki.Identifier) {
	const at = "/csr"
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		f.add(at, "CSR is not PEM")
		return nil, nil
	case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		f.add(at, "PEM block %.40q is not a CERTIFICATE REQUEST", block.Type)
		return nil, nil
	case strings.TrimSpace(string(rest)) != "":
		f.add(at, "there is something behind the CSR")
		return nil, nil
	}
	request, err := csr.Parse(block.Bytes)
	if err != nil {
		*f = append(*f, fault.From(err).WithField(at))
		return nil, nil
	}
	if p.Template == pki.MeshIntermediate {
		return request, nil // a CA's common name is no name of a host
	}
	identifiers, err := policy.Requested(request)
	if err != nil {
		*f = append(*f, fault.From(err).WithField(at))
	}
	return request, identifiers
}

func (s *Server) revokeCertificate(ctx context.Context, in *struct {
	SerialPath
	body[apiv1.RevokeCertificate]
},
) (*output[apiv1.Certificate], error) {
	var found findings
	serial, err := parseSerial(in.Serial, "serial")
	if err != nil {
		found = append(found, err)
	}
	reason := found.reason(in.Body.Reason)
	if err := found.err(); err != nil {
		return nil, err
	}
	return s.changeSerial(ctx, serial, func(ctx context.Context, r revoke.Request) error {
		r.Reason = reason
		return s.config.Revoker.Revoke(ctx, r)
	})
}

// changeCertificate holds or releases a certificate.
func (s *Server) changeCertificate(ctx context.Context, in *SerialPath, change func(context.Context, revoke.Request) error) (*output[apiv1.Certificate], error) {
	serial, err := parseSerial(in.Serial, "serial")
	if err != nil {
		return nil, err
	}
	return s.changeSerial(ctx, serial, change)
}

func (s *Server) changeSerial(ctx context.Context, serial pki.Serial, change func(context.Context, revoke.Request) error) (*output[apiv1.Certificate], error) {
	caller := auth.PrincipalOf(ctx)
	err := change(ctx, revoke.Request{Serial: serial, Actor: caller.By().Actor, Client: caller.Client, RequestID: caller.Request})
	if err != nil {
		return nil, err
	}
	revoked, err := s.config.Store.VisibleCertificate(ctx, serial, auth.PrincipalOf(ctx).Sees)
	if err != nil {
		return nil, err
	}
	return s.answerCertificate(revoked)
}
