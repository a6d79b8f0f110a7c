package agentsrv_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/agentsrv"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
)

// knownBy returns an item for the workload that has shown a certificate.
func knownBy(t *testing.T, chain [][]byte) *agentapi.Item {
	t.Helper()
	item := workload(t, "demo", "web")
	item.Caller.Pod, item.Caller.PodUid, item.Caller.Node = "", "", ""
	shown := certificate(t, chain)
	fingerprint := sha256.Sum256(shown.Raw)
	item.Caller.CertificateSerial, item.Caller.CertificateFingerprint = shown.SerialNumber.Bytes(), fingerprint[:]
	return item
}

// issued returns the chain for an item that must not be refused.
func issued(t *testing.T, client agentapi.AgentClient, item *agentapi.Item) [][]byte {
	t.Helper()
	result := issueOne(t, client, item)
	if result.GetCode() != 0 {
		t.Fatalf("refused: %s %s", codes.Code(result.GetCode()), result.GetMessage())
	}
	return result.GetChain()
}

func (l *lab) revoke(t *testing.T, chain [][]byte, reason pki.RevocationReason) {
	t.Helper()
	check(t, l.Revoker.Revoke(t.Context(), revoke.Request{Serial: serial(t, chain), Reason: reason, Actor: acmetest.By().Actor}))
}

// A workload that is known by a certificate of ours gets the next one, and the inventory tells by which.
func TestPresented(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	first := issued(t, client, workload(t, "demo", "web"))
	second := issued(t, client, knownBy(t, first))
	row, err := l.Store.Certificate(t.Context(), serial(t, second))
	check(t, err)
	want := pki.Workload{Cluster: "east-1", Namespace: "demo", ServiceAccount: "web", Presented: serial(t, first)}
	if row.Workload != want {
		t.Errorf("inventory has %+v, want %+v", row.Workload, want)
	}
	events, err := l.Store.Events(t.Context(), pki.EventFilter{Target: string(row.Serial), Limit: 10})
	check(t, err)
	if len(events) != 1 || *events[0].Detail.Workload != want {
		t.Errorf("events are %+v", events)
	}
	// Another agent of the same mesh knows it too.
	west := l.AddCredential(t, catalog.NewCredential{ProfileID: l.mesh.ID, Name: "west"})
	issued(t, l.dial(t, l.enrol(t, west)), knownBy(t, second))
}

func TestPresentedRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	good := issued(t, client, workload(t, "demo", "web"))
	revoked := issued(t, client, workload(t, "demo", "web"))
	l.revoke(t, revoked, pki.Unspecified)
	other := issued(t, client, workload(t, "demo", "api"))
	// Of a CA that is not ours; the root above is the agent's concern.
	foreign, _ := selfSigned(t, meshTemplate(t, "spiffe://cluster.local/ns/demo/sa/web"))
	forged := meshTemplate(t, "spiffe://cluster.local/ns/demo/sa/web")
	forged.SerialNumber = serial(t, good).Int()
	twin, _ := selfSigned(t, forged)
	agent := l.enrol(t, l.credential)
	changed := func(change func(*agentapi.Caller)) *agentapi.Item {
		item := knownBy(t, good)
		change(item.Caller)
		return item
	}
	for name, test := range map[string]struct {
		item *agentapi.Item
		code codes.Code
		want string
	}{
		"accepts/good":           {knownBy(t, good), codes.OK, ""},
		"refuses/revoked":        {knownBy(t, revoked), codes.Unauthenticated, "was revoked"},
		"refuses/other-identity": {knownBy(t, other), codes.Unauthenticated, "sa/api"},
		"refuses/other-ca":       {knownBy(t, foreign.Certificate), codes.Unauthenticated, "not in the inventory"},
		"refuses/same-serial":    {knownBy(t, twin.Certificate), codes.Unauthenticated, "not in the inventory"},
		"refuses/agents-own":     {knownBy(t, agent.Certificate), codes.Unauthenticated, "is for"},
		"refuses/no-fingerprint": {changed(func(c *agentapi.Caller) { c.CertificateFingerprint = nil }), codes.InvalidArgument, "fingerprint of 0"},
		"refuses/no-serial":      {changed(func(c *agentapi.Caller) { c.CertificateSerial = nil }), codes.InvalidArgument, "serial of 0"},
		"refuses/long-serial":    {changed(func(c *agentapi.Caller) { c.CertificateSerial = make([]byte, 21) }), codes.InvalidArgument, "serial of 21"},
		"refuses/leading-zero":   {changed(func(c *agentapi.Caller) { c.CertificateSerial = append([]byte{0}, 1) }), codes.InvalidArgument, "leading zeros"},
		"refuses/impersonated":   {changed(func(c *agentapi.Caller) { c.ImpersonatedBy = "istio-system/ztunnel/z" }), codes.InvalidArgument, "impersonated"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := issueOne(t, client, test.item)
			if test.code == codes.Unauthenticated {
				defer l.refusedCaller(t, test.item, test.want)
			}
			if result.GetCode() != uint32(test.code) || !strings.Contains(result.GetMessage(), test.want) {
				t.Errorf("%s %q, want %s with %q", codes.Code(result.GetCode()), result.GetMessage(), test.code, test.want)
			}
		})
	}
}

