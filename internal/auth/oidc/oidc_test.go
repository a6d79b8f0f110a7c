package oidc_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/auth/oidc"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

func rootsOf(f *fake) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(f.Certificate())
	return pool
}

// begin begins a sign-in and has the person sign in at the provider.
func (l *lab) begin(t *testing.T) (cookie string, answer url.Values) {
	t.Helper()
	start, err := l.Begin(t.Context(), "/inventory?x=1")
	if err != nil {
		t.Fatal(err)
	}
	if start.Keep != 10*time.Minute || strings.Contains(start.Cookie, "inventory") {
		t.Errorf("cookie %q for %s", start.Cookie, start.Keep)
	}
	return start.Cookie, l.fake.authorize(t, start.URL)
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	cookie, answer := l.begin(t)
	person, next, err := l.Finish(t.Context(), cookie, answer)
	if err != nil {
		t.Fatal(err)
	}
	want := &oidc.Person{
		Issuer: l.fake.URL, Subject: "subject-1", Name: "jo", Email: "jo@example.com", Groups: []string{"staff", "ca-admins"}, Role: pki.RoleAdmin,
	}
	if diff := cmp.Diff(want, person); diff != "" || next != "/inventory?x=1" {
		t.Errorf("next %q, person (-want +got):\n%s", next, diff)
	}
	// Another replica has the same ring.
	other, err := oidc.New(l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	cookie, answer = l.begin(t)
	if _, _, err := other.Finish(t.Context(), cookie, answer); err != nil {
		t.Errorf("another replica: %v", err)
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		groups any
		role   pki.Role
		sees   []string
	}{
		"one":            {[]string{"auditors"}, "auditor", nil},
		"first decides":  {[]string{"auditors", "ca-admins"}, pki.RoleAdmin, nil},
		"one text":       {"ca-admins", pki.RoleAdmin, nil},
		"viewer first":   {[]string{"auditors", "shop"}, "namespace-viewer", []string{"spiffe://td/ns/shop/*", "db.example.com"}},
		"two namespaces": {[]string{"pay", "shop"}, "namespace-viewer", []string{"spiffe://td/ns/shop/*", "db.example.com", "spiffe://td/ns/pay/*"}},
		"odd ones":       {[]any{7, nil, map[string]any{}, "auditors"}, "auditor", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.fake.set(func(f *fake) { f.claims["groups"] = tt.groups })
			cookie, answer := l.begin(t)
			person, _, err := l.Finish(t.Context(), cookie, answer)
			if err != nil {
				t.Fatal(err)
			}
			if person.Role != tt.role || cmp.Diff(tt.sees, person.Sees) != "" {
				t.Errorf("role %s sees %v", person.Role, person.Sees)
			}
		})
	}
}

