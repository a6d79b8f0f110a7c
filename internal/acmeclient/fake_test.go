package acmeclient_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/acmeclient"
)

const base = "https://ca.example"

// fake is a CA without a network: an http.RoundTripper that checks every request's JWS and nonce, and answers with what
// the test has put down for the path, one answer after the other, the last one for ever.
type fake struct {
	t testing.TB

	mu       sync.Mutex
	nonce    int
	good     map[string]bool
	key      *jose.Key // of the account, after newAccount
	script   map[string][]reply
	requests []string // "METHOD path payload"
}

// reply answers one request; the message is nil for what is not a POST.
type reply func(w http.ResponseWriter, message *jose.Message)

func newFake(t testing.TB) *fake {
	f := &fake{t: t, good: map[string]bool{}, script: map[string][]reply{}}
	f.on("GET /directory", status(200, `{"newNonce":"`+base+`/nonce","newAccount":"`+base+`/new-account","newOrder":"`+base+`/new-order",
		"revokeCert":"`+base+`/revoke","keyChange":"`+base+`/key-change","renewalInfo":"`+base+`/ari","meta":{"profiles":{"mesh":"x"}}}`))
	f.on("HEAD /nonce", status(200, ""))
	f.on("POST /new-account", func(w http.ResponseWriter, m *jose.Message) {
		f.key = m.Header.JWK
		status(201, `{"status":"valid","contact":["mailto:a@b.example"]}`, "Location", base+"/account/1")(w, m)
	})
	return f
}

func (f *fake) on(what string, replies ...reply) { f.script[what] = replies }

// status answers with a status, a body and headers.
func status(code int, body string, header ...string) reply {
	return func(w http.ResponseWriter, _ *jose.Message) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func refuse(code int, kind, detail string, header ...string) reply {
	return status(code, fmt.Sprintf(`{"type":"urn:ietf:params:acme:error:%s","detail":%q,"status":%d}`, kind, detail, code),
		append(header, "Content-Type", "application/problem+json")...)
}

// broken is a connection that breaks after the request was sent.
func broken(w http.ResponseWriter, _ *jose.Message) { w.Header().Set("Broken", "yes") }

// RoundTrip answers a request.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	w := httptest.NewRecorder()
	var message *jose.Message
	if r.Method == http.MethodPost {
		if message = f.read(r, body); message == nil {
			refuse(400, "badNonce", "JWS has an invalid anti-replay nonce")(w, nil)
			w.Header().Set("Replay-Nonce", f.fresh())
			return w.Result(), nil
		}
	}
	what := r.Method + " " + r.URL.Path
	f.requests = append(f.requests, what)
	if message != nil && len(message.Payload) > 0 {
		f.requests[len(f.requests)-1] += " " + string(message.Payload)
	}
	replies := f.script[what]
	if len(replies) == 0 {
		f.t.Errorf("unexpected %s", what)
		refuse(404, "malformed", "not found")(w, nil)
		return w.Result(), nil
	}
	if len(replies) > 1 {
		f.script[what] = replies[1:]
	}
	w.Header().Set("Replay-Nonce", f.fresh())
	replies[0](w, message)
	if w.Header().Get("Broken") != "" {
		return nil, io.ErrUnexpectedEOF
	}
	return w.Result(), nil
}

func (f *fake) fresh() string {
	f.nonce++
	nonce := fmt.Sprintf("nonce%d", f.nonce)
	f.good[nonce] = true
	return nonce
}

// read checks a JWS; nil means that its nonce is bad.
func (f *fake) read(r *http.Request, body []byte) *jose.Message {
	message, err := jose.Parse(body)
	if err != nil {
		f.t.Errorf("%s: %v in %s", r.URL, err, body)
		return nil
	}
	key := f.key
	if message.Header.JWK != nil {
		key = message.Header.JWK
	} else if message.Header.KID != base+"/account/1" {
		f.t.Errorf("%s: kid %q", r.URL, message.Header.KID)
	}
	if err := message.Verify(key); err != nil {
		f.t.Errorf("%s: %v", r.URL, err)
	}
	if message.Header.URL != r.URL.String() || r.Header.Get("Content-Type") != "application/jose+json" || r.UserAgent() != "test/1" {
		f.t.Errorf("%s: url %q, headers %v", r.URL, message.Header.URL, r.Header)
	}
	if !f.good[message.Header.Nonce] {
		return nil
	}
	delete(f.good, message.Header.Nonce)
	return message
}

// seen returns the requests but for the directory and nonces.
func (f *fake) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var seen []string
	for _, request := range f.requests {
		if !strings.HasSuffix(request, "/directory") && !strings.HasSuffix(request, "/nonce") {
			seen = append(seen, request)
		}
	}
	return seen
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newClient(t testing.TB, f *fake, key crypto.Signer) *acmeclient.Client {
	t.Helper()
	client, err := acmeclient.New(acmeclient.Config{
		DirectoryURL: base + "/directory",
		HTTPClient:   &http.Client{Transport: f},
		Key:          key,
		Random:       rand.Reader,
		UserAgent:    "test/1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// registered returns a client with an account.
func registered(t testing.TB, f *fake) *acmeclient.Client {
	t.Helper()
	client := newClient(t, f, newKey(t))
	if _, err := client.Register(t.Context(), acmeclient.Registration{}); err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests = nil
	return client
}

func payload(t testing.TB, message *jose.Message) map[string]json.RawMessage {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.NewDecoder(bytes.NewReader(message.Payload)).Decode(&members); err != nil {
		t.Error(err)
	}
	return members
}
