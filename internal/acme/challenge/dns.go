package challenge

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// maxTXTShown bounds how many records a sentence enumerates.
const maxTXTShown = 3

// validateDNS looks for the digest among the TXT records (RFC 8555 section 8.4).
func (v *Validator) validateDNS(ctx context.Context, r Request) error {
	if r.Identifier.Type != pki.DNS {
		return fault.New(fault.Unauthorized, "dns-01 cannot prove control of IP address %q (RFC 8738 section 7)", r.Identifier.Value)
	}
	if err := pki.CheckDNSName(r.Identifier.Value); err != nil {
		return fault.New(fault.Unauthorized, "%v", err)
	}
	name := "_acme-challenge." + r.Identifier.Value
	records, err := v.resolver.txt(ctx, name)
	if err != nil {
		return err
	}
	raw := digest(r)
	want := base64.RawURLEncoding.EncodeToString(raw[:])
	for _, record := range records {
		if subtle.ConstantTimeCompare([]byte(record), []byte(want)) == 1 {
			return nil
		}
	}
	if len(records) == 0 {
		return fault.New(fault.Unauthorized, "%s has no TXT record; one with %q is wanted", name, want)
	}
	return fault.New(fault.Unauthorized, "%s has TXT %s, not %q", name, shownRecords(records), want)
}

func shownRecords(records []string) string {
	quoted := make([]string, 0, maxTXTShown)
	for _, record := range records[:min(len(records), maxTXTShown)] {
		quoted = append(quoted, shown(record))
	}
	text := strings.Join(quoted, ", ")
	if more := len(records) - maxTXTShown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
