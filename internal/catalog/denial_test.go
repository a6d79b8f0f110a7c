package catalog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// denyList is a store with nothing but a deny list.
type denyList struct {
	shelf
	denied []pki.Denial
}

func (l *denyList) Denials(context.Context) ([]pki.Denial, error) { return l.denied, nil }

func (l *denyList) CreateDenial(_ context.Context, d *pki.Denial, _ audit.Event) error {
	l.denied = append(l.denied, *d)
	return nil
}

func TestDenied(t *testing.T) {
	t.Parallel()
	now := testca.Now()
	list := &denyList{denied: []pki.Denial{
		{Identity: "spiffe://cluster.local/ns/a/sa/b"},
		{Identity: "spiffe://cluster.local/ns/sandbox/*"},
		{Identity: "spiffe://cluster.local/ns/sandbox/sa/ended", Until: now},
		{Identity: "spiffe://cluster.local/ns/gone/*", Until: now},
		{Identity: "db.example.com"},
		{Identity: "*.wild.example.com"},
		{Identity: "10.0.0.1", Until: now.Add(time.Second)},
		{Namespace: "a", Pod: "one"},
		{Namespace: "a", Pod: "two", Cluster: "east"},
	}}
	c := newCatalog(t, list, func() time.Time { return now })
	if err := c.Denied(&pki.Names{}, &pki.Workload{}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("before the list is known: %v", err)
	}
	if err := c.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		names  pki.Names
		pod    pki.Workload
		denied bool
	}{
		"refuses/identity":       {pki.Names{URIs: []string{"spiffe://cluster.local/ns/a/sa/b"}}, pki.Workload{}, true},
		"refuses/prefix":         {pki.Names{URIs: []string{"spiffe://cluster.local/ns/sandbox/sa/x"}}, pki.Workload{}, true},
		"refuses/prefix-remains": {pki.Names{URIs: []string{"spiffe://cluster.local/ns/sandbox/sa/ended"}}, pki.Workload{}, true},
		"refuses/second-name":    {pki.Names{DNS: []string{"a.example.com", "db.example.com"}}, pki.Workload{}, true},
		"refuses/wildcard":       {pki.Names{DNS: []string{"*.wild.example.com"}}, pki.Workload{}, true},
		"refuses/address":        {pki.Names{IPs: []string{"10.0.0.1"}}, pki.Workload{}, true},
		"refuses/pod":            {pki.Names{}, pki.Workload{Cluster: "west", Namespace: "a", Pod: "one"}, true},
		"refuses/pod-of-cluster": {pki.Names{}, pki.Workload{Cluster: "east", Namespace: "a", Pod: "two"}, true},
		"accepts/other-cluster":  {pki.Names{}, pki.Workload{Cluster: "west", Namespace: "a", Pod: "two"}, false},
		"accepts/other-pod":      {pki.Names{}, pki.Workload{Namespace: "b", Pod: "one"}, false},
		"accepts/longer":         {pki.Names{URIs: []string{"spiffe://cluster.local/ns/a/sa/bc"}}, pki.Workload{}, false},
		"accepts/shorter":        {pki.Names{URIs: []string{"spiffe://cluster.local/ns/a/sa/"}}, pki.Workload{}, false},
		"accepts/ended":          {pki.Names{URIs: []string{"spiffe://cluster.local/ns/gone/sa/x"}}, pki.Workload{}, false},
		"accepts/below-wildcard": {pki.Names{DNS: []string{"x.wild.example.com"}}, pki.Workload{}, false},
	} {
		err := c.Denied(&test.names, &test.pod)
		if (err == nil) == test.denied || err != nil && !fault.Is(err, fault.Unauthorized) {
			t.Errorf("%s: %v", name, err)
		}
	}
	now = now.Add(time.Hour)
	if err := c.Denied(&pki.Names{}, &pki.Workload{}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("with an old list: %v", err)
	}
}

func TestDenyRefuses(t *testing.T) {
	t.Parallel()
	list := &denyList{}
	c := newCatalog(t, list, testca.Now)
	for name, test := range map[string]struct {
		denial catalog.NewDenial
		field  string
	}{
		"refuses/nothing":       {catalog.NewDenial{}, "/identity"},
		"refuses/both":          {catalog.NewDenial{Identity: "a.example.com", Namespace: "a", Pod: "b"}, "/identity"},
		"refuses/everything":    {catalog.NewDenial{Identity: "*"}, "/identity"},
		"refuses/every-spiffe":  {catalog.NewDenial{Identity: "spiffe://*"}, "/identity"},
		"refuses/star-inside":   {catalog.NewDenial{Identity: "spiffe://cluster.local/ns/*/sa/b"}, "/identity"},
		"refuses/space":         {catalog.NewDenial{Identity: "a b"}, "/identity"},
		"refuses/long":          {catalog.NewDenial{Identity: strings.Repeat("a", 3000)}, "/identity"},
		"refuses/pod":           {catalog.NewDenial{Namespace: "a", Pod: "B_C"}, "/pod"},
		"refuses/no-namespace":  {catalog.NewDenial{Pod: "b"}, "/namespace"},
		"refuses/cluster":       {catalog.NewDenial{Cluster: "a b", Namespace: "a", Pod: "b"}, "/cluster"},
		"refuses/note":          {catalog.NewDenial{Identity: "a.example.com", Note: "a\nb"}, "/note"},
		"refuses/past":          {catalog.NewDenial{Identity: "a.example.com", Until: testca.Now()}, "/until"},
		"refuses/unknown-allow": {catalog.NewDenial{Identity: "a.example.com"}, ""},
	} {
		_, err := c.Deny(t.Context(), test.denial, audit.By{})
		if test.field == "" {
			err = c.Allow(t.Context(), "nope", audit.By{})
		}
		if err == nil || !strings.Contains(fmt.Sprint(fault.From(err).Field), test.field) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 10_000 - len(list.denied) {
		list.denied = append(list.denied, pki.Denial{Identity: "a.example.com"})
	}
	if _, err := c.Deny(t.Context(), catalog.NewDenial{Identity: "b.example.com"}, audit.By{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("with a full list: %v", err)
	}
}

// What an issuance is asked does not depend on how long the list is.
func BenchmarkDenied(b *testing.B) {
	list := &denyList{}
	for i := range 10_000 {
		d := pki.Denial{Identity: fmt.Sprintf("spiffe://cluster.local/ns/ns-%d/sa/x", i)}
		if i%10 == 0 {
			d.Identity = fmt.Sprintf("spiffe://cluster.local/ns/team-%d/*", i)
		}
		list.denied = append(list.denied, d)
	}
	c, err := catalog.New(catalog.Config{Store: list, Vault: plain{}, Now: testca.Now, Random: strings.NewReader("")})
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Load(b.Context()); err != nil {
		b.Fatal(err)
	}
	names, w := &pki.Names{URIs: []string{"spiffe://cluster.local/ns/payments/sa/api"}}, &pki.Workload{Cluster: "east", Namespace: "payments", Pod: "api-1"}
	for b.Loop() {
		if err := c.Denied(names, w); err != nil {
			b.Fatal(err)
		}
	}
}
