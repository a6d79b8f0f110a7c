package agentsrv_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/agentsrv"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
)

// listed checks that a set has one good CRL of each CA, and returns how many certificates it lists.
func listed(t *testing.T, set *agentapi.RevocationLists, now time.Time, cas ...*pki.CA) int {
	t.Helper()
	if len(set.GetCrls()) != len(cas) || set.GetVersion() == "" || set.GetWithheld() != "" {
		t.Fatalf("%d CRLs of %d CAs, version %q, withheld %q", len(set.GetCrls()), len(cas), set.GetVersion(), set.GetWithheld())
	}
	entries := 0
	for _, ca := range cas {
		issuer, err := x509.ParseCertificate(ca.Certificate)
		check(t, err)
		found := false
		for _, der := range set.GetCrls() {
			crl, err := x509.ParseRevocationList(der)
			check(t, err)
			if !bytes.Equal(crl.RawIssuer, issuer.RawSubject) {
				continue
			}
			found = true
			check(t, crl.CheckSignatureFrom(issuer))
			if !crl.NextUpdate.After(now) || crl.ThisUpdate.After(now) {
				t.Errorf("CRL of %s is good from %s to %s", ca.Name, crl.ThisUpdate, crl.NextUpdate)
			}
			entries += len(crl.RevokedCertificateEntries)
		}
		if !found {
			t.Errorf("CA %s has no CRL", ca.Name)
		}
	}
	return entries
}

// ask returns the bundle for an agent that has the given answer.
func ask(t *testing.T, client agentapi.AgentClient, has *agentapi.BundleResponse, wait int64) *agentapi.BundleResponse {
	t.Helper()
	out, err := client.Bundle(t.Context(), &agentapi.BundleRequest{
		Version: has.GetBundle().GetVersion(), CrlsVersion: has.GetCrls().GetVersion(), WithCrls: true, WaitSeconds: wait,
	})
	check(t, err)
	return out
}

// Each CA of each chain has a list, also one that lists nothing, and a revocation is told to agents that wait.
func TestCRLs(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	first := ask(t, client, nil, 60) // at once
	if n := listed(t, first.GetCrls(), l.Clock.Now(), l.Root, l.Issuing); n != 0 {
		t.Errorf("%d certificates are listed", n)
	}
	// What has nothing to do with revocation makes no new lists.
	l.AddCredential(t, catalog.NewCredential{ProfileID: l.mesh.ID, Name: "another"})
	if again := ask(t, client, first, 0); again.GetCrls() != nil || again.GetBundle().GetVersion() != first.GetBundle().GetVersion() {
		t.Errorf("got version %s after %s", again.GetCrls().GetVersion(), first.GetCrls().GetVersion())
	}
	leaf := issued(t, client, workload(t, "demo", "web"))
	got := make(chan *agentapi.BundleResponse, 1)
	began := time.Now()
	go func() { got <- ask(t, client, first, 60) }()
	l.revoke(t, leaf, pki.KeyCompromise)
	second := <-got
	if took := time.Since(began); took > 10*time.Second { // a second and the time to sign; more on a machine that is busy
		t.Errorf("a revocation took %s to reach an agent", took)
	}
	if n := listed(t, second.GetCrls(), l.Clock.Now(), l.Root, l.Issuing); n != 1 {
		t.Errorf("%d certificates are listed", n)
	}
	check(t, testutil.GatherAndCompare(l.registry, strings.NewReader(`# HELP certloom_agentapi_crls_total Sets of CRLs by what became of them when an agent was answered: sent, withheld (agents are told why), failed (asked again).
# TYPE certloom_agentapi_crls_total counter
certloom_agentapi_crls_total{outcome="failed"} 0
certloom_agentapi_crls_total{outcome="sent"} 2
certloom_agentapi_crls_total{outcome="withheld"} 0
`), "certloom_agentapi_crls_total"))
	// Half of their life later there are new ones, with the same entries.
	l.Clock.Add(13 * time.Hour)
	check(t, l.Catalog.Load(t.Context()))
	third := ask(t, l.agent(t), second, 0)
	if n := listed(t, third.GetCrls(), l.Clock.Now(), l.Root, l.Issuing); n != 1 {
		t.Errorf("%d certificates are listed", n)
	}
}

// Whoever does not ask for CRLs gets none, and is not told of new ones.
func TestCRLsUnasked(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	out, err := l.agent(t).Bundle(t.Context(), &agentapi.BundleRequest{})
	check(t, err)
	if out.GetCrls() != nil {
		t.Errorf("got %v", out.GetCrls())
	}
}

