package issue_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/testca"
)

// stored is everything that issues and revokes over a SQLite database, as the server puts it together.
type stored struct {
	store     *store.Store
	vault     *keys.Vault
	authority *issue.Authority
	issuer    *issue.Issuer
	revoker   *revoke.Revoker
	cas       map[pki.CAID]*pki.CA
	hierarchy *testca.Hierarchy // for its profiles only
	profile   *pki.Profile
	request   issue.Request
}

// open opens the database in the folder; the vault's key is always the same.
func (s *stored) open(t testing.TB, dir string) {
	t.Helper()
	opened, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{Path: filepath.Join(dir, "certloom.db"), Now: testca.Now})
	if err != nil {
		t.Fatal(err)
	}
	s.store = opened
	signers, err := keys.New(keys.Config{Vault: s.vault, Load: s.store.SealedKey})
	if err != nil {
		t.Fatal(err)
	}
	find := func(id pki.CAID) (*pki.CA, bool) { ca, ok := s.cas[id]; return ca, ok }
	s.authority, err = issue.NewAuthority(issue.AuthorityConfig{
		Store: s.store, Vault: s.vault, Signers: signers, Now: testca.Now, Random: rand.Reader, BaseURL: "http://ca.example",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.issuer, err = issue.New(issue.Config{Store: s.store, Signers: signers, CA: find, Denied: testca.NothingDenied, Now: testca.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	list := func() []*pki.CA {
		var all []*pki.CA
		for _, ca := range s.cas {
			all = append(all, ca)
		}
		return all
	}
	s.revoker, err = revoke.New(revoke.Config{Store: s.store, Signers: signers, CA: find, CAs: list, Now: testca.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
}

func newStored(t testing.TB, dir string) *stored {
	t.Helper()
	s := &stored{vault: newAuthorityStage(t).vault, cas: map[pki.CAID]*pki.CA{}, hierarchy: testca.New(t)}
	s.open(t, dir)
	root, err := s.authority.CreateRoot(t.Context(), issue.Options{Name: "root"}, by())
	if err != nil {
		t.Fatal(err)
	}
	issuing, err := s.authority.CreateIssuing(t.Context(), issue.IssuingOptions{Options: issue.Options{Name: "issuing"}, Parent: root.ID}, by())
	if err != nil {
		t.Fatal(err)
	}
	s.cas[root.ID], s.cas[issuing.ID] = root, issuing
	s.profile = s.hierarchy.MeshProfile()
	s.profile.IssuingCA = issuing.ID
	credential := testca.CredentialOf(s.profile)
	credential.SealedKey = []byte("sealed")
	account := testca.AccountOf(credential)
	account.JWK = []byte(`{"kty":"EC"}`)
	event := func(action audit.Action) audit.Event {
		return audit.Event{Time: testca.Now(), Action: action, Outcome: audit.Done}
	}
	if err := s.store.CreateProfile(t.Context(), s.profile, event(audit.ProfileCreate)); err != nil {
		t.Fatal(err)
	}
	if err := s.store.CreateCredential(t.Context(), credential, event(audit.CredentialCreate)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.store.CreateAccount(t.Context(), account, 0, event(audit.AccountCreate)); err != nil {
		t.Fatal(err)
	}
	s.request = issue.Request{Profile: s.profile, Credential: credential, Account: account, Order: "order", CSR: parse(t, testca.SPIFFECSR(t))}
	return s
}

func (s *stored) order(id string, c *issue.Request) issue.Request {
	r := s.request
	r.Order = pki.OrderID(id)
	if c != nil {
		r.CSR = c.CSR
	}
	return r
}

func TestIssueOverSQLite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newStored(t, dir)
	var mu sync.Mutex
	handed := map[pki.OrderID]pki.Serial{}
	var group sync.WaitGroup
	for n := range 64 {
		group.Go(func() {
			r := s.order(fmt.Sprint("order-", n%16), nil)
			c, err := s.issuer.Issue(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if before := handed[r.Order]; before != "" && before != c.Serial {
				t.Errorf("order %s has two certificates", r.Order)
			}
			handed[r.Order] = c.Serial
		})
	}
	group.Wait()
	if err := s.store.Close(); err != nil {
		t.Fatal(err)
	}
	s.open(t, dir)
	t.Cleanup(func() {
		if err := s.store.Close(); err != nil {
			t.Error(err)
		}
	})
	for order, serial := range handed {
		again, err := s.issuer.Issue(t.Context(), s.order(string(order), nil))
		if err != nil || again.Serial != serial {
			t.Errorf("order %s after a restart: %v, %v, want serial %s", order, again, err, serial)
		}
		kept, err := s.store.Certificate(t.Context(), serial)
		if err != nil || !bytes.Equal(kept.DER, again.DER) || kept.Identity != testca.SPIFFE || kept.AccountID != s.request.Account.ID {
			t.Errorf("inventory has %+v, %v", kept, err)
		}
	}
	if stats, err := s.store.Stats(t.Context()); err != nil || stats.Certificates != 16 || stats.Identities != 1 {
		t.Errorf("Stats = %+v, %v", stats, err)
	}
	s.checkKeys(t)
	s.checkRevocation(t, handed["order-0"])
}

// checkKeys asks for certificates with keys that must not have one.
func (s *stored) checkKeys(t *testing.T) {
	t.Helper()
	issuing := s.cas[s.profile.IssuingCA]
	certificate := parsed(t, issuing.Certificate)
	own := s.order("ca-key", nil)
	request := *own.CSR
	spki := certificate.RawSubjectPublicKeyInfo
	request.SPKI, request.SPKIHash, request.PublicKey = spki, testca.SPKIHash(t, certificate.PublicKey), certificate.PublicKey
	own.CSR = &request
	if _, err := s.issuer.Issue(t.Context(), own); !fault.Is(err, fault.BadPublicKey) {
		t.Errorf("a certificate for the CA's own key: %v, want BadPublicKey", err)
	}
}

func (s *stored) checkRevocation(t *testing.T, serial pki.Serial) {
	t.Helper()
	ctx := t.Context()
	ca := s.cas[s.profile.IssuingCA]
	issuer := parsed(t, ca.Certificate)
	certificate, err := s.store.Certificate(ctx, serial)
	if err != nil {
		t.Fatal(err)
	}
	request, err := ocsp.CreateRequest(parsed(t, certificate.DER), issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if status := s.status(t, request, issuer); status != ocsp.Good {
		t.Errorf("OCSP before: %d", status)
	}
	if err := s.revoker.Revoke(ctx, revoke.Request{Serial: serial, Reason: pki.KeyCompromise}); err != nil {
		t.Fatal(err)
	}
	if status := s.status(t, request, issuer); status != ocsp.Revoked {
		t.Errorf("OCSP after: %d", status)
	}
	der, _, err := s.revoker.CRL(ctx, ca.ID)
	if err != nil {
		t.Fatal(err)
	}
	if list, err := x509.ParseRevocationList(der); err != nil || len(list.RevokedCertificateEntries) != 1 || list.CheckSignatureFrom(issuer) != nil {
		t.Errorf("CRL = %+v, %v", list, err)
	}
	// Every certificate here has the same key, which is blocked now.
	if _, err := s.issuer.Issue(ctx, s.order("after-revocation", nil)); !fault.Is(err, fault.BadPublicKey) {
		t.Errorf("a new certificate for a compromised key: %v, want BadPublicKey", err)
	}
	fresh := &issue.Request{CSR: parse(t, testca.SPIFFECSR(t))}
	if _, err := s.issuer.Issue(ctx, s.order("fresh-key", fresh)); err != nil {
		t.Errorf("a new certificate for a new key: %v", err)
	}
	if err := s.store.RevokeCredential(ctx, s.request.Credential.ID, testca.Now(), audit.Event{Time: testca.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.issuer.Issue(ctx, s.order("no-credential", fresh)); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("after the credential was revoked: %v, want Unauthorized", err)
	}
	if err := s.store.DeactivateAccount(ctx, s.request.Account.ID, audit.Event{Time: testca.Now()}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.issuer.Issue(ctx, s.order("fresh-key", fresh)); !fault.Is(err, fault.AccountDeactivated) {
		t.Errorf("after the account was deactivated: %v, want AccountDeactivated", err)
	}
}

func (s *stored) status(t *testing.T, request []byte, issuer *x509.Certificate) int {
	t.Helper()
	der, _, err := s.revoker.OCSP(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ocsp.ParseResponse(der, issuer)
	if err != nil {
		t.Fatal(err)
	}
	return response.Status
}

// losing makes every order lost to somebody who was a moment faster, with another certificate.
type losing struct {
	*testca.Ledger
	winner *pki.Certificate
}

func (l losing) RecordCertificate(context.Context, *pki.Certificate, pki.SPIFFEID, audit.Event) (*pki.Certificate, bool, error) {
	return l.winner, false, nil
}

func TestIssueLosesTheOrder(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.meshRequest(t, "order-1")
	winner := &pki.Certificate{Serial: "6d01", OrderID: "order-1", AccountID: request.Account.ID, CSRHash: request.CSR.Hash}
	s.registry = nil
	for name, test := range map[string]struct {
		change func(*pki.Certificate)
		kind   fault.Kind
	}{
		"same CSR":        {func(*pki.Certificate) {}, fault.Internal},
		"other CSR":       {func(c *pki.Certificate) { c.CSRHash[0] ^= 1 }, fault.OrderNotReady},
		"another account": {func(c *pki.Certificate) { c.AccountID = "stranger" }, fault.Unauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			won := *winner
			test.change(&won)
			issuer, err := issue.New(issue.Config{
				Store: losing{testca.NewLedger(), &won}, Signers: s.Hierarchy, CA: s.CA, Denied: testca.NothingDenied, Now: testca.Now, Random: rand.Reader,
			})
			if err != nil {
				t.Fatal(err)
			}
			c, err := issuer.Issue(t.Context(), request)
			if test.kind == fault.Internal {
				if err != nil || c.Serial != "6d01" {
					t.Errorf("Issue = %v, %v, want the winner's certificate", c, err)
				}
				return
			}
			if !fault.Is(err, test.kind) || c != nil {
				t.Errorf("Issue = %v, %v, want kind %q", c, err, test.kind)
			}
		})
	}
}
