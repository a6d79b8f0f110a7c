package issuer

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// CRLs are the revocation lists of every CA that a chain to a root of the bundle can have, roots among them: Envoy refuses
// a chain of which one CA has no list once another has one, or of which a list has expired. Do not change one.
type CRLs struct {
	PEM        string // all of them
	Version    string // differs when a list differs
	NextUpdate time.Time

	lists []*x509.RevocationList
}

// CRLSource is implemented by issuers whose CA publishes revocation lists through them.
type CRLSource interface {
	// CRLs returns the lists that count now; nil before they are known, after they have expired, and when the CA has none.
	CRLs() *CRLs
	// Withheld returns why the CA has said that there are none to be used, also not those of before; "" otherwise.
	Withheld() string
}

// crlBlock is the type of a CRL's PEM block (RFC 7468 section 6).
const crlBlock = "X509 CRL"

// NewCRLs reads lists in DER; Version is left to the caller. One that has ended is refused.
func NewCRLs(lists [][]byte, now time.Time) (*CRLs, error) {
	var text bytes.Buffer
	crls := &CRLs{}
	for _, der := range lists {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, fmt.Errorf("read a revocation list: %w", err)
		}
		if !now.Before(list.NextUpdate) {
			return nil, fmt.Errorf("the revocation list of %q ended at %s", list.Issuer, list.NextUpdate.UTC().Format(time.RFC3339))
		}
		if crls.NextUpdate.IsZero() || list.NextUpdate.Before(crls.NextUpdate) {
			crls.NextUpdate = list.NextUpdate
		}
		crls.lists = append(crls.lists, list)
		if err := pem.Encode(&text, &pem.Block{Type: crlBlock, Bytes: der}); err != nil {
			return nil, fmt.Errorf("write revocation lists: %w", err)
		}
	}
	crls.PEM = text.String()
	return crls, nil
}

// ParseCRLs reads lists in PEM, as PEM of CRLs holds them.
func ParseCRLs(text string, now time.Time) (*CRLs, error) {
	var lists [][]byte
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != crlBlock {
			return nil, fmt.Errorf("a PEM block is %q, not %q", block.Type, crlBlock)
		}
		lists = append(lists, block.Bytes)
	}
	if len(lists) == 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("the text is not revocation lists in PEM")
	}
	return NewCRLs(lists, now)
}

// Cover checks that each root of the bundle that has not expired has signed a list.
func (c *CRLs) Cover(bundle *Bundle, now time.Time) error {
	if bundle == nil {
		return errors.New("the trust bundle is not known yet")
	}
	for _, root := range bundle.Roots {
		signed := now.After(root.NotAfter)
		for _, list := range c.lists {
			signed = signed || bytes.Equal(list.RawIssuer, root.RawSubject) && list.CheckSignatureFrom(root) == nil
		}
		if !signed {
			return fmt.Errorf("root %q of the trust bundle has no revocation list in the set", root.Subject)
		}
	}
	return nil
}
