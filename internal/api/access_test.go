package api_test

import (
	"encoding/json"
	"net/http"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// document is the part of the OpenAPI document that these tests read.
type document struct {
	OpenAPI string                                `json:"openapi"`
	Paths   map[string]map[string]documentedRoute `json:"paths"`
}

type documentedRoute struct {
	ID       string           `json:"operationId"`
	Access   string           `json:"x-certloom-access"`
	Security []map[string]any `json:"security"`
	Summary  string           `json:"summary"`
	// Parameters are those of the path, the query and the headers.
	Parameters []struct {
		Name   string         `json:"name"`
		In     string         `json:"in"`
		Schema map[string]any `json:"schema"`
	} `json:"parameters"`
	Body *struct {
		Content map[string]any `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content map[string]any `json:"content"`
	} `json:"responses"`
}

func describe(t *testing.T, w *apitest.World) document {
	t.Helper()
	answer := w.Do(t, http.MethodGet, "/openapi.json", "", nil, nil)
	if answer.Status != http.StatusOK {
		t.Fatalf("OpenAPI document: status %d", answer.Status)
	}
	var d document
	if err := json.Unmarshal(answer.Body, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// access is what each operation is meant to ask of its caller. An operation that is missing here fails the test, so
// nobody adds one without having thought about it.
func access() map[string]auth.Access {
	return map[string]auth.Access{
		"login":  "",
		"whoami": auth.Self, "begin-second-factor": auth.Self, "confirm-second-factor": auth.Self, "make-recovery-codes": auth.Self, "disable-second-factor": auth.Self,
		"change-own-password": auth.Self, "list-sessions": auth.Self, "end-session": auth.Self,
		"list-views": auth.Self, "create-view": auth.Self, "update-view": auth.Self, "delete-view": auth.Self,

		"get-statistics":    auth.Inventory,
		"list-certificates": auth.Inventory, "get-certificate": auth.Inventory, "get-certificate-pem": auth.Inventory, "export-certificates": auth.Inventory,
		"list-identities": auth.Inventory, "export-identities": auth.Inventory, "get-identity": auth.Inventory,

		"get-status":       auth.Read,
		"list-cas":         auth.Read,
		"get-ca":           auth.Read,
		"get-ca-csr":       auth.Read,
		"list-templates":   auth.Read,
		"list-profiles":    auth.Read,
		"get-profile":      auth.Read,
		"list-credentials": auth.Read, "get-credential": auth.Read,
		"list-events": auth.Read, "export-events": auth.Read,
		"list-connectors": auth.Read, "get-connector": auth.Read, "get-connector-status": auth.Read,
		"list-imported-certificates": auth.Read, "get-imported-certificate": auth.Read,
		"list-alert-rules": auth.Read, "get-alert-rule": auth.Read, "list-alerts": auth.Read, "get-alert": auth.Read,
		"list-channels": auth.Read, "get-channel": auth.Read, "preview-channel": auth.Read, "list-deliveries": auth.Read,
		"check-policy": auth.Read, "preview-policy": auth.Read,

		"list-tokens": auth.ReadAccess, "list-users": auth.ReadAccess, "get-user": auth.ReadAccess,

		"retire-identities": auth.Operate, "restore-identities": auth.Operate,
		"create-profile": auth.Operate, "update-profile": auth.Operate, "delete-profile": auth.Operate, "clone-profile": auth.Operate,
		"suspend-profile": auth.Operate, "activate-profile": auth.Operate,
		"create-credential": auth.Operate, "revoke-credential": auth.Operate,
		"create-connector": auth.Operate, "delete-connector": auth.Operate,
		"create-alert-rule": auth.Operate, "update-alert-rule": auth.Operate, "delete-alert-rule": auth.Operate,
		"test-channel": auth.Operate, "retry-delivery": auth.Operate,
		"import-certificates": auth.Operate, "delete-imported-certificate": auth.Operate,
		"revoke-ca": auth.Administer, "list-denials": auth.Read, "create-denial": auth.Operate, "delete-denial": auth.Operate,
		"revoke-certificate": auth.Operate, "hold-certificate": auth.Operate, "release-certificate": auth.Operate, "revoke-certificates": auth.Operate,

		"create-ca": auth.Administer, "import-ca": auth.Administer, "install-ca-certificate": auth.Administer, "update-ca-settings": auth.Administer,
		"suspend-ca": auth.Administer, "activate-ca": auth.Administer,
		"create-channel": auth.Administer, "update-channel": auth.Administer, "delete-channel": auth.Administer,
		"create-token": auth.Administer, "revoke-token": auth.Administer,
		"create-user": auth.Administer, "update-user": auth.Administer, "delete-user": auth.Administer, "unlock-user": auth.Administer,
		"reset-second-factor": auth.Administer,

		"create-certificate": auth.Request,
	}
}

func TestEveryOperationSaysWhoMayUseIt(t *testing.T) {
	t.Parallel()
	d := describe(t, apitest.New(t))
	if d.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI version %q, want 3.1.0", d.OpenAPI)
	}
	got := map[string]auth.Access{}
	for path, methods := range d.Paths {
		for method, route := range methods {
			got[route.ID] = auth.Access(route.Access)
			if (route.Access == "") != (len(route.Security) != 1 || len(route.Security[0]) == 0) {
				t.Errorf("%s %s: access %q, but security %v", method, path, route.Access, route.Security)
			}
			if route.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
			_, refused := route.Responses["4XX"].Content[apiv1.ProblemType]
			if _, failed := route.Responses["5XX"].Content[apiv1.ProblemType]; !refused || !failed {
				t.Errorf("%s %s does not document its problem documents", method, path)
			}
			if route.Body != nil && len(route.Body.Content) != 1 {
				t.Errorf("%s %s documents bodies of other types than JSON: %v", method, path, route.Body.Content)
			}
		}
	}
	if diff := cmp.Diff(access(), got); diff != "" {
		t.Errorf("operations and access (-want +got):\n%s", diff)
	}
}

func filled(path string) string {
	for strings.Contains(path, "{") {
		begin, end := strings.Index(path, "{"), strings.Index(path, "}")
		path = path[:begin] + "0abc" + path[end+1:]
	}
	return path
}

func emptyBody(route documentedRoute) *strings.Reader {
	if route.Body == nil {
		return strings.NewReader("")
	}
	return strings.NewReader(`{}`)
}

func TestRefusesCallers(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx := t.Context()
	expiring, _, err := w.Auth.CreateToken(ctx, auth.NewToken{Name: "expiring", Role: pki.RoleAdmin, ExpiresAt: w.Clock.Now().Add(time.Hour)}, apitest.System())
	if err != nil {
		t.Fatal(err)
	}
	revoked, token, err := w.Auth.CreateToken(ctx, auth.NewToken{Name: "revoked", Role: pki.RoleAdmin}, apitest.System())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Auth.RevokeToken(ctx, token, apitest.System()); err != nil {
		t.Fatal(err)
	}
	w.Clock.Advance(time.Hour)
	other := strings.Repeat("A", 43)
	headers := map[string][]string{
		"refuses/no-header":       nil,
		"refuses/basic":           {"Basic YWRtaW46YWRtaW4="},
		"refuses/empty-bearer":    {"Bearer "},
		"refuses/not-a-token":     {"Bearer hello"},
		"refuses/unknown-token":   {"Bearer clt_" + other},
		"refuses/expired-token":   {"Bearer " + expiring},
		"refuses/revoked-token":   {"Bearer " + revoked},
		"refuses/two-headers":     {"Bearer " + w.Tokens[pki.RoleAdmin], "Bearer " + w.Tokens[pki.RoleAdmin]},
		"refuses/token-and-space": {"Bearer " + w.Tokens[pki.RoleAdmin] + " x"},
	}
	for path, methods := range describe(t, w).Paths {
		for method, route := range methods {
			if route.Access == "" {
				continue
			}
			for name, values := range headers {
				answer := w.Do(t, strings.ToUpper(method), filled(path), "", emptyBody(route), http.Header{"Authorization": values})
				if answer.Status != http.StatusUnauthorized || !strings.HasPrefix(answer.Header.Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("%s: %s %s: status %d, WWW-Authenticate %q", name, method, path, answer.Status, answer.Header.Get("WWW-Authenticate"))
				}
				if strings.Contains(string(answer.Body), other) || strings.Contains(string(answer.Body), expiring) {
					t.Errorf("%s: %s %s repeats the token", name, method, path)
				}
			}
		}
	}
	if log := w.Log.String(); strings.Contains(log, expiring) || strings.Contains(log, revoked) {
		t.Error("the log has a token")
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx := t.Context()
	client := w.Client(t, "")
	made, err := client.Login(ctx, apiv1.Login{User: "admin", Password: w.Password})
	if err != nil {
		t.Fatal(err)
	}
	if made.Role != "admin" || made.ExpiresAt.IsZero() {
		t.Errorf("token %+v", made.Token)
	}
	who, err := w.ClientWith(t, made.Secret).Whoami(ctx)
	if err != nil || who.Name != "login-admin" {
		t.Errorf("whoami: %+v, %v", who, err)
	}
	w.Clock.Advance(13 * time.Hour)
	if _, err := w.ClientWith(t, made.Secret).Whoami(ctx); statusOf(err) != http.StatusUnauthorized {
		t.Errorf("an old login: %v", err)
	}
	for range 20 {
		_, err = client.Login(ctx, apiv1.Login{User: "admin", Password: "wrong wrong wrong"})
		if statusOf(err) != http.StatusUnauthorized {
			break
		}
	}
	if statusOf(err) != http.StatusTooManyRequests {
		t.Errorf("after many attempts: %v", err)
	}
	answer := w.Do(t, http.MethodPost, "/login", "", strings.NewReader(`{"user":"admin","password":"`+w.Password+`"}`), nil)
	if answer.Status != http.StatusTooManyRequests || answer.Header.Get("Retry-After") == "" {
		t.Errorf("status %d, Retry-After %q", answer.Status, answer.Header.Get("Retry-After"))
	}
	events := w.Events(t, "login.refuse")
	if len(events) == 0 || events[0].Actor.Name != "admin" || events[0].Client.Address != "127.0.0.1" {
		t.Errorf("refused logins in the audit log: %+v", events)
	}
	if strings.Contains(w.Log.String(), w.Password) || strings.Contains(string(answer.Body), w.Password) {
		t.Error("the password is in the log or the answer")
	}
}

func TestRefusesPasswordWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	answer := w.Do(t, http.MethodPost, "/login", "", strings.NewReader(`{"user":"admin","password":["hunter2hunter2"],"more":"hunter2hunter2"}`), nil)
	if answer.Status != http.StatusBadRequest || strings.Contains(string(answer.Body), "hunter2") {
		t.Errorf("status %d: %s", answer.Status, answer.Body)
	}
}

// sorted is for comparisons.
func sorted(values []string) []string {
	sort.Strings(values)
	return values
}