// The ID token need not have everything.
func TestUserinfo(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change   func(*oidc.Config)
		claims   map[string]any
		userinfo map[string]any
		want     oidc.Person
	}{
		"groups": {
			nil,
			map[string]any{"groups": nil},
			map[string]any{"sub": "subject-1", "groups": []string{"auditors"}, "preferred_username": "other"},
			oidc.Person{Name: "jo", Email: "jo@example.com", Groups: []string{"auditors"}, Role: "auditor"},
		},
		"dotted": {
			func(c *oidc.Config) { c.GroupsClaim = "realm_access.roles" },
			map[string]any{"realm_access": map[string]any{"roles": []string{"auditors"}}},
			nil,
			oidc.Person{Name: "jo", Email: "jo@example.com", Groups: []string{"auditors"}, Role: "auditor"},
		},
		"URL as claim": {
			func(c *oidc.Config) { c.GroupsClaim = "https://example.com/groups" },
			map[string]any{"https://example.com/groups": "auditors"},
			nil,
			oidc.Person{Name: "jo", Email: "jo@example.com", Groups: []string{"auditors"}, Role: "auditor"},
		},
		"e-mail not verified": {
			nil,
			map[string]any{"email_verified": false, "preferred_username": nil, "name": "Jo\x00 <b>Doe\u202e"},
			nil,
			oidc.Person{Name: "Jo <b>Doe", Groups: []string{"staff", "ca-admins"}, Role: pki.RoleAdmin},
		},
		"verified as a text": {
			func(c *oidc.Config) { c.NameClaim = "email" },
			map[string]any{"email_verified": "true"},
			nil,
			oidc.Person{Name: "jo@example.com", Email: "jo@example.com", Groups: []string{"staff", "ca-admins"}, Role: pki.RoleAdmin},
		},
		"odd ones": {
			nil,
			map[string]any{"preferred_username": strings.Repeat("名", 100), "email": "nobody"},
			nil,
			oidc.Person{Name: strings.Repeat("名", 66), Groups: []string{"staff", "ca-admins"}, Role: pki.RoleAdmin},
		},
		"nameless": {
			nil,
			map[string]any{"preferred_username": 7, "email": nil},
			nil,
			oidc.Person{Name: "subject-1", Groups: []string{"staff", "ca-admins"}, Role: pki.RoleAdmin},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, tt.change)
			l.fake.set(func(f *fake) { f.claims, f.userinfo = tt.claims, tt.userinfo })
			cookie, answer := l.begin(t)
			person, _, err := l.Finish(t.Context(), cookie, answer)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Issuer, tt.want.Subject = l.fake.URL, "subject-1"
			if diff := cmp.Diff(&tt.want, person); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What the browser brings back is not trusted.
func TestRefusesAnswers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(l *lab, cookie *string, answer url.Values)
		want   string
	}{
		"state":          {func(_ *lab, _ *string, a url.Values) { a.Set("state", a.Get("state")+"x") }, "belongs to another sign-in"},
		"no-state":       {func(_ *lab, _ *string, a url.Values) { a.Del("state") }, "belongs to another sign-in"},
		"no-cookie":      {func(_ *lab, c *string, _ url.Values) { *c = "" }, "not begun in this browser"},
		"forged-cookie":  {func(_ *lab, c *string, _ url.Values) { *c = strings.Repeat("A", 200) }, "not begun here"},
		"cookie-of-kind": {func(l *lab, c *string, _ url.Values) { *c = l.ring.Seal("order", nil, []byte("{}")) }, "not begun here"},
		"other-provider": {func(l *lab, c *string, _ url.Values) {
			*c = l.ring.Seal("oidc-sign-in", []byte("https://other\x00x"), []byte("{}"))
		}, "not begun here"},
		"no-code":         {func(_ *lab, _ *string, a url.Values) { a.Del("code") }, "has no code"},
		"two-codes":       {func(_ *lab, _ *string, a url.Values) { a.Add("code", "x") }, "has no code"},
		"invented-code":   {func(_ *lab, _ *string, a url.Values) { a.Set("code", "x") }, "does not know this sign-in any more"},
		"other-issuer":    {func(_ *lab, _ *string, a url.Values) { a.Set("iss", "https://evil.example") }, "another identity provider"},
		"denied":          {func(_ *lab, _ *string, a url.Values) { a.Set("error", "access_denied") }, "not let you sign in (access_denied)"},
		"error-with-html": {func(_ *lab, _ *string, a url.Values) { a.Set("error", "<script>") }, "(for a reason of its own)"},
		"late":            {func(l *lab, _ *string, _ url.Values) { l.pass(10 * time.Minute) }, "longer than 10m0s"},
		"code-of-another-sign-in": {func(l *lab, _ *string, a url.Values) {
			l.fake.set(func(f *fake) {
				for _, q := range f.codes { // an attacker's own, pasted in
					q.Set("code_challenge", "another")
				}
			})
		}, "does not know this sign-in any more"},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			cookie, answer := l.begin(t)
			tt.change(l, &cookie, answer)
			person, _, err := l.Finish(t.Context(), cookie, answer)
			check(t, person, err, fault.Unauthenticated, tt.want)
		})
	}
}

func check(t *testing.T, person *oidc.Person, err error, kind fault.Kind, want string) {
	t.Helper()
	found, ok := errors.AsType[*fault.Error](err)
	if !ok || found.Kind != kind || !strings.Contains(found.Public, want) {
		t.Fatalf("got %v, want %v %q", err, kind, want)
	}
	if person != nil && person.Role != "" {
		t.Errorf("%+v comes with the refusal", person)
	}
	for _, not := range []string{clientSecret, "access\"", "eyJ", "<script>", "<h1>"} {
		if strings.Contains(found.Public, not) || (not != "<h1>" && not != "<script>" && strings.Contains(err.Error(), not)) {
			t.Errorf("%q is in %v", not, err)
		}
	}
}

func TestRefusesReplay(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	cookie, answer := l.begin(t)
	if _, _, err := l.Finish(t.Context(), cookie, answer); err != nil {
		t.Fatal(err)
	}
	person, _, err := l.Finish(t.Context(), cookie, answer)
	check(t, person, err, fault.Unauthenticated, "does not know this sign-in any more")
	before := l.fake.asked["/token"]
	person, _, err = l.Finish(t.Context(), "", answer)
	check(t, person, err, fault.Unauthenticated, "not begun in this browser, or was finished")
	if l.fake.asked["/token"] != before || before != 2 {
		t.Errorf("the provider was asked %d times, and once more without the cookie", before)
	}
}

