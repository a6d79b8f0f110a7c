package issue

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/pki"
)

// CAStore is the storage that ceremonies need. Changes are durable when a method returns.
type CAStore interface {
	// CreateCA stores a CA, its sealed key and its event together; Conflict when the name is taken.
	CreateCA(ctx context.Context, ca *pki.CA, key *pki.SealedKey, ev audit.Event) error
	// UpdateCA replaces a CA if it was last updated at the given time, else Conflict.
	UpdateCA(ctx context.Context, ca *pki.CA, was time.Time, ev audit.Event) error
	CAs(ctx context.Context) ([]pki.CA, error)
}

// Vault makes and seals private keys; it is *keys.Vault.
type Vault interface {
	Generate(alg pki.KeyAlgorithm, id pki.KeyID, now time.Time) (crypto.Signer, *pki.SealedKey, error)
	Import(key crypto.Signer, id pki.KeyID, now time.Time) (*pki.SealedKey, error)
}

// AuthorityConfig is what an Authority needs. Everything but BaseURL and Replica is required.
type AuthorityConfig struct {
	Store   CAStore
	Vault   Vault
	Signers Signers
	Now     func() time.Time
	Random  io.Reader
	// BaseURL, such as https://ca.example:8443, is where CRLs, OCSP answers and CA certificates are served from. New CAs
	// get their addresses from it; "" gives them none.
	BaseURL string
	Replica string // names this process in audit events
}

// Authority holds the ceremonies that make CAs. It is safe for concurrent use; they are rare, and storage decides when
// two use one name at once.
type Authority struct {
	config AuthorityConfig
}

// NewAuthority returns an Authority.
func NewAuthority(c AuthorityConfig) (*Authority, error) {
	if c.Store == nil || c.Vault == nil || c.Signers == nil || c.Now == nil || c.Random == nil {
		return nil, errors.New("issue: store, vault, signers, now and random are required")
	}
	c.BaseURL = strings.TrimRight(c.BaseURL, "/")
	if base, err := url.Parse(c.BaseURL); err != nil || (c.BaseURL != "" && base.Host == "") {
		return nil, fmt.Errorf("issue: base URL %q has no host", c.BaseURL)
	}
	return &Authority{config: c}, nil
}

// Lifetimes of CAs when nothing is asked for: a root outlives two generations of issuing CAs, each of which outlives
// the replacement of everything below it many times over.
const (
	defaultRootLife    = pki.Duration(3650 * 24 * time.Hour)
	defaultIssuingLife = pki.Duration(5 * 365 * 24 * time.Hour)
)

// caBackdate is how far the notBefore of a CA lies in the past. It is the most that profiles may backdate leaves, so
// that leaves of a new CA do not begin before it.
const caBackdate = time.Hour

// Path lengths when nothing is asked for.
const (
	defaultRootPathLen    = 2 // a mesh's own CA fits below an issuing CA: a root cannot be changed once it is trusted
	defaultIssuingPathLen = 0
	maxPathLen            = 10 // nothing sensible has more; verifiers give up long before
)

// Constraints are name constraints that a CA gets, critical as RFC 5280 section 4.2.1.10 wants: nothing that is outside
// of them is accepted below the CA.
type Constraints struct {
	// TrustDomains are the only hosts of SPIFFE IDs. Without any, SPIFFE IDs are not limited.
	TrustDomains []string
	// DNS are the only domains of DNS names, each with everything below it. Without any, DNS names are not limited.
	DNS []string
}

// Options are what a CA that is made here may be given. The zero value of each field takes its default.
type Options struct {
	Name         string           // required; unique; lower-case letters, digits and hyphens
	CommonName   string           // of the subject; "" takes Name
	Organization string           // of the subject; "" for none
	Key          pki.KeyAlgorithm // "" is ECDSA P-256
	Validity     pki.Duration     // 0 is 10 years for a root, and 5 years for an issuing CA but no longer than its root
	PathLen      *int             // CAs that may follow below; nil is 1 for a root and 0 for an issuing CA
	Constraints  Constraints
	Settings     *pki.CASettings // nil takes the addresses of this server
}

// spec is Options with defaults filled in, checked.
type spec struct {
	Options
	id      pki.CAID
	now     time.Time
	pathLen int
}

