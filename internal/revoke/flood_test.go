package revoke_test

import (
	"testing"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/testca"
)

// TestRefusalsAreRecordedWithinBounds: whoever has the key of a revoked certificate may ask again and again, without an
// account, and must not fill the database by it.
func TestRefusalsAreRecordedWithinBounds(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := revoke.Request{Serial: s.certificate(t, 1).Serial, Reason: pki.Superseded}
	if err := s.revoker.Revoke(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	before := len(s.ledger.Events())
	const refusals, most = 1000, 500
	for range refusals {
		if err := s.revoker.Revoke(t.Context(), request); !fault.Is(err, fault.AlreadyRevoked) {
			t.Fatalf("Revoke = %v, want AlreadyRevoked", err)
		}
	}
	if recorded := len(s.ledger.Events()) - before; recorded == 0 || recorded > most {
		t.Errorf("%d events of %d refusals at once, want 1 to %d", recorded, refusals, most)
	}
}
