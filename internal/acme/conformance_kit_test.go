package acme_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// suite is the server that the rows share, and what challenges are answered with.
type suite struct {
	*acmetest.Server
	lab *lab
}

func newSuite(t *testing.T) *suite {
	t.Helper()
	l := newLab(t)
	return startSuite(t, l, acmetest.Options{})
}

// startSuite starts a server whose validators ask the lab.
func startSuite(t *testing.T, l *lab, o acmetest.Options) *suite {
	t.Helper()
	o.HTTP01Port, o.TLSALPN01Port, o.Resolver = l.httpPort, l.tlsPort, l.resolver
	s := &suite{Server: acmetest.Start(t, o), lab: l}
	s.Client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return s
}

// apart starts a server of the row's own.
func apart(t *testing.T, o acmetest.Options) *suite {
	t.Helper()
	return startSuite(t, newLab(t), o)
}

// wire sends what it is to serve over the network, so that a client of acmetest speaks TLS.
type wire struct{ client *http.Client }

// ServeHTTP sends the request and copies the answer. A broken connection is status 599.
func (w wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	answer, err := w.client.Do(out)
	if err != nil {
		rw.WriteHeader(599)
		_, _ = io.WriteString(rw, err.Error())
		return
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(rw, answer.Body)
}

// client returns a client without an account that speaks TLS.
func (s *suite) client(t testing.TB) *acmetest.Client {
	t.Helper()
	c := s.NewClient(t)
	c.Handler = wire{s.Client}
	return c
}

// account returns a client with an account under the profile's credential.
func (s *suite) account(t testing.TB, profile string) *acmetest.Client {
	t.Helper()
	c := s.client(t)
	c.Register(t, s.Credentials[profile])
	return c
}

// scoped returns a client with an account of the directory of profile "challenge", without EAB.
func (s *suite) scoped(t testing.TB) *acmetest.Client {
	t.Helper()
	c := s.client(t)
	c.Prefix = s.URL + "/acme/p/challenge"
	c.Register(t, acmetest.Credential{})
	return c
}

// on returns a copy of a client that speaks to another replica, without a network.
func on(c *acmetest.Client, server *acme.Server) *acmetest.Client {
	other := *c
	other.Handler = server.Handler()
	return &other
}

// header returns a good protected header, its members in a fixed order.
func header(t testing.TB, c *acmetest.Client, url string) string {
	t.Helper()
	return protected(t, c, c.Nonce(), url)
}

func protected(t testing.TB, c *acmetest.Client, nonce, url string) string {
	t.Helper()
	who := fmt.Sprintf(`"kid":%q`, c.KID)
	if c.KID == "" {
		who = `"jwk":` + jwk(t, c)
	}
	return fmt.Sprintf(`{"alg":%q,%s,"nonce":%q,"url":%q}`, acmetest.Algorithm(c.Key.Public()), who, nonce, url)
}

func jwk(t testing.TB, c *acmetest.Client) string {
	t.Helper()
	return encode(t, acmetest.JWK(t, c.Key.Public()))
}

func encode(t testing.TB, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// sign makes a JWS by the client's key.
func sign(t testing.TB, c *acmetest.Client, header, payload string) string {
	t.Helper()
	return string(acmetest.Sign(t, c.Key, []byte(header), []byte(payload)))
}

// member returns a member of a flattened JWS.
func member(t testing.TB, body, name string) string {
	t.Helper()
	var members map[string]string
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		t.Fatal(err)
	}
	return members[name]
}

// swap replaces old, which must be in text, once.
func swap(t testing.TB, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q has no %q", text, old)
	}
	return strings.Replace(text, old, new, 1)
}

// ok holds an answer to a status below 400 and to what every answer to a POST must have.
func ok(t testing.TB, answer *acmetest.Response, status int) *acmetest.Response {
	t.Helper()
	if answer.Status != status {
		t.Fatalf("status %d, want %d: %s", answer.Status, status, answer.Body)
	}
	checkHeaders(t, answer)
	return answer
}

// refused holds an answer to a status, to one of the problem types, and to what every problem document must be.
func refused(t testing.TB, answer *acmetest.Response, status int, kinds ...string) *acmetest.Problem {
	t.Helper()
	if answer.Status != status {
		t.Fatalf("status %d, want %d %v: %s", answer.Status, status, kinds, answer.Body)
	}
	problem := answer.Problem(t)
	if !slices.Contains(kinds, problem.Type) {
		t.Errorf("problem %s (%s), want %v", problem.Type, problem.Detail, kinds)
	}
	if problem.Status != answer.Status || problem.Detail == "" {
		t.Errorf("problem has status %d, the answer %d; detail %q", problem.Status, answer.Status, problem.Detail)
	}
	if problem.Type == "badSignatureAlgorithm" && len(problem.Algorithms) == 0 {
		t.Error("badSignatureAlgorithm without algorithms")
	}
	if bytes.Contains(answer.Body, []byte("null")) {
		t.Errorf("problem has a null: %s", answer.Body)
	}
	checkHeaders(t, answer)
	return problem
}

