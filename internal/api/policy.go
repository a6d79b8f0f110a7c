package api

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
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
)

func (s *Server) policyRoutes() {
	const tag = "policy"
	register(s, operation{
		id: "check-policy", method: http.MethodPost, path: "/policy/check", tag: tag, access: auth.Read,
		summary: "Ask whether a certificate would be issued, and why not",
	}, s.checkPolicy)
	register(s, operation{
		id: "preview-policy", method: http.MethodPost, path: "/policy/preview", tag: tag, access: auth.Read,
		summary: "Show an example certificate of a profile or of a draft, whose mistakes come all at once",
	}, s.previewPolicy)
}

// PolicyInput is the body of both.
type PolicyInput struct{ body[apiv1.PolicyQuestion] }

// checkPolicy answers for the names, or the CSR, of the question.
func (s *Server) checkPolicy(ctx context.Context, in *PolicyInput) (*output[apiv1.PolicyAnswer], error) {
	var found findings
	p, err := s.asked(in)
	if err != nil {
		return nil, err
	}
	request := issue.Request{Profile: p}
	if in.Body.CSR != "" {
		request.CSR, request.Identifiers = found.csr(in.Body.CSR, p)
	} else if request.CSR, request.Identifiers, err = s.bare(&found, p, &in.Body); err != nil {
		return nil, err
	}
	return s.explained(ctx, &found, request, in)
}

// previewPolicy answers for names that the profile's typical client would ask for.
func (s *Server) previewPolicy(ctx context.Context, in *PolicyInput) (*output[apiv1.PolicyAnswer], error) {
	var found findings
	p, err := s.asked(in)
	if err != nil {
		return nil, err
	}
	sample := policy.Example(p)
	names := apiv1.PolicyQuestion{DNS: sample.Names.DNS, IPs: sample.Names.IPs, CommonName: sample.CommonName, Key: in.Body.Key}
	if len(sample.Names.URIs) > 0 {
		names.SPIFFEID = sample.Names.URIs[0]
	}
	request := issue.Request{Profile: p}
	if request.CSR, request.Identifiers, err = s.bare(&found, p, &names); err != nil {
		return nil, err
	}
	return s.explained(ctx, &found, request, in)
}

// explained has issuance say what it would do.
func (s *Server) explained(ctx context.Context, found *findings, r issue.Request, in *PolicyInput) (*output[apiv1.PolicyAnswer], error) {
	if in.Body.Validity != "" {
		r.NotAfter = s.config.Now().Add(time.Duration(found.duration("/validity", in.Body.Validity)))
	}
	if in.Body.Credential != "" {
		credential, ok := s.config.Catalog.Snapshot().Credential(pki.CredentialID(in.Body.Credential))
		if !ok {
			found.add("/credential", "there is no credential %.100q", in.Body.Credential)
		}
		r.Credential = credential
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	explanation, err := s.config.Issuer.Explain(ctx, r)
	if err != nil {
		return nil, err
	}
	return wireExplanation(explanation)
}

func wireExplanation(e *issue.Explanation) (*output[apiv1.PolicyAnswer], error) {
	out := apiv1.PolicyAnswer{Issued: e.Issued(), Checks: make([]apiv1.PolicyCheck, 0, len(e.Checks))}
	for _, check := range e.Checks {
		wire := apiv1.PolicyCheck{Rule: string(check.Rule), Subject: check.Subject, Passed: check.Refused == nil, Sentence: check.Says}
		if check.Refused != nil {
			refused := fault.From(check.Refused)
			wire.Sentence, wire.Hint = refused.Public, refused.Hint
		}
		out.Checks = append(out.Checks, wire)
	}
	if !out.Issued {
		return answer(out), nil
	}
	var err error
	if out.Certificate, err = details(e.Example); err != nil {
		return nil, err
	}
	// There is no signature; what there would be is the CA's to say.
	out.Granted = pki.Duration(e.Span.Granted).String()
	for _, der := range e.Chain {
		above, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read chain: %w", err)
		}
		out.Chain = append(out.Chain, above.Subject.String())
	}
	return answer(out), nil
}

// asked returns the profile that a question is about: one that is there, a draft, or one with what a draft would change.
func (s *Server) asked(in *PolicyInput) (*pki.Profile, error) {
	view := s.config.Catalog.Snapshot()
	var known *pki.Profile
	if in.Body.Profile != "" {
		p, err := namedProfile(view, in.Body.Profile, "/profile")
		if err != nil {
			return nil, err
		}
		known = p
	}
	switch {
	case in.Body.Draft != nil:
		return s.draft(view, known, in)
	case known == nil:
		return nil, fault.New(fault.Malformed, "neither a profile nor a draft of one is given").WithField("/profile")
	default:
		return known, nil
	}
}

