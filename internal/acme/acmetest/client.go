package acmetest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Client is a key that signs requests, and the account that it has. Requests go to the handler directly.
type Client struct {
	Server  *Server
	Handler http.Handler // nil: the server's
	Key     crypto.Signer
	KID     string // account URL; "" signs with "jwk"
	Prefix  string // of its directory's URLs, .../acme or .../acme/p/NAME
}

// Response is an answer, read.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem is a problem document.
type Problem struct {
	Type        string
	Detail      string
	Status      int
	Algorithms  []string
	Subproblems []struct {
		Type, Detail string
		Identifier   struct{ Type, Value string }
	}
}

// Order is an order object.
type Order struct {
	Status, Expires, Profile, NotBefore, NotAfter, Replaces, Finalize, Certificate string
	Identifiers                                                                    []struct{ Type, Value string }
	Authorizations                                                                 []string
	Error                                                                          *Problem
	URL                                                                            string `json:"-"` // from Location
}

// NewClient returns a client with a fresh P-256 key and no account, for the main directory.
func (s *Server) NewClient(t testing.TB) *Client {
	t.Helper()
	return &Client{Server: s, Key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), Prefix: s.URL + "/acme"}
}

// Register returns a client with an account under the profile's credential.
func (s *Server) Register(t testing.TB, profile string) *Client {
	t.Helper()
	c := s.NewClient(t)
	c.Register(t, s.Credentials[profile])
	return c
}

// Register makes an account with an EAB credential; with a zero one it sends no binding.
func (c *Client) Register(t testing.TB, credential Credential) {
	t.Helper()
	payload := map[string]any{"termsOfServiceAgreed": true}
	if credential.ID != "" {
		payload["externalAccountBinding"] = c.Binding(t, credential)
	}
	answer := c.Post(t, c.Prefix+"/new-account", payload)
	if answer.Status != http.StatusCreated {
		t.Fatalf("newAccount: %d %s", answer.Status, answer.Body)
	}
	c.KID = answer.Header.Get("Location")
}

// Binding returns an external account binding of the client's key.
func (c *Client) Binding(t testing.TB, credential Credential) json.RawMessage {
	t.Helper()
	header := encodeJSON(t, map[string]any{"alg": "HS256", "kid": credential.ID, "url": c.Prefix + "/new-account"})
	protected, payload := Base64(header), Base64(encodeJSON(t, JWK(t, c.Key.Public())))
	mac := hmac.New(sha256.New, credential.Key)
	mac.Write([]byte(protected + "." + payload))
	return encodeJSON(t, map[string]string{"protected": protected, "payload": payload, "signature": Base64(mac.Sum(nil))})
}

// Nonce returns a fresh nonce.
func (c *Client) Nonce() string { return c.Server.Nonces.Issue() }

// Get reads a URL without signing.
func (c *Client) Get(t testing.TB, url string) *Response {
	t.Helper()
	return c.Do(t, httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))
}

// Read sends a POST-as-GET.
func (c *Client) Read(t testing.TB, url string) *Response {
	t.Helper()
	return c.PostRaw(t, url, nil)
}

// Post signs a payload, encoded as JSON, and sends it.
func (c *Client) Post(t testing.TB, url string, payload any) *Response {
	t.Helper()
	return c.PostRaw(t, url, encodeJSON(t, payload))
}

// PostRaw signs a payload as it is and sends it.
func (c *Client) PostRaw(t testing.TB, url string, payload []byte) *Response {
	t.Helper()
	header := map[string]any{"alg": Algorithm(c.Key.Public()), "nonce": c.Nonce(), "url": url}
	if c.KID != "" {
		header["kid"] = c.KID
	} else {
		header["jwk"] = JWK(t, c.Key.Public())
	}
	return c.Send(t, url, Sign(t, c.Key, encodeJSON(t, header), payload))
}

// Send posts a body.
func (c *Client) Send(t testing.TB, url string, body []byte) *Response {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	request.Header.Set("Content-Type", "application/jose+json")
	request.Header.Set("User-Agent", "acmetest")
	return c.Do(t, request)
}

// Do sends a request.
func (c *Client) Do(t testing.TB, request *http.Request) *Response {
	t.Helper()
	handler := c.Handler
	if handler == nil {
		handler = c.Server.Handler
	}
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, request)
	answer := recorder.Result()
	return &Response{Status: answer.StatusCode, Header: answer.Header, Body: must(io.ReadAll(answer.Body))(t)}
}

