package catalog_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// words returns all strings over an alphabet up to a length.
func words(alphabet string, most int) []string {
	all := []string{""}
	for begin := 0; most > 0; most-- {
		end := len(all)
		for _, word := range all[begin:end] {
			for _, c := range alphabet {
				all = append(all, word+string(c))
			}
		}
		begin = end
	}
	return all
}

// matches is a second implementation of globs, by recursion, to compare with.
func matches(pattern, s string) bool {
	if pattern == "" {
		return s == ""
	}
	if pattern[0] == '*' {
		return matches(pattern[1:], s) || s != "" && matches(pattern, s[1:])
	}
	return s != "" && s[0] == pattern[0] && matches(pattern[1:], s[1:])
}

// TestGlobsCoverExactly compares with what coverage means: every string of one is a string of the other. The strings
// have a character more than the patterns, as names have.
func TestGlobsCoverExactly(t *testing.T) {
	t.Parallel()
	patterns, texts := words("ab*", 3), words("abc", 5)
	for _, wide := range patterns {
		for _, narrow := range patterns {
			want := true
			for _, s := range texts {
				if matches(narrow, s) && !matches(wide, s) {
					want = false
					break
				}
			}
			if got := catalog.CoversGlob(wide, narrow); got != want {
				t.Errorf("%q covers %q: %t, want %t", wide, narrow, got, want)
			}
		}
	}
}

// TestDNSPatternsCoverExactly asks policy which names patterns allow.
func TestDNSPatternsCoverExactly(t *testing.T) {
	t.Parallel()
	patterns := []string{"**", "a", "x", "*.x", "**.x", "a.x", "*.a.x", "**.a.x", "b.a.x", "*.y", "**.ax", "ax", "a.ax", "*.b.a.x"}
	var names []string
	for _, first := range []string{"", "a.", "b.", "c.", "a.b.", "b.a.", "c.b.", "c.b.a.", "ax."} {
		for _, last := range []string{"a", "x", "y", "ax", "a.x"} {
			names = append(names, first+last)
		}
	}
	allows := func(pattern, name string) bool {
		p := &pki.Profile{Name: "p", Method: pki.RESTAPI, Rules: pki.ProfileRules{MaxNames: 1, Names: pki.NameRules{DNS: pki.DNSRules{Allow: []string{pattern}}}}}
		return policy.CheckIdentifiers(p, nil, []pki.Identifier{{Type: pki.DNS, Value: name}}) == nil
	}
	for _, wide := range patterns {
		for _, narrow := range patterns {
			want := true
			for _, name := range names {
				want = want && (!allows(narrow, name) || allows(wide, name))
			}
			if got := catalog.CoversDNS(wide, narrow); got != want {
				t.Errorf("%q covers %q: %t, want %t", wide, narrow, got, want)
			}
		}
	}
}

func TestSPIFFEPatternsCoverEachHalf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{"*/*", "prod/web", true},
		{"*/*", "team-*/*", true},
		{"team-*/*", "team-a/*", true},
		{"team-*/*", "team-a-*/web*", true},
		{"team-*/*", "*/*", false},
		{"team-*/*", "tea*/x", false},
		{"prod/*", "prod-evil/x", false},
		{"prod/web", "prod/*", false},
		{"prod/*", "prod", false},
		{"prod", "prod/x", false},
	} {
		if got := catalog.CoversSPIFFE(c.wide, c.narrow); got != c.want {
			t.Errorf("%q covers %q: %t, want %t", c.wide, c.narrow, got, c.want)
		}
	}
}

func TestRangesCover(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wide, narrow string
		want         bool
	}{
		{"10.0.0.0/8", "10.1.0.0/16", true},
		{"10.0.0.0/8", "10.0.0.0/8", true},
		{"10.0.0.0/8", "0.0.0.0/0", false},
		{"10.0.0.0/8", "11.0.0.0/16", false},
		{"::/0", "10.0.0.0/8", false},
		{"fd00::/8", "fd00:1::/32", true},
	} {
		if got := catalog.CoversPrefix(netip.MustParsePrefix(c.wide), netip.MustParsePrefix(c.narrow)); got != c.want {
			t.Errorf("%s covers %s: %t, want %t", c.wide, c.narrow, got, c.want)
		}
	}
	if catalog.CoversPrefix(netip.Prefix{}, netip.Prefix{}) {
		t.Error("an empty range covers an empty range")
	}
}

// stuttering hands out one kind of byte first and other bytes afterwards.
type stuttering struct {
	first byte
	left  int
}

func (s *stuttering) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
		if s.left > 0 {
			p[i], s.left = s.first, s.left-1
		}
	}
	return len(p), nil
}

func TestKeysDoNotLookLikeFlags(t *testing.T) {
	t.Parallel()
	key, err := catalog.NewKey(&stuttering{first: 0xfb, left: 64}) // 0xfb begins with the hyphen of base64url
	if err != nil || len(key) != catalog.KeyLen || key[0] != 1 {
		t.Errorf("key % x, %v", key, err)
	}
	if _, err := catalog.NewKey(strings.NewReader("short")); err == nil {
		t.Error("a key without randomness")
	}
}