// specify checks options; errors are *fault.Error of kind Malformed that name the field and the rule.
func (a *Authority) specify(o Options, pathLen int) (*spec, error) {
	s := &spec{Options: o, now: a.config.Now().UTC(), pathLen: pathLen}
	if s.CommonName == "" {
		s.CommonName = s.Name
	}
	if s.Key == "" {
		s.Key = pki.ECDSAP256
	}
	if o.PathLen != nil {
		s.pathLen = *o.PathLen
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	id, err := pki.NewID[pki.CAID](s.now, a.config.Random)
	if err != nil {
		return nil, err
	}
	s.id = id
	if s.Settings == nil {
		settings := a.Settings(id)
		s.Settings = &settings
	}
	return s, nil
}

func (s *spec) check() error {
	err := s.Check()
	if s.pathLen < 0 || s.pathLen > maxPathLen {
		err = errors.Join(err, fault.New(fault.Malformed, "path length %d is not 0 to %d", s.pathLen, maxPathLen).WithField("/pathLength"))
	}
	return err
}

// Check finds what is wrong with the options by themselves, all of it at once.
func (o *Options) Check() error {
	var errs []error
	if err := pki.CheckName(o.Name); err != nil {
		errs = append(errs, fault.New(fault.Malformed, "CA %v", err).WithField("/name"))
	}
	for _, text := range []struct{ what, field, value string }{
		{"common name", "/commonName", o.CommonName}, {"organization", "/organization", o.Organization},
	} {
		if err := checkSubject(text.what, text.value); err != nil && text.value != "" && text.value != o.Name {
			errs = append(errs, err.WithField(text.field))
		}
	}
	if o.Key != "" && !slices.Contains(keys.Algorithms(), o.Key) {
		errs = append(errs, fault.New(fault.Malformed, "key algorithm %.40q is not one of %s", o.Key, list(keys.Algorithms())).WithField("/keyAlgorithm"))
	}
	if o.Validity < 0 {
		errs = append(errs, fault.New(fault.Malformed, "validity %s is negative", o.Validity).WithField("/validity"))
	}
	return errors.Join(append(errs, o.Constraints.check())...)
}

// maxSubject is ub-common-name and ub-organization-name of RFC 5280 appendix A.
const maxSubject = 64

func checkSubject(what, value string) *fault.Error {
	if len(value) > maxSubject {
		return fault.New(fault.Malformed, "%s %.64q... has %d characters, more than %d", what, value, len(value), maxSubject)
	}
	for _, c := range []byte(value) {
		if c < ' ' || c > '~' {
			return fault.New(fault.Malformed, "%s %.64q has character %q, which is not printable ASCII", what, value, c)
		}
	}
	if strings.TrimSpace(value) != value || value == "" {
		return fault.New(fault.Malformed, "%s %q is empty, or begins or ends with a space", what, value)
	}
	return nil
}

func (c *Constraints) check() error {
	var errs []error
	for i, domain := range c.TrustDomains {
		if err := pki.CheckTrustDomain(domain); err != nil {
			errs = append(errs, fault.New(fault.Malformed, "name constraint: %v", err).WithField(fmt.Sprintf("/constraints/trustDomains/%d", i)))
		}
	}
	for i, domain := range c.DNS {
		if err := pki.CheckDNSName(domain); err != nil {
			errs = append(errs, fault.New(fault.Malformed, "name constraint: %v", err).WithField(fmt.Sprintf("/constraints/dns/%d", i)))
		}
	}
	return errors.Join(errs...)
}

// Settings returns the addresses at which this server publishes for a CA.
func (a *Authority) Settings(id pki.CAID) pki.CASettings {
	if a.config.BaseURL == "" {
		return pki.CASettings{}
	}
	return pki.CASettings{
		CRLURLs:    []string{a.config.BaseURL + "/crl/" + string(id) + ".crl"},
		OCSPURLs:   []string{a.config.BaseURL + "/ocsp/"},
		IssuerURLs: []string{a.config.BaseURL + "/ca/" + string(id) + ".cer"},
	}
}

// find returns all CAs and the one with the identifier.
func (a *Authority) find(ctx context.Context, id pki.CAID) (*pki.CA, error) {
	all, err := a.config.Store.CAs(ctx)
	if err != nil {
		return nil, fmt.Errorf("list CAs: %w", err)
	}
	for i := range all {
		if all[i].ID == id {
			return &all[i], nil
		}
	}
	return nil, fault.New(fault.NotFound, "there is no CA %.80q", id).WithHint("list them: certloom ca list")
}

// create stores a new CA with its key and its event.
func (a *Authority) create(ctx context.Context, ca *pki.CA, key *pki.SealedKey, action audit.Action, by audit.By) (*pki.CA, error) {
	if err := a.config.Store.CreateCA(ctx, ca, key, a.event(action, ca, by)); err != nil {
		return nil, fmt.Errorf("store CA: %w", err)
	}
	return ca, nil
}

// event tells of a CA.
func (a *Authority) event(action audit.Action, ca *pki.CA, by audit.By) audit.Event {
	detail := audit.Detail{Changes: []audit.Change{
		{Field: "/kind", New: string(ca.Kind)},
		{Field: "/keyAlgorithm", New: string(ca.KeyAlgorithm)},
		{Field: "/state", New: string(ca.State)},
	}}
	if certificate, err := x509.ParseCertificate(ca.Certificate); err == nil {
		detail.Serial = pki.SerialFromInt(certificate.SerialNumber)
		detail.Changes = append(detail.Changes,
			audit.Change{Field: "/subject", New: certificate.Subject.String()},
			audit.Change{Field: "/issuer", New: certificate.Issuer.String()},
			audit.Change{Field: "/notAfter", New: certificate.NotAfter.UTC().Format(time.RFC3339)})
	}
	return audit.Event{
		Time:    a.config.Now(),
		Actor:   by.Actor,
		Action:  action,
		Target:  ca.Name,
		Client:  by.Client,
		Request: by.Request,
		Replica: a.config.Replica,
		Outcome: audit.Done,
		Detail:  detail,
	}
}

func list[T ~string](values []T) string {
	texts := make([]string, 0, len(values))
	for _, value := range values {
		texts = append(texts, string(value))
	}
	return strings.Join(texts, ", ")
}
