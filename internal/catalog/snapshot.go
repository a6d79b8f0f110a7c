package catalog

import (
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/pki"
)

// Snapshot is the catalog at one moment. It never changes, and neither may what it returns: records are shared by all
// who ask. The zero value is not usable.
type Snapshot struct {
	cas             []*pki.CA // by name
	caByID          map[pki.CAID]*pki.CA
	caByName        map[string]*pki.CA
	profiles        []*pki.Profile // by name
	profileByID     map[pki.ProfileID]*pki.Profile
	profileByName   map[string]*pki.Profile
	credentials     []*pki.Credential // by profile, then name
	credentialByID  map[pki.CredentialID]*pki.Credential
	credentialsByID map[pki.ProfileID][]*pki.Credential
	denials         denials
}

func newSnapshot(cas []pki.CA, profiles []pki.Profile, credentials []pki.Credential, denied []pki.Denial) *Snapshot {
	s := &Snapshot{
		caByID:          make(map[pki.CAID]*pki.CA, len(cas)),
		caByName:        make(map[string]*pki.CA, len(cas)),
		profileByID:     make(map[pki.ProfileID]*pki.Profile, len(profiles)),
		profileByName:   make(map[string]*pki.Profile, len(profiles)),
		credentialByID:  make(map[pki.CredentialID]*pki.Credential, len(credentials)),
		credentialsByID: make(map[pki.ProfileID][]*pki.Credential),
		denials:         newDenials(denied),
	}
	for i := range cas {
		s.cas = append(s.cas, &cas[i])
		s.caByID[cas[i].ID], s.caByName[cas[i].Name] = &cas[i], &cas[i]
	}
	for i := range profiles {
		s.profiles = append(s.profiles, &profiles[i])
		s.profileByID[profiles[i].ID], s.profileByName[profiles[i].Name] = &profiles[i], &profiles[i]
	}
	for i := range credentials {
		c := &credentials[i]
		s.credentials = append(s.credentials, c)
		s.credentialByID[c.ID] = c
	}
	slices.SortFunc(s.cas, func(a, b *pki.CA) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.profiles, func(a, b *pki.Profile) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(s.credentials, func(a, b *pki.Credential) int {
		if order := strings.Compare(s.profileName(a.ProfileID), s.profileName(b.ProfileID)); order != 0 {
			return order
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, c := range s.credentials {
		s.credentialsByID[c.ProfileID] = append(s.credentialsByID[c.ProfileID], c)
	}
	return s
}

func (s *Snapshot) profileName(id pki.ProfileID) string {
	if p, ok := s.profileByID[id]; ok {
		return p.Name
	}
	return string(id)
}

// CA returns the CA with the identifier.
func (s *Snapshot) CA(id pki.CAID) (*pki.CA, bool) {
	ca, ok := s.caByID[id]
	return ca, ok
}

// CAByName returns the CA with the name.
func (s *Snapshot) CAByName(name string) (*pki.CA, bool) {
	ca, ok := s.caByName[name]
	return ca, ok
}

// CAs returns all CAs by name.
func (s *Snapshot) CAs() []*pki.CA { return slices.Clone(s.cas) }

// Profile returns the profile with the identifier.
func (s *Snapshot) Profile(id pki.ProfileID) (*pki.Profile, bool) {
	p, ok := s.profileByID[id]
	return p, ok
}

// ProfileByName returns the profile with the name.
func (s *Snapshot) ProfileByName(name string) (*pki.Profile, bool) {
	p, ok := s.profileByName[name]
	return p, ok
}

// Profiles returns all profiles by name.
func (s *Snapshot) Profiles() []*pki.Profile { return slices.Clone(s.profiles) }

// Credential returns the credential with the KID, also when it is revoked or expired.
func (s *Snapshot) Credential(id pki.CredentialID) (*pki.Credential, bool) {
	c, ok := s.credentialByID[id]
	return c, ok
}

// Credentials returns all credentials by profile and name.
func (s *Snapshot) Credentials() []*pki.Credential { return slices.Clone(s.credentials) }

// CredentialsOf returns a profile's credentials by name.
func (s *Snapshot) CredentialsOf(id pki.ProfileID) []*pki.Credential {
	return slices.Clone(s.credentialsByID[id])
}

// Roots returns the roots, each once, above the issuing CAs of all profiles that issue SPIFFE IDs of the trust
// domain, suspended ones too: their certificates are still out there. The sequence grows with every change of what it
// was made of.
func (s *Snapshot) Roots(trustDomain string) (roots [][]byte, sequence int64) {
	for _, profile := range s.profiles {
		if !slices.Contains(profile.Rules.Names.SPIFFE.TrustDomains, trustDomain) {
			continue
		}
		sequence = max(sequence, profile.UpdatedAt.Unix())
		ca, ok := s.CA(profile.IssuingCA)
		if !ok || len(ca.Chain) == 0 {
			continue
		}
		sequence = max(sequence, ca.UpdatedAt.Unix())
		root := ca.Chain[len(ca.Chain)-1]
		if !slices.ContainsFunc(roots, func(known []byte) bool { return string(known) == string(root) }) {
			roots = append(roots, root)
		}
	}
	return roots, sequence
}