// checkHeaders holds an answer to a POST to the headers that all of them have.
func checkHeaders(t testing.TB, answer *acmetest.Response) {
	t.Helper()
	h := answer.Header
	if h.Get("Replay-Nonce") == "" || h.Get("Cache-Control") != "no-store" || h.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers %v lack a nonce, no-store or CORS", h)
	}
	if !strings.Contains(strings.Join(h.Values("Link"), "\n"), `/directory>;rel="index"`) {
		t.Errorf("links %q have no directory", h.Values("Link"))
	}
	for _, link := range h.Values("Link") {
		if strings.Contains(link, ",") {
			t.Errorf("more than one link in %q", link)
		}
	}
}

// attackPayload is what an attacker wants to do to an account.
const attackPayload = `{"contact":["mailto:attacker@example.com"]}`

// attacks sends requests to change an account, made of a good header, and holds the server to refusing each without
// changing anything.
func (s *suite) attacks(t *testing.T, status int, kinds []string, bodies map[string]func(t *testing.T, c *acmetest.Client, header string) string) {
	t.Helper()
	for name, body := range bodies {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			c := s.account(t, "server")
			refused(t, c.Send(t, c.KID, []byte(body(t, c, header(t, c, c.KID)))), status, kinds...)
			s.unchanged(t, c)
		})
	}
}

// unchanged holds an account to having no contact.
func (s *suite) unchanged(t testing.TB, c *acmetest.Client) {
	t.Helper()
	if got := ok(t, c.Read(t, c.KID), http.StatusOK); strings.Contains(string(got.Body), "attacker") {
		t.Errorf("the attack changed the account: %s", got.Body)
	}
}

// resigned returns a body function that changes a part of the header and signs it.
func resigned(old, new string) func(*testing.T, *acmetest.Client, string) string {
	return func(t *testing.T, c *acmetest.Client, header string) string {
		return sign(t, c, swap(t, header, old, new), attackPayload)
	}
}

// altered returns a body function that changes a part of the signed message.
func altered(name string, change func(t *testing.T, value string) string) func(*testing.T, *acmetest.Client, string) string {
	return func(t *testing.T, c *acmetest.Client, header string) string {
		body := sign(t, c, header, attackPayload)
		value := member(t, body, name)
		return swap(t, body, `"`+value+`"`, `"`+change(t, value)+`"`)
	}
}

// noAccount holds the storage to having no account with the client's key.
func (s *suite) noAccount(t testing.TB, c *acmetest.Client) {
	t.Helper()
	for _, scope := range []pki.ProfileID{"", s.Profiles["challenge"].ID} {
		if _, err := s.Store.AccountByThumbprint(t.Context(), scope, acmetest.Thumbprint(t, c.Key.Public())); !fault.Is(err, fault.NotFound) {
			t.Errorf("there is an account, though it was refused (%v)", err)
		}
	}
}

// registration is a good newAccount payload.
func (s *suite) registration(t testing.TB, c *acmetest.Client, profile string) string {
	t.Helper()
	return encode(t, map[string]any{"termsOfServiceAgreed": true, "externalAccountBinding": c.Binding(t, s.Credentials[profile])})
}

// newAccountURL is where the client registers.
func newAccountURL(c *acmetest.Client) string { return c.Prefix + "/new-account" }

// order posts a newOrder payload.
func order(t testing.TB, c *acmetest.Client, payload string) *acmetest.Response {
	t.Helper()
	return c.PostRaw(t, c.Prefix+"/new-order", []byte(payload))
}

// names is the payload of an order for DNS names.
func names(dns ...string) string {
	var list []string
	for _, name := range dns {
		list = append(list, fmt.Sprintf(`{"type":"dns","value":%q}`, name))
	}
	return `{"identifiers":[` + strings.Join(list, ",") + `]}`
}

// statusOf reads an object's status.
func statusOf(t testing.TB, c *acmetest.Client, url string) string {
	t.Helper()
	var object struct{ Status string }
	ok(t, c.Read(t, url), http.StatusOK).Into(t, &object)
	return object.Status
}
