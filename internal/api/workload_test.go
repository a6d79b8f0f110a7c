package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// A credential for agents comes with the address that they enrol at; others do not.
func TestAgentCredential(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	names := pki.NameRules{SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}}}
	w.Profile(t, "mesh", pki.PrivateMTLS, pki.Agent, names)
	for profile, want := range map[string]string{"mesh": "https://ca.example:8444", "istio": ""} {
		made, err := w.Client(t, pki.RoleAdmin).CreateCredential(t.Context(), apiv1.CreateCredential{Profile: profile, Name: "east"})
		if err != nil {
			t.Fatal(err)
		}
		if made.AgentURL != want || made.HMACKey == "" {
			t.Errorf("profile %s: %+v", profile, made)
		}
	}
}

// issueFor makes a certificate as an agent's request does.
func issueFor(t *testing.T, w *apitest.World, account string, workload pki.Workload) *pki.Certificate {
	t.Helper()
	p, ok := w.Catalog.Snapshot().ProfileByName("mesh")
	if !ok {
		t.Fatal("there is no profile mesh")
	}
	request, err := csr.Parse(testca.CSR(t, testca.Request{URIs: []string{"spiffe://cluster.local/ns/demo/sa/" + account}}))
	if err != nil {
		t.Fatal(err)
	}
	made, err := w.Issuer.Issue(t.Context(), issue.Request{
		Profile: p, Credential: w.Credential(t, p), CSR: request, Workload: workload, Actor: audit.Actor{Kind: audit.Agent, ID: "kid"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestWorkloads(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	w.Profile(t, "mesh", pki.PrivateMTLS, pki.Agent, pki.NameRules{SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}}})
	web := pki.Workload{
		Cluster: "east", Namespace: "demo", ServiceAccount: "web", Pod: "web-1", PodUID: "uid-1", Node: "node-1",
		ImpersonatedBy: "istio-system/ztunnel/ztunnel-1",
	}
	first := issueFor(t, w, "web", web)
	second := issueFor(t, w, "api", pki.Workload{Cluster: "west", Namespace: "demo", ServiceAccount: "api", Pod: "api-1"})
	w.Issue(t, "istio", testca.Request{URIs: []string{"spiffe://cluster.local/ns/demo/sa/web"}})
	client := w.Client(t, pki.RoleAuditor)
	for name, tt := range map[string]struct {
		query apiv1.CertificateQuery
		want  []pki.Serial
	}{
		"cluster":       {apiv1.CertificateQuery{Cluster: "east"}, []pki.Serial{first.Serial}},
		"pod":           {apiv1.CertificateQuery{Pod: "api-1"}, []pki.Serial{second.Serial}},
		"pods":          {apiv1.CertificateQuery{Pod: "web-*"}, []pki.Serial{first.Serial}},
		"other cluster": {apiv1.CertificateQuery{Pod: "web-1", Cluster: "west"}, nil},
	} {
		page, err := client.Certificates(t.Context(), tt.query)
		if err != nil {
			t.Fatal(err)
		}
		var got []pki.Serial
		for _, c := range page.Items {
			got = append(got, pki.Serial(c.Serial))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	shown, err := client.Certificate(t.Context(), string(first.Serial))
	if err != nil {
		t.Fatal(err)
	}
	want := apiv1.Workload{
		Cluster: web.Cluster, Namespace: web.Namespace, ServiceAccount: web.ServiceAccount, Pod: web.Pod, PodUID: web.PodUID, Node: web.Node,
		ImpersonatedBy: web.ImpersonatedBy, Presented: string(web.Presented),
	}
	if diff := cmp.Diff(&want, shown.Workload); diff != "" {
		t.Errorf("certificate: %s", diff)
	}
	events, err := client.Events(t.Context(), apiv1.EventQuery{Target: string(first.Serial)})
	if err != nil || len(events.Items) != 1 || events.Items[0].ActorKind != "agent" {
		t.Fatalf("events %+v, %v", events, err)
	}
	if diff := cmp.Diff(&want, events.Items[0].Workload); diff != "" {
		t.Errorf("event: %s", diff)
	}
	exported := w.Do(t, http.MethodGet, "/certificates/export?format=csv&cluster=east", w.Tokens[pki.RoleAuditor], nil, nil)
	if !strings.Contains(string(exported.Body), ",east,demo,web,web-1,uid-1,node-1,istio-system/ztunnel/ztunnel-1,\n") {
		t.Errorf("exported %s", exported.Body)
	}
}
