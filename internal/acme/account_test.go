package acme_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
)

// Every answer has the headers that clients rely on, whatever became of the request.
func TestHeaders(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "istio")
	base := s.URL + "/acme"
	index := "<" + base + "/directory>;rel=\"index\""
	tests := map[string]struct {
		answer *acmetest.Response
		status int
		nonce  bool
		link   bool
	}{
		"directory":     {c.Get(t, base+"/directory"), 200, true, false},
		"new nonce":     {c.Get(t, base+"/new-nonce"), 204, true, true},
		"new order":     {c.Post(t, base+"/new-order", struct{}{}), 201, true, true},
		"unknown path":  {c.Get(t, base+"/authorization"), 404, false, true},
		"unclean path":  {c.Get(t, base+"//directory"), 404, false, true},
		"other profile": {c.Get(t, base+"/p/istio/directory"), 404, false, true},
		"wrong method":  {c.Get(t, base+"/new-order"), 405, false, true},
		"no JWS":        {c.Send(t, base+"/new-order", []byte("{}")), 400, true, true},
		"lost post":     {c.Send(t, base+"/nowhere", []byte("{}")), 404, true, true},
		"wrong payload": {c.Post(t, base+"/new-order", []int{1}), 400, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := tt.answer.Header
			if tt.answer.Status != tt.status {
				t.Errorf("status %d, want %d: %s", tt.answer.Status, tt.status, tt.answer.Body)
			}
			if got := h.Get("Replay-Nonce") != ""; got != tt.nonce {
				t.Errorf("nonce %t, want %t", got, tt.nonce)
			}
			if got := slices.Contains(h.Values("Link"), index); got != tt.link {
				t.Errorf("link to the directory %t, want %t: %q", got, tt.link, h.Values("Link"))
			}
			if tt.nonce && h.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control %q beside a nonce", h.Get("Cache-Control"))
			}
			if h.Get("Access-Control-Allow-Origin") != "*" {
				t.Error("no Access-Control-Allow-Origin")
			}
			if tt.status >= 400 {
				if p := tt.answer.Problem(t); p.Status != tt.status || p.Detail == "" || p.Type != "malformed" {
					t.Errorf("problem: %s", tt.answer.Body)
				}
			}
			if tt.status == http.StatusMethodNotAllowed && h.Get("Allow") != "POST" {
				t.Errorf("Allow %q, want POST", h.Get("Allow"))
			}
		})
	}
}

// No byte of an answer comes from what a request says of its host.
func TestHostIgnored(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.NewClient(t)
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "https://evil.example/acme/directory", nil)
	request.Header.Set("X-Forwarded-Host", "evil.example")
	request.Header.Set("Forwarded", "host=evil.example;proto=http")
	answer := c.Do(t, request)
	if all := fmt.Sprint(answer.Header, string(answer.Body)); answer.Status != http.StatusOK || strings.Contains(all, "evil") {
		t.Errorf("answer repeats the host: %s", all)
	}
}

func TestDirectory(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	type directory struct {
		NewNonce, NewAccount, NewOrder, RevokeCert, KeyChange, RenewalInfo, NewAuthz string
		Meta                                                                         struct {
			ExternalAccountRequired bool
			Profiles                map[string]string
		}
	}
	var d, scoped directory
	c := s.NewClient(t)
	c.Get(t, s.URL+"/acme/directory").Into(t, &d)
	c.Get(t, s.URL+"/acme/p/challenge/directory").Into(t, &scoped)
	for _, at := range []string{d.NewNonce, d.NewAccount, d.NewOrder, d.RevokeCert, d.KeyChange, d.RenewalInfo} {
		if !strings.HasPrefix(at, s.URL+"/acme/") {
			t.Errorf("URL %q is not under %s", at, s.URL)
		}
	}
	if d.NewAuthz != "" || !d.Meta.ExternalAccountRequired || len(d.Meta.Profiles) != 3 || d.Meta.Profiles["istio"] == "" {
		t.Errorf("directory: %+v", d)
	}
	if scoped.NewOrder != s.URL+"/acme/p/challenge/new-order" || scoped.Meta.ExternalAccountRequired || len(scoped.Meta.Profiles) != 1 {
		t.Errorf("directory of a profile: %+v", scoped)
	}
}

