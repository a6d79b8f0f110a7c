package issue_test

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// forgetful is storage that keeps nothing.
type forgetful struct{}

func (forgetful) FinalizeFacts(
	context.Context, pki.OrderID, pki.AccountID, pki.CredentialID, pki.ProfileID, string, [32]byte, time.Time,
) (*pki.FinalizeFacts, error) {
	return &pki.FinalizeFacts{AccountState: pki.StatusValid, CredentialUsable: true, ProfileActive: true}, nil
}

func (forgetful) RecordCertificate(_ context.Context, c *pki.Certificate, _ pki.SPIFFEID, _ audit.Event) (*pki.Certificate, bool, error) {
	return c, true, nil
}

func (forgetful) RecordEvent(context.Context, audit.Event) error { return nil }

func BenchmarkIssue(b *testing.B) {
	s := newStage(b, testca.Options{})
	s.registry = prometheus.NewRegistry()
	issuer, err := issue.New(issue.Config{
		Store: forgetful{}, Signers: s.Hierarchy, CA: s.CA, Denied: testca.NothingDenied, Now: testca.Now, Random: rand.Reader, Registerer: s.registry,
	})
	if err != nil {
		b.Fatal(err)
	}
	request := s.meshRequest(b, "order-1")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := issuer.Issue(b.Context(), request); err != nil {
			b.Fatal(err)
		}
	}
}