// What is not verified in full is not believed.
func TestRefusesTokens(t *testing.T) {
	t.Parallel()
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const unverified = "cannot be verified"
	claim := func(name string, value any) func(*fake) {
		return func(f *fake) { f.claims[name] = value }
	}
	for name, tt := range map[string]struct {
		change func(*fake)
		want   string
	}{
		"nonce":           {claim("nonce", "another"), unverified},
		"no-nonce":        {claim("nonce", nil), unverified},
		"issuer":          {claim("iss", "https://evil.example"), unverified},
		"audience":        {claim("aud", "another-client"), unverified},
		"no-audience":     {claim("aud", nil), unverified},
		"azp":             {claim("azp", "another-client"), unverified},
		"azp-of-no-text":  {claim("azp", []string{clientID}), unverified},
		"many-no-azp":     {claim("aud", []string{clientID, "another-client"}), unverified},
		"expired":         {claim("exp", 1), unverified},
		"no-expiry":       {claim("exp", nil), unverified},
		"at-hash":         {claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), unverified},
		"no-subject":      {claim("sub", nil), unverified},
		"long-subject":    {claim("sub", strings.Repeat("x", 256)), unverified},
		"not-yet":         {claim("nbf", 4e9), unverified},
		"other-key":       {func(f *fake) { f.key = stranger }, unverified},
		"none":            {func(f *fake) { f.alg = "none" }, unverified},
		"secret-as-key":   {func(f *fake) { f.alg, f.key = jose.HS256, bytes.Repeat([]byte(clientSecret), 2) }, unverified},
		"public-as-key":   {func(f *fake) { f.alg, f.key = jose.HS256, x509.MarshalPKCS1PublicKey(&announced().PublicKey) }, unverified},
		"no-token":        {func(f *fake) { f.token = func(a map[string]any) { delete(a, "id_token") } }, "has not said who you are"},
		"garbage":         {func(f *fake) { f.token = func(a map[string]any) { a["id_token"] = "x.y.z" } }, unverified},
		"token-of-no-txt": {func(f *fake) { f.token = func(a map[string]any) { a["id_token"] = 7 } }, "has not said who you are"},
		"invalid-grant":   {func(f *fake) { f.refuse = "invalid_grant" }, "does not know this sign-in"},
		"other-userinfo": {func(f *fake) {
			f.claims["groups"], f.userinfo = nil, map[string]any{"sub": "subject-2", "groups": "ca-admins"}
		}, unverified},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.fake.set(tt.change)
			cookie, answer := l.begin(t)
			person, _, err := l.Finish(t.Context(), cookie, answer)
			check(t, person, err, fault.Unauthenticated, tt.want)
		})
	}
	t.Run("refuses/unverified-email-as-name", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, func(c *oidc.Config) { c.NameClaim = "email" })
		l.fake.set(claim("email_verified", false))
		cookie, answer := l.begin(t)
		person, _, err := l.Finish(t.Context(), cookie, answer)
		check(t, person, err, fault.Unauthenticated, "not verified your e-mail")
	})
	t.Run("several audiences with azp", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, nil)
		l.fake.set(func(f *fake) { f.claims["aud"], f.claims["azp"] = []string{clientID, "x"}, clientID })
		cookie, answer := l.begin(t)
		if _, _, err := l.Finish(t.Context(), cookie, answer); err != nil {
			t.Error(err)
		}
	})
}

// Whoever is in no group that has a role does not get in, and is known for the audit log.
func TestRefusesWithoutRole(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"other-groups": {map[string]any{"groups": []string{"staff", "CA-ADMINS", "ca-admins "}}, "none of your groups"},
		"no-groups":    {map[string]any{"groups": []string{}}, "none of your groups"},
		"no-claim":     {map[string]any{"groups": nil}, "none of your groups"},
		"odd-claim":    {map[string]any{"groups": map[string]any{"ca-admins": true}}, "none of your groups"},
		"too-many": {map[string]any{
			"groups": nil, "_claim_names": map[string]any{"groups": "src1"},
			"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": "https://graph.example/x"}},
		}, "too many"},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.fake.set(func(f *fake) { f.claims = tt.claims })
			cookie, answer := l.begin(t)
			person, _, err := l.Finish(t.Context(), cookie, answer)
			check(t, person, err, fault.Unauthorized, tt.want)
			if person == nil || person.Subject != "subject-1" || person.Name != "jo" {
				t.Errorf("nobody says who it was: %+v", person)
			}
		})
	}
}

