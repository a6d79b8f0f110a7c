package agentsrv_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/agentsrv"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
)

func TestIssue(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	item := workload(t, "demo", "web")
	item.Caller.ImpersonatedBy = "istio-system/ztunnel/ztunnel-abcde"
	result := issueOne(t, l.agent(t), item)
	if result.GetCode() != 0 || result.GetMessage() != "" {
		t.Fatalf("refused: %v", result)
	}
	leaf := certificate(t, result.GetChain())
	above := x509.NewCertPool()
	for _, der := range result.GetChain()[1:] {
		parent := certificate(t, [][]byte{der})
		above.AddCert(parent)
		if parent.Subject.String() == parent.Issuer.String() {
			t.Error("the root is in the chain")
		}
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: l.Roots(t), Intermediates: above, KeyUsages: []x509.ExtKeyUsage{usage}})
		check(t, err)
	}
	if life := leaf.NotAfter.Sub(l.Clock.Now()).Round(time.Minute); life != time.Hour {
		t.Errorf("lifetime is %s, want what was asked for", life)
	}
	row, err := l.Store.Certificate(t.Context(), serial(t, result.GetChain()))
	check(t, err)
	want := pki.Workload{
		Cluster: "east-1", Namespace: "demo", ServiceAccount: "web", Pod: item.Caller.Pod, PodUID: item.Caller.PodUid, Node: "node-1",
		ImpersonatedBy: "istio-system/ztunnel/ztunnel-abcde",
	}
	if row.Workload != want || row.Identity != "spiffe://cluster.local/ns/demo/sa/web" || row.CredentialID != l.credential.ID || row.OrderID != "" {
		t.Errorf("inventory has %+v", row)
	}
	for _, filter := range []pki.CertificateFilter{{Cluster: "east-1", Namespace: "demo"}, {Pod: item.Caller.Pod}, {Pod: "web-*"}} {
		filter.Limit = 10
		found, err := l.Store.Certificates(t.Context(), filter, l.Clock.Now())
		check(t, err)
		if len(found) != 1 || found[0].Serial != row.Serial {
			t.Errorf("%+v finds %d certificates", filter, len(found))
		}
	}
	events, err := l.Store.Events(t.Context(), pki.EventFilter{Target: string(row.Serial), Limit: 10})
	check(t, err)
	if len(events) != 1 || events[0].Detail.Workload == nil || *events[0].Detail.Workload != want || events[0].Actor.Kind != audit.Agent {
		t.Errorf("events are %+v", events)
	}
}

