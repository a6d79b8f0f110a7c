package oidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certloom/certloom/internal/auth/oidc"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/seal"
)

const (
	clientID     = "certloom"
	clientSecret = "client-s3cret/with:signs"
	redirect     = "https://ca.example.com/sign-in/oidc/callback"
)

// fake is an OpenID provider that keeps to what it says: it signs tokens, takes a code once, from the client that it was
// made for, with the verifier of its challenge. Its fields make it a bad one.
type fake struct {
	*httptest.Server
	now func() time.Time

	mu       sync.Mutex // guards what follows
	codes    map[string]url.Values
	asked    map[string]int // by path
	metadata map[string]any // over what is true
	claims   map[string]any // over what is true of the ID token; nil members are left out
	userinfo map[string]any // nil: there is no such endpoint
	alg      jose.SignatureAlgorithm
	key      any // that signs; nil: the announced one
	down     bool
	token    func(answer map[string]any) // changes the token endpoint's answer
	refuse   string                      // error of the token endpoint
}

// announced is the key that the fakes sign with.
var announced = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newFake(t *testing.T, now func() time.Time) *fake {
	t.Helper()
	f := &fake{now: now, codes: map[string]url.Values{}, asked: map[string]int{}, claims: map[string]any{}, alg: jose.RS256}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", f.discovery)
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		write(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: announced().Public(), KeyID: "1", Algorithm: "RS256", Use: "sig"}}})
	})
	mux.HandleFunc("POST /token", f.exchange)
	mux.HandleFunc("GET /userinfo", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access" {
			write(w, http.StatusUnauthorized, map[string]any{})
			return
		}
		write(w, http.StatusOK, f.userinfo)
	})
	f.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked[r.URL.Path]++
		if f.down {
			http.Error(w, "<h1>down for maintenance", http.StatusBadGateway)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

// set changes the fake.
func (f *fake) set(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func write(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value)
}

func (f *fake) discovery(w http.ResponseWriter, _ *http.Request) {
	metadata := map[string]any{
		"issuer": f.URL, "authorization_endpoint": f.URL + "/authorize", "token_endpoint": f.URL + "/token", "jwks_uri": f.URL + "/keys",
		"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
	}
	if f.userinfo != nil {
		metadata["userinfo_endpoint"] = f.URL + "/userinfo"
	}
	maps.Copy(metadata, f.metadata)
	write(w, http.StatusOK, metadata)
}

// authorize is the person at the provider, who signs in and is sent back: it returns what comes with the address.
func (f *fake) authorize(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.Host != f.Listener.Addr().String() || u.Path != "/authorize" || q.Get("response_type") != "code" || q.Get("client_id") != clientID ||
		q.Get("redirect_uri") != redirect || q.Get("scope") != "openid profile groups" || q.Get("code_challenge_method") != "S256" ||
		len(q.Get("code_challenge")) != 43 || len(q.Get("state")) < 43 || len(q.Get("nonce")) < 43 || q.Has("client_secret") {
		t.Fatalf("asked for %s", address)
	}
	code := rand.Text()
	f.set(func(f *fake) { f.codes[code] = q })
	return url.Values{"code": {code}, "state": {q.Get("state")}}
}

func (f *fake) exchange(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	asked, known := f.codes[r.PostForm.Get("code")]
	delete(f.codes, r.PostForm.Get("code"))
	id, secret, basic := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	if f.metadata["token_endpoint_auth_methods_supported"] != nil && !basic {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	sum := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	switch {
	case f.refuse != "":
		write(w, http.StatusBadRequest, map[string]any{"error": f.refuse, "error_description": "because\nof " + r.PostForm.Get("code")})
		return
	case id != clientID || secret != clientSecret:
		write(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	case !known || asked.Get("redirect_uri") != r.PostForm.Get("redirect_uri") || asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]):
		write(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	hash := sha256.Sum256([]byte("access"))
	claims := map[string]any{
		"iss": f.URL, "sub": "subject-1", "aud": clientID, "exp": f.now().Add(time.Minute).Unix(), "iat": f.now().Unix(),
		"nonce": asked.Get("nonce"), "at_hash": base64.RawURLEncoding.EncodeToString(hash[:16]),
		"preferred_username": "jo", "groups": []string{"staff", "ca-admins"}, "email": "jo@example.com", "email_verified": true,
	}
	for name, value := range f.claims {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	answer := map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 60, "id_token": f.sign(claims)}
	if f.token != nil {
		f.token(answer)
	}
	write(w, http.StatusOK, answer)
}

func (f *fake) sign(claims map[string]any) string {
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	if f.alg == "none" {
		return base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload) + "."
	}
	key := f.key
	if key == nil {
		key = announced()
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: f.alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		panic(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		panic(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return token
}

// lab is a Provider and the provider that it asks.
type lab struct {
	*oidc.Provider
	fake *fake
	ring *seal.Ring

	mu  sync.Mutex // guards at
	at  time.Time
	cfg oidc.Config
}

func (l *lab) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = l.at.Add(d)
}

func newLab(t *testing.T, change func(*oidc.Config)) *lab {
	t.Helper()
	l := &lab{at: time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC)}
	l.fake = newFake(t, l.now)
	ring, err := seal.New(map[uint32][]byte{1: make([]byte, seal.KeyLen)}, 1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l.ring = ring
	l.cfg = oidc.Config{
		Issuer: l.fake.URL, ClientID: clientID, ClientSecret: clientSecret, RedirectURL: redirect, Scopes: []string{"profile", "groups", "openid"},
		HTTP: oidc.NewClient(rootsOf(l.fake)), Seal: ring, Now: l.now, Random: rand.Reader,
		Rules: []oidc.Rule{
			{Group: "ca-admins", Role: pki.RoleAdmin},
			{Group: "shop", Role: "namespace-viewer", Sees: []string{"spiffe://td/ns/shop/*", "db.example.com"}},
			{Group: "auditors", Role: "auditor"},
			{Group: "pay", Role: "namespace-viewer", Sees: []string{"spiffe://td/ns/pay/*", "db.example.com"}},
		},
	}
	if change != nil {
		change(&l.cfg)
	}
	if l.Provider, err = oidc.New(l.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.cfg.HTTP.CloseIdleConnections)
	return l
}
