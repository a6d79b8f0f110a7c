package imported

import (
	"encoding/asn1"
	"math"

	"golang.org/x/crypto/cryptobyte"
	cryptoasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

type kind int

const (
	kindCertificates kind = iota
	kindPKCS7
	kindPKCS12
)

// kindOf tells what DER is by how it begins: a ContentInfo (RFC 5652 section 3) with an object identifier, a PFX (RFC 7292
// section 4) with version 3, a certificate with another SEQUENCE.
func kindOf(data []byte) kind {
	input := cryptobyte.String(data)
	var content cryptobyte.String
	if !input.ReadASN1(&content, cryptoasn1.SEQUENCE) {
		return kindCertificates
	}
	switch {
	case content.PeekASN1Tag(cryptoasn1.OBJECT_IDENTIFIER):
		return kindPKCS7
	case content.PeekASN1Tag(cryptoasn1.INTEGER):
		return kindPKCS12
	default:
		return kindCertificates
	}
}

// element cuts the first element off.
func element(data []byte) (one, rest []byte, ok bool) {
	input := cryptobyte.String(data)
	var first cryptobyte.String
	if !input.ReadASN1Element(&first, cryptoasn1.SEQUENCE) {
		return nil, nil, false
	}
	return first, input, true
}

// maxIterations bounds the work of opening a PKCS #12. Programs ask for 1 to some 100,000 rounds.
const maxIterations = 2_000_000

// mostIterations returns the largest number of rounds that a PKCS #12 asks for, anywhere: what follows a salt in the
// parameters of its algorithms and in its MacData (RFC 7292 section 4, RFC 8018 appendix A). It looks into octet strings as
// well, since the parts of a PKCS #12 are wrapped in them.
func mostIterations(data []byte) int64 {
	w := walker{left: maxElements}
	w.walk(data, 0)
	return w.most
}

// Bounds of the walk.
const (
	maxElements = 100_000
	maxDepth    = 32
)

type walker struct {
	left int
	most int64
}

func (w *walker) walk(data []byte, depth int) {
	if depth > maxDepth {
		w.most = math.MaxInt64
		return
	}
	afterSalt := false
	for len(data) > 0 {
		var raw asn1.RawValue
		rest, err := asn1.Unmarshal(data, &raw)
		if err != nil {
			return // not DER: the bytes of something
		}
		if w.left--; w.left < 0 {
			w.most = math.MaxInt64
			return
		}
		data = rest
		octets := raw.Class == asn1.ClassUniversal && raw.Tag == asn1.TagOctetString
		switch {
		case raw.Class == asn1.ClassUniversal && raw.Tag == asn1.TagInteger && afterSalt:
			var n int64
			if _, err := asn1.Unmarshal(raw.FullBytes, &n); err != nil {
				n = math.MaxInt64
			}
			w.most = max(w.most, n)
		case raw.IsCompound || octets:
			w.walk(raw.Bytes, depth+1)
		}
		afterSalt = octets
	}
}
