package issue_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// TestIssueStorageFails walks the ways in which each call of storage may fail.
func TestIssueStorageFails(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"FinalizeFacts", "RecordCertificate"} {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/persisted=%t", method, persisted), func(t *testing.T) {
				t.Parallel()
				s := newStage(t, testca.Options{})
				broken := true
				s.ledger.Fail = func(called string) (bool, error) {
					if broken && called == method {
						return persisted, testca.ErrStorage
					}
					return false, nil
				}
				request := s.meshRequest(t, "order-1")
				if c, err := s.issuer.Issue(t.Context(), request); !errors.Is(err, testca.ErrStorage) || c != nil {
					t.Fatalf("Issue = %v, %v, want the storage's error and no certificate", c, err)
				}
				broken = false
				c, err := s.issuer.Issue(t.Context(), request)
				if err != nil {
					t.Fatalf("Issue after repair: %v", err)
				}
				if issued := s.ledger.Issued(); len(issued) != 1 || issued[0].Serial != c.Serial {
					t.Errorf("%d certificates recorded, want the one that was returned", len(issued))
				}
				if got := s.count(t, "failed"); got != 1 {
					t.Errorf("failed = %v, want 1", got)
				}
				if slices.ContainsFunc(s.ledger.Events(), func(e audit.Event) bool { return e.Outcome == audit.Refused }) {
					t.Error("a failure was recorded as a refusal")
				}
			})
		}
	}
}

// A client that goes away is not counted as a failure of ours.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	s.ledger.Fail = func(called string) (bool, error) {
		if called == "RecordCertificate" {
			return false, context.Canceled
		}
		return false, nil
	}
	if _, err := s.issuer.Issue(t.Context(), s.meshRequest(t, "order-1")); !errors.Is(err, context.Canceled) {
		t.Fatalf("Issue: %v", err)
	}
	if failed, abandoned := s.count(t, "failed"), s.count(t, "abandoned"); failed != 0 || abandoned != 1 {
		t.Errorf("failed = %v, abandoned = %v", failed, abandoned)
	}
}

// failingSigner signs nothing, or wrongly.
type failingSigner struct {
	crypto.Signer
	sign func(digest []byte) ([]byte, error)
}

func (f failingSigner) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	return f.sign(digest)
}

type signerFunc func(ctx context.Context, id pki.KeyID) (crypto.Signer, error)

func (f signerFunc) Signer(ctx context.Context, id pki.KeyID) (crypto.Signer, error) {
	return f(ctx, id)
}

func TestIssueSignerFails(t *testing.T) {
	t.Parallel()
	errSigner := errors.New("no HSM")
	wrongKey := testca.Key(t)
	for name, signers := range map[string]func(*stage) signerFunc{
		"opening": func(*stage) signerFunc {
			return func(context.Context, pki.KeyID) (crypto.Signer, error) { return nil, errSigner }
		},
		"signing": func(s *stage) signerFunc {
			return func(context.Context, pki.KeyID) (crypto.Signer, error) {
				return failingSigner{s.IssuingKey, func([]byte) ([]byte, error) { return nil, errSigner }}, nil
			}
		},
		"signing with another key": func(s *stage) signerFunc {
			return func(context.Context, pki.KeyID) (crypto.Signer, error) {
				return failingSigner{s.IssuingKey, func(digest []byte) ([]byte, error) {
					return ecdsa.SignASN1(rand.Reader, wrongKey, digest)
				}}, nil
			}
		},
		"key of another CA": func(s *stage) signerFunc {
			return func(context.Context, pki.KeyID) (crypto.Signer, error) { return s.RootKey, nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testca.Options{})
			s.registry = prometheus.NewRegistry()
			issuer := s.newIssuer(t, s.ledger, signers(s))
			request := s.meshRequest(t, "order-1")
			c, err := issuer.Issue(t.Context(), request)
			if err == nil || c != nil || fault.From(err).Kind != fault.Internal {
				t.Fatalf("Issue = %v, %v, want an internal error", c, err)
			}
			if len(s.ledger.Issued())+len(s.ledger.Events()) != 0 {
				t.Error("something was recorded")
			}
			if _, err := s.issuer.Issue(t.Context(), request); err != nil {
				t.Errorf("Issue with a good signer: %v; the order must have stayed ready", err)
			}
		})
	}
}

