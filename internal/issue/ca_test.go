package issue_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// caLedger is storage of CAs in memory.
type caLedger struct {
	mu     sync.Mutex
	cas    []pki.CA
	keys   map[pki.KeyID]*pki.SealedKey
	events []audit.Event
	fail   error
}

func (l *caLedger) CreateCA(_ context.Context, ca *pki.CA, key *pki.SealedKey, ev audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	for _, other := range l.cas {
		if other.Name == ca.Name {
			return fault.New(fault.Conflict, "there is a CA %q already", ca.Name)
		}
	}
	l.cas, l.keys[key.ID], l.events = append(l.cas, *ca), key, append(l.events, ev)
	return nil
}

func (l *caLedger) UpdateCA(_ context.Context, ca *pki.CA, was time.Time, ev audit.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.cas {
		if l.cas[i].ID == ca.ID && l.cas[i].UpdatedAt.Equal(was) {
			l.cas[i], l.events = *ca, append(l.events, ev)
			return nil
		}
	}
	return fault.New(fault.Conflict, "CA was changed meanwhile")
}

func (l *caLedger) CAs(context.Context) ([]pki.CA, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.cas), nil
}

func (l *caLedger) SealedKey(_ context.Context, id pki.KeyID) (*pki.SealedKey, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if key := l.keys[id]; key != nil {
		return key, nil
	}
	return nil, fault.New(fault.NotFound, "no key %q", id)
}

// authorityStage is an Authority with everything around it.
type authorityStage struct {
	*issue.Authority
	ledger  *caLedger
	signers *keys.Signers
	vault   *keys.Vault
}