// A second root comes with the lists of its CAs in the same answer.
func TestCRLsOfTwoRoots(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	first := ask(t, client, nil, 0)
	root, issuing := l.secondRoot(t)
	second := ask(t, client, first, 60)
	if len(second.GetBundle().GetRoots()) != 2 {
		t.Fatalf("%d roots", len(second.GetBundle().GetRoots()))
	}
	listed(t, second.GetCrls(), l.Clock.Now(), l.Root, l.Issuing, root, issuing)
}

// secondRoot makes the profile's trust domain one of two roots. l.Issuing stays the first one.
func (l *lab) secondRoot(t *testing.T) (root, issuing *pki.CA) {
	t.Helper()
	root, err := l.Authority.CreateRoot(t.Context(), issue.Options{Name: "root-2", CommonName: "Second Root"}, acmetest.By())
	check(t, err)
	issuing, err = l.Authority.CreateIssuing(t.Context(), issue.IssuingOptions{
		Options: issue.Options{Name: "issuing-2", CommonName: "Second Issuing CA"}, Parent: root.ID,
	}, acmetest.By())
	check(t, err)
	check(t, l.Catalog.Load(t.Context()))
	before := l.Issuing
	l.Issuing = issuing
	l.AddProfile(t, "mesh-2", pki.PrivateMTLS, pki.Agent, func(rules *pki.ProfileRules) { rules.Names = l.mesh.Rules.Names })
	l.Issuing = before
	return root, issuing
}

// A set that would not be complete, or is too large, is not sent; the agent is told why, once.
func TestCRLsWithheld(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*agentsrv.Config)
		setUp  func(*testing.T, *lab)
		want   string
	}{
		"too-large": {func(c *agentsrv.Config) {
			large := make([]byte, 5<<20)
			c.CRL = func(context.Context, pki.CAID) ([]byte, time.Time, error) { return large, time.Time{}, nil }
		}, nil, "10485760 bytes"},
		"plugged-in-ca": {nil, func(t *testing.T, l *lab) {
			t.Helper()
			root, err := l.Authority.CreateRoot(t.Context(), issue.Options{Name: "root-2", CommonName: "Second Root"}, acmetest.By())
			check(t, err)
			l.Issuing, err = l.Authority.CreateIssuing(t.Context(), issue.IssuingOptions{
				Options: issue.Options{Name: "issuing-2", CommonName: "Second Issuing CA", PathLen: new(1)}, Parent: root.ID,
			}, acmetest.By())
			check(t, err)
			check(t, l.Catalog.Load(t.Context()))
			l.AddProfile(t, "mesh-2", pki.PrivateMTLS, pki.Agent, func(rules *pki.ProfileRules) { rules.Names = l.mesh.Rules.Names })
			l.AddProfile(t, "istiod-ca", pki.MeshIntermediate, pki.RESTAPI, func(*pki.ProfileRules) {})
		}, `"istiod-ca"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, test.change)
			if test.setUp != nil {
				test.setUp(t, l)
			}
			client := l.agent(t)
			out := ask(t, client, nil, 0)
			if len(out.GetCrls().GetCrls()) > 0 || !strings.Contains(out.GetCrls().GetWithheld(), test.want) {
				t.Errorf("got %d CRLs, withheld %q", len(out.GetCrls().GetCrls()), out.GetCrls().GetWithheld())
			}
			if again := ask(t, client, out, 0); again.GetCrls() != nil {
				t.Error("told again")
			}
		})
	}
}

// CRLs that cannot be made keep nobody from the roots.
func TestCRLsFail(t *testing.T) {
	t.Parallel()
	var fails atomic.Bool
	fails.Store(true)
	l := newLab(t, func(c *agentsrv.Config) {
		make := c.CRL
		c.CRL = func(ctx context.Context, id pki.CAID) ([]byte, time.Time, error) {
			if fails.Load() {
				return nil, time.Time{}, errors.New("the disk burns")
			}
			return make(ctx, id)
		}
	})
	client := l.agent(t)
	out := ask(t, client, nil, 0)
	if len(out.GetBundle().GetRoots()) != 1 || out.GetCrls() != nil {
		t.Errorf("got %v", out)
	}
	fails.Store(false)
	listed(t, ask(t, client, out, 60).GetCrls(), l.Clock.Now(), l.Root, l.Issuing)
}
