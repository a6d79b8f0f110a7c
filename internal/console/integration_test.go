package console_test

import (
	"net/url"
	"strings"
	"testing"
)

// A person goes from the list to a package, and watches the cluster.
func TestConnectorPages(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	for path, want := range map[string]string{
		"/integrations/connectors":                "No cluster is connected yet",
		"/integrations/connectors/add":            "/integrations/connectors/add/istio",
		"/integrations/connectors/add/istio":      "istio",
		"/integrations/connectors/add/kubernetes": "/acme/directory",
		"/integrations/connectors/add/server":     "--eab-kid",
		"/integrations/connectors/add/rest":       "/api/v1/certificates",
	} {
		if html := l.page(t, path); !strings.Contains(html, want) {
			t.Errorf("%s lacks %q", path, want)
		}
	}
	refused := l.post(t, "/integrations/connectors/add/istio", url.Values{
		"/profile": {"istio"}, "/name": {"<b>"}, "/credential": {"east"}, "/trustDomain": {"evil.example"},
	}).Body.String()
	for _, want := range []string{"evil.example", "is not one that profile", "&lt;b&gt;"} {
		if !strings.Contains(refused, want) {
			t.Errorf("the refused form lacks %q", want)
		}
	}
	made := l.post(t, "/integrations/connectors/add/istio", url.Values{"/profile": {"istio"}, "/name": {"Prod_EU"}, "/credential": {"east"}}).Body.String()
	for _, want := range []string{"kubectl apply -f -", "/connect/", ".zip", "/integrations/connectors/Prod_EU"} {
		if !strings.Contains(made, want) {
			t.Errorf("the package's page lacks %q", want)
		}
	}
	if html := l.page(t, "/integrations/connectors/Prod_EU"); !strings.Contains(html, "Waiting for the cluster") {
		t.Error("the connector's page does not say what it waits for")
	}
	l.post(t, "/integrations/connectors/Prod_EU/delete", url.Values{"/revoke": {"on"}})
	if html := l.page(t, "/policies/credentials"); !strings.Contains(html, "revoked") {
		t.Error("the credential was not revoked")
	}
}
