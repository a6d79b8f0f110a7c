package store_test

import (
	"testing"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// TestIndexIdentities has identities of a version that made no words.
func TestIndexIdentities(t *testing.T) {
	t.Parallel()
	s := storetest.SQLite(t).Open(t)
	store.Narrow(s)
	f := storetest.Seed(t, s)
	for _, account := range []string{"cart", "checkout", "web"} {
		f.Record(t, f.NewCertificate(t, storetest.Workload("shop", account).String(), storetest.Now()))
	}
	store.Run(t, s, `DELETE FROM identity_word`)
	store.Run(t, s, `UPDATE identity SET worded = 0`)
	find := func() int {
		found, err := s.Identities(t.Context(), pki.IdentityFilter{Text: "checkout"}, storetest.Now())
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	if n := find(); n != 0 {
		t.Fatalf("found %d without words", n)
	}
	for _, want := range []int{3, 0} {
		if n, err := s.IndexIdentities(t.Context()); err != nil || n != want {
			t.Fatalf("indexed %d, %v; want %d", n, err, want)
		}
	}
	if n := find(); n != 1 {
		t.Errorf("found %d, want 1", n)
	}
}
