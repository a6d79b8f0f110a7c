package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/testca"
)

// figures asks for the part of the dashboard that refreshes itself, as its script does.
func (l *lab) figures(t *testing.T) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?part=figures", http.NoBody)
	r.Header.Set("HX-Request", "true")
	a := l.do(t, r)
	if a.Code != http.StatusOK {
		t.Fatalf("figures: %d %s", a.Code, a.Body)
	}
	return a.Body.String()
}

// A server that has issued nothing says what to do; what is done is ticked.
func TestDashboardFirstSteps(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	html := l.page(t, "/")
	for _, want := range []string{"First steps", "Nothing was issued in this time.", "There is no identity yet.", "Nothing was refused in the last day."} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(html, "step-done"); n != 2 { // the CA and the profile
		t.Errorf("%d steps are done", n)
	}
	profile, _ := l.Catalog.Snapshot().ProfileByName("istio")
	l.Credential(t, profile)
	if n := strings.Count(l.figures(t), "step-done"); n != 3 {
		t.Errorf("%d steps are done with a credential", n)
	}
	l.Issue(t, "web", testca.Request{DNS: []string{"a.example.com"}})
	l.Clock.Advance(time.Minute) // figures are taken again
	l.figures(t)
	waitFor(t, func() bool { return !strings.Contains(l.figures(t), "First steps") })
}

// waitFor waits for what is done in the background.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatal("it did not happen")
		case <-tick.C:
		}
	}
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	name := "spiffe://cluster.local/ns/shop/sa/cart"
	l.Issue(t, "istio", testca.Request{URIs: []string{name}})
	l.Clock.Advance(20 * time.Hour) // it lapses
	l.Issue(t, "istio", testca.Request{URIs: []string{"spiffe://cluster.local/ns/shop/sa/till"}})
	l.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {"wrong"}})
	l.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {l.Password}})
	html := l.page(t, "/")
	for _, want := range []string{
		`hx-get="/?part=figures"`, `id="tile-lapsing" href="/inventory?status=lapsing"`, "/inventory/identity?name=" + url.QueryEscape(name),
		`<title id="chart-minutes-title">`, "2 certificates in the last day, at most 1 in an hour.", "Sign-in", "not authorized",
		"≤ 10 %", "1 have 10 to 25 % left", "≤ 24 h", `href="/authorities/issuing"`, " % of the lifetime left",
	} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(html, "First steps") {
		t.Error("first steps on a server that issues")
	}
	part := l.figures(t)
	if strings.Contains(part, "<html") || strings.Contains(part, "hx-get") || !strings.Contains(part, `id="tile-alive"`) {
		t.Error("the part that refreshes is not that part")
	}
	l.lang = "ja"
	if html := l.page(t, "/"); !strings.Contains(html, "ダッシュボード") || !strings.Contains(html, "サインイン") {
		t.Error("it is not in Japanese")
	}
}