// A provider that names itself in its answers must do so in each (RFC 9207).
func TestAnswersNameTheIssuer(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.fake.set(func(f *fake) { f.metadata = map[string]any{"authorization_response_iss_parameter_supported": true} })
	cookie, answer := l.begin(t)
	person, _, err := l.Finish(t.Context(), cookie, answer)
	check(t, person, err, fault.Unauthenticated, "does not name the identity provider")
	answer.Set("iss", l.fake.URL)
	if _, _, err := l.Finish(t.Context(), cookie, answer); err != nil {
		t.Error(err)
	}
}

// The client's secret goes where the provider wants it.
func TestClientAuthentication(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.fake.set(func(f *fake) {
		f.metadata = map[string]any{"token_endpoint_auth_methods_supported": []string{"client_secret_post"}}
	})
	cookie, answer := l.begin(t)
	if _, _, err := l.Finish(t.Context(), cookie, answer); err != nil {
		t.Error(err)
	}
}

func TestProviderThatIsDown(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	down := func(is bool) { l.fake.set(func(f *fake) { f.down = is }) }
	asked := func() (n int) {
		l.fake.set(func(f *fake) { n = f.asked["/.well-known/openid-configuration"] })
		return n
	}
	down(true)
	_, err := l.Begin(t.Context(), "/")
	check(t, nil, err, fault.Unavailable, "cannot be reached")
	if _, err = l.Begin(t.Context(), "/"); !fault.Is(err, fault.Unavailable) || asked() != 1 {
		t.Errorf("asked %d times: %v", asked(), err)
	}
	down(false)
	l.pass(3 * time.Second)
	var wait sync.WaitGroup
	for range 8 { // one asks for all
		wait.Go(func() {
			if _, err := l.Begin(t.Context(), "/"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	cookie, answer := l.begin(t)
	down(true)
	person, _, err := l.Finish(t.Context(), cookie, answer)
	check(t, person, err, fault.Unavailable, "cannot be reached")
	l.pass(2 * time.Hour) // what was known is used for as long as nothing newer can be had
	if _, err := l.Begin(t.Context(), "/"); err != nil {
		t.Error(err)
	}
	down(false)
	l.pass(3 * time.Second)
	before := asked()
	if _, err := l.Begin(t.Context(), "/"); err != nil || asked() != before+1 {
		t.Errorf("asked %d times: %v", asked()-before, err)
	}
}

// A provider that is not the one of the settings is as good as none.
func TestRefusesProviders(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*fake){
		"issuer":         func(f *fake) { f.metadata = map[string]any{"issuer": f.URL + "/"} },
		"plain-token":    func(f *fake) { f.metadata = map[string]any{"token_endpoint": "http://127.0.0.1/token"} },
		"no-endpoint":    func(f *fake) { f.metadata = map[string]any{"authorization_endpoint": ""} },
		"endless answer": func(f *fake) { f.metadata = map[string]any{"x": strings.Repeat("x", 2<<20)} },
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			l.fake.set(change)
			_, err := l.Begin(t.Context(), "/")
			check(t, nil, err, fault.Unavailable, "not what the settings say")
		})
	}
	t.Run("refuses/unknown-ca", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, func(c *oidc.Config) { c.HTTP = oidc.NewClient(x509.NewCertPool()) })
		_, err := l.Begin(t.Context(), "/")
		check(t, nil, err, fault.Unavailable, "cannot be reached")
	})
	t.Run("refuses/client-secret", func(t *testing.T) {
		t.Parallel()
		l := newLab(t, func(c *oidc.Config) { c.ClientSecret = "wrong" })
		cookie, answer := l.begin(t)
		person, _, err := l.Finish(t.Context(), cookie, answer)
		check(t, person, err, fault.Unavailable, "not what the settings say")
		if !strings.Contains(err.Error(), "invalid_client") {
			t.Errorf("the log does not say why: %v", err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*oidc.Config){
		"empty":        func(c *oidc.Config) { *c = oidc.Config{} },
		"no-secret":    func(c *oidc.Config) { c.ClientSecret = "" },
		"plain-issuer": func(c *oidc.Config) { c.Issuer = "http://login.example.com" },
		"no-rules":     func(c *oidc.Config) { c.Rules = nil },
		"no-group":     func(c *oidc.Config) { c.Rules[0].Group = "" },
		"blind":        func(c *oidc.Config) { c.Rules[1].Sees = nil },
		"narrow-admin": func(c *oidc.Config) { c.Rules[0].Sees = []string{"a"} },
		"no-client":    func(c *oidc.Config) { c.HTTP = nil },
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			config := l.cfg
			config.Rules = append([]oidc.Rule(nil), l.cfg.Rules...)
			change(&config)
			if _, err := oidc.New(config); err == nil {
				t.Error("accepted")
			}
		})
	}
}
