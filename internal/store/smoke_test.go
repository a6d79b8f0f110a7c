package store_test

import (
	"path/filepath"
	"testing"
	"time"
	"fmt"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func TestSmoke(t *testing.T) {
	s, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{Path: filepath.Join(t.TempDir(), "x.db"), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	now := time.Now()
	if err := s.CreateCA(ctx, &pki.CA{ID: "ca", Name: "ca", CreatedAt: now, UpdatedAt: now}, &pki.SealedKey{ID: "k"}, audit.Event{}); err != nil {
		t.Fatal(err)
	}
	if err := s.CreateProfile(ctx, &pki.Profile{ID: "p", Name: "p", IssuingCA: "ca", State: pki.Active}, audit.Event{}); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		c := &pki.Certificate{Serial: pki.Serial(fmt.Sprintf("01%02x", i)), Identity: "spiffe://td/ns/a/sa/b", CAID: "ca", ProfileID: "p", OrderID: pki.OrderID(fmt.Sprint("o", i/2)), NotBefore: now, NotAfter: now.Add(time.Hour), RenewAt: now.Add(time.Hour / 2), IssuedAt: now}
		st, won, err := s.RecordCertificate(ctx, c, pki.SPIFFEID{TrustDomain: "td", Namespace: "a", ServiceAccount: "b"}, audit.Event{Action: audit.CertificateIssue})
		t.Log(st, won, err)
	}
	t.Log(s.Identities(ctx, pki.IdentityFilter{Namespace: "a"}, now))
	t.Log(s.Stats(ctx))
	t.Log(s.FinalizeFacts(ctx, "o1", "", "", "p", "x", [32]byte{}, now))
	t.Log(s.KeyCertified(ctx, [32]byte{}))
	t.Log(s.Events(ctx, pki.EventFilter{}))
	t.Log(s.RevokeCertificate(ctx, "0100", 1, now, audit.Event{}))
	t.Log(s.RevokeCertificate(ctx, "0100", 1, now, audit.Event{}))
	t.Log(s.Revoked(ctx, "ca"))
}