// Items are refused one by one, and the others get their certificates.
func TestIssueOneByOne(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	changed := func(change func(*agentapi.Item)) *agentapi.Item {
		item := workload(t, "demo", "web")
		change(item)
		return item
	}
	with := func(template *x509.CertificateRequest, namespace, account string) *agentapi.Item {
		item := workload(t, namespace, account)
		item.Csr, _ = request(t, template)
		return item
	}
	mesh := func(uri string) *x509.CertificateRequest { return meshRequest(t, uri) }
	two := mesh("spiffe://cluster.local/ns/demo/sa/web")
	two.URIs = append(two.URIs, mesh("spiffe://cluster.local/ns/demo/sa/api").URIs...)
	tests := []struct {
		name string
		item *agentapi.Item
		code codes.Code
		want string
	}{
		{"good", workload(t, "demo", "web"), codes.OK, ""},
		{"istiod", with(&x509.CertificateRequest{
			URIs: mesh("spiffe://cluster.local/ns/istio-system/sa/istiod-service-account").URIs, DNSNames: []string{"istiod.istio-system.svc"},
		}, "istio-system", "istiod-service-account"), codes.OK, ""},
		{"agent's own server", &agentapi.Item{Csr: with(&x509.CertificateRequest{DNSNames: []string{"certloom-agent.certloom.svc"}}, "", "").Csr}, codes.OK, ""},
		{"no-lifetime", changed(func(i *agentapi.Item) { i.LifetimeSeconds = 0 }), codes.OK, ""},
		{"endless-lifetime", changed(func(i *agentapi.Item) { i.LifetimeSeconds = 1 << 62 }), codes.OK, ""},
		{"refuses/trust-domain", with(mesh("spiffe://other.org/ns/demo/sa/web"), "demo", "web"), codes.PermissionDenied, "trust domain"},
		{"refuses/denied", workload(t, "kube-system", "admin"), codes.PermissionDenied, "deny pattern"},
		{"refuses/dns", with(&x509.CertificateRequest{DNSNames: []string{"www.example.com"}}, "", ""), codes.PermissionDenied, "www.example.com"},
		{"refuses/two-uris", with(two, "demo", "web"), codes.InvalidArgument, "SPIFFE ID"},
		{"refuses/agent", with(mesh(pki.AgentURI("cluster.local", l.credential.ID)), "", ""), codes.InvalidArgument, "SPIFFE ID"},
		{"refuses/no-names", with(&x509.CertificateRequest{}, "", ""), codes.InvalidArgument, "no SPIFFE ID"},
		{"refuses/no-csr", changed(func(i *agentapi.Item) { i.Csr = nil }), codes.InvalidArgument, "CSR"},
		{"refuses/pem", changed(func(i *agentapi.Item) { i.Csr = []byte("-----BEGIN CERTIFICATE REQUEST-----\n") }), codes.InvalidArgument, "PEM"},
		{"refuses/tampered", changed(func(i *agentapi.Item) { i.Csr[len(i.Csr)-5] ^= 1 }), codes.InvalidArgument, "signature"},
		{"refuses/large", changed(func(i *agentapi.Item) { i.Csr = make([]byte, 100_000) }), codes.InvalidArgument, "100000 bytes"},
		{"refuses/other-caller", changed(func(i *agentapi.Item) { i.Caller.ServiceAccount = "api" }), codes.InvalidArgument, "caller is"},
		{"refuses/no-caller", changed(func(i *agentapi.Item) { i.Caller = nil }), codes.InvalidArgument, "caller is"},
		{"refuses/strange-pod", changed(func(i *agentapi.Item) { i.Caller.Pod = "a\nb" }), codes.InvalidArgument, "pod"},
		{"refuses/slash-in-node", changed(func(i *agentapi.Item) { i.Caller.Node = "a/b" }), codes.InvalidArgument, "node"},
		{"refuses/long-uid", changed(func(i *agentapi.Item) { i.Caller.PodUid = strings.Repeat("a", 65) }), codes.InvalidArgument, "65 characters"},
		{"refuses/negative-lifetime", changed(func(i *agentapi.Item) { i.LifetimeSeconds = -1 }), codes.InvalidArgument, "negative"},
		{"refuses/short-id", changed(func(i *agentapi.Item) { i.Id = "short" }), codes.InvalidArgument, "item's ID"},
		{"refuses/strange-id", changed(func(i *agentapi.Item) { i.Id = "0123456789abcdef\x00" }), codes.InvalidArgument, "item's ID"},
	}
	in := &agentapi.IssueRequest{}
	for _, test := range tests {
		in.Items = append(in.Items, test.item)
	}
	out, err := client.Issue(t.Context(), in)
	check(t, err)
	issued := 0
	for i, test := range tests {
		result := out.GetResults()[i]
		if result.GetCode() != uint32(test.code) || !strings.Contains(result.GetMessage(), test.want) {
			t.Errorf("%s: %s %q, want %s with %q", test.name, codes.Code(result.GetCode()), result.GetMessage(), test.code, test.want)
		}
		if got := len(result.GetChain()) > 0; got != (test.code == codes.OK) {
			t.Errorf("%s: a chain of %d", test.name, len(result.GetChain()))
		}
		if test.code == codes.OK {
			issued++
		}
	}
	found, err := l.Store.Certificates(t.Context(), pki.CertificateFilter{Cluster: "east-1", Limit: 100}, l.Clock.Now())
	check(t, err)
	if len(found) != issued+1 { // and the agent's own
		t.Errorf("inventory has %d certificates, want %d", len(found), issued+1)
	}
}

func TestIssueRefusesCalls(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	for name, count := range map[string]int{"refuses/no-items": 0, "refuses/too-many-items": agentapi.MaxItems + 1} {
		_, err := client.Issue(t.Context(), &agentapi.IssueRequest{Items: make([]*agentapi.Item, count)})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), "1 to 256") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An item that is sent again, because nobody knows what became of it, gets the certificate that it has.
func TestIssueAgain(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	item := workload(t, "demo", "web")
	item.Id = "0123456789abcdef-1"
	in := &agentapi.IssueRequest{Items: []*agentapi.Item{item, item}}
	var serials []pki.Serial
	for range 3 {
		out, err := client.Issue(t.Context(), in)
		check(t, err)
		for _, result := range out.GetResults() {
			serials = append(serials, serial(t, result.GetChain()))
		}
	}
	if slices.Sort(serials); len(slices.Compact(serials)) != 1 {
		t.Errorf("one item got the certificates %v", serials)
	}
	otherKey := workload(t, "demo", "web")
	otherKey.Id = item.Id
	if result := issueOne(t, client, otherKey); result.GetCode() != uint32(codes.FailedPrecondition) {
		t.Errorf("the same ID for another CSR: %v", result)
	}
	other := l.AddCredential(t, catalog.NewCredential{ProfileID: l.mesh.ID, Name: "other"})
	if result := issueOne(t, l.dial(t, l.enrol(t, other)), otherKey); result.GetCode() != 0 {
		t.Errorf("the same ID of another agent: %v", result)
	}
}

