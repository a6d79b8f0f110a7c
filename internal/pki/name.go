package pki

import (
	"fmt"
	"net/netip"
	"strings"
)

// IdentifierType is the type of an ACME identifier (RFC 8555 section 9.7.7, RFC 8738).
type IdentifierType string

// The identifier types that we serve.
const (
	DNS IdentifierType = "dns"
	IP  IdentifierType = "ip"
)

// Identifier is one name of an ACME order. Values made by NormalizeIdentifier are in canonical form: lower-case
// DNS names, RFC 5952 addresses.
type Identifier struct {
	Type  IdentifierType `json:"type"`
	Value string         `json:"value"`
}

// String returns "dns:name" or "ip:address".
func (i Identifier) String() string { return string(i.Type) + ":" + i.Value }

// NormalizeIdentifier checks an identifier of an order and returns its canonical form. A wildcard (left-most label
// "*") is allowed for DNS. The error is one sentence that names the value and the rule; the caller decides whether
// an unknown type is "unsupported" by looking at id.Type first.
func NormalizeIdentifier(id Identifier) (Identifier, error) {
	switch id.Type {
	case DNS:
		value := lowerASCII(id.Value)
		if err := CheckDNSName(strings.TrimPrefix(value, "*.")); err != nil {
			return Identifier{}, err
		}
		if len(value) > maxDNSName {
			return Identifier{}, fmt.Errorf("dns name %.60q... has %d octets, more than %d", value, len(value), maxDNSName)
		}
		return Identifier{Type: DNS, Value: value}, nil
	case IP:
		addr, err := ParseIP(id.Value)
		if err != nil {
			return Identifier{}, err
		}
		return Identifier{Type: IP, Value: addr.String()}, nil
	default:
		return Identifier{}, fmt.Errorf("identifier type %.40q is not one of dns, ip", id.Type)
	}
}

// lowerASCII changes A-Z only. Unicode's rules would make ASCII of other letters (the Kelvin sign of "k"), so that
// a name that is not ASCII would pass as one that is.
func lowerASCII(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

// ParseIP reads the textual form of RFC 8738 section 3: no zone, no brackets, no prefix length, no leading zeros,
// no IPv4-mapped IPv6, and IPv6 only in the form of RFC 5952.
func ParseIP(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("ip identifier %.60q is not an IP address", s)
	case addr.Zone() != "":
		return netip.Addr{}, fmt.Errorf("ip identifier %.60q has a zone", s)
	case addr.Is4In6():
		return netip.Addr{}, fmt.Errorf("ip identifier %.60q is an IPv4 address mapped to IPv6; write it as IPv4", s)
	case addr.String() != s:
		return netip.Addr{}, fmt.Errorf("ip identifier %.60q is not in canonical form (RFC 5952); write %s", s, addr)
	}
	return addr, nil
}

// Limits of RFC 1035 section 2.3.4.
const (
	maxDNSName  = 253
	maxDNSLabel = 63
)

// CheckDNSName checks a lower-case DNS name without wildcard: letters, digits and hyphens, labels of 1 to 63
// octets, 253 in all, no trailing dot, the last label not a number, since that is an IP address or is taken for one
// ("127.1"; RFC 3696 section 2). A-labels ("xn--") must be plain ASCII like the rest; a
// single label ("localhost") is well-formed. The error names the value and the rule.
func CheckDNSName(name string) error {
	if name == "" {
		return fmt.Errorf("dns name is empty")
	}
	if len(name) > maxDNSName {
		return fmt.Errorf("dns name %.60q... has %d octets, more than %d", name, len(name), maxDNSName)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("dns name %.60q is an IP address; use identifier type ip", name)
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if err := checkLabel(label); err != nil {
			return fmt.Errorf("dns name %.60q: %w", name, err)
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return fmt.Errorf("dns name %.60q: last label is a number", name)
	}
	return nil
}

// CheckName checks the name that an administrator gives to a CA, a profile, a credential or a token: 1 to 63
// lower-case letters, digits and hyphens, beginning and ending with a letter or digit.
func CheckName(name string) error {
	for i := range len(name) {
		c := name[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Errorf("name %.80q has character %q, which is not a lower-case letter, digit or hyphen", name, c)
		}
	}
	switch {
	case name == "" || len(name) > maxDNSLabel:
		return fmt.Errorf("name %.80q has %d characters, not 1 to %d", name, len(name), maxDNSLabel)
	case name[0] == '-' || name[len(name)-1] == '-':
		return fmt.Errorf("name %q begins or ends with a hyphen", name)
	}
	return nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return fmt.Errorf("empty label (leading, trailing or doubled dot)")
	case len(label) > maxDNSLabel:
		return fmt.Errorf("label %.20q... has %d octets, more than %d", label, len(label), maxDNSLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("label %q begins or ends with a hyphen", label)
	}
	for i := range len(label) {
		c := label[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return fmt.Errorf("character %q is not a lower-case letter, digit or hyphen", c)
		}
	}
	// Two hyphens in places 3 and 4 are reserved (RFC 5890 section 2.3.1); only A-labels may have them.
	if len(label) > 3 && label[2:4] == "--" && !strings.HasPrefix(label, "xn--") {
		return fmt.Errorf("label %q has hyphens in places 3 and 4 but is no A-label", label)
	}
	return nil
}