// NewOrder orders names; without any, an order that only a SPIFFE ID fits. The test ends if it is refused.
func (c *Client) NewOrder(t testing.TB, dns ...string) *Order {
	t.Helper()
	var identifiers []map[string]string
	for _, name := range dns {
		identifiers = append(identifiers, map[string]string{"type": "dns", "value": name})
	}
	answer := c.Post(t, c.Prefix+"/new-order", map[string]any{"identifiers": identifiers})
	if answer.Status != http.StatusCreated {
		t.Fatalf("newOrder: %d %s", answer.Status, answer.Body)
	}
	return answer.Order(t)
}

// Finalize finalizes an order with a CSR in DER.
func (c *Client) Finalize(t testing.TB, o *Order, csr []byte) *Response {
	t.Helper()
	return c.Post(t, o.Finalize, map[string]string{"csr": Base64(csr)})
}

// Order reads the answer as an order.
func (r *Response) Order(t testing.TB) *Order {
	t.Helper()
	o := new(Order)
	r.Into(t, o)
	o.URL = r.Header.Get("Location")
	return o
}

// Problem reads the answer as a problem document. The type has no namespace.
func (r *Response) Problem(t testing.TB) *Problem {
	t.Helper()
	p := new(Problem)
	r.Into(t, p)
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("content type %q of %s is not that of a problem document", got, r.Body)
	}
	p.Type = strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
	return p
}

// Into decodes the answer as JSON.
func (r *Response) Into(t testing.TB, value any) {
	t.Helper()
	if err := json.Unmarshal(r.Body, value); err != nil {
		t.Fatalf("%d %s: %v", r.Status, r.Body, err)
	}
}

// Base64 is base64url without padding.
func Base64(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

func encodeJSON(t testing.TB, value any) []byte {
	t.Helper()
	return must(json.Marshal(value))(t)
}

// JWK returns the JWK of a public key.
func JWK(t testing.TB, key crypto.PublicKey) map[string]string {
	t.Helper()
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		point := must(key.Bytes())(t)
		half := len(point) / 2
		return map[string]string{"kty": "EC", "crv": key.Params().Name, "x": Base64(point[1 : 1+half]), "y": Base64(point[1+half:])}
	case *rsa.PublicKey:
		return map[string]string{"kty": "RSA", "n": Base64(key.N.Bytes()), "e": Base64(big.NewInt(int64(key.E)).Bytes())}
	case ed25519.PublicKey:
		return map[string]string{"kty": "OKP", "crv": "Ed25519", "x": Base64(key)}
	}
	t.Fatalf("key of type %T", key)
	return nil
}

// Algorithm returns the signature algorithm of a public key.
func Algorithm(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P384() {
			return "ES384"
		}
		return "ES256"
	case *rsa.PublicKey:
		return "RS256"
	default:
		return "EdDSA"
	}
}

// Thumbprint returns the RFC 7638 thumbprint of a public key: the members of JWK are those that count, and
// encoding/json sorts them.
func Thumbprint(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	sum := sha256.Sum256(encodeJSON(t, JWK(t, key)))
	return Base64(sum[:])
}

// Sign makes a JWS of a protected header and a payload, as they are.
func Sign(t testing.TB, key crypto.Signer, header, payload []byte) []byte {
	t.Helper()
	protected, body := Base64(header), Base64(payload)
	message := []byte(protected + "." + body)
	var signature []byte
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		size := public.Params().BitSize / 8
		hash := crypto.SHA256
		if size == 48 {
			hash = crypto.SHA384
		}
		digest := hash.New()
		digest.Write(message)
		var parts struct{ R, S *big.Int }
		_, err := asn1.Unmarshal(must(key.Sign(rand.Reader, digest.Sum(nil), hash))(t), &parts)
		check(t, err)
		signature = append(parts.R.FillBytes(make([]byte, size)), parts.S.FillBytes(make([]byte, size))...)
	case ed25519.PublicKey:
		signature = must(key.Sign(rand.Reader, message, crypto.Hash(0)))(t)
	default:
		digest := sha256.Sum256(message)
		signature = must(key.Sign(rand.Reader, digest[:], crypto.SHA256))(t)
	}
	return encodeJSON(t, map[string]string{"protected": protected, "payload": body, "signature": Base64(signature)})
}
