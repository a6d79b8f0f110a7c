package storetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// Now is the moment around which fixtures are made. It has no fraction of a second, so that it is read back as it is.
func Now() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) }

// Fixture is what a certificate needs: a CA, a profile, a credential and an account.
type Fixture struct {
	Store      *store.Store
	CA         pki.CA
	Key        pki.SealedKey
	Profile    pki.Profile
	Credential pki.Credential
	Account    pki.Account
}

// Seed stores a fixture.
func Seed(t testing.TB, s *store.Store) *Fixture {
	t.Helper()
	f := &Fixture{Store: s}
	f.Key = pki.SealedKey{ID: ID[pki.KeyID](t), Algorithm: pki.ECDSAP256, Sealed: []byte("sealed"), CreatedAt: Now()}
	f.CA = NewCA(t, "issuing")
	f.CA.KeyID = f.Key.ID
	check(t, s.CreateCA(t.Context(), &f.CA, &f.Key, Event(audit.CACreate)))
	f.Profile = f.NewProfile(t, "istio")
	check(t, s.CreateProfile(t.Context(), &f.Profile, Event(audit.ProfileCreate)))
	f.Credential = f.NewCredential(t, "cluster")
	check(t, s.CreateCredential(t.Context(), &f.Credential, Event(audit.CredentialCreate)))
	f.Account = f.NewAccount(t, "key-of-account")
	_, created, err := s.CreateAccount(t.Context(), &f.Account, 0, Event(audit.AccountCreate))
	check(t, err)
	if !created {
		t.Fatal("account was not created")
	}
	return f
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ID returns a fresh identifier.
func ID[T ~string](t testing.TB) T {
	t.Helper()
	return IDAt[T](t, Now())
}

// IDAt returns a fresh identifier of the given time.
func IDAt[T ~string](t testing.TB, at time.Time) T {
	t.Helper()
	id, err := pki.NewID[T](at, rand.Reader)
	check(t, err)
	return id
}

// Event returns an event of the given action.
func Event(action audit.Action) audit.Event {
	return audit.Event{
		Time: Now(), Actor: audit.Actor{Kind: audit.System, ID: "test", Name: "suite"}, Action: action, Target: "target",
		Client: pki.Client{UserAgent: "agent/1", Address: "192.0.2.1"}, Request: "request-1", Replica: "replica-1",
		Outcome: audit.Done,
	}
}

// NewCA returns an issuing CA with a real certificate.
func NewCA(t testing.TB, name string) pki.CA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: Now(), NotAfter: Now().AddDate(10, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	return pki.CA{
		ID: ID[pki.CAID](t), Name: name, Kind: pki.IssuingCA, State: pki.Active, ParentID: "parent", KeyID: ID[pki.KeyID](t),
		KeyAlgorithm: pki.ECDSAP256, Certificate: der, Chain: [][]byte{[]byte("root")}, CSR: nil,
		Settings:  pki.CASettings{CRLURLs: []string{"http://crl.example/a.crl"}},
		CreatedAt: Now(), UpdatedAt: Now(),
	}
}

// NewProfile returns a profile of the fixture's CA.
func (f *Fixture) NewProfile(t testing.TB, name string) pki.Profile {
	t.Helper()
	return pki.Profile{
		ID: ID[pki.ProfileID](t), Name: name, Template: pki.PrivateMTLS, IssuingCA: f.CA.ID, Method: pki.MTLSOverACME,
		State: pki.Active, Version: 1, CreatedAt: Now(), UpdatedAt: Now(),
		Rules: pki.ProfileRules{
			Validity: pki.Validity{Default: pki.Duration(24 * time.Hour)}, Keys: []pki.KeyAlgorithm{pki.ECDSAP256},
			Names: pki.NameRules{SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local"}}}, MaxNames: 10,
		},
	}
}

// NewCredential returns a credential of the fixture's profile.
func (f *Fixture) NewCredential(t testing.TB, name string) pki.Credential {
	t.Helper()
	return pki.Credential{
		ID: ID[pki.CredentialID](t), Name: name, ProfileID: f.Profile.ID, State: pki.Active, SealedKey: []byte("sealed hmac"),
		ExpiresAt: Now().AddDate(1, 0, 0), MaxAccounts: 5, CreatedAt: Now(),
		Limit: &pki.NameRules{SPIFFE: pki.SPIFFERules{Allow: []string{"demo/*"}}},
	}
}

// NewAccount returns an account of the fixture's credential.
func (f *Fixture) NewAccount(t testing.TB, thumbprint string) pki.Account {
	t.Helper()
	return pki.Account{
		ID: ID[pki.AccountID](t), Thumbprint: thumbprint, JWK: []byte(`{"kty":"EC"}`), CredentialID: f.Credential.ID,
		ProfileID: f.Profile.ID, Status: pki.StatusValid, Contact: []string{"mailto:a@example.com"},
		Binding: []byte(`{"protected":""}`), CreatedAt: Now(),
	}
}

// Workload returns the SPIFFE ID of a workload.
func Workload(namespace, account string) pki.SPIFFEID {
	return pki.SPIFFEID{TrustDomain: "cluster.local", Namespace: namespace, ServiceAccount: account}
}

// NewCertificate returns a certificate of the fixture's account for an identity, issued at the given time for a day.
// It has an order of its own. What is in it is not a certificate, which the store does not care about.
func (f *Fixture) NewCertificate(t testing.TB, identity string, issued time.Time) *pki.Certificate {
	t.Helper()
	serial, err := pki.NewSerial(issued, rand.Reader)
	check(t, err)
	c := &pki.Certificate{
		Serial: serial, Identity: identity, Names: pki.Names{URIs: []string{identity}}, CAID: f.CA.ID,
		ProfileID: f.Profile.ID, OrderID: IDAt[pki.OrderID](t, issued), AccountID: f.Account.ID, CredentialID: f.Credential.ID,
		Client:    pki.Client{UserAgent: "cert-manager/v1.21.2", Address: "10.0.0.7"},
		NotBefore: issued.Add(-time.Minute), NotAfter: issued.Add(24 * time.Hour), IssuedAt: issued,
		Requested: 36 * time.Hour, Granted: 24 * time.Hour, KeyAlgorithm: pki.ECDSAP256, Signature: "ECDSA-SHA256",
		DER: make([]byte, 700),
	}
	c.RenewAt = pki.RenewAt(c.NotBefore, c.NotAfter)
	fillHashes(c)
	return c
}

// fillHashes makes the certificate's bytes and hashes depend on its serial.
func fillHashes(c *pki.Certificate) {
	copy(c.DER, c.Serial.Bytes())
	for i := 1; i*32+32 <= len(c.DER); i++ { // certificates do not compress
		sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(c.Serial), uint32(i)))
		copy(c.DER[i*32:], sum[:])
	}
	c.Fingerprint = sha256.Sum256(c.DER)
	c.CSRHash = sha256.Sum256([]byte("csr" + c.Serial))
	c.SPKIHash = sha256.Sum256([]byte("spki" + c.Serial))
}