func TestIssueRefuses(t *testing.T) {
	t.Parallel()
	type change func(*stage, *issue.Request)
	facts := func(set func(*pki.FinalizeFacts)) change {
		return func(s *stage, _ *issue.Request) { s.ledger.Facts = set }
	}
	for name, test := range map[string]struct {
		change change
		kind   fault.Kind
		says   string
	}{
		"refuses/account-deactivated": {facts(func(f *pki.FinalizeFacts) { f.AccountState = pki.StatusDeactivated }), fault.AccountDeactivated, "deactivated"},
		"refuses/account-gone":        {facts(func(f *pki.FinalizeFacts) { f.AccountState = "" }), fault.Unauthorized, "account"},
		"refuses/account-revoked":     {facts(func(f *pki.FinalizeFacts) { f.AccountState = pki.StatusRevoked }), fault.Unauthorized, "account"},
		"refuses/credential-revoked":  {facts(func(f *pki.FinalizeFacts) { f.CredentialUsable = false }), fault.Unauthorized, `credential "test"`},
		"refuses/profile-suspended":   {facts(func(f *pki.FinalizeFacts) { f.ProfileActive = false }), fault.Unauthorized, `profile "istio" is suspended`},
		"refuses/profile-suspended-in-view": {func(_ *stage, r *issue.Request) {
			p := *r.Profile
			p.State = pki.Suspended
			r.Profile = &p
		}, fault.Unauthorized, `profile "istio" is suspended`},
		"refuses/authorization-deactivated": {facts(func(f *pki.FinalizeFacts) { f.Deactivated = []int{0} }), fault.Unauthorized, "authorization"},
		"refuses/account-key":               {facts(func(f *pki.FinalizeFacts) { f.AccountKey = true }), fault.BadCSR, "key of an ACME account"},
		"refuses/own-account-key": {func(_ *stage, r *issue.Request) {
			a := *r.Account
			a.Thumbprint = r.CSR.Thumbprint
			r.Account = &a
		}, fault.BadCSR, "key of an ACME account"},
		"refuses/ca-key":      {facts(func(f *pki.FinalizeFacts) { f.CAKey = true }), fault.BadPublicKey, "key of a CA"},
		"refuses/blocked-key": {facts(func(f *pki.FinalizeFacts) { f.BlockedKey = true }), fault.BadPublicKey, "keyCompromise"},
		"refuses/ca-suspended": {func(s *stage, _ *issue.Request) {
			s.Issuing.State = pki.Suspended
		}, fault.Unauthorized, `CA "issuing"`},
		"refuses/other-trust-domain": {func(_ *stage, r *issue.Request) {
			r.CSR = parse(t, testca.CSR(t, testca.Request{URIs: []string{"spiffe://evil.example/ns/demo/sa/web"}}))
		}, fault.RejectedIdentifier, "evil.example"},
		"refuses/credential-of-another-profile": {func(_ *stage, r *issue.Request) {
			c := *r.Credential
			c.ProfileID = "other"
			r.Credential = &c
		}, fault.Unauthorized, "does not belong"},
		"refuses/no-credential": {func(_ *stage, r *issue.Request) { r.Credential = nil }, fault.Unauthorized, "credential"},
		"refuses/extra-dns-name": {func(_ *stage, r *issue.Request) {
			r.CSR = parse(t, testca.CSR(t, testca.Request{URIs: []string{testca.SPIFFE}, DNS: []string{"a.example.com"}}))
		}, fault.BadCSR, "a.example.com"},
		"refuses/ca-flag": {func(_ *stage, r *issue.Request) {
			r.CSR = parse(t, testca.CSR(t, testca.Request{URIs: []string{testca.SPIFFE}, CA: true}))
		}, fault.BadCSR, "CA"},
		"refuses/not-after-in-the-past": {func(_ *stage, r *issue.Request) {
			r.NotAfter = testca.Now().Add(-time.Hour)
		}, fault.Malformed, "past"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testca.Options{})
			request := s.meshRequest(t, "order-1")
			test.change(s, &request)
			c, err := s.issuer.Issue(t.Context(), request)
			if !fault.Is(err, test.kind) || c != nil || !strings.Contains(fault.From(err).Public, test.says) {
				t.Fatalf("Issue = %v, %v, want kind %q with %q", c, err, test.kind, test.says)
			}
			if len(s.ledger.Issued()) != 0 {
				t.Error("a certificate was recorded")
			}
			events := s.ledger.Events()
			if len(events) != 1 || events[0].Action != audit.CertificateRefuse || events[0].Outcome != audit.Refused ||
				events[0].Detail.Reason != fault.From(err).Public || events[0].Target != "order-1" {
				t.Errorf("events = %+v, want one refusal", events)
			}
			if got := s.count(t, "refused"); got != 1 {
				t.Errorf("refused = %v, want 1", got)
			}
			s.ledger.Facts, s.Issuing.State = nil, pki.Active
			if _, err := s.issuer.Issue(t.Context(), s.meshRequest(t, "order-1")); err != nil {
				t.Errorf("a good request of the same order: %v", err)
			}
		})
	}
}

func TestIssueRefusalStandsWithoutAudit(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	s.ledger.Facts = func(f *pki.FinalizeFacts) { f.CredentialUsable = false }
	s.ledger.Fail = func(method string) (bool, error) {
		if method == "RecordEvent" {
			return false, testca.ErrStorage
		}
		return false, nil
	}
	_, err := s.issuer.Issue(t.Context(), s.meshRequest(t, "order-1"))
	if !fault.Is(err, fault.Unauthorized) || !errors.Is(err, testca.ErrStorage) || strings.Contains(fault.From(err).Public, "storage") {
		t.Errorf("Issue = %v, want the refusal together with the storage's error", err)
	}
}
