package acme_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// storage stands before the real storage: it counts orders that get a row, fails when it is told to, and shuts accounts
// out.
type storage struct {
	acme.Store
	orders   *atomic.Int32
	down     *atomic.Bool
	shutOut  *atomic.Bool
	failures error
}

func newStorage() (*storage, acmetest.Options) {
	state := &storage{orders: new(atomic.Int32), down: new(atomic.Bool), shutOut: new(atomic.Bool), failures: errors.New("disk on fire")}
	return state, acmetest.Options{Store: func(real *store.Store) acme.Store {
		wrapped := *state
		wrapped.Store = real
		return &wrapped
	}}
}

func (s *storage) CreateOrder(ctx context.Context, o *pki.Order, ev audit.Event) error {
	s.orders.Add(1)
	return s.Store.CreateOrder(ctx, o, ev)
}

func (s *storage) Account(ctx context.Context, id pki.AccountID) (*pki.Account, error) {
	if s.down.Load() {
		return nil, s.failures
	}
	found, err := s.Store.Account(ctx, id)
	return s.shut(found, err)
}

func (s *storage) AccountByThumbprint(ctx context.Context, scope pki.ProfileID, thumbprint string) (*pki.Account, error) {
	if s.down.Load() {
		return nil, s.failures
	}
	found, err := s.Store.AccountByThumbprint(ctx, scope, thumbprint)
	return s.shut(found, err)
}

func (s *storage) shut(found *pki.Account, err error) (*pki.Account, error) {
	if err == nil && s.shutOut.Load() {
		found.Status = pki.StatusRevoked
	}
	return found, err
}

