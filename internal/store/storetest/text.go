package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// testText types what people type.
func testText(t *testing.T, s *store.Store) {
	e := newEstate(t, s)
	known := e.all[7]
	named := func(parts ...string) func(c *pki.Certificate) bool {
		return func(c *pki.Certificate) bool {
			return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(c.Identity, part) })
		}
	}
	nothing := func(*pki.Certificate) bool { return false }
	this := func(c *pki.Certificate) bool { return c.Serial == known.Serial }
	for typed, keep := range map[string]func(c *pki.Certificate) bool{
		"   ":                         func(*pki.Certificate) bool { return true },
		"demo":                        named("demo"),
		"DEMO":                        named("demo"),
		"two":                         named("demo-two"),
		"demo/sa/w1":                  named("demo/sa/w1"),
		"ns/prod":                     named("ns/prod"),
		"spiffe://cluster.local/ns/p": named("cluster.local/ns/p"),
		"cluster.local":               named("cluster.local"),
		"example.com":                 named("example.com"),
		"host1.ex":                    named("host1.ex"),
		"w1 prod":                     named("w1", "prod"),
		"prod nothing":                nothing,
		"w1-3":                        func(c *pki.Certificate) bool { return c.Workload.Pod == "w1-3" },
		"east":                        func(c *pki.Certificate) bool { return c.Workload.Cluster == "east" },
		string(known.Serial):          this,
		strings.ToUpper(string(known.Serial[:30])): this,
		fmt.Sprintf("% X", known.Serial.Bytes()):   this,
		fmt.Sprintf("%x", known.Fingerprint):       this,
		colons(known.Fingerprint[:]):               this,
		"%":                                        nothing,
		"_____":                                    nothing,
		"' OR 1=1 --":                              nothing,
		"<script>alert(1)</script>":                nothing,
		"demo\x00":                                 nothing,
		"\xff\xfe":                                 nothing,
		"名前":                                       nothing,
		strings.Repeat("demo ", 2000):              named("demo"),
		strings.Repeat("x", 10_000):                nothing,
	} {
		all, err := s.Certificates(t.Context(), pki.CertificateFilter{Text: typed, Limit: 1000}, Now())
		check(t, err)
		equal(t, fmt.Sprintf("%.60q", typed), e.matching(keep), serials(all))
		paged := []pki.Certificate{}
		for filter := (pki.CertificateFilter{Text: typed, Limit: 3}); ; {
			page, err := s.Certificates(t.Context(), filter, Now())
			check(t, err)
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			filter.Before = page[len(page)-1].Serial
		}
		equal(t, fmt.Sprintf("%.60q in pages", typed), serials(all), serials(paged))
	}
	seen, err := s.Certificates(t.Context(), pki.CertificateFilter{Text: "w1", Sees: []string{"spiffe://cluster.local/ns/prod/*"}, Limit: 1000}, Now())
	check(t, err)
	equal(t, "seen", e.matching(func(c *pki.Certificate) bool { return named("ns/prod/sa/w1")(c) }), serials(seen))
}

func colons(raw []byte) string {
	return strings.ReplaceAll(fmt.Sprintf("% x", raw), " ", ":")
}

// testIdentityText finds identities by what people type.
func testIdentityText(t *testing.T, s *store.Store) {
	e := newEstate(t, s)
	everything, err := s.Identities(t.Context(), pki.IdentityFilter{Limit: 1000}, Now())
	check(t, err)
	named := func(part string) func(i pki.Identity) bool {
		return func(i pki.Identity) bool { return strings.Contains(i.Name, part) }
	}
	nothing := func(pki.Identity) bool { return false }
	for name, tt := range map[string]struct {
		filter pki.IdentityFilter
		keep   func(i pki.Identity) bool
	}{
		"namespace":   {pki.IdentityFilter{Text: "demo"}, named("demo")},
		"its part":    {pki.IdentityFilter{Text: "two"}, named("demo-two")},
		"upper case":  {pki.IdentityFilter{Text: " PROD "}, named("prod")},
		"account":     {pki.IdentityFilter{Text: "w2"}, named("sa/w2")},
		"DNS":         {pki.IdentityFilter{Text: "example.com"}, named("example.com")},
		"SPIFFE ID":   {pki.IdentityFilter{Text: "spiffe://other.org/ns/demo"}, named("other.org/ns/demo")},
		"two terms":   {pki.IdentityFilter{Text: "w1 two"}, named("demo-two/sa/w1")},
		"cluster":     {pki.IdentityFilter{Text: "west"}, func(i pki.Identity) bool { return i.Cluster == "west" }},
		"in cluster":  {pki.IdentityFilter{Cluster: "west"}, func(i pki.Identity) bool { return i.Cluster == "west" }},
		"seen":        {pki.IdentityFilter{Text: "demo", Sees: []string{"spiffe://other.org/*"}}, named("other.org")},
		"nothing":     {pki.IdentityFilter{Text: "zzz"}, nothing},
		"percent":     {pki.IdentityFilter{Text: "%"}, nothing},
		"SQL":         {pki.IdentityFilter{Text: "'; DROP TABLE identity; --"}, nothing},
		"NUL":         {pki.IdentityFilter{Text: "demo\x00"}, nothing},
		"status":      {pki.IdentityFilter{Text: "demo", Status: pki.IdentityOK}, func(i pki.Identity) bool { return named("demo")(i) && i.Status(Now()) == pki.IdentityOK }},
		"serial":      {pki.IdentityFilter{Text: string(e.all[7].Serial)}, func(i pki.Identity) bool { return i.Name == e.all[7].Identity }},
		"fingerprint": {pki.IdentityFilter{Text: colons(e.all[7].Fingerprint[:])}, func(i pki.Identity) bool { return i.Name == e.all[7].Identity }},
	} {
		want := names(slices.DeleteFunc(slices.Clone(everything), func(i pki.Identity) bool { return !tt.keep(i) }))
		for _, limit := range []int{1, 2, 1000} {
			paged := []pki.Identity{}
			for filter := tt.filter; ; {
				filter.Limit = limit
				page, err := s.Identities(t.Context(), filter, Now())
				check(t, err)
				if paged = append(paged, page...); len(page) == 0 || len(paged) > len(everything) {
					break
				}
				filter.After = page[len(page)-1].Cursor
			}
			got := names(paged)
			slices.Sort(got)
			equal(t, fmt.Sprintf("%s, %d at a time", name, limit), want, got)
		}
	}
	for _, forged := range []string{"~", "~1~", "~x~1~a", "~0~x~a"} {
		_, err := s.Identities(t.Context(), pki.IdentityFilter{Text: "demo", After: forged, Limit: 5}, Now())
		refused(t, err, fault.Malformed)
	}
	n, err := s.IndexIdentities(t.Context())
	check(t, err)
	equal(t, "identities without words", 0, n)
}

func names(all []pki.Identity) []string {
	list := []string{}
	for _, i := range all {
		list = append(list, i.Name)
	}
	return list
}
