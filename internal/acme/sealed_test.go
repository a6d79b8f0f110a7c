package acme_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/pki"
)

func newID[T ~string](t testing.TB) T {
	t.Helper()
	id, err := pki.NewID[T](time.Unix(1_800_000_000, 0), strings.NewReader("0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func sampleOrders(t testing.TB) map[string]*pki.Order {
	t.Helper()
	created := time.Unix(1_800_000_000, 0).UTC()
	plain := pki.Order{
		ID: newID[pki.OrderID](t), AccountID: newID[pki.AccountID](t), CredentialID: newID[pki.CredentialID](t),
		ProfileID: newID[pki.ProfileID](t), CreatedAt: created, Expires: created.Add(time.Hour), Sealed: true,
	}
	full := plain
	full.NotBefore, full.NotAfter = created.Add(time.Minute), created.Add(time.Hour)
	full.Replaces = "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"
	full.Identifiers = []pki.Identifier{{Type: pki.DNS, Value: "*.a.example"}, {Type: pki.IP, Value: "2001:db8::1"}}
	full.Challenges = []string{"http-01", "tls-alpn-01"}
	odd := plain
	odd.CredentialID, odd.ProfileID = "", pki.ProfileID(strings.Repeat("v", 36)) // as long as an identifier, and none
	return map[string]*pki.Order{"spiffe": &plain, "names": &full, "odd identifiers": &odd}
}

func TestSealedOrder(t *testing.T) {
	t.Parallel()
	for name, want := range sampleOrders(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encoded := acme.EncodeOrder(want)
			got, err := acme.DecodeOrder(encoded)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			for length := range encoded {
				if _, err := acme.DecodeOrder(encoded[:length]); err == nil {
					t.Errorf("%d of %d bytes were read as an order", length, len(encoded))
				}
			}
			if _, err := acme.DecodeOrder(append(encoded, 0)); err == nil {
				t.Error("a byte too many was read as an order")
			}
		})
	}
}

func FuzzOrderToken(f *testing.F) {
	for _, o := range sampleOrders(f) {
		f.Add(acme.EncodeOrder(o))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		o, err := acme.DecodeOrder(plain)
		if err != nil {
			return
		}
		again, err := acme.DecodeOrder(acme.EncodeOrder(o))
		if err != nil {
			t.Fatalf("%x was read as %+v, which cannot be written: %v", plain, o, err)
		}
		if diff := cmp.Diff(o, again); diff != "" {
			t.Errorf("order changes when it is written (-first +second):\n%s", diff)
		}
	})
}