func preAuthorizedRows() []row {
	const id = "spiffe://cluster.local/ns/demo/sa/pre"
	return []row{
		{"PRE-1", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			one, two := ok(t, order(t, c, names("a.pre1.svc", "b.pre1.svc")), http.StatusCreated).Order(t), ok(t, order(t, c, names("a.pre1.svc")), http.StatusCreated).Order(t)
			if one.Status != "ready" || len(one.Authorizations) != 2 || len(two.Authorizations) != 1 {
				t.Fatalf("orders %+v and %+v", one, two)
			}
			seen := map[string]bool{}
			for i, at := range append(one.Authorizations, two.Authorizations...) {
				a := readAuthz(t, c, at)
				if seen[at] || a.Status != "valid" || a.Identifier.Value == "" || len(a.Challenges) == 0 {
					t.Errorf("authorization %d at %s: %+v", i, at, a)
				}
				seen[at] = true
				for _, challenge := range a.Challenges {
					if challenge.Status != "valid" || challenge.Validated == "" || challenge.Token == "" || challenge.URL == "" {
						t.Errorf("challenge %+v", challenge)
					}
					if got := statusOf(t, c, challenge.URL); got != "valid" {
						t.Errorf("challenge is %s", got)
					}
					ok(t, c.PostRaw(t, challenge.URL, []byte("{}")), http.StatusOK)
				}
			}
		}},
		{"PRE-2", func(t *testing.T, s *suite) {
			problem := refused(t, order(t, s.account(t, "istio"), names("a.pre2.svc", "b.pre2.example.com", "evilsvc")), http.StatusForbidden, "rejectedIdentifier", "compound")
			if len(problem.Subproblems) != 2 {
				t.Errorf("subproblems %+v", problem.Subproblems)
			}
		}},
		{"PRE-3", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			for _, payload := range []string{`{"identifiers":null}`, `{"identifiers":[]}`, `{}`} {
				answer := ok(t, order(t, c, payload), http.StatusCreated)
				for _, want := range []string{`"status":"ready"`, `"identifiers":[]`, `"authorizations":[]`, `"expires":"`, `"finalize":"`} {
					if !strings.Contains(string(answer.Body), want) {
						t.Errorf("order %s has no %s", answer.Body, want)
					}
				}
				o := answer.Order(t)
				if !strings.HasPrefix(o.URL, s.URL) {
					t.Errorf("Location %q", o.URL)
				}
				if read := ok(t, c.Read(t, o.URL), http.StatusOK); string(read.Body) != string(answer.Body) {
					t.Errorf("order %s is read as %s", answer.Body, read.Body)
				}
			}
		}},
		{"PRE-4", func(t *testing.T, s *suite) {
			before := s.scoped(t)
			for _, c := range []*acmetest.Client{s.account(t, "server"), s.account(t, "challenge"), before} {
				refused(t, order(t, c, `{"identifiers":null}`), http.StatusBadRequest, "malformed")
				refused(t, order(t, c, `{"identifiers":null,"profile":"istio"}`), http.StatusBadRequest, "invalidProfile", "malformed")
				if got := ok(t, c.Read(t, c.KID+"/orders"), http.StatusOK); string(got.Body) != "{\"orders\":[]}\n" {
					t.Errorf("orders %s", got.Body)
				}
			}
		}},
		{"PRE-5", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			emptyOrganization, err := asn1.Marshal(pkix.Name{Organization: []string{""}}.ToRDNSequence())
			if err != nil {
				t.Fatal(err)
			}
			extension := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: sequenceOf(general(6, id))}
			critical := extension
			critical.Critical = true
			for name, template := range map[string]*x509.CertificateRequest{
				"plain": meshRequest(id), "critical": {ExtraExtensions: []pkix.Extension{critical}}, "not-critical": {ExtraExtensions: []pkix.Extension{extension}},
				"empty-organization": {RawSubject: emptyOrganization, URIs: meshRequest(id).URIs},
			} {
				t.Run(name, func(t *testing.T) {
					valid := ok(t, c.Finalize(t, meshOrder(t, c), csrOf(t, acmetest.NewKey(t), template)), http.StatusOK).Order(t)
					checkMeshCertificate(t, s, leaf(t, c.Read(t, valid.Certificate).Body), []string{id}, nil)
				})
			}
		}},
		{"PRE-6", refusedSPIFFEIDs},
		{"PRE-7", segmentBorders},
		{"PRE-8", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			with := func(change func(*x509.CertificateRequest)) []byte {
				template := meshRequest(id)
				change(template)
				return acmetest.CSR(t, template)
			}
			s.refusesCSRs(t, c, meshOrder(t, c), map[string][]byte{
				"dns":      with(func(r *x509.CertificateRequest) { r.DNSNames = []string{"pre8.svc"} }),
				"cn":       with(func(r *x509.CertificateRequest) { r.Subject.CommonName = "pre8.svc" }),
				"dns-only": acmetest.CSR(t, &x509.CertificateRequest{DNSNames: []string{"pre8.svc"}}),
				"nothing":  acmetest.CSR(t, &x509.CertificateRequest{}),
				"istiod":   with(func(r *x509.CertificateRequest) { r.DNSNames = []string{"istiod.istio-system.svc"} }),
			}, "badCSR")
		}},
		{"PRE-9", func(t *testing.T, s *suite) {
			mesh, server := s.account(t, "istio"), s.account(t, "server")
			both := func(uri, dns string) []byte {
				return acmetest.CSR(t, &x509.CertificateRequest{DNSNames: []string{dns}, URIs: meshRequest(uri).URIs})
			}
			made := ok(t, order(t, mesh, names("pre9.svc")), http.StatusCreated).Order(t)
			s.refusesCSRs(t, mesh, made, map[string][]byte{
				"other-dns": both(id, "other.svc"), "other-domain": both("spiffe://evil.local/ns/demo/sa/pre", "pre9.svc"),
			}, "badCSR", "rejectedIdentifier")
			valid := ok(t, mesh.Finalize(t, made, both(id, "pre9.svc")), http.StatusOK).Order(t)
			checkMeshCertificate(t, s, leaf(t, mesh.Read(t, valid.Certificate).Body), []string{id}, []string{"pre9.svc"})
			made = ok(t, order(t, server, names("pre9.example.com")), http.StatusCreated).Order(t)
			s.refusesCSRs(t, server, made, map[string][]byte{"no-uris-here": both(id, "pre9.example.com")}, "badCSR", "rejectedIdentifier")
		}},
		{"PRE-10", func(t *testing.T, s *suite) {
			_, certificate, _ := s.mesh(t, s.account(t, "istio"), id)
			if got := fmt.Sprint(certificate.ExtKeyUsage); got != fmt.Sprint([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
				t.Errorf("usages %s", got)
			}
		}},
		{"PRE-11", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			v := s.Profiles["istio"].Rules.Validity
			now := s.Clock.Now()
			_, byDefault, _ := s.mesh(t, c, id)
			if life := byDefault.NotAfter.Sub(now); life > time.Duration(v.Default)+time.Minute || life < time.Duration(v.Default)/2 {
				t.Errorf("default lifetime %s", life)
			}
			asked := now.Add(90 * time.Minute).UTC().Truncate(time.Second)
			made := ok(t, order(t, c, fmt.Sprintf(`{"identifiers":null,"notAfter":%q}`, asked.Format(time.RFC3339))), http.StatusCreated).Order(t)
			valid := ok(t, c.Finalize(t, made, acmetest.WorkloadCSR(t, id)), http.StatusOK).Order(t)
			if got := leaf(t, c.Read(t, valid.Certificate).Body).NotAfter; !got.Equal(asked) {
				t.Errorf("notAfter %s, asked for %s", got, asked)
			}
		}},
		{"PRE-12", func(t *testing.T, _ *suite) {
			state, options := newStorage()
			s := apart(t, options)
			c := s.account(t, "istio")
			ok(t, existing(t, c), http.StatusOK)
			s.Advance(t, 5*time.Second) // the copy is no longer fresh
			state.down.Store(true)
			ok(t, existing(t, c), http.StatusOK)
			ok(t, order(t, c, `{"identifiers":null}`), http.StatusCreated)
			// A stranger is told to come again, not that he is unknown.
			refused(t, existing(t, s.client(t)), http.StatusInternalServerError, "serverInternal")
		}},
		{"PRE-13", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			key := acmetest.NewKey(t)
			for range 3 {
				ok(t, c.Finalize(t, meshOrder(t, c), csrOf(t, key, meshRequest(id))), http.StatusOK)
			}
			s.refusesCSRs(t, c, meshOrder(t, c), map[string][]byte{"account-key": csrOf(t, c.Key, meshRequest(id))}, "badCSR")
		}},
		{"PRE-14", func(t *testing.T, s *suite) {
			credential := s.credentialOf(t, s.Profiles["istio"], "pre14")
			c := s.client(t)
			c.Register(t, credential)
			replica := on(c, s.Replica(t, acme.Options{}))
			made := meshOrder(t, replica)
			if _, err := s.Catalog.RevokeCredential(t.Context(), credential.ID, acmetest.By()); err != nil {
				t.Fatal(err)
			}
			for _, sender := range []*acmetest.Client{c, replica} {
				refused(t, order(t, sender, `{"identifiers":null}`), http.StatusForbidden, "unauthorized")
				refused(t, sender.Finalize(t, made, acmetest.WorkloadCSR(t, id)), http.StatusForbidden, "unauthorized")
			}
			obtained(t, s, s.account(t, "istio"), id)
		}},
		{"PRE-15", func(t *testing.T, _ *suite) {
			state, options := newStorage()
			s := apart(t, options)
			c := s.account(t, "istio")
			for range 5 {
				meshOrder(t, c)
				ok(t, order(t, c, names("pre15.svc")), http.StatusCreated)
			}
			if n := state.orders.Load(); n != 0 {
				t.Errorf("%d orders were stored", n)
			}
			// The URL is the order: sealed, bound to the account, of no use when it is altered.
			made := meshOrder(t, c)
			at := strings.LastIndex(made.URL, "/") + 1
			token := made.URL[at:]
			for _, other := range []string{token[:len(token)-1], token + "A", token[:10] + flip(token[10:]), strings.Repeat("A", len(token)), strings.Repeat("A", 20000)[:4000]} {
				refused(t, c.Read(t, made.URL[:at]+other), http.StatusNotFound, "malformed")
				refused(t, c.Finalize(t, &acmetest.Order{Finalize: made.URL[:at] + other + "/finalize"}, acmetest.WorkloadCSR(t, id)), http.StatusNotFound, "malformed")
			}
			refused(t, s.account(t, "istio").Read(t, made.URL), http.StatusNotFound, "malformed")
		}},
		{"PRE-16", auditRecords},
	}
}

