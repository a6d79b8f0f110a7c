package issue_test

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// TestRefusalsAreRecordedWithinBounds: a client that is refused again and again must not fill the database.
func TestRefusalsAreRecordedWithinBounds(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.meshRequest(t, "order-1")
	request.NotAfter = testca.Now().Add(-time.Second)
	const refusals, most = 1000, 500
	for range refusals {
		if _, err := s.issuer.Issue(t.Context(), request); !fault.Is(err, fault.Malformed) {
			t.Fatalf("Issue = %v, want Malformed", err)
		}
	}
	if recorded := len(s.ledger.Events()); recorded == 0 || recorded > most {
		t.Errorf("%d events of %d refusals at once, want 1 to %d", recorded, refusals, most)
	}
	if counted := s.count(t, "refused"); counted != refusals {
		t.Errorf("counted %v refusals, want all %d", counted, refusals)
	}
}

// TestIssueMovesNotBeforeOfOrders: the date of an order was judged when the order was made; a request without an order
// has not been judged.
func TestIssueMovesNotBeforeOfOrders(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.meshRequest(t, "order-1")
	request.NotBefore = testca.Now().Add(-time.Hour)
	got, err := s.issuer.Issue(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	backdate := time.Duration(request.Profile.Rules.Validity.Backdate)
	if want := testca.Now().Add(-backdate); !got.NotBefore.Equal(want) {
		t.Errorf("NotBefore = %s, want %s", got.NotBefore, want)
	}
	request.Order = ""
	if _, err := s.issuer.Issue(t.Context(), request); !fault.Is(err, fault.Malformed) {
		t.Errorf("Issue without an order = %v, want Malformed", err)
	}
}
