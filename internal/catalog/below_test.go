package catalog_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/pki"
)

// estate is a shelf with CAs.
type estate struct {
	shelf
	cas []pki.CA
}

func (e *estate) CAs(context.Context) ([]pki.CA, error) { return e.cas, nil }

// The certificates are names here: Below only compares them.
func ca(name string, chain ...string) pki.CA {
	made := pki.CA{ID: pki.CAID(name), Name: name, Certificate: []byte(name)}
	for _, above := range chain {
		made.Chain = append(made.Chain, []byte(above))
	}
	return made
}

func TestBelow(t *testing.T) {
	t.Parallel()
	pending := ca("pending")
	pending.Certificate = nil
	suspended := ca("old", "root-a")
	suspended.State = pki.Suspended
	all := []pki.CA{
		ca("root-a"), ca("root-b"), ca("middle", "root-a"), ca("issuing", "middle", "root-a"), ca("other", "root-b"), suspended, pending,
		ca("outside", "company"), ca("deep", "unknown", "root-c"), ca("root-c"),
	}
	for name, test := range map[string]struct {
		roots    []string
		template pki.Template
		want     string
		missing  string
	}{
		"all-of-one-root":      {roots: []string{"root-a"}, want: "issuing middle old root-a"},
		"of-two":               {roots: []string{"root-a", "root-b"}, want: "issuing middle old other root-a root-b"},
		"of-none":              {},
		"refuses/outside-root": {roots: []string{"root-a", "company"}, missing: "not here"},
		"refuses/outside-ca":   {roots: []string{"root-c"}, missing: "not here"},
		"refuses/strange-root": {roots: []string{"nobody"}, missing: "not here"},
		"refuses/mesh-ca":      {roots: []string{"root-a"}, template: pki.MeshIntermediate, missing: `profile "plugged-in" makes CAs`},
		"mesh-ca-elsewhere":    {roots: []string{"root-b"}, template: pki.MeshIntermediate, want: "other root-b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := &estate{cas: all, shelf: shelf{profiles: []pki.Profile{{ID: "1", Name: "plugged-in", IssuingCA: "issuing", Template: test.template}}}}
			c := newCatalog(t, store, time.Now)
			if err := c.Load(t.Context()); err != nil {
				t.Fatal(err)
			}
			var roots [][]byte
			for _, root := range test.roots {
				roots = append(roots, []byte(root))
			}
			found, missing := c.Snapshot().Below(roots)
			var names []string
			for _, ca := range found {
				names = append(names, ca.Name)
			}
			if diff := cmp.Diff(test.want, strings.Join(names, " ")); diff != "" {
				t.Error(diff)
			}
			if (missing == "") != (test.missing == "") || !strings.Contains(missing, test.missing) {
				t.Errorf("missing is %q, want %q", missing, test.missing)
			}
		})
	}
}
