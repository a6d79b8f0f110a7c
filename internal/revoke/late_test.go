package revoke_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/testca"
)

// TestCRLKeepsWhatHasExpired: a revoked certificate is on a CRL that was made after it expired (RFC 5280 section 3.3),
// whatever the lifetime of CRLs, and not for ever.
func TestCRLKeepsWhatHasExpired(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ lifetime, kept, gone time.Duration }{
		"usual":     {24 * time.Hour, 48 * time.Hour, 61 * time.Hour},
		"long":      {30 * 24 * time.Hour, 30 * 24 * time.Hour, 46 * 24 * time.Hour},
		"very long": {60 * 24 * time.Hour, 60 * 24 * time.Hour, 91 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testca.Options{})
			revoker, err := revoke.New(revoke.Config{
				Store: s.ledger, Signers: s.Hierarchy, CA: s.CA, CAs: s.CAs, Now: s.now, Random: rand.Reader, CRLLifetime: tt.lifetime,
			})
			if err != nil {
				t.Fatal(err)
			}
			c := s.certificate(t, 1)
			s.revoke(t, c, pki.Superseded)
			entries := func() int {
				list := s.crl(t, s.Issuing, revoker)
				return len(list.RevokedCertificateEntries)
			}
			s.advance(c.NotAfter.Sub(s.now()))
			for range 4 {
				s.advance(tt.kept / 4)
				if entries() != 1 {
					t.Fatalf("entry is gone %s after the certificate expired", s.now().Sub(c.NotAfter))
				}
			}
			s.advance(tt.gone - tt.kept)
			if entries() != 0 {
				t.Errorf("entry is there %s after the certificate expired", s.now().Sub(c.NotAfter))
			}
		})
	}
}

// meanwhile does something whenever a key is asked for.
type meanwhile struct {
	revoke.Signers
	do func()
}

func (m meanwhile) Signer(ctx context.Context, id pki.KeyID) (crypto.Signer, error) {
	m.do()
	return m.Signers.Signer(ctx, id)
}

// TestOCSPRevokedMeanwhile: an answer that was right when it was begun is not kept for the next client.
func TestOCSPRevokedMeanwhile(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	c := s.certificate(t, 1)
	var revoker *revoke.Revoker
	once := func() {}
	revoker, err := revoke.New(revoke.Config{
		Store: s.ledger, Signers: meanwhile{s.Hierarchy, func() { once() }}, CA: s.CA, CAs: s.CAs, Now: s.now, Random: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	once = func() {
		once = func() {}
		if err := revoker.Revoke(t.Context(), revoke.Request{Serial: c.Serial, Reason: pki.Superseded}); err != nil {
			t.Error(err)
		}
	}
	request := s.ask(t, c.DER, crypto.SHA1)
	s.answer(t, revoker, request)
	if after, _ := s.answer(t, revoker, request); after.Status != ocsp.Revoked {
		t.Error("this process answers \"good\" after it has revoked")
	}
}