// A credential that is good for one account makes one account, however many ask at once.
func TestAccountLimit(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	credential := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["istio"].ID, Name: "one-time", MaxAccounts: 1})
	const n = 16
	clients := make([]*acmetest.Client, n)
	answers := make([]*acmetest.Response, n)
	for i := range clients {
		clients[i] = s.NewClient(t)
	}
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			answers[i] = c.Post(t, c.Prefix+"/new-account", map[string]any{"externalAccountBinding": c.Binding(t, credential)})
		})
	}
	all.Wait()
	created := 0
	for i, answer := range answers {
		switch {
		case answer.Status == http.StatusCreated:
			created++
			// The credential is used up, but not for the account that it made.
			c := clients[i]
			again := c.Post(t, c.Prefix+"/new-account", map[string]any{"externalAccountBinding": c.Binding(t, credential)})
			if again.Status != http.StatusOK || again.Header.Get("Location") != answer.Header.Get("Location") {
				t.Errorf("the same account again: %d %s", again.Status, again.Body)
			}
		case answer.Status != http.StatusForbidden || answer.Problem(t).Type != "unauthorized":
			t.Errorf("newAccount: %d %s", answer.Status, answer.Body)
		}
	}
	if created != 1 {
		t.Errorf("%d accounts were made, want 1", created)
	}
}

// One key has one account, however many ask for it at once.
func TestParallelRegistration(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.NewClient(t)
	binding := c.Binding(t, s.Credentials["istio"])
	const n = 16
	answers := make([]*acmetest.Response, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			answers[i] = c.Post(t, c.Prefix+"/new-account", map[string]any{"externalAccountBinding": binding})
		})
	}
	all.Wait()
	statuses, accounts := make(map[int]int), make(map[string]bool)
	for _, answer := range answers {
		statuses[answer.Status]++
		accounts[answer.Header.Get("Location")] = true
	}
	if statuses[http.StatusCreated] != 1 || statuses[http.StatusOK] != n-1 || len(accounts) != 1 {
		t.Errorf("statuses %v, accounts %v", statuses, accounts)
	}
}

func TestAccountLifecycle(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "istio")
	type account struct {
		Status  string
		Contact []string
		Orders  string
		Binding struct{ Protected string } `json:"externalAccountBinding"`
	}
	post := func(payload any) account {
		t.Helper()
		answer := c.Post(t, c.KID, payload)
		if answer.Status != http.StatusOK {
			t.Fatalf("account: %d %s", answer.Status, answer.Body)
		}
		var a account
		answer.Into(t, &a)
		return a
	}
	contact := []string{"mailto:mesh-owner@example.com"}
	if a := post(map[string]any{"contact": contact}); !slices.Equal(a.Contact, contact) || a.Binding.Protected == "" || a.Orders != c.KID+"/orders" {
		t.Errorf("account with a contact: %+v", a)
	}
	if a := post(map[string]any{"status": "revoked", "unknown": 1}); !slices.Equal(a.Contact, contact) || a.Status != "valid" {
		t.Errorf("account after nothing was asked for: %+v", a)
	}
	if a := post(map[string]any{"contact": []string{}}); len(a.Contact) != 0 {
		t.Errorf("account without contacts: %+v", a)
	}
	o := c.NewOrder(t)
	if a := post(map[string]any{"status": "deactivated"}); a.Status != "deactivated" {
		t.Errorf("deactivated account: %+v", a)
	}
	jwk := *c
	jwk.KID = ""
	for name, answer := range map[string]*acmetest.Response{
		"order":      c.Read(t, o.URL),
		"finalize":   c.Finalize(t, o, acmetest.WorkloadCSR(t, workload)),
		"newAccount": jwk.Post(t, c.Prefix+"/new-account", map[string]any{"externalAccountBinding": c.Binding(t, s.Credentials["istio"])}),
	} {
		if answer.Status != http.StatusUnauthorized || answer.Problem(t).Type != "unauthorized" {
			t.Errorf("%s of a deactivated account: %d %s", name, answer.Status, answer.Body)
		}
	}
}