// draft reads a profile that is to be, and checks it as the one that is made is checked. Pointers begin with /draft.
func (s *Server) draft(view *catalog.Snapshot, known *pki.Profile, in *PolicyInput) (*pki.Profile, error) {
	var found findings
	var raw struct {
		Draft json.RawMessage `json:"draft"`
	}
	if err := json.Unmarshal(in.RawBody, &raw); err != nil {
		return nil, fault.Wrap(err, fault.Malformed, "the draft cannot be read").WithField("/draft")
	}
	asked := in.Body.Draft
	p := pki.Profile{Name: asked.Name, Template: pki.Template(asked.Template), State: pki.Active}
	p.Rules, p.Method = policy.TemplateRules(p.Template)
	if known != nil {
		p.Name, p.Template, p.Method, p.Rules, p.IssuingCA = known.Name, known.Template, known.Method, known.Rules, known.IssuingCA
	} else if _, taken := view.ProfileByName(p.Name); taken {
		found.add("/name", "there is a profile %q already", p.Name)
	}
	if asked.Method != "" {
		p.Method = pki.EnrollmentMethod(asked.Method)
	}
	if known == nil || asked.IssuingCA != "" {
		p.IssuingCA = found.issuingCA(view, asked.IssuingCA)
	}
	if ca, ok := view.CA(p.IssuingCA); ok && ca.Kind != pki.IssuingCA {
		found.add("/issuingCa", "CA %q is a root; only issuing CAs sign certificates of profiles", ca.Name)
	}
	rules := p.Rules
	p.Rules = found.mergeRules(raw.Draft, &rules)
	err := found.err()
	if err != nil {
		err = s.withChecks(err, &p)
	} else {
		err = policy.CheckProfile(&p)
	}
	return &p, below("/draft", err)
}

// below puts a prefix before the pointers of faults.
func below(prefix string, err error) error {
	if err == nil {
		return nil
	}
	var moved findings
	for _, f := range flatten(err, nil) {
		again := *f
		if strings.HasPrefix(again.Field, "/") {
			again.Field = prefix + again.Field
		}
		moved = append(moved, &again)
	}
	return moved.err()
}

// bare makes a request of names alone. Its key is made up, and nobody has its private half.
func (s *Server) bare(found *findings, p *pki.Profile, q *apiv1.PolicyQuestion) (*csr.Request, []pki.Identifier, error) {
	algorithm := pki.KeyAlgorithm(q.Key)
	if algorithm == "" {
		algorithm = p.Rules.Keys[0] // a profile has at least one
	}
	r := &csr.Request{KeyAlgorithm: algorithm, CommonName: q.CommonName}
	var err error
	if r.PublicKey, err = madeUp(algorithm, s.config.Random); err != nil {
		return nil, nil, err
	}
	if r.PublicKey == nil {
		found.add("/keyAlgorithm", "key algorithm %.40q is not one of ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096, ed25519", q.Key)
		return nil, nil, nil
	}
	if r.SPKI, err = x509.MarshalPKIXPublicKey(r.PublicKey); err != nil {
		return nil, nil, fmt.Errorf("write key: %w", err)
	}
	r.SPKIHash = sha256.Sum256(r.SPKI)
	r.Names.DNS = found.canonical("/dns", pki.DNS, q.DNS)
	r.Names.IPs = found.canonical("/ips", pki.IP, q.IPs)
	if q.SPIFFEID != "" {
		r.Names.URIs = []string{q.SPIFFEID}
	}
	if p.Template == pki.MeshIntermediate {
		r.CA = true
		return r, nil, nil
	}
	ids, err := policy.Requested(r)
	if err != nil {
		*found = append(*found, fault.From(err).WithField("/commonName"))
	}
	return r, ids, nil
}

// canonical reads names of one kind, sorted, each once, as a CSR's are.
func (f *findings) canonical(field string, kind pki.IdentifierType, values []string) []string {
	const most = 1000 // as of a CSR
	if len(values) > most {
		f.add(field, "list has %d names, more than %d", len(values), most)
		return nil
	}
	var names []string
	for i, value := range values {
		id, err := pki.NormalizeIdentifier(pki.Identifier{Type: kind, Value: value})
		if err != nil {
			f.add(fmt.Sprintf("%s/%d", field, i), "%v", err)
			continue
		}
		names = append(names, id.Value)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// madeUp returns a public key of an algorithm; nil for an unknown one. An RSA modulus is a number that nobody has
// factors of at hand: looking for primes would take seconds.
func madeUp(algorithm pki.KeyAlgorithm, random io.Reader) (crypto.PublicKey, error) {
	rsaOf := func(bits uint) crypto.PublicKey {
		modulus := new(big.Int).Lsh(big.NewInt(1), bits-1)
		return &rsa.PublicKey{N: modulus.Add(modulus, big.NewInt(1)), E: 65537}
	}
	switch algorithm {
	case pki.ECDSAP256:
		return madeUpECDSA(elliptic.P256(), random)
	case pki.ECDSAP384:
		return madeUpECDSA(elliptic.P384(), random)
	case pki.RSA2048:
		return rsaOf(2048), nil
	case pki.RSA3072:
		return rsaOf(3072), nil
	case pki.RSA4096:
		return rsaOf(4096), nil
	case pki.Ed25519:
		public, _, err := ed25519.GenerateKey(random)
		if err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
		return public, nil
	default:
		return nil, nil
	}
}

func madeUpECDSA(curve elliptic.Curve, random io.Reader) (crypto.PublicKey, error) {
	key, err := ecdsa.GenerateKey(curve, random)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key.Public(), nil
}