func newAuthorityStage(t testing.TB) *authorityStage {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("0123456789abcdef0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret, err := keys.ReadSecret("", file)
	if err != nil {
		t.Fatal(err)
	}
	vault, _, err := keys.Create(secret, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ledger := &caLedger{keys: make(map[pki.KeyID]*pki.SealedKey)}
	signers, err := keys.New(keys.Config{Vault: vault, Load: ledger.SealedKey})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := issue.NewAuthority(issue.AuthorityConfig{
		Store: ledger, Vault: vault, Signers: signers, Now: testca.Now, Random: rand.Reader, BaseURL: "https://ca.example:8443/", Replica: "replica-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return &authorityStage{authority, ledger, signers, vault}
}

func by() audit.By { return audit.By{Actor: audit.Actor{Kind: audit.System, ID: "test"}} }

func (a *authorityStage) root(t testing.TB, o issue.Options) *pki.CA {
	t.Helper()
	if o.Name == "" {
		o.Name = "root"
	}
	ca, err := a.CreateRoot(t.Context(), o, by())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (a *authorityStage) issuing(t testing.TB, parent *pki.CA, o issue.Options) *pki.CA {
	t.Helper()
	if o.Name == "" {
		o.Name = "issuing"
	}
	ca, err := a.CreateIssuing(t.Context(), issue.IssuingOptions{Options: o, Parent: parent.ID}, by())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// several makes CAs of every kind.
func (a *authorityStage) several(t testing.TB) map[string]*pki.CA {
	t.Helper()
	three := 3
	made := map[string]*pki.CA{}
	for _, alg := range keys.Algorithms() {
		root := a.root(t, issue.Options{Name: "root-" + string(alg), Key: alg, Organization: "Example, Inc.", PathLen: &three})
		made[root.Name] = root
		ca := a.issuing(t, root, issue.Options{Name: "issuing-" + string(alg), Key: alg, Constraints: issue.Constraints{
			TrustDomains: []string{"cluster.local", "prod.example"}, DNS: []string{"svc", "example.com"},
		}})
		made[ca.Name] = ca
	}
	long := a.root(t, issue.Options{Name: "long", Validity: pki.Duration(40 * 365 * 24 * time.Hour)})
	made[long.Name] = long
	return made
}

func parsed(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestCreateRootAndIssuing(t *testing.T) {
	t.Parallel()
	a := newAuthorityStage(t)
	root := a.root(t, issue.Options{CommonName: "Example root", Organization: "Example"})
	c := parsed(t, root.Certificate)
	if root.Kind != pki.RootCA || root.State != pki.Active || root.KeyAlgorithm != pki.ECDSAP256 || root.ParentID != "" || len(root.Chain) != 0 {
		t.Errorf("root = %+v", root)
	}
	if c.Subject.String() != "CN=Example root,O=Example" || !c.IsCA || c.MaxPathLen != 2 || c.CheckSignatureFrom(c) != nil ||
		!c.NotAfter.Equal(testca.Now().AddDate(0, 0, 3650)) || len(c.CRLDistributionPoints) != 0 || len(c.Extensions) != 3 {
		t.Errorf("root certificate = %s, path length %d, until %s, extensions %v", c.Subject, c.MaxPathLen, c.NotAfter, c.Extensions)
	}
	issuing := a.issuing(t, root, issue.Options{Constraints: issue.Constraints{TrustDomains: []string{"cluster.local"}}})
	i := parsed(t, issuing.Certificate)
	if issuing.ParentID != root.ID || !slices.EqualFunc(issuing.Chain, [][]byte{root.Certificate}, bytes.Equal) || i.CheckSignatureFrom(c) != nil {
		t.Errorf("issuing CA = %+v", issuing)
	}
	wantURL := "https://ca.example:8443/crl/" + string(root.ID) + ".crl"
	if i.Subject.CommonName != "issuing" || !i.MaxPathLenZero || !slices.Equal(i.CRLDistributionPoints, []string{wantURL}) ||
		!slices.Equal(i.PermittedURIDomains, []string{"cluster.local"}) || !i.PermittedDNSDomainsCritical ||
		!i.NotAfter.Equal(testca.Now().AddDate(0, 0, 5*365)) {
		t.Errorf("issuing certificate: %s, CRL %v, constraints %v, until %s", i.Subject, i.CRLDistributionPoints, i.PermittedURIDomains, i.NotAfter)
	}
	if want := "https://ca.example:8443/ca/" + string(issuing.ID) + ".cer"; !slices.Equal(issuing.Settings.IssuerURLs, []string{want}) {
		t.Errorf("settings of the issuing CA = %+v", issuing.Settings)
	}
	if len(a.ledger.events) != 2 || a.ledger.events[1].Action != audit.CACreate || a.ledger.events[1].Target != "issuing" ||
		a.ledger.events[1].Detail.Serial != pki.SerialFromInt(i.SerialNumber) || a.ledger.events[1].Replica != "replica-1" {
		t.Errorf("events = %+v", a.ledger.events)
	}
	if bytes.Contains(a.ledger.keys[root.KeyID].Sealed, []byte("PRIVATE")) || a.ledger.keys[root.KeyID].Algorithm != pki.ECDSAP256 {
		t.Error("the key was not sealed")
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	a := newAuthorityStage(t)
	root := a.root(t, issue.Options{Validity: pki.Duration(24 * time.Hour)})
	issuing := a.issuing(t, root, issue.Options{})
	if end := parsed(t, issuing.Certificate).NotAfter; !end.Equal(parsed(t, root.Certificate).NotAfter) {
		t.Errorf("default validity ends at %s, not with the root", end)
	}
	suspended := a.root(t, issue.Options{Name: "suspended"})
	pending, err := a.CreateIssuing(t.Context(), issue.IssuingOptions{Options: issue.Options{Name: "pending"}, External: true}, by())
	if err != nil {
		t.Fatal(err)
	}
	a.ledger.cas[2].State = pki.Suspended
	minus, two, many := -1, 2, 11
	for name, test := range map[string]struct {
		options issue.IssuingOptions
		kind    fault.Kind
		says    string
	}{
		"refuses/name-taken":         {issue.IssuingOptions{Options: issue.Options{Name: "issuing"}, Parent: root.ID}, fault.Conflict, "issuing"},
		"refuses/bad-name":           {issue.IssuingOptions{Options: issue.Options{Name: "No Name"}, Parent: root.ID}, fault.Malformed, "No Name"},
		"refuses/no-parent":          {issue.IssuingOptions{Options: issue.Options{Name: "x"}}, fault.Malformed, "parent"},
		"refuses/two-parents":        {issue.IssuingOptions{Options: issue.Options{Name: "x"}, Parent: root.ID, External: true}, fault.Malformed, "parent"},
		"refuses/unknown-parent":     {issue.IssuingOptions{Options: issue.Options{Name: "x"}, Parent: "gone"}, fault.NotFound, "gone"},
		"refuses/suspended-parent":   {issue.IssuingOptions{Options: issue.Options{Name: "x"}, Parent: suspended.ID}, fault.Conflict, "suspended"},
		"refuses/pending-parent":     {issue.IssuingOptions{Options: issue.Options{Name: "x"}, Parent: pending.ID}, fault.Conflict, "pending"},
		"refuses/parent-path-length": {issue.IssuingOptions{Options: issue.Options{Name: "x"}, Parent: issuing.ID}, fault.Conflict, "path length 0"},
		"refuses/path-length":        {issue.IssuingOptions{Options: issue.Options{Name: "x", PathLen: &two}, Parent: root.ID}, fault.Conflict, "path length 2"},
		"refuses/negative-length":    {issue.IssuingOptions{Options: issue.Options{Name: "x", PathLen: &minus}, Parent: root.ID}, fault.Malformed, "path length -1"},
		"refuses/huge-length":        {issue.IssuingOptions{Options: issue.Options{Name: "x", PathLen: &many}, Parent: root.ID}, fault.Malformed, "path length 11"},
		"refuses/outliving-parent":   {issue.IssuingOptions{Options: issue.Options{Name: "x", Validity: pki.Duration(48 * time.Hour)}, Parent: root.ID}, fault.Malformed, "after CA"},
		"refuses/negative-validity":  {issue.IssuingOptions{Options: issue.Options{Name: "x", Validity: -1}, Parent: root.ID}, fault.Malformed, "negative"},
		"refuses/key-algorithm":      {issue.IssuingOptions{Options: issue.Options{Name: "x", Key: pki.RSA2048}, Parent: root.ID}, fault.Malformed, "rsa-2048"},
		"refuses/same-subject":       {issue.IssuingOptions{Options: issue.Options{Name: "x", CommonName: "root"}, Parent: root.ID}, fault.Conflict, "CN=root"},
		"refuses/long-common-name":   {issue.IssuingOptions{Options: issue.Options{Name: "x", CommonName: strings.Repeat("x", 65)}, Parent: root.ID}, fault.Malformed, "65"},
		"refuses/control-character":  {issue.IssuingOptions{Options: issue.Options{Name: "x", Organization: "a\nb"}, Parent: root.ID}, fault.Malformed, "organization"},
		"refuses/spaces":             {issue.IssuingOptions{Options: issue.Options{Name: "x", CommonName: " x"}, Parent: root.ID}, fault.Malformed, "space"},
		"refuses/trust-domain": {
			issue.IssuingOptions{Options: issue.Options{Name: "x", Constraints: issue.Constraints{TrustDomains: []string{"Up"}}}, Parent: root.ID},
			fault.Malformed, "constraint",
		},
		"refuses/dns-constraint": {
			issue.IssuingOptions{Options: issue.Options{Name: "x", Constraints: issue.Constraints{DNS: []string{"*.x"}}}, Parent: root.ID},
			fault.Malformed, "constraint",
		},
		"refuses/validity-outside": {
			issue.IssuingOptions{Options: issue.Options{Name: "x", Validity: pki.Duration(time.Hour)}, External: true}, fault.Malformed, "outside root",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, err := a.CreateIssuing(t.Context(), test.options, by())
			if !fault.Is(err, test.kind) || ca != nil || !strings.Contains(fault.From(err).Public, test.says) {
				t.Errorf("CreateIssuing = %v, %v, want kind %q with %q", ca, err, test.kind, test.says)
			}
		})
	}
}

// outside is a root that is not ours, and what it signs.
type outside struct {
	key  *testca.Hierarchy
	root *x509.Certificate
}

func newOutside(t testing.TB) outside {
	t.Helper()
	h := testca.New(t)
	return outside{key: h, root: h.RootCert}
}

// sign makes the certificate of a CA for a CSR, as an outside root would; change alters it.
func (o outside) sign(t testing.TB, request []byte, change func(*x509.Certificate)) []byte {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4711), Subject: csr.Subject, NotBefore: testca.Now().Add(-time.Hour), NotAfter: testca.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.root, csr.PublicKey, o.key.RootKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestInstallCertificate(t *testing.T) {
	t.Parallel()
	a, root := newAuthorityStage(t), newOutside(t)
	pending, err := a.CreateIssuing(t.Context(), issue.IssuingOptions{Options: issue.Options{Name: "under-corp", Organization: "Example"}, External: true}, by())
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.ParseCertificateRequest(pending.CSR)
	if err != nil || request.CheckSignature() != nil || pending.State != pki.Pending || pending.Certificate != nil ||
		request.Subject.String() != "CN=under-corp,O=Example" {
		t.Fatalf("pending CA = %+v, %v", pending, err)
	}
	der := root.sign(t, pending.CSR, nil)
	ca, err := a.InstallCertificate(t.Context(), pending.ID, [][]byte{der, root.root.Raw}, by())
	if err != nil {
		t.Fatal(err)
	}
	if ca.State != pki.Active || !bytes.Equal(ca.Certificate, der) || !slices.EqualFunc(ca.Chain, [][]byte{root.root.Raw}, bytes.Equal) {
		t.Errorf("installed CA = %+v", ca)
	}
	renewed := root.sign(t, pending.CSR, func(c *x509.Certificate) { c.NotAfter = c.NotAfter.AddDate(1, 0, 0) })
	if ca, err = a.InstallCertificate(t.Context(), pending.ID, [][]byte{renewed, root.root.Raw}, by()); err != nil || !bytes.Equal(ca.Certificate, renewed) {
		t.Errorf("renewal = %v, %v", ca, err)
	}
	if last := a.ledger.events[len(a.ledger.events)-1]; last.Action != audit.CAInstall || last.Target != "under-corp" {
		t.Errorf("event = %+v", last)
	}
	// The key that was made for the CSR signs for the certificate that came.
	if key, err := a.signers.Signer(t.Context(), ca.KeyID); err != nil || !parsed(t, ca.Certificate).PublicKey.(interface {
		Equal(x crypto.PublicKey) bool
	}).Equal(key.Public()) {
		t.Errorf("signer = %v, %v", key, err)
	}
}

func TestInstallCertificateRefuses(t *testing.T) {
	t.Parallel()
	a, root := newAuthorityStage(t), newOutside(t)
	pending, err := a.CreateIssuing(t.Context(), issue.IssuingOptions{Options: issue.Options{Name: "pending"}, External: true}, by())
	if err != nil {
		t.Fatal(err)
	}
	ours := a.issuing(t, a.root(t, issue.Options{}), issue.Options{})
	other := testca.CSR(t, testca.Request{CommonName: "pending"})
	good := root.sign(t, pending.CSR, nil)
	changed := func(change func(*x509.Certificate)) [][]byte {
		return [][]byte{root.sign(t, pending.CSR, change), root.root.Raw}
	}
	for name, test := range map[string]struct {
		id    pki.CAID
		chain [][]byte
		kind  fault.Kind
		says  string
	}{
		"refuses/unknown-ca":        {"gone", [][]byte{good, root.root.Raw}, fault.NotFound, "gone"},
		"refuses/not-external":      {ours.ID, [][]byte{good, root.root.Raw}, fault.Conflict, "outside root"},
		"refuses/empty":             {pending.ID, nil, fault.Malformed, "0 certificates"},
		"refuses/too-many":          {pending.ID, slices.Repeat([][]byte{good}, 11), fault.Malformed, "11 certificates"},
		"refuses/not-der":           {pending.ID, [][]byte{[]byte("x")}, fault.Malformed, "certificate 1"},
		"refuses/other-key":         {pending.ID, [][]byte{root.sign(t, other, nil), root.root.Raw}, fault.Malformed, "key of this CA"},
		"refuses/wrong-order":       {pending.ID, [][]byte{root.root.Raw, good}, fault.Malformed, "key of this CA"},
		"refuses/no-root":           {pending.ID, [][]byte{good}, fault.Malformed, "no valid chain"},
		"refuses/other-root":        {pending.ID, [][]byte{good, newOutside(t).root.Raw}, fault.Malformed, "no valid chain"},
		"refuses/superfluous":       {pending.ID, [][]byte{good, root.root.Raw, newOutside(t).root.Raw}, fault.Malformed, "only 2"},
		"refuses/leaf":              {pending.ID, changed(func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero, c.KeyUsage = false, false, 1 }), fault.Malformed, "cA true"},
		"refuses/no-cert-sign":      {pending.ID, changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), fault.Malformed, "keyCertSign"},
		"refuses/no-crl-sign":       {pending.ID, changed(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), fault.Malformed, "cRLSign"},
		"refuses/expired":           {pending.ID, changed(func(c *x509.Certificate) { c.NotAfter = testca.Now().Add(-time.Minute) }), fault.Malformed, "expired"},
		"refuses/not-yet-valid":     {pending.ID, changed(func(c *x509.Certificate) { c.NotBefore = testca.Now().Add(time.Minute) }), fault.Malformed, "not yet valid"},
		"refuses/purpose":           {pending.ID, changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }), fault.Malformed, "extended key usage"},
		"refuses/damaged-signature": {pending.ID, [][]byte{flipLast(good), root.root.Raw}, fault.Malformed, "no valid chain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, err := a.InstallCertificate(t.Context(), test.id, test.chain, by())
			if !fault.Is(err, test.kind) || ca != nil || !strings.Contains(fault.From(err).Public, test.says) {
				t.Errorf("InstallCertificate = %v, %v, want kind %q with %q", ca, err, test.kind, test.says)
			}
		})
	}
}

func flipLast(der []byte) []byte {
	flipped := bytes.Clone(der)
	flipped[len(flipped)-1] ^= 1
	return flipped
}

func encode(kind string, ders ...[]byte) []byte {
	var text []byte
	for _, der := range ders {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})...)
	}
	return text
}

