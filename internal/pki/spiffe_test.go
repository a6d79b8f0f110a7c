package pki_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/pki"
)

func TestParseSPIFFEID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 255)
	tests := map[string]pki.SPIFFEID{
		"spiffe://cluster.local/ns/demo/sa/web":        {TrustDomain: "cluster.local", Namespace: "demo", ServiceAccount: "web"},
		"spiffe://td/ns/A/sa/B.c_d-e":                  {TrustDomain: "td", Namespace: "A", ServiceAccount: "B.c_d-e"},
		"spiffe://a_b-c.1/ns/0/sa/...":                 {TrustDomain: "a_b-c.1", Namespace: "0", ServiceAccount: "..."},
		"spiffe://" + long + "/ns/ns/sa/sa":            {TrustDomain: long, Namespace: "ns", ServiceAccount: "sa"},
		"spiffe://td/ns/n/sa/" + long + long + long:    {TrustDomain: "td", Namespace: "n", ServiceAccount: long + long + long},
		"spiffe://td/ns/n/sa/" + longest(2048-20, "a"): {TrustDomain: "td", Namespace: "n", ServiceAccount: longest(2048-20, "a")},
	}
	for uri, want := range tests {
		got, err := pki.ParseSPIFFEID(uri)
		if err != nil || got != want {
			t.Errorf("%.80s: %v, %v", uri, got, err)
		}
		if got.String() != uri {
			t.Errorf("written as %.80s, want %.80s", got, uri)
		}
	}
	if got := (pki.SPIFFEID{}).String(); got != "" {
		t.Errorf("zero value is written as %q", got)
	}
}

func longest(n int, s string) string { return strings.Repeat(s, n) }