func refusedSPIFFEIDs(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	made := meshOrder(t, c)
	csrs := map[string][]byte{}
	for name, id := range map[string]string{
		"trust-domain": "spiffe://evil.local/ns/demo/sa/web", "sub-domain": "spiffe://a.cluster.local/ns/demo/sa/web", "suffix": "spiffe://evilcluster.local/ns/demo/sa/web",
		"upper-scheme": "SPIFFE://cluster.local/ns/demo/sa/web", "upper-domain": "spiffe://Cluster.local/ns/demo/sa/web", "port": "spiffe://cluster.local:8443/ns/demo/sa/web",
		"userinfo": "spiffe://a@cluster.local/ns/demo/sa/web", "query": "spiffe://cluster.local/ns/demo/sa/web?x", "empty-query": "spiffe://cluster.local/ns/demo/sa/web?",
		"fragment": "spiffe://cluster.local/ns/demo/sa/web#x", "percent": "spiffe://cluster.local/ns/d%65mo/sa/web", "percent-slash": "spiffe://cluster.local/ns/demo%2Fx/sa/web",
		"dots": "spiffe://cluster.local/ns/demo/sa/b/../../", "dot-dot": "spiffe://cluster.local/ns/../sa/web", "dot": "spiffe://cluster.local/ns/./sa/web",
		"empty-segment": "spiffe://cluster.local/ns//sa/web", "trailing": "spiffe://cluster.local/ns/demo/sa/web/", "no-path": "spiffe://cluster.local", "root": "spiffe://cluster.local/",
		"long": "spiffe://cluster.local/ns/demo/sa/" + strings.Repeat("a", 2100), "not-ascii": "spiffe://cluster.local/ns/dem\xc3\xb6/sa/web", "nul": "spiffe://cluster.local/ns/demo/sa/web\x00",
		"https": "https://cluster.local/ns/demo/sa/web", "no-authority": "spiffe:/ns/demo/sa/web", "three-slashes": "spiffe:///ns/demo/sa/web", "other-path": "spiffe://cluster.local/workload/web",
		"short": "spiffe://cluster.local/ns/demo/sa", "longer": "spiffe://cluster.local/ns/demo/sa/web/x", "space": "spiffe://cluster.local/ns/demo/sa/we b", "newline": "spiffe://cluster.local/ns/demo/sa/web\n",
		"empty": "", "star": "spiffe://cluster.local/ns/*/sa/web", "semicolon": "spiffe://cluster.local/ns/demo/sa/web;x",
	} {
		csrs[name] = uriCSR(t, id)
	}
	csrs["two"] = uriCSR(t, "spiffe://cluster.local/ns/demo/sa/web", "spiffe://cluster.local/ns/demo/sa/admin")
	csrs["two-schemes"] = uriCSR(t, "spiffe://cluster.local/ns/demo/sa/web", "https://x.example")
	csrs["twice"] = uriCSR(t, "spiffe://cluster.local/ns/demo/sa/web", "spiffe://cluster.local/ns/demo/sa/web")
	s.refusesCSRs(t, c, made, csrs, "badCSR", "rejectedIdentifier")
	// The path is case-sensitive and may have upper case.
	ok(t, c.Finalize(t, made, uriCSR(t, "spiffe://cluster.local/ns/demo/sa/Web_1.x-y")), http.StatusOK)
}

