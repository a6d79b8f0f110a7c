package pki_test

import (
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/pki"
)

func TestNormalizeIdentifier(t *testing.T) {
	t.Parallel()
	label63 := strings.Repeat("a", 63)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("a", 61)
	tests := []struct {
		kind        pki.IdentifierType
		value, want string
	}{
		{pki.DNS, "a.example", "a.example"},
		{pki.DNS, "A.Example", "a.example"},
		{pki.DNS, "*.A.example", "*.a.example"},
		{pki.DNS, "localhost", "localhost"},
		{pki.DNS, "xn--bcher-kva.example", "xn--bcher-kva.example"},
		{pki.DNS, "XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{pki.DNS, "1a.2b", "1a.2b"},
		{pki.DNS, "1.2.3.example", "1.2.3.example"},
		{pki.DNS, "a-b--c.example", "a-b--c.example"},
		{pki.DNS, label63 + ".example", label63 + ".example"},
		{pki.DNS, name253, name253},
		{pki.IP, "192.0.2.1", "192.0.2.1"},
		{pki.IP, "2001:db8::1", "2001:db8::1"},
		{pki.IP, "::1", "::1"},
		{pki.IP, "::", "::"},
	}
	for _, test := range tests {
		got, err := pki.NormalizeIdentifier(pki.Identifier{Type: test.kind, Value: test.value})
		if want := (pki.Identifier{Type: test.kind, Value: test.want}); err != nil || got != want {
			t.Errorf("%s %q: %v, %v; want %v", test.kind, test.value, got, err, want)
			continue
		}
		if again, err := pki.NormalizeIdentifier(got); err != nil || again != got {
			t.Errorf("%v is not its own canonical form: %v, %v", got, again, err)
		}
	}
}

func TestNormalizeIdentifierRefuses(t *testing.T) {
	t.Parallel()
	label63 := strings.Repeat("a", 63)
	name252 := strings.Repeat(label63+".", 3) + strings.Repeat("a", 60)
	tests := map[string]struct {
		kind        pki.IdentifierType
		value, says string
	}{
		"dns/empty":            {pki.DNS, "", "empty"},
		"dns/trailing-dot":     {pki.DNS, "a.example.", "empty label"},
		"dns/leading-dot":      {pki.DNS, ".example", "empty label"},
		"dns/double-dot":       {pki.DNS, "a..example", "empty label"},
		"dns/dot":              {pki.DNS, ".", "empty label"},
		"dns/wildcard-alone":   {pki.DNS, "*", `character '*'`},
		"dns/wildcard-nothing": {pki.DNS, "*.", "empty"},
		"dns/wildcard-inner":   {pki.DNS, "a.*.example", `character '*'`},
		"dns/wildcard-twice":   {pki.DNS, "*.*.example", `character '*'`},
		"dns/wildcard-part":    {pki.DNS, "a*.example", `character '*'`},
		"dns/wildcard-address": {pki.DNS, "*.192.0.2.1", "IP address"},
		"dns/wildcard-long":    {pki.DNS, "*." + name252, "254 octets"},
		"dns/long":             {pki.DNS, name252 + "aa", "254 octets"},
		"dns/label-64":         {pki.DNS, label63 + "a.example", "64 octets"},
		"dns/hyphen-first":     {pki.DNS, "-a.example", "hyphen"},
		"dns/hyphen-last":      {pki.DNS, "a-.example", "hyphen"},
		"dns/reserved":         {pki.DNS, "ab--c.example", "places 3 and 4"},
		"dns/underscore":       {pki.DNS, "a_b.example", "character '_'"},
		"dns/space":            {pki.DNS, "a b.example", "character ' '"},
		"dns/nul":              {pki.DNS, "a.example\x00.evil", `character '\x00'`},
		"dns/newline":          {pki.DNS, "a.example\n", `character '\n'`},
		"dns/slash":            {pki.DNS, "a/b.example", "character '/'"},
		"dns/port":             {pki.DNS, "a.example:443", "character ':'"},
		"dns/utf8":             {pki.DNS, "bücher.example", "character"},
		"dns/kelvin-sign":      {pki.DNS, "\u212a.example", "character"},
		"dns/full-width-dot":   {pki.DNS, "a\uff0eexample", "character"},
		"dns/bad-utf8":         {pki.DNS, "a\xff.example", "character"},
		"dns/ipv4":             {pki.DNS, "192.0.2.1", "IP address"},
		"dns/ipv6":             {pki.DNS, "2001:db8::1", "IP address"},
		"dns/ipv4-short":       {pki.DNS, "127.1", "last label is a number"},
		"dns/ipv4-decimal":     {pki.DNS, "2130706433", "last label is a number"},
		"dns/ipv4-octal":       {pki.DNS, "0177.0.0.01", "last label is a number"},
		"ip/empty":             {pki.IP, "", "not an IP address"},
		"ip/name":              {pki.IP, "a.example", "not an IP address"},
		"ip/zone":              {pki.IP, "fe80::1%eth0", "zone"},
		"ip/mapped":            {pki.IP, "::ffff:192.0.2.1", "mapped"},
		"ip/upper-case":        {pki.IP, "2001:DB8::1", "2001:db8::1"},
		"ip/not-compressed":    {pki.IP, "2001:db8:0:0:0:0:0:1", "2001:db8::1"},
		"ip/leading-zero":      {pki.IP, "192.0.2.01", "not an IP address"},
		"ip/brackets":          {pki.IP, "[::1]", "not an IP address"},
		"ip/prefix":            {pki.IP, "192.0.2.0/24", "not an IP address"},
		"ip/port":              {pki.IP, "192.0.2.1:80", "not an IP address"},
		"ip/space":             {pki.IP, " 192.0.2.1", "not an IP address"},
		"ip/nul":               {pki.IP, "192.0.2.1\x00", "not an IP address"},
		"ip/short":             {pki.IP, "127.1", "not an IP address"},
		"type/empty":           {"", "a.example", "not one of dns, ip"},
		"type/upper-case":      {"DNS", "a.example", "not one of dns, ip"},
		"type/email":           {"email", "a@example", `"email"`},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			got, err := pki.NormalizeIdentifier(pki.Identifier{Type: test.kind, Value: test.value})
			if err == nil {
				t.Fatalf("accepted as %v", got)
			}
			checkSentence(t, err, test.says)
		})
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "istio", "mesh-1", "1", strings.Repeat("a", 63), "a--b"} {
		if err := pki.CheckName(name); err != nil {
			t.Error(err)
		}
	}
	for name, says := range map[string]string{
		"": "0 characters", strings.Repeat("a", 64): "64 characters", "-a": "hyphen", "a-": "hyphen", "-": "hyphen", "A": "character 'A'",
		"a_b": "character '_'", "a.b": "character '.'", "a/b": "character '/'", "..": "character '.'", "a b": "character ' '",
		"ä": "character", "a\n": `'\n'`, "a\x00": `'\x00'`,
	} {
		err := pki.CheckName(name)
		if err == nil {
			t.Errorf("accepted %q", name)
			continue
		}
		checkSentence(t, err, says)
	}
}

// checkSentence holds an error to what a client and a log may see: one printable line of bounded length.
func checkSentence(t *testing.T, err error, says string) {
	t.Helper()
	text := err.Error()
	if !strings.Contains(text, says) {
		t.Errorf("sentence %q does not contain %q", text, says)
	}
	if len(text) > 1100 || strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c == 0x7f || c == 0xfffd }) {
		t.Errorf("sentence %q is too long or has control characters", text)
	}
}