// The items of a call share the database's commits.
func TestBatchSharesCommits(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	const size = 200
	in := &agentapi.IssueRequest{}
	for i := range size {
		in.Items = append(in.Items, workload(t, "demo", fmt.Sprintf("web-%d", i)))
	}
	before := transactions(t, l.Registry)
	out, err := client.Issue(t.Context(), in)
	check(t, err)
	for i, result := range out.GetResults() {
		if result.GetCode() != 0 {
			t.Fatalf("item %d: %v", i, result)
		}
		if got := certificate(t, result.GetChain()).URIs[0].Path; got != fmt.Sprintf("/ns/demo/sa/web-%d", i) {
			t.Fatalf("result %d is of %s", i, got)
		}
	}
	if took := transactions(t, l.Registry) - before; took > size/4 {
		t.Errorf("%d certificates took %d transactions", size, took)
	}
}

// transactions counts the write transactions of the store so far.
func transactions(t *testing.T, registry *prometheus.Registry) uint64 {
	t.Helper()
	families, err := registry.Gather()
	check(t, err)
	for _, family := range families {
		if family.GetName() == "certloom_store_batch_size" {
			return family.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatal("the store has no metric of its transactions")
	return 0
}

// interposed is an issuer that does what a test wants before it issues for workloads.
type interposed struct {
	agentsrv.Issuer
	before func(context.Context) error
}

func (i interposed) Issue(ctx context.Context, r issue.Request) (*pki.Certificate, error) {
	if !r.Agent {
		if err := i.before(ctx); err != nil {
			return nil, err
		}
	}
	return i.Issuer.Issue(ctx, r)
}

func before(do func(context.Context) error) func(*agentsrv.Config) {
	return func(c *agentsrv.Config) { c.Issuer = interposed{c.Issuer, do} }
}

func TestOverload(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}, agentapi.MaxItems), make(chan struct{})
	l := newLab(t, func(c *agentsrv.Config) {
		c.MaxItems = agentapi.MaxItems
		before(func(context.Context) error {
			entered <- struct{}{}
			<-release
			return nil
		})(c)
	})
	client := l.agent(t)
	in := &agentapi.IssueRequest{}
	for i := range agentapi.MaxItems {
		in.Items = append(in.Items, workload(t, "demo", fmt.Sprintf("web-%d", i)))
	}
	done := make(chan error, 1)
	go func() {
		_, err := client.Issue(t.Context(), in)
		done <- err
	}()
	for range agentapi.MaxItems {
		<-entered
	}
	one := &agentapi.IssueRequest{Items: in.GetItems()[:1]}
	_, err := client.Issue(t.Context(), one)
	refused(t, err, codes.ResourceExhausted)
	if message := status.Convert(err).Message(); !strings.Contains(message, "try again") {
		t.Errorf("message is %q", message)
	}
	close(release)
	check(t, <-done)
	if _, err := client.Issue(t.Context(), one); err != nil {
		t.Errorf("after the overload: %v", err)
	}
}

// Trouble of our own says nothing of our insides, names a code that invites to come again, and does not spread.
func TestTrouble(t *testing.T) {
	t.Parallel()
	const secret = "disk /dev/sda1"
	tests := map[string]struct {
		trouble func(context.Context) error
		code    codes.Code
	}{
		"unforeseen":  {func(context.Context) error { return fmt.Errorf("write %s", secret) }, codes.Internal},
		"panic":       {func(context.Context) error { panic(secret) }, codes.Internal},
		"unavailable": {func(context.Context) error { return fault.New(fault.Unavailable, "database is busy") }, codes.Unavailable},
		"timeout":     {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, codes.Unavailable},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			l := newLab(t, func(c *agentsrv.Config) {
				c.Timeout = time.Second
				before(func(ctx context.Context) error {
					if calls.Add(1) > 1 {
						return nil
					}
					return test.trouble(ctx)
				})(c)
			})
			client := l.agent(t)
			in := &agentapi.IssueRequest{Items: []*agentapi.Item{workload(t, "demo", "web"), workload(t, "demo", "api")}}
			out, err := client.Issue(t.Context(), in)
			check(t, err)
			failed := 0
			for _, result := range out.GetResults() {
				if strings.Contains(result.GetMessage(), secret) {
					t.Errorf("message is %q", result.GetMessage())
				}
				if codes.Code(result.GetCode()) == test.code {
					failed++
				}
			}
			if failed != 1 {
				t.Errorf("got %v", out)
			}
		})
	}
}

// Nothing is worked on for an agent that has gone.
func TestClientGone(t *testing.T) {
	t.Parallel()
	entered, ended := make(chan struct{}), make(chan error, 1)
	l := newLab(t, before(func(ctx context.Context) error {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}))
	client := l.agent(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := client.Issue(ctx, &agentapi.IssueRequest{Items: []*agentapi.Item{workload(t, "demo", "web")}})
		done <- err
	}()
	<-entered
	cancel()
	refused(t, <-done, codes.Canceled)
	if err := <-ended; err == nil {
		t.Error("the work went on")
	}
	check(t, l.stop()) // calls have ended
	found, err := l.Store.Certificates(t.Context(), pki.CertificateFilter{Namespace: "demo", Limit: 10}, l.Clock.Now())
	check(t, err)
	if len(found) != 0 {
		t.Errorf("%d certificates were issued", len(found))
	}
}
