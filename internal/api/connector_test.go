package api_test

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// fetch gets a one-time address from the test's server.
func fetch(t *testing.T, w *apitest.World, method, address string) (int, string) {
	t.Helper()
	path := strings.TrimPrefix(address, w.BaseURL)
	request, err := http.NewRequestWithContext(t.Context(), method, w.Server.URL+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := w.Server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func fileOf(t *testing.T, made *apiv1.NewConnector, name string) string {
	t.Helper()
	for _, f := range made.Files {
		if f.Name == name {
			return f.Text
		}
	}
	t.Fatalf("the package has no %s", name)
	return ""
}

func TestConnector(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	made, err := client.CreateConnector(t.Context(), apiv1.CreateConnector{Profile: "istio", Credential: "client", Name: "east"})
	if err != nil {
		t.Fatal(err)
	}
	if c := made.Connector; c.Name != "east" || c.Mode != "cert-manager" || c.TrustDomain != "cluster.local" || c.State != "waiting" || c.Credential != "client" {
		t.Errorf("connector is %+v", c)
	}
	if text := fileOf(t, made, "30-issuer.yaml"); !strings.Contains(text, made.Connector.KeyID) || !strings.Contains(text, w.BaseURL+"/acme/directory") {
		t.Errorf("the Issuer lacks the KID or the directory:\n%s", text)
	}
	for _, step := range []string{"credential", "registered", "certificate", "workloads"} {
		want := step == "credential"
		if got := doneWith(t, client, "east", step); got != want {
			t.Errorf("%s is done: %t, want %t", step, got, want)
		}
	}

	t.Run("address gives the package once", func(t *testing.T) { //nolint:paralleltest // the test goes on with what it made
		if status, _ := fetch(t, w, http.MethodHead, made.ApplyURL); status != http.StatusMethodNotAllowed {
			t.Errorf("HEAD: %d", status)
		}
		status, manifests := fetch(t, w, http.MethodGet, made.ApplyURL)
		if status != http.StatusOK || !strings.Contains(manifests, fileOf(t, made, "10-eab-secret.yaml")) {
			t.Errorf("got %d\n%s", status, manifests)
		}
		if status, _ := fetch(t, w, http.MethodGet, made.ApplyURL); status != http.StatusNotFound {
			t.Errorf("the second time: %d, want 404", status)
		}
		if status, archive := fetch(t, w, http.MethodGet, made.ZIPURL); status != http.StatusOK || !strings.HasPrefix(archive, "PK") {
			t.Errorf("archive: %d", status)
		}
		for _, action := range []audit.Action{audit.ConnectorCreate, audit.ConnectorDownload, audit.ConnectorRefuse} {
			page, err := client.Events(t.Context(), apiv1.EventQuery{Action: string(action)})
			if err != nil || len(page.Items) == 0 {
				t.Errorf("no event %s: %v", action, err)
			}
		}
	})
	t.Run("its progress is what really happened", func(t *testing.T) { //nolint:paralleltest // as above
		w.Issue(t, "istio", testca.Request{URIs: []string{"spiffe://cluster.local/ns/shop/sa/web"}})
		status, err := client.ConnectorStatus(t.Context(), "east")
		if err != nil {
			t.Fatal(err)
		}
		if status.Connector.State != "issuing" || status.Connector.Workloads != 1 || !doneWith(t, client, "east", "workloads") {
			t.Errorf("status is %+v", status)
		}
		w.Clock.Advance(30 * 24 * time.Hour)
		if c, err := client.Connector(t.Context(), "east"); err != nil || c.State != "quiet" {
			t.Errorf("a month later: %+v, %v", c, err)
		}
	})
	t.Run("deleted with its credential", func(t *testing.T) { //nolint:paralleltest // as above
		if err := client.DeleteConnector(t.Context(), "east", true); err != nil {
			t.Fatal(err)
		}
		page, err := client.Credentials(t.Context(), "istio")
		if err != nil || len(page.Items) != 1 || page.Items[0].State != "revoked" {
			t.Errorf("credentials: %+v, %v", page, err)
		}
		if all, err := client.Connectors(t.Context()); err != nil || len(all.Items) != 0 {
			t.Errorf("connectors: %+v, %v", all, err)
		}
	})
}

func doneWith(t *testing.T, client *apiv1.Client, name, step string) bool {
	t.Helper()
	status, err := client.ConnectorStatus(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range status.Progress {
		if p.ID == step {
			return p.Done && !p.At.IsZero()
		}
	}
	t.Fatalf("no step %s", step)
	return false
}

// refused checks the status of a refusal, and what it says of a field.
func refused(t *testing.T, err error, status int, field, words string) {
	t.Helper()
	problem, ok := errors.AsType[*apiv1.Problem](err)
	if !ok || problem.Status != status {
		t.Errorf("got %v, want a problem of status %d", err, status)
		return
	}
	for _, e := range problem.Errors {
		if e.Pointer == field && strings.Contains(e.Detail, words) {
			return
		}
	}
	t.Errorf("no error of %s says %q: %+v", field, words, problem)
}

func TestConnectorOfACredential(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	key, err := client.CreateCredential(t.Context(), apiv1.CreateCredential{Profile: "istio", Name: "cluster-1"})
	if err != nil {
		t.Fatal(err)
	}
	in := apiv1.CreateConnector{Profile: "istio", Credential: "cluster-1", Name: "Prod_EU"}
	_, err = client.CreateConnector(t.Context(), in)
	refused(t, err, http.StatusConflict, "/credential", "shown once")
	in.HMACKey = base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	_, err = client.CreateConnector(t.Context(), in)
	refused(t, err, http.StatusBadRequest, "/hmacKey", "is not the HMAC key")
	in.HMACKey = key.HMACKey
	made, err := client.CreateConnector(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if made.Connector.KeyID != key.KeyID || !strings.Contains(fileOf(t, made, "10-eab-secret.yaml"), key.HMACKey) {
		t.Errorf("the package is of another credential: %+v", made.Connector)
	}
	_, err = client.CreateConnector(t.Context(), in)
	refused(t, err, http.StatusConflict, "/name", "already")
}

func TestConnectorRefusals(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	for name, test := range map[string]struct {
		in     apiv1.CreateConnector
		status int
		field  string
		words  string
	}{
		"refuses/unknown profile":   {apiv1.CreateConnector{Profile: "none", Credential: "a"}, http.StatusBadRequest, "/profile", "none"},
		"refuses/wrong method":      {apiv1.CreateConnector{Profile: "istio", Credential: "a", Mode: "agent"}, http.StatusBadRequest, "/mode", "agent"},
		"refuses/REST profile":      {apiv1.CreateConnector{Profile: "ci", Credential: "a"}, http.StatusBadRequest, "/mode", "rest-api"},
		"refuses/trust domain":      {apiv1.CreateConnector{Profile: "istio", Credential: "a", TrustDomain: "x.example"}, http.StatusBadRequest, "/trustDomain", "x.example"},
		"refuses/name of HTML":      {apiv1.CreateConnector{Profile: "istio", Credential: "<b>", Name: "ok"}, http.StatusBadRequest, "/credential", "<b>"},
		"refuses/cluster of SQL":    {apiv1.CreateConnector{Profile: "istio", Credential: "a", Name: "a'; --"}, http.StatusBadRequest, "/name", "a'; --"},
		"refuses/server's root":     {apiv1.CreateConnector{Profile: "istio", Credential: "a", ServerCA: "hello"}, http.StatusBadRequest, "/serverCa", "PEM"},
		"refuses/key of nobody":     {apiv1.CreateConnector{Profile: "istio", Credential: "a", HMACKey: "x"}, http.StatusBadRequest, "/credential", "no credential"},
		"refuses/expired beginning": {apiv1.CreateConnector{Profile: "istio", Credential: "a", ExpiresAt: time.Unix(1, 0)}, http.StatusBadRequest, "/expiresAt", "future"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client.CreateConnector(t.Context(), test.in)
			refused(t, err, test.status, test.field, test.words)
		})
	}
	t.Cleanup(func() {
		page, err := w.Store.Credentials(t.Context())
		if err == nil && len(page) > 0 {
			t.Errorf("refused requests have left credentials: %v", page)
		}
	})
}