// Record stores a certificate that must win.
func (f *Fixture) Record(t testing.TB, c *pki.Certificate) *pki.Certificate {
	t.Helper()
	id, _ := pki.ParseSPIFFEID(c.Identity) // a DNS name has the zero value
	ev := Event(audit.CertificateIssue)
	ev.Target = string(c.Serial)
	stored, won, err := f.Store.RecordCertificate(t.Context(), c, id, ev)
	check(t, err)
	if !won {
		t.Fatalf("certificate %s was not stored: order %q has %s", c.Serial, c.OrderID, stored.Serial)
	}
	return stored
}

// NewOrder returns an order for the names, to be proved by one of two challenges.
func (f *Fixture) NewOrder(t testing.TB, at time.Time, names ...string) *pki.Order {
	t.Helper()
	o := &pki.Order{
		ID: IDAt[pki.OrderID](t, at), AccountID: f.Account.ID, CredentialID: f.Credential.ID, ProfileID: f.Profile.ID,
		NotAfter: at.Add(48 * time.Hour), Replaces: "aki.serial",
		Challenges: []string{"http-01", "dns-01"}, Expires: at.Add(time.Hour), CreatedAt: at,
	}
	for _, name := range names {
		o.Identifiers = append(o.Identifiers, pki.Identifier{Type: pki.DNS, Value: name})
	}
	return o
}
