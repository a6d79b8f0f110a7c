package issue

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/lint"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// Rules about what storage and CAs know; policy has the others.
const (
	RuleProfile policy.Rule = "profile" // is the profile active?
	RuleIssuer  policy.Rule = "issuer"  // may the issuing CA issue, and such a certificate?
	RuleClient  policy.Rule = "client"  // is the credential still good?
	RuleReuse   policy.Rule = "reuse"   // is the key one that must not be used?
	RuleDenied  policy.Rule = "denied"  // is a name or the Pod on the deny list?
)

// Explanation says what would become of a request.
type Explanation struct {
	Checks []policy.Check
	// Example is the certificate as it would be issued, but for its serial number, with a signature that verifies
	// nowhere. Nil when the request would be refused.
	Example []byte
	Chain   [][]byte // the CAs above it, nearest first
	Span    policy.Span
}

// Issued reports whether the request would get its certificate.
func (e *Explanation) Issued() bool { return e.Example != nil }

// Explain answers "would this be issued, and why not?": it asks what Issue asks, with the same code, builds the certificate
// and lints it, and stops where Issue signs. Nothing is recorded, no key is opened, and no lifetime is shortened at
// random. A profile without an ID is a draft, which counts as active if it says so.
//
// Refusals are in the checks; the error is for what keeps the question from being answered.
func (i *Issuer) Explain(ctx context.Context, r Request) (*Explanation, error) {
	if r.Profile == nil || r.CSR == nil {
		return nil, errors.New("explain: request has no profile or no CSR")
	}
	now := i.config.Now()
	facts, err := i.facts(ctx, &r, now)
	if err != nil {
		return nil, fmt.Errorf("finalize facts: %w", err)
	}
	facts.ProfileActive = facts.ProfileActive || r.Profile.ID == ""
	e := &Explanation{}
	e.note(RuleProfile, r.Profile.Name, checkActive(facts, &r), "profile %q is active", r.Profile.Name)
	ca, caErr := i.issuingCA(r.Profile)
	if ca != nil {
		e.note(RuleIssuer, ca.Name, nil, "issuing CA %q is active", ca.Name)
	} else if err := e.refusal(RuleIssuer, "", caErr); err != nil {
		return nil, err
	}
	if r.Credential != nil {
		e.note(RuleClient, r.Credential.Name, checkClient(facts, &r), "credential %q is neither revoked nor expired", r.Credential.Name)
	}
	e.note(RuleReuse, "", checkKey(facts, &r), "the key is that of no account and no CA, and is not blocked")
	checks, accepted := policy.Explain(r.Profile, r.Credential, r.Identifiers, r.CSR)
	e.Checks = append(e.Checks, checks...)
	if accepted != nil {
		denied := i.config.Denied(&accepted.Names, &r.Workload)
		if fault.Is(denied, fault.Unavailable) {
			return nil, denied
		}
		e.note(RuleDenied, accepted.Identity, denied, "no name is on the deny list")
		if denied != nil {
			accepted = nil
		}
	}
	if ca == nil {
		return e, nil
	}
	authority, err := keyless(ca)
	if err != nil {
		return nil, fmt.Errorf("issuing CA %q: %w", ca.Name, err)
	}
	if err := e.lifetime(&r, authority, now); err != nil {
		return nil, err
	}
	if accepted == nil {
		return e, nil
	}
	return e, i.example(e, authority, &r, accepted, now)
}

// note adds a check.
func (e *Explanation) note(rule policy.Rule, subject string, refused error, says string, args ...any) {
	check := policy.Check{Rule: rule, Subject: subject, Refused: refused}
	if refused == nil {
		check.Says = fmt.Sprintf(says, args...)
	}
	e.Checks = append(e.Checks, check)
}

// refusal adds a check that did not pass, and returns an error that is none.
func (e *Explanation) refusal(rule policy.Rule, subject string, err error) error {
	if _, ok := errors.AsType[*fault.Error](err); !ok {
		return err
	}
	e.note(rule, subject, err, "")
	return nil
}

// steady is randomness that shortens no lifetime.
type steady struct{}

func (steady) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (e *Explanation) lifetime(r *Request, ca *authority, now time.Time) error {
	validity := r.Profile.Rules.Validity
	span, err := policy.Lifetime(validity, now, r.NotBefore, r.NotAfter, ca.certificate.NotAfter, steady{})
	if err != nil {
		return e.refusal(policy.RuleLifetime, "", err)
	}
	e.Span = span
	granted := pki.Duration(span.Granted)
	says := fmt.Sprintf("%s is granted, the default of profile %q", granted, r.Profile.Name)
	switch {
	case span.Requested == 0 && span.Granted < time.Duration(validity.Default):
		says = fmt.Sprintf("%s is granted, until issuing CA %q ends", granted, ca.ca.Name)
	case span.Requested > span.Granted:
		says = fmt.Sprintf("%s was asked for; %s is granted, the most that profile %q and its CA have left", pki.Duration(span.Requested), granted, r.Profile.Name)
	case span.Requested > 0:
		says = fmt.Sprintf("%s was asked for and is granted", granted)
	}
	if validity.JitterPercent > 0 && span.Requested != span.Granted {
		says += fmt.Sprintf(", shortened at random by up to %d %%", validity.JitterPercent)
	}
	e.note(policy.RuleLifetime, granted.String(), nil, "%s", says)
	return nil
}

// example builds the certificate as make does, and has it judged as make has it, by a linter without a key.
func (i *Issuer) example(e *Explanation, ca *authority, r *Request, accepted *policy.Accepted, now time.Time) error {
	for _, check := range e.Checks {
		if check.Refused != nil {
			return nil
		}
	}
	want, err := i.want(ca, r, accepted, &e.Span, now)
	if err != nil {
		return e.refusal(RuleIssuer, ca.ca.Name, err)
	}
	certificate, err := template(want, ca)
	if err != nil {
		return err
	}
	draft := lint.NewDraft(ca.issuer, want)
	_, err = x509.CreateCertificate(i.config.Random, certificate, ca.certificate, r.CSR.PublicKey, draft)
	der, err := draft.Finish(err)
	if err != nil {
		return e.refusal(RuleIssuer, ca.ca.Name, err)
	}
	e.note(RuleIssuer, ca.ca.Name, nil, "the certificate is within the limits of CA %q and of those above it", ca.ca.Name)
	e.Example, e.Chain = der, append([][]byte{ca.ca.Certificate}, ca.ca.Chain...)
	return nil
}