// keyChange returns the payload that gives an account the key of another client.
func keyChange(t *testing.T, c, next *acmetest.Client) []byte {
	t.Helper()
	at := c.Prefix + "/key-change"
	header := fmt.Sprintf(`{"alg":"ES256","url":%q,"jwk":%s}`, at, jwkText(t, next))
	return acmetest.Sign(t, next.Key, []byte(header), fmt.Appendf(nil, `{"account":%q,"oldKey":%s}`, c.KID, jwkText(t, c)))
}

func jwkText(t *testing.T, c *acmetest.Client) string {
	t.Helper()
	k := acmetest.JWK(t, c.Key.Public())
	return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q}`, k["crv"], k["x"], k["y"])
}

func TestKeyChange(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c, next := s.Register(t, "istio"), s.NewClient(t)
	replica := *c
	replica.Handler = s.Replica(t, acme.Options{}).Handler()
	o := replica.NewOrder(t) // so that the replica has a copy of the account
	if answer := c.PostRaw(t, c.Prefix+"/key-change", keyChange(t, c, next)); answer.Status != http.StatusOK || answer.Header.Get("Location") != c.KID {
		t.Fatalf("keyChange: %d %s", answer.Status, answer.Body)
	}
	next.KID = c.KID
	if answer := next.Read(t, o.URL); answer.Status != http.StatusOK {
		t.Errorf("order with the new key: %d %s", answer.Status, answer.Body)
	}
	if answer := c.Read(t, o.URL); answer.Status != http.StatusBadRequest {
		t.Errorf("order with the old key: %d %s", answer.Status, answer.Body)
	}
	s.Advance(t, 5*time.Second)
	if answer := replica.Read(t, o.URL); answer.Status != http.StatusBadRequest {
		t.Errorf("order with the old key on another replica, seconds later: %d %s", answer.Status, answer.Body)
	}
	other := s.Register(t, "istio")
	answer := other.PostRaw(t, c.Prefix+"/key-change", keyChange(t, other, next))
	if answer.Status != http.StatusConflict || answer.Header.Get("Location") != c.KID {
		t.Errorf("keyChange to the key of another account: %d %s, Location %q", answer.Status, answer.Body, answer.Header.Get("Location"))
	}
	if answer := next.PostRaw(t, c.Prefix+"/key-change", keyChange(t, next, next)); answer.Status != http.StatusOK {
		t.Errorf("keyChange to the same key: %d %s", answer.Status, answer.Body)
	}
}

// What a credential allows and what its profile does are two things; the narrower counts at once, at newOrder.
func TestRefusedOrder(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	istio, server, scoped := s.Register(t, "istio"), s.Register(t, "server"), challengeClient(t, s)
	ids := func(values ...string) map[string]any {
		var list []map[string]string
		for _, value := range values {
			kind, name, _ := strings.Cut(value, ":")
			list = append(list, map[string]string{"type": kind, "value": name})
		}
		return map[string]any{"identifiers": list}
	}
	with := func(order map[string]any, name string, value any) map[string]any {
		order[name] = value
		return order
	}
	tests := map[string]struct {
		client *acmetest.Client
		order  map[string]any
		status int
		kind   string
		parts  int
	}{
		"refuses/name outside the profile":   {istio, ids("dns:a.svc", "dns:evil.example"), 403, "rejectedIdentifier", 1},
		"refuses/every name outside":         {server, ids("dns:a.test", "dns:b.test", "dns:a.example.com"), 403, "rejectedIdentifier", 2},
		"refuses/unknown type":               {server, ids("email:a@example.com"), 400, "unsupportedIdentifier", 0},
		"refuses/underscore":                 {server, ids("dns:a_b.example.com"), 400, "malformed", 0},
		"refuses/both":                       {server, ids("dns:a_b.example.com", "email:a@example.com"), 400, "compound", 2},
		"refuses/no identifiers":             {server, ids(), 400, "malformed", 0},
		"refuses/no identifiers, null":       {server, map[string]any{"identifiers": nil}, 400, "malformed", 0},
		"refuses/no identifiers, challenge":  {scoped, ids(), 400, "malformed", 0},
		"refuses/other profile":              {istio, with(ids("dns:a.svc"), "profile", "server"), 400, "invalidProfile", 0},
		"refuses/addresses under the name":   {server, with(ids("ip:127.0.0.1"), "profile", "server"), 400, "invalidProfile", 0},
		"refuses/end in the past":            {istio, with(ids("dns:a.svc"), "notAfter", "2001-01-01T00:00:00Z"), 400, "malformed", 0},
		"refuses/no date":                    {istio, with(ids("dns:a.svc"), "notAfter", "tomorrow"), 400, "malformed", 0},
		"refuses/replaces what is no id":     {istio, with(ids("dns:a.svc"), "replaces", "x"), 400, "malformed", 0},
		"refuses/replaces what is not there": {istio, with(ids("dns:a.svc"), "replaces", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"), 400, "malformed", 0},
		"refuses/mapped address":             {scoped, ids("ip:::ffff:127.0.0.1"), 400, "malformed", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := tt.client.Post(t, tt.client.Prefix+"/new-order", tt.order)
			if p := answer.Problem(t); answer.Status != tt.status || p.Type != tt.kind || len(p.Subproblems) != tt.parts {
				t.Errorf("newOrder: %d %s", answer.Status, answer.Body)
			}
			if strings.Contains(name, "replaces") && !strings.Contains(answer.Problem(t).Detail, "replaces") {
				t.Errorf("detail does not name the member: %s", answer.Body)
			}
		})
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for name, base := range map[string]string{
		"refuses/plain http": "http://ca.example", "refuses/path": "https://ca.example/acme", "refuses/slash": "https://ca.example/",
		"refuses/upper case": "https://CA.example", "refuses/nothing": "", "refuses/user": "https://a@ca.example",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := acme.New(acme.Config{BaseURL: base}); err == nil || !strings.Contains(err.Error(), "BaseURL") || !strings.Contains(err.Error(), "Store is missing") {
				t.Errorf("New = %v, want all problems", err)
			}
		})
	}
}

// Attempts with a credential that fail are recorded with the credential's identifier, and never its key.
func TestRefusedBinding(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	good := s.Credentials["istio"]
	expired := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["istio"].ID, Name: "short", ExpiresAt: s.Clock.Now().Add(time.Minute)})
	s.Advance(t, time.Hour)
	wrongKey := acmetest.Credential{ID: good.ID, Key: expired.Key}
	unknown := acmetest.Credential{ID: "nobody", Key: good.Key}
	var details []string
	for name, credential := range map[string]acmetest.Credential{"wrong key": wrongKey, "unknown": unknown, "expired": expired} {
		c := s.NewClient(t)
		answer := c.Post(t, c.Prefix+"/new-account", map[string]any{"externalAccountBinding": c.Binding(t, credential)})
		if answer.Status != http.StatusForbidden || answer.Problem(t).Type != "unauthorized" {
			t.Errorf("newAccount with %s credential: %d %s", name, answer.Status, answer.Body)
		}
		if name != "expired" {
			details = append(details, answer.Problem(t).Detail)
		}
	}
	if details[0] != details[1] {
		t.Errorf("a wrong key and an unknown credential are told apart: %q", details)
	}
	c := s.NewClient(t)
	if answer := c.Post(t, c.Prefix+"/new-account", struct{}{}); answer.Status != http.StatusForbidden || answer.Problem(t).Type != "externalAccountRequired" {
		t.Errorf("newAccount without a credential: %d %s", answer.Status, answer.Body)
	}
	events, err := s.Store.Events(t.Context(), pki.EventFilter{Action: string(audit.AccountRefuse), Limit: 10})
	if err != nil || len(events) != 4 {
		t.Fatalf("%d events of refused accounts, want 4: %v", len(events), err)
	}
	recorded := make(map[pki.CredentialID]bool)
	for _, event := range events {
		recorded[event.Detail.Credential] = true
	}
	if !recorded[good.ID] || !recorded[expired.ID] || recorded["nobody"] {
		t.Errorf("recorded credentials: %v", recorded)
	}
}