// uriCSR returns a CSR with URIs as they are given.
func uriCSR(t *testing.T, uris ...string) []byte {
	t.Helper()
	var all []byte
	for _, uri := range uris {
		name, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(uri)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name...)
	}
	return acmetest.CSR(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: sequenceOf(all)}}})
}

func segmentBorders(t *testing.T, s *suite) {
	profile := s.AddProfile(t, "pre7", pki.PrivateMTLS, pki.MTLSOverACME, func(rules *pki.ProfileRules) {
		*rules = s.Profiles["istio"].Rules
		rules.Names.SPIFFE.Allow = []string{"prod/*", "team-*/web"}
		rules.Names.SPIFFE.Deny = []string{"prod/admin"}
	})
	c := s.client(t)
	c.Register(t, s.credentialOf(t, profile, "pre7"))
	made := meshOrder(t, c)
	csrs := map[string][]byte{}
	for _, path := range []string{
		"ns/prod-evil/sa/web", "ns/evil-prod/sa/web", "ns/prod/sa/admin", "ns/PROD/sa/web", "ns/team-a/sa/web2", "ns/team-a/sa/aweb", "ns/team-a/b/sa/web", "ns/prod/x/sa/web", "ns/demo/sa/prod", "ns/team/sa/web",
	} {
		csrs[strings.ReplaceAll(path, "/", "_")] = uriCSR(t, "spiffe://cluster.local/"+path)
	}
	s.refusesCSRs(t, c, made, csrs, "badCSR", "rejectedIdentifier")
	for _, path := range []string{"ns/prod/sa/web", "ns/prod/sa/admin2", "ns/team-a/sa/web"} {
		ok(t, c.Finalize(t, meshOrder(t, c), uriCSR(t, "spiffe://cluster.local/"+path)), http.StatusOK)
	}
}

