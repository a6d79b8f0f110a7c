package acme

import (
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Limits on contacts.
const (
	maxContacts = 10
	maxAddress  = 254 // RFC 5321 section 4.5.3.1.3, less the brackets
)

// checkContact checks contact URLs (RFC 8555 section 7.3): each one "mailto:" with exactly one address and no header
// fields. They are kept as they were written, since clients compare them.
func checkContact(contact []string) error {
	if len(contact) > maxContacts {
		return fault.New(fault.InvalidContact, "contact has %d entries, more than %d", len(contact), maxContacts)
	}
	for _, entry := range contact {
		scheme, address, ok := strings.Cut(entry, ":")
		if !ok || !strings.EqualFold(scheme, "mailto") {
			return fault.New(fault.UnsupportedContact, "contact %.120q is not a mailto URL", entry)
		}
		if rule := judgeAddress(address); rule != "" {
			return fault.New(fault.InvalidContact, "contact %.120q %s", entry, rule)
		}
	}
	return nil
}

// judgeAddress says why an address is refused, or "".
func judgeAddress(address string) string {
	if len(address) > maxAddress {
		return "has an address that is too long"
	}
	for i := range len(address) {
		switch c := address[i]; {
		case c <= ' ' || c > '~':
			return "has a character that is not printable ASCII"
		case c == ',':
			return "has more than one address"
		case c == '?':
			return "has header fields (RFC 8555 section 7.3)"
		case strings.IndexByte(`%"<>()[]\;:`, c) >= 0:
			return "has a character that a plain address does not have"
		}
	}
	local, domain, ok := strings.Cut(address, "@")
	if !ok || local == "" || pki.CheckDNSName(strings.ToLower(domain)) != nil {
		return "is not of the form mailto:NAME@DOMAIN"
	}
	return ""
}
