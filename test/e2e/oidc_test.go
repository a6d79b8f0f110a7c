package e2e_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// TestOIDC signs people in at a real OpenID Connect provider, as browsers without scripts do: each group has its role,
// whoever is in none does not get in, and answers that were stolen or come twice are refused.
func TestOIDC(t *testing.T) {
	t.Parallel()
	t.Run("groups at the userinfo endpoint", func(t *testing.T) {
		t.Parallel()
		testOIDC(t, false, "")
	})
	t.Run("groups in the ID token", func(t *testing.T) {
		t.Parallel()
		dsn := os.Getenv(testbed.PostgresVariable)
		if dsn != "" {
			dsn = testbed.FreshDatabase(t.Context(), t, dsn)
		}
		testOIDC(t, true, dsn)
	})
}

func testOIDC(t *testing.T, inToken bool, dsn string) {
	people := []testbed.ProviderPerson{
		{ID: "1", Name: "anna", Password: "a secret", Groups: []string{"staff", "ca-admins"}},
		{ID: "2", Name: "otto", Password: "a secret", Groups: []string{"ca-operators"}},
		{ID: "3", Name: "aya", Password: "a secret", Groups: []string{"auditors"}},
		{ID: "4", Name: "sho", Password: "a secret", Groups: []string{"shop", "pay"}},
		{ID: "5", Name: "nobody", Password: "a secret", Groups: []string{"staff"}},
		{ID: "6", Name: "loner", Password: "a secret"},
		{ID: "7", Name: "admin", Password: "a secret", Groups: []string{"auditors"}}, // not the admin of "certloom init"
	}
	provider := testbed.NewProvider(t.Context(), t, inToken, people...)
	s := testbed.StartCertloom(t.Context(), t, testbed.Options{Provider: provider, Postgres: dsn})

	down := newBrowser(t, s, provider)
	if status, page := down.get(t, s.URL+"/sign-in/oidc"); status != http.StatusServiceUnavailable || !strings.Contains(page, "Company login cannot be reached") {
		t.Fatalf("the provider is down, and that is %d: %s", status, page)
	}
	provider.Start(t.Context(), t, s)
	down.stop = "/auth"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := testbed.Poll(ctx, 250*time.Millisecond, func(context.Context) error {
		if status, _ := down.get(t, s.URL+"/sign-in/oidc"); status != http.StatusSeeOther {
			return fmt.Errorf("the provider is up again, and that is %d", status)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		user, role, shown string
		sees              []string
	}{
		"anna":  {"anna", "admin", "administrator", nil},
		"otto":  {"otto", "operator", "operator", nil},
		"aya":   {"aya", "auditor", "auditor", nil},
		"sho":   {"sho", "namespace-viewer", "namespace viewer", []string{"spiffe://cluster.local/ns/shop/*", "spiffe://cluster.local/ns/pay/*"}},
		"admin": {"admin@127.0.0.1", "auditor", "auditor", nil},
	} {
		b := newBrowser(t, s, provider)
		status, page := b.signIn(t, name, "/inventory")
		if status != http.StatusOK || !strings.Contains(page, ">"+want.shown+"<") || !strings.Contains(page, want.user) {
			t.Errorf("%s gets %d: %.2000s", name, status, page)
			continue
		}
		var users []apiv1.User
		if err := json.Unmarshal(s.CLI(t.Context(), t, "user", "list", "-o", "json"), &users); err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(users, func(u apiv1.User) bool { return u.Name == want.user })
		if at < 0 {
			t.Errorf("%s is not a user", want.user)
			continue
		}
		user := users[at]
		if user.Issuer != provider.Issuer || user.Role != want.role || !slices.Equal(user.Sees, want.sees) {
			t.Errorf("%s has role %s and sees %v", name, user.Role, user.Sees)
		}
	}
	testOIDCRefuses(t, s, provider)
}

func testOIDCRefuses(t *testing.T, s *testbed.Certloom, provider *testbed.Provider) {
	for _, name := range []string{"nobody", "loner"} {
		b := newBrowser(t, s, provider)
		if status, page := b.signIn(t, name, "/"); status != http.StatusForbidden || !strings.Contains(page, "you have no access here") {
			t.Errorf("%s gets %d: %.2000s", name, status, page)
		}
		if len(b.cookies(s)) > 0 {
			t.Errorf("%s has cookies %v", name, b.cookies(s))
		}
	}
	// An answer that somebody else has seen is of no use in another browser, and of none when it was used.
	victim, thief := newBrowser(t, s, provider), newBrowser(t, s, provider)
	victim.stop = "/sign-in/oidc/callback"
	if status, _ := victim.signIn(t, "anna", "/"); status != http.StatusFound && status != http.StatusSeeOther {
		t.Fatalf("the provider answers %d", status)
	}
	answer := victim.stopped
	thief.get(t, s.URL+"/sign-in/oidc") // so that it has a cookie
	if status, _ := thief.get(t, answer); status != http.StatusUnauthorized {
		t.Errorf("a stolen answer gets %d", status)
	}
	cookie := victim.cookies(s)
	victim.stop = ""
	if status, page := victim.get(t, answer); status != http.StatusOK || !strings.Contains(page, "administrator") {
		t.Errorf("the answer's owner gets %d", status)
	}
	replay := newBrowser(t, s, provider)
	base, _ := url.Parse(s.URL)
	replay.client.Jar.SetCookies(base, cookie)
	if status, _ := replay.get(t, answer); status != http.StatusUnauthorized {
		t.Errorf("a replayed answer gets %d", status)
	}
	var events []apiv1.Event
	if err := json.Unmarshal(s.CLI(t.Context(), t, "audit", "list", "--action", "login.refuse", "-o", "json"), &events); err != nil {
		t.Fatal(err)
	}
	refused := map[string]int{}
	for _, e := range events {
		refused[e.Target]++
		if e.Outcome != "refused" || e.Address == "" || e.Reason == "" {
			t.Errorf("event %+v", e)
		}
	}
	if refused["nobody"] != 1 || refused["loner"] != 1 || refused["unknown user"] != 2 {
		t.Errorf("the audit log has %v", refused)
	}
	var signedIn []apiv1.Event
	if err := json.Unmarshal(s.CLI(t.Context(), t, "audit", "list", "--action", "session.create", "-o", "json"), &signedIn); err != nil {
		t.Fatal(err)
	}
	if len(signedIn) != 6 {
		t.Errorf("the audit log has %d sign-ins, want 6", len(signedIn))
	}
}

// browser is a browser without scripts: cookies, redirects and forms.
type browser struct {
	client           *http.Client
	server, provider string
	stop             string // path at which redirects are not followed
	stopped          string // the address at which that was
}

func newBrowser(t *testing.T, s *testbed.Certloom, provider *testbed.Provider) *browser {
	t.Helper()
	roots := x509.NewCertPool()
	for _, name := range []string{s.CAFile, provider.CAFile} {
		pem, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		roots.AppendCertsFromPEM(pem)
	}
	client := s.HTTPClient(t)
	client.Transport.(*http.Transport).TLSClientConfig.RootCAs = roots
	client.Timeout = time.Minute
	var err error
	if client.Jar, err = cookiejar.New(nil); err != nil {
		t.Fatal(err)
	}
	b := &browser{client: client, server: s.URL, provider: provider.Issuer}
	client.CheckRedirect = func(next *http.Request, _ []*http.Request) error {
		if b.stop != "" && next.URL.Path == b.stop {
			b.stopped = next.URL.String()
			return http.ErrUseLastResponse
		}
		return nil
	}
	return b
}

func (b *browser) get(t *testing.T, address string) (int, string) {
	t.Helper()
	answer, err := b.client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	return read(t, answer)
}

func read(t *testing.T, answer *http.Response) (int, string) {
	t.Helper()
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(page)
}

// cookies are those of the server.
func (b *browser) cookies(s *testbed.Certloom) []*http.Cookie {
	base, err := url.Parse(s.URL)
	if err != nil {
		return nil
	}
	found := b.client.Jar.Cookies(base)
	for _, c := range found { // the jar keeps the rest to itself
		c.Secure, c.Path = true, "/"
	}
	return found
}

var (
	button = regexp.MustCompile(`href="(/sign-in/oidc[^"]*)"`)
	hidden = regexp.MustCompile(`name="id" value="([^"]+)"`)
)

// signIn clicks the button and signs in at the provider. It returns what comes at the end.
func (b *browser) signIn(t *testing.T, name, next string) (int, string) {
	t.Helper()
	_, page := b.get(t, b.server+"/sign-in?next="+url.QueryEscape(next))
	link := button.FindStringSubmatch(page)
	if link == nil || !strings.Contains(page, "Sign in with Company login") {
		t.Fatalf("no button on %s", page)
	}
	status, form := b.get(t, b.server+html.UnescapeString(link[1]))
	id := hidden.FindStringSubmatch(form)
	if id == nil {
		t.Fatalf("the provider shows %d: %s", status, form)
	}
	answer, err := b.client.PostForm(b.provider+"/login/username", url.Values{"id": {id[1]}, "username": {name}, "password": {"a secret"}})
	if err != nil {
		t.Fatal(err)
	}
	return read(t, answer)
}