func auditRecords(t *testing.T, s *suite) {
	profile, c := s.profile(t, "pre16")
	made := meshOrder(t, c)
	csr := acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/pre16")
	refused(t, c.Finalize(t, made, acmetest.WorkloadCSR(t, "spiffe://evil.local/ns/demo/sa/pre16")), http.StatusForbidden, "rejectedIdentifier")
	valid := ok(t, c.Finalize(t, made, csr), http.StatusOK).Order(t)
	row := certificateRow(t, s, valid)
	account := pki.AccountID(c.KID[strings.LastIndex(c.KID, "/")+1:])
	events, err := s.Store.Events(t.Context(), pki.EventFilter{Actor: string(account), Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	outcomes := map[audit.Action]audit.Event{}
	for _, event := range events {
		outcomes[event.Action] = event
	}
	done, refusal := outcomes[audit.CertificateIssue], outcomes[audit.CertificateRefuse]
	hash := fmt.Sprintf("%x", sha256.Sum256(csr))
	d := done.Detail
	if d.Account != account || d.Credential != row.CredentialID || d.Credential == "" || d.Profile != profile.ID || d.Order != row.OrderID || d.Order == "" ||
		d.CSRHash != hash || d.Serial != row.Serial || d.Names == nil || strings.Join(d.Names.URIs, "") != "spiffe://cluster.local/ns/demo/sa/pre16" ||
		done.Outcome != audit.Done || done.Request == "" || done.Client.UserAgent != "acmetest" || done.Client.Address == "" {
		t.Errorf("event of the certificate %+v", done)
	}
	if r := refusal.Detail; refusal.Outcome != audit.Refused || r.Account != account || r.Profile != profile.ID || r.Order != row.OrderID || r.Reason == "" || r.Names == nil {
		t.Errorf("event of the refusal %+v", refusal)
	}
}