func TestImport(t *testing.T) {
	t.Parallel()
	a, h := newAuthorityStage(t), testca.New(t)
	keyPEM := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return encode("PRIVATE KEY", der)
	}
	root, err := a.Import(t.Context(), issue.ImportOptions{Name: "old-root", Chain: [][]byte{h.RootCert.Raw}, Key: keyPEM(h.RootKey)}, by())
	if err != nil {
		t.Fatal(err)
	}
	chain, err := issue.ParseChain(encode("CERTIFICATE", h.IssuingCert.Raw, h.RootCert.Raw))
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := a.Import(t.Context(), issue.ImportOptions{Name: "old-issuing", Chain: chain, Key: keyPEM(h.IssuingKey)}, by())
	if err != nil {
		t.Fatal(err)
	}
	if root.Kind != pki.RootCA || issuing.Kind != pki.IssuingCA || issuing.ParentID != root.ID || len(issuing.Chain) != 1 {
		t.Errorf("imported %+v and %+v", root, issuing)
	}
	if last := a.ledger.events[1]; last.Action != audit.CAImport {
		t.Errorf("event = %+v", last)
	}
	for name, test := range map[string]struct {
		options issue.ImportOptions
		kind    fault.Kind
		says    string
	}{
		"refuses/here-already": {issue.ImportOptions{Name: "x", Chain: chain, Key: keyPEM(h.IssuingKey)}, fault.Conflict, "old-issuing"},
		"refuses/wrong-key":    {issue.ImportOptions{Name: "x", Chain: chain, Key: keyPEM(h.RootKey)}, fault.Malformed, "key of this CA"},
		"refuses/no-key":       {issue.ImportOptions{Name: "x", Chain: chain, Key: []byte("none")}, fault.Malformed, "PEM"},
		"refuses/no-chain":     {issue.ImportOptions{Name: "x", Key: keyPEM(h.RootKey)}, fault.Malformed, "0 certificates"},
		"refuses/no-name":      {issue.ImportOptions{Chain: chain, Key: keyPEM(h.IssuingKey)}, fault.Malformed, "name"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, err := a.Import(t.Context(), test.options, by())
			if !fault.Is(err, test.kind) || ca != nil || !strings.Contains(fault.From(err).Public, test.says) {
				t.Errorf("Import = %v, %v, want kind %q with %q", ca, err, test.kind, test.says)
			}
		})
	}
}

