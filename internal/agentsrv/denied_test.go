package agentsrv_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/catalog"
)

// What is on the deny list gets no certificate, with a token or with a certificate, until that is lifted or over.
func TestDenied(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		denial catalog.NewDenial
		denied bool
	}{
		"refuses/identity":           {catalog.NewDenial{Identity: "spiffe://cluster.local/ns/demo/sa/web"}, true},
		"refuses/prefix":             {catalog.NewDenial{Identity: "spiffe://cluster.local/ns/demo/*"}, true},
		"refuses/pod":                {catalog.NewDenial{Namespace: "demo", Pod: workload(t, "demo", "web").GetCaller().GetPod()}, true},
		"refuses/pod-of-cluster":     {catalog.NewDenial{Cluster: "east-1", Namespace: "demo", Pod: workload(t, "demo", "web").GetCaller().GetPod()}, true},
		"accepts/pod-of-another":     {catalog.NewDenial{Cluster: "west-1", Namespace: "demo", Pod: workload(t, "demo", "web").GetCaller().GetPod()}, false},
		"accepts/other-identity":     {catalog.NewDenial{Identity: "spiffe://cluster.local/ns/demo/sa/web-2"}, false},
		"accepts/part-of-a-name":     {catalog.NewDenial{Identity: "spiffe://cluster.local/ns/demo/sa/we"}, false},
		"accepts/pod-of-a-namespace": {catalog.NewDenial{Namespace: "other", Pod: workload(t, "demo", "web").GetCaller().GetPod()}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			client := l.agent(t)
			first := issued(t, client, workload(t, "demo", "web"))
			second := issued(t, client, knownBy(t, first))
			test.denial.Until = l.Clock.Now().Add(10 * time.Minute)
			denial, err := l.Catalog.Deny(t.Context(), test.denial, acmetest.By())
			check(t, err)
			all := func(denied bool) {
				t.Helper()
				for _, item := range []*agentapi.Item{workload(t, "demo", "web"), knownBy(t, first), knownBy(t, second)} {
					result := issueOne(t, client, item)
					if denied != (codes.Code(result.GetCode()) == codes.PermissionDenied && strings.Contains(result.GetMessage(), "was denied certificates")) ||
						!denied && result.GetCode() != 0 {
						t.Errorf("denied %t: got %s %q", denied, codes.Code(result.GetCode()), result.GetMessage())
					}
				}
			}
			all(test.denied)
			if !strings.HasSuffix(test.denial.Identity, "*") {
				issued(t, client, workload(t, "demo", "another"))
			}
			check(t, l.Catalog.Allow(t.Context(), denial.ID, acmetest.By()))
			all(false)
			_, err = l.Catalog.Deny(t.Context(), test.denial, acmetest.By())
			check(t, err)
			all(test.denied)
			l.Clock.Add(11 * time.Minute)
			check(t, l.Catalog.Load(t.Context()))
			all(false)
		})
	}
}