// refusedCaller checks that the audit log tells which certificate was shown in vain, and why it did not count.
func (l *lab) refusedCaller(t *testing.T, item *agentapi.Item, reason string) {
	t.Helper()
	shown := fmt.Sprintf("%x", item.GetCaller().GetCertificateSerial())
	events, err := l.Store.Events(t.Context(), pki.EventFilter{Target: shown, Action: string(audit.CertificateRefuse), Limit: 10})
	check(t, err)
	for _, ev := range events {
		if ev.Outcome == audit.Refused && strings.Contains(ev.Detail.Reason, reason) && ev.Detail.Workload.Presented == pki.Serial(shown) &&
			ev.Actor.Kind == audit.Agent && len(ev.Detail.Names.URIs) == 1 {
			return
		}
	}
	t.Errorf("events are %+v", events)
}

// A certificate that has expired is refused also when the agent's clock says otherwise.
func TestPresentedExpired(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	short := workload(t, "demo", "web")
	short.LifetimeSeconds = 600
	client := l.agent(t)
	item := knownBy(t, issued(t, client, short))
	l.Clock.Add(11 * time.Minute)
	check(t, l.Catalog.Load(t.Context()))
	if result := issueOne(t, client, item); codes.Code(result.GetCode()) != codes.Unauthenticated || !strings.Contains(result.GetMessage(), "expired") {
		t.Errorf("got %v", result)
	}
}

// Whoever renewed a certificate that he stole loses all that came of it when the stolen one is revoked.
func TestPresentedAncestors(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason pki.RevocationReason
		code   codes.Code
	}{
		"refuses/compromised": {pki.KeyCompromise, codes.Unauthenticated},
		"refuses/withdrawn":   {pki.PrivilegeWithdrawn, codes.Unauthenticated},
		"accepts/superseded":  {pki.Superseded, codes.OK}, // another took its place, which is this one
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			client := l.agent(t)
			first := issued(t, client, workload(t, "demo", "web"))
			third := issued(t, client, knownBy(t, issued(t, client, knownBy(t, first))))
			l.revoke(t, first, test.reason)
			result := issueOne(t, client, knownBy(t, third))
			if codes.Code(result.GetCode()) != test.code {
				t.Errorf("got %s %q, want %s", codes.Code(result.GetCode()), result.GetMessage(), test.code)
			}
			// Without the certificate, with a token, the workload is as good as before.
			issued(t, client, workload(t, "demo", "web"))
		})
	}
}

// blind is storage that cannot find certificates for a while.
type blind struct {
	agentsrv.Store
	err error // what it says of workloads' certificates
	own pki.Serial
}

func (b *blind) Certificate(ctx context.Context, serial pki.Serial) (*pki.Certificate, error) {
	if b.err != nil && serial != b.own {
		return nil, b.err
	}
	return b.Store.Certificate(ctx, serial)
}

// While the inventory cannot be asked, nobody is told that his certificate is bad.
func TestPresentedLater(t *testing.T) {
	t.Parallel()
	var storage *blind
	l := newLab(t, func(c *agentsrv.Config) {
		storage = &blind{Store: c.Store}
		c.Store = storage
	})
	own := l.enrol(t, l.credential)
	storage.own = serial(t, own.Certificate)
	client := l.dial(t, own)
	item := knownBy(t, issued(t, client, workload(t, "demo", "web")))
	storage.err = fault.New(fault.Unavailable, "database is busy")
	if result := issueOne(t, client, item); codes.Code(result.GetCode()) != codes.Unavailable {
		t.Errorf("got %v", result)
	}
}

// An agent tells which of its clusters a workload is in.
func TestClusters(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	item := workload(t, "demo", "web")
	item.Caller.Cluster = "west.2"
	row, err := l.Store.Certificate(t.Context(), serial(t, issued(t, client, item)))
	check(t, err)
	if row.Workload.Cluster != "west.2" {
		t.Errorf("inventory has %+v", row.Workload)
	}
	for _, cluster := range []string{"a b", strings.Repeat("c", 64), "a/b", "\n"} {
		item := workload(t, "demo", "web")
		item.Caller.Cluster = cluster
		if result := issueOne(t, client, item); codes.Code(result.GetCode()) != codes.InvalidArgument || !strings.Contains(result.GetMessage(), "cluster") {
			t.Errorf("%q: got %v", cluster, result)
		}
	}
}
