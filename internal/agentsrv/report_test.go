package agentsrv_test

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/pki"
)

func TestReport(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	agent := l.agent(t)
	for _, account := range []string{"runs", "stops", "other"} {
		if result := issueOne(t, agent, workload(t, "demo", account)); result.GetCode() != 0 {
			t.Fatal(result)
		}
	}
	report := func(in *agentapi.ReportRequest) {
		t.Helper()
		in.TrustDomain = "cluster.local"
		_, err := agent.Report(t.Context(), in)
		check(t, err)
	}
	status := func(account string, want pki.IdentityStatus) {
		t.Helper()
		i, err := l.Store.Identity(t.Context(), "spiffe://cluster.local/ns/demo/sa/"+account)
		check(t, err)
		if got := i.Status(l.Clock.Now()); got != want {
			t.Errorf("%s is %s, want %s", account, got, want)
		}
	}
	report(&agentapi.ReportRequest{Complete: true, Running: []string{"demo/runs"}})
	status("stops", pki.IdentityOK) // it has a good certificate: a Pod may be about to be made
	report(&agentapi.ReportRequest{Running: []string{"demo/other"}, Stopped: []string{"demo/stops", "demo/unknown"}})
	status("stops", pki.IdentityGone)
	l.Clock.Add(50 * time.Minute)
	check(t, l.Catalog.Load(t.Context()))
	report(&agentapi.ReportRequest{Complete: true, Running: []string{"demo/runs"}})
	status("runs", pki.IdentityLapsing)
	status("other", pki.IdentityGone)
	report(&agentapi.ReportRequest{Complete: true, Running: []string{"demo/other", "demo/runs"}})
	status("other", pki.IdentityLapsing)
	status("stops", pki.IdentityGone)
	report(&agentapi.ReportRequest{Running: []string{"demo/stops"}})
	status("stops", pki.IdentityLapsing)
}

func TestRefusesReports(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	agent := l.agent(t)
	many := make([]string, 50_001)
	for i := range many {
		many[i] = fmt.Sprintf("demo/a%d", i)
	}
	for name, test := range map[string]struct {
		in   *agentapi.ReportRequest
		want codes.Code
	}{
		"refuses/other trust domain": {&agentapi.ReportRequest{TrustDomain: "other.example", Complete: true}, codes.PermissionDenied},
		"refuses/no account":         {&agentapi.ReportRequest{TrustDomain: "cluster.local", Running: []string{"demo"}}, codes.InvalidArgument},
		"refuses/strange account":    {&agentapi.ReportRequest{TrustDomain: "cluster.local", Stopped: []string{"demo/a b"}}, codes.InvalidArgument},
		"refuses/many":               {&agentapi.ReportRequest{TrustDomain: "cluster.local", Running: many}, codes.InvalidArgument},
	} {
		_, err := agent.Report(t.Context(), test.in)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		refused(t, err, test.want)
	}
	_, err := l.dial(t).Report(t.Context(), &agentapi.ReportRequest{TrustDomain: "cluster.local"})
	refused(t, err, codes.Unauthenticated)
}
