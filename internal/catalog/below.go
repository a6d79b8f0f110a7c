package catalog

import (
	"fmt"
	"slices"

	"github.com/certloom/certloom/internal/pki"
)

// Below returns the CAs of every chain that can lead to one of the roots, these among them, whatever they issue and
// whether they may: their certificates are still out there. missing says why there are other CAs in such chains, whose
// keys are not here; "" when there are none.
func (s *Snapshot) Below(roots [][]byte) (cas []*pki.CA, missing string) {
	has := func(list [][]byte, der []byte) bool {
		return slices.ContainsFunc(list, func(known []byte) bool { return string(known) == string(der) })
	}
	var needed [][]byte // certificates of CAs
	for _, ca := range s.cas {
		switch {
		case ca.Certificate == nil:
		case len(ca.Chain) > 0 && has(roots, ca.Chain[len(ca.Chain)-1]):
			cas = append(cas, ca)
			needed = append(needed, ca.Chain...)
		case len(ca.Chain) == 0 && has(roots, ca.Certificate):
			cas = append(cas, ca)
		}
	}
	for _, der := range append(needed, roots...) {
		if !slices.ContainsFunc(cas, func(ca *pki.CA) bool { return string(ca.Certificate) == string(der) }) {
			return nil, "the keys of a CA above the issuing CAs are not here, so its CRL cannot be made here"
		}
	}
	for _, profile := range s.profiles {
		if profile.Template == pki.MeshIntermediate && slices.ContainsFunc(cas, func(ca *pki.CA) bool { return ca.ID == profile.IssuingCA }) {
			return nil, fmt.Sprintf("certificate profile %q makes CAs below the same root, whose CRLs are not known here", profile.Name)
		}
	}
	return cas, ""
}