// The rows PRE-6 and PRE-7 of the conformance table.
func TestParseSPIFFEIDRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ uri, says string }{
		"empty":                 {"", "begin"},
		"other-scheme":          {"https://td/ns/a/sa/b", `"spiffe://"`},
		"no-scheme":             {"td/ns/a/sa/b", `"spiffe://"`},
		"upper-case-scheme":     {"SPIFFE://td/ns/a/sa/b", `"spiffe://"`},
		"mixed-case-scheme":     {"Spiffe://td/ns/a/sa/b", `"spiffe://"`},
		"one-slash":             {"spiffe:/td/ns/a/sa/b", `"spiffe://"`},
		"space-before":          {" spiffe://td/ns/a/sa/b", `"spiffe://"`},
		"upper-case-domain":     {"spiffe://TD/ns/a/sa/b", "character 'T'"},
		"no-domain":             {"spiffe:///ns/a/sa/b", "0 octets"},
		"long-domain":           {"spiffe://" + longest(256, "a") + "/ns/a/sa/b", "256 octets"},
		"port":                  {"spiffe://td:8443/ns/a/sa/b", "character ':'"},
		"empty-port":            {"spiffe://td:/ns/a/sa/b", "character ':'"},
		"user":                  {"spiffe://user@td/ns/a/sa/b", "character '@'"},
		"user-and-password":     {"spiffe://u:p@td/ns/a/sa/b", "character ':'"},
		"percent-in-domain":     {"spiffe://t%64/ns/a/sa/b", "character '%'"},
		"domain-non-ascii":      {"spiffe://tä/ns/a/sa/b", "character"},
		"domain-nul":            {"spiffe://td\x00/ns/a/sa/b", `'\x00'`},
		"domain-brackets":       {"spiffe://[::1]/ns/a/sa/b", "character '['"},
		"domain-backslash":      {`spiffe://td\evil/ns/a/sa/b`, "character"},
		"query":                 {"spiffe://td/ns/a/sa/b?x=y", "character '?'"},
		"empty-query":           {"spiffe://td/ns/a/sa/b?", "character '?'"},
		"query-of-domain":       {"spiffe://td?/ns/a/sa/b", "character '?'"},
		"fragment":              {"spiffe://td/ns/a/sa/b#x", "character '#'"},
		"percent":               {"spiffe://td/ns/a/sa/%62", "character '%'"},
		"percent-slash":         {"spiffe://td/ns/a/sa/b%2fc", "character '%'"},
		"percent-dots":          {"spiffe://td/ns/a/sa/%2e%2e", "character '%'"},
		"dot-dot":               {"spiffe://td/ns/a/sa/b/../..", `segment ".."`},
		"dot-dot-trailing":      {"spiffe://td/ns/a/sa/b/../../", `segment ".."`},
		"dot-dot-account":       {"spiffe://td/ns/a/sa/..", `segment ".."`},
		"dot-dot-namespace":     {"spiffe://td/ns/../sa/b", `segment ".."`},
		"dot":                   {"spiffe://td/ns/./sa/b", `segment "."`},
		"empty-segment":         {"spiffe://td/ns//sa/b", "empty segment"},
		"empty-first-segment":   {"spiffe://td//ns/a/sa/b", "empty segment"},
		"trailing-slash":        {"spiffe://td/ns/a/sa/b/", "empty segment"},
		"no-path":               {"spiffe://td", "empty segment"},
		"root-path":             {"spiffe://td/", "empty segment"},
		"no-account":            {"spiffe://td/ns/a", "/ns/NAMESPACE/sa/SERVICE_ACCOUNT"},
		"more-segments":         {"spiffe://td/ns/a/sa/b/c", "/ns/NAMESPACE/sa/SERVICE_ACCOUNT"},
		"other-words":           {"spiffe://td/namespace/a/sa/b", "/ns/NAMESPACE/sa/SERVICE_ACCOUNT"},
		"upper-case-word":       {"spiffe://td/NS/a/sa/b", "/ns/NAMESPACE/sa/SERVICE_ACCOUNT"},
		"upper-case-other-word": {"spiffe://td/ns/a/SA/b", "/ns/NAMESPACE/sa/SERVICE_ACCOUNT"},
		"swapped":               {"spiffe://td/sa/a/ns/b", "/ns/NAMESPACE/sa/SERVICE_ACCOUNT"},
		"non-ascii":             {"spiffe://td/ns/a/sa/bü", "character"},
		"nul":                   {"spiffe://td/ns/a/sa/b\x00", `'\x00'`},
		"newline":               {"spiffe://td/ns/a/sa/b\n", `'\n'`},
		"space":                 {"spiffe://td/ns/a/sa/b c", "character ' '"},
		"star":                  {"spiffe://td/ns/*/sa/b", "character '*'"},
		"plus":                  {"spiffe://td/ns/a/sa/b+c", "character '+'"},
		"2049-bytes":            {"spiffe://td/ns/n/sa/" + longest(2049-20, "a"), "2049 bytes, more than 2048"},
		"1-mb":                  {"spiffe://td/ns/n/sa/" + longest(1<<20, "\x01"), "more than 2048"},
		"escape-sequence":       {"spiffe://td/ns/a/sa/\x1b[31m", "character"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			got, err := pki.ParseSPIFFEID(test.uri)
			if err == nil {
				t.Fatalf("accepted as %v", got)
			}
			if got != (pki.SPIFFEID{}) {
				t.Errorf("returned %v with an error", got)
			}
			checkSentence(t, err, test.says)
		})
	}
}

// FuzzParseSPIFFEID holds the parser to its promises: what it accepts is written back byte for byte, any URI parser
// reads it alike, and errors are sentences.
func FuzzParseSPIFFEID(f *testing.F) {
	for _, uri := range []string{
		"spiffe://cluster.local/ns/demo/sa/web", "spiffe://td/ns/a/sa/b/../../", "spiffe://td:1/ns/a/sa/b", "spiffe://u@td/ns/a/sa/b",
		"spiffe://td/ns/%61/sa/b", "SPIFFE://td/ns/a/sa/b", "spiffe://td//ns/a/sa/b", "spiffe://td/ns/a/sa/b?c#d", "spiffe://", "\x00",
		"spiffe://td/ns/\xff/sa/\u212a",
	} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		id, err := pki.ParseSPIFFEID(uri)
		if err != nil {
			checkSentence(t, err, "SPIFFE ID")
			return
		}
		if id.String() != uri {
			t.Errorf("%q is written as %q", uri, id)
		}
		parsed, err := url.Parse(uri)
		if err != nil {
			t.Fatalf("accepted %q, which is no URL: %v", uri, err)
		}
		want := url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount}
		if *parsed != want || parsed.JoinPath().String() != uri {
			t.Errorf("%q is read as %+v", uri, *parsed)
		}
	})
}