func TestParseChainRefuses(t *testing.T) {
	t.Parallel()
	good := encode("CERTIFICATE", []byte{1})
	for name, text := range map[string][]byte{
		"refuses/empty":       nil,
		"refuses/der":         {0x30, 0x00},
		"refuses/private-key": encode("PRIVATE KEY", []byte{1}),
		"refuses/trailing":    append(bytes.Clone(good), "more"...),
		"refuses/huge":        bytes.Repeat(good, 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if chain, err := issue.ParseChain(text); !fault.Is(err, fault.Malformed) {
				t.Errorf("ParseChain = %d certificates, %v, want Malformed", len(chain), err)
			}
		})
	}
}

func FuzzParseChain(f *testing.F) {
	f.Add(encode("CERTIFICATE", []byte{0x30, 0x00}))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if chain, err := issue.ParseChain(text); err == nil && len(chain) == 0 {
			t.Error("no certificate and no error")
		}
	})
}

func TestCreateStoresNothingHalf(t *testing.T) {
	t.Parallel()
	a := newAuthorityStage(t)
	a.ledger.fail = testca.ErrStorage
	if ca, err := a.CreateRoot(t.Context(), issue.Options{Name: "root"}, by()); err == nil || ca != nil {
		t.Errorf("CreateRoot = %v, %v, want the storage's error", ca, err)
	}
}
