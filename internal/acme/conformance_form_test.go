package acme_test

import (
	"bytes"
	"compress/gzip"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certloom/certloom/internal/acme/acmetest"
)

// jwsFormRows are those about how a JWS is written.
func jwsFormRows() []row {
	malformed := []string{"malformed"}
	// attack is a row whose bodies are all malformed.
	attack := func(id string, b bodies) row {
		return row{id, func(t *testing.T, s *suite) { s.attacks(t, http.StatusBadRequest, malformed, b) }}
	}
	return []row{
		attack("JWS-2", bodies{
			"compact": func(t *testing.T, c *acmetest.Client, header string) string {
				body := sign(t, c, header, attackPayload)
				return member(t, body, "protected") + "." + member(t, body, "payload") + "." + member(t, body, "signature")
			},
			"many-dots": func(*testing.T, *acmetest.Client, string) string { return strings.Repeat(".", 60000) },
		}),
		attack("JWS-3", bodies{
			"alone": func(t *testing.T, c *acmetest.Client, header string) string {
				body := sign(t, c, header, attackPayload)
				return fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`,
					member(t, body, "payload"), member(t, body, "protected"), member(t, body, "signature"))
			},
			"beside": beside(`"signatures":[]`), "null": beside(`"signatures":null`),
		}),
		attack("JWS-4", bodies{
			"empty": beside(`"header":{}`), "alg": beside(`"header":{"alg":"none"}`), "null": beside(`"header":null`), "case": beside(`"Header":{}`),
		}),
		attack("JWS-27", bodies{
			"alg": resigned(`"kid"`, `"alg":"none","kid"`), "nonce": resigned(`"kid"`, `"nonce":"QUJD","kid"`),
			"url": resigned(`"kid"`, `"url":"https://x.example","kid"`), "kid": resigned(`"kid"`, `"kid":"https://x.example","kid"`),
			"escaped": resigned(`"kid"`, `"\u006bid":"https://x.example","kid"`), "payload": func(t *testing.T, c *acmetest.Client, header string) string {
				return sign(t, c, header, `{"contact":[],"contact":["mailto:attacker@example.com"]}`)
			},
		}),
		attack("JWS-28", bodies{
			"KID": resigned(`"kid"`, `"KID"`), "Url": resigned(`"url"`, `"Url"`), "beside": resigned(`"kid"`, `"KID":"https://x.example","kid"`),
			"JWK": resigned(`"kid"`, `"JWK":{},"kid"`), "Nonce": resigned(`"kid"`, `"Nonce":"QUJD","kid"`),
		}),
		attack("JWS-29", bodies{
			"payload": beside(`"payload":""`), "Payload": beside(`"Payload":""`), "SIGNATURE": beside(`"SIGNATURE":""`), "protected": beside(`"protected":"e30"`),
		}),
		attack("JWS-30", bodies{
			"b64": resigned(`"kid"`, `"b64":false,"kid"`), "crit": resigned(`"kid"`, `"b64":false,"crit":["b64"],"kid"`), "true": resigned(`"kid"`, `"b64":true,"crit":["b64"],"kid"`),
		}),
		attack("JWS-31", bodies{
			"unknown": resigned(`"kid"`, `"crit":["x"],"x":1,"kid"`), "empty": resigned(`"kid"`, `"crit":[],"kid"`),
			"absent": resigned(`"kid"`, `"crit":["x"],"kid"`), "known": resigned(`"kid"`, `"crit":["alg"],"kid"`), "null": resigned(`"kid"`, `"crit":null,"kid"`),
		}),
		attack("JWS-32", bodies{
			"payload": without("payload"), "protected": without("protected"), "signature": without("signature"),
			"null": func(t *testing.T, c *acmetest.Client, header string) string {
				body := sign(t, c, header, attackPayload)
				return swap(t, body, `"`+member(t, body, "payload")+`"`, "null")
			},
		}),
		attack("JWS-33", encodings()),
		attack("JWS-34", signatures()),
		attack("JWS-35", bodies{
			"flipped": altered("signature", func(_ *testing.T, v string) string { return flip(v) }),
			"empty":   altered("signature", func(*testing.T, string) string { return "" }),
			"payload": altered("payload", func(*testing.T, string) string {
				return acmetest.Base64([]byte(`{"contact":["mailto:attacker@example.net"]}`))
			}),
			"header": altered("protected", func(t *testing.T, v string) string {
				raw, err := base64.RawURLEncoding.DecodeString(v)
				if err != nil {
					t.Fatal(err)
				}
				return acmetest.Base64(append(raw, ' '))
			}),
		}),
		{"JWS-36", hostilePayloads},
		{"JWS-37", largeBodies},
		{"JWS-38", func(t *testing.T, s *suite) {
			// The limit on time is the listener's (internal/server sets it). Here: a body that never comes keeps nobody else waiting.
			c := s.account(t, "server")
			body, sender := io.Pipe()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.KID, body)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/jose+json")
			done := make(chan struct{})
			go func() {
				defer close(done)
				if answer, err := s.Client.Do(request); err == nil {
					answer.Body.Close()
				}
			}()
			if _, err := io.WriteString(sender, `{"protected":"`); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				ok(t, c.Read(t, c.KID), http.StatusOK)
			}
			_ = sender.CloseWithError(io.ErrUnexpectedEOF)
			<-done
		}},
		{"JWS-39", func(t *testing.T, s *suite) {
			var fetched atomic.Int32
			trap := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
			defer trap.Close()
			thief := s.client(t)
			offers := bodies{}
			for _, name := range []string{"jku", "x5u"} {
				offers[name] = func(t *testing.T, _ *acmetest.Client, header string) string {
					return sign(t, thief, swap(t, header, `"kid"`, fmt.Sprintf(`%q:%q,"kid"`, name, trap.URL)), attackPayload)
				}
			}
			offers["x5c"] = func(t *testing.T, _ *acmetest.Client, header string) string {
				return sign(t, thief, swap(t, header, `"kid"`, `"x5c":["MIIB"],"kid"`), attackPayload)
			}
			s.attacks(t, http.StatusBadRequest, malformed, offers)
			t.Cleanup(func() {
				if fetched.Load() != 0 {
					t.Error("the server fetched a key")
				}
			})
		}},
		{"JWS-41", payloadsOfReads},
		{"JWS-42", sameKeyWrittenDifferently},
	}
}

// beside returns a body with one more member in the outer object.
func beside(text string) func(*testing.T, *acmetest.Client, string) string {
	return func(t *testing.T, c *acmetest.Client, header string) string {
		return swap(t, sign(t, c, header, attackPayload), "{", "{"+text+",")
	}
}

func without(name string) func(*testing.T, *acmetest.Client, string) string {
	return func(t *testing.T, c *acmetest.Client, header string) string {
		body := sign(t, c, header, attackPayload)
		return swap(t, body, fmt.Sprintf("%q:%q", name, member(t, body, name)), `"x":1`)
	}
}

// flip changes the first bit of base64url.
func flip(text string) string {
	if text[0] == 'A' {
		return "g" + text[1:]
	}
	return "A" + text[1:]
}

func encodings() bodies {
	all := bodies{}
	for _, part := range []string{"protected", "payload", "signature"} {
		for name, change := range map[string]func(string) string{
			"padded":   func(v string) string { return v + "=" },
			"standard": func(v string) string { return "+/" + v },
			"newline":  func(v string) string { return v[:4] + `\n` + v[4:] },
			"return":   func(v string) string { return v + `\r` },
			"space":    func(v string) string { return " " + v },
			"tab":      func(v string) string { return v + `\t` },
		} {
			all[part+"/"+name] = altered(part, func(_ *testing.T, v string) string { return change(v) })
		}
	}
	// 64 bytes of signature leave four bits over in the last character.
	all["signature/stray-bits"] = altered("signature", func(_ *testing.T, v string) string { return v[:len(v)-1] + string(v[len(v)-1]+1) })
	return all
}

func signatures() bodies {
	change := func(f func(raw []byte) []byte) func(*testing.T, *acmetest.Client, string) string {
		return altered("signature", func(t *testing.T, v string) string {
			raw, err := base64.RawURLEncoding.DecodeString(v)
			if err != nil {
				t.Fatal(err)
			}
			return acmetest.Base64(f(raw))
		})
	}
	order := elliptic.P256().Params().N.Bytes()
	return bodies{
		"der": change(func(raw []byte) []byte {
			der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
			return der
		}),
		"r-zero":  change(func(raw []byte) []byte { return append(make([]byte, 32), raw[32:]...) }),
		"s-zero":  change(func(raw []byte) []byte { return append(raw[:32:32], make([]byte, 32)...) }),
		"zeros":   change(func([]byte) []byte { return make([]byte, 64) }),
		"r-order": change(func(raw []byte) []byte { return append(bytes.Clone(order), raw[32:]...) }),
		"s-order": change(func(raw []byte) []byte { return append(raw[:32:32], order...) }),
		"short":   change(func(raw []byte) []byte { return raw[:63] }),
		"long":    change(func(raw []byte) []byte { return append(raw, 0) }),
		"padded":  change(func(raw []byte) []byte { return append([]byte{0}, raw...) }),
	}
}

func hostilePayloads(t *testing.T, s *suite) {
	c := s.account(t, "server")
	for name, payload := range map[string]string{
		"text":             "hello",
		"array":            `["mailto:attacker@example.com"]`,
		"string":           `"attacker"`,
		"number":           `1`,
		"null":             `null`,
		"true":             `true`,
		"nested-arrays":    `{"x":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`,
		"nested-objects":   strings.Repeat(`{"x":`, 7000) + "1" + strings.Repeat("}", 7000),
		"open-brackets":    strings.Repeat("[", 40000),
		"huge-number":      `{"x":1e999999,"contact":["mailto:attacker@example.com"]}`,
		"long-number":      `{"x":` + strings.Repeat("9", 30000) + `}`,
		"many-members":     `{` + strings.Repeat(`"a":1,`, 5000) + `"b":1}`,
		"nul":              "{\"contact\":[\"mailto:attacker\x00@example.com\"]}",
		"escaped-nul":      `{"contact":["mailto:attacker\u0000@example.com"]}`,
		"invalid-utf8":     "{\"contact\":[\"mailto:attacker\xff@example.com\"]}",
		"lone-surrogate":   `{"contact":["mailto:attacker\ud800@example.com"]}`,
		"trailing":         attackPayload + "{}",
		"truncated":        attackPayload[:len(attackPayload)-1],
		"byte-order-mark":  "\xef\xbb\xbf" + attackPayload,
		"binary":           "\x30\x82\x01\x00",
		"wrong-type":       `{"contact":"mailto:attacker@example.com"}`,
		"wrong-inner-type": `{"contact":[{"a":"mailto:attacker@example.com"}]}`,
		"duplicate":        `{"contact":[],"Contact":["mailto:attacker@example.com"]}`,
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			for _, at := range []string{c.KID, c.Prefix + "/new-order"} {
				refused(t, c.PostRaw(t, at, []byte(payload)), http.StatusBadRequest, "malformed")
			}
			s.unchanged(t, c)
		})
	}
	// The same in newAccount, where anybody may send it.
	stranger := s.client(t)
	refused(t, stranger.PostRaw(t, newAccountURL(stranger), []byte(`{"x":`+strings.Repeat("[", 10000))), http.StatusBadRequest, "malformed")
	refused(t, stranger.Send(t, newAccountURL(stranger), []byte(strings.Repeat("[", 60000))), http.StatusBadRequest, "malformed")
	refused(t, stranger.Send(t, newAccountURL(stranger), nil), http.StatusBadRequest, "malformed")
	refused(t, stranger.Send(t, newAccountURL(stranger), []byte{0, 1, 2, 0xff}), http.StatusBadRequest, "malformed")
}

func largeBodies(t *testing.T, s *suite) {
	c := s.account(t, "server")
	send := func(body io.Reader, change func(*http.Request)) *http.Response {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.KID, body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/jose+json")
		change(request)
		answer, err := s.transport(t, func(tr *http.Transport) { tr.Protocols = new(http.Protocols); tr.Protocols.SetHTTP1(true) }).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		return answer
	}
	large := sign(t, c, header(t, c, c.KID), `{"x":"`+strings.Repeat("a", 70<<10)+`","contact":["mailto:attacker@example.com"]}`)
	for name, answer := range map[string]*http.Response{
		"with-length": send(strings.NewReader(large), func(*http.Request) {}),
		"chunked":     send(io.MultiReader(strings.NewReader(large)), func(r *http.Request) { r.ContentLength = -1 }),
		"far-larger":  send(strings.NewReader(strings.Repeat("a", 8<<20)), func(*http.Request) {}),
	} {
		if answer.StatusCode != http.StatusRequestEntityTooLarge || !answer.Close || answer.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d, closed %t, %v", name, answer.StatusCode, answer.Close, answer.Header)
		}
	}
	s.keepsConnection(t, c)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = io.WriteString(w, sign(t, c, header(t, c, c.KID), attackPayload))
	w.Close()
	if answer := send(&packed, func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }); answer.StatusCode < 400 || answer.StatusCode >= 500 {
		t.Errorf("gzip: %d", answer.StatusCode)
	}
	s.unchanged(t, c)
	// What is within the limit of newOrder passes the door.
	var list []string
	for i := range 2000 {
		list = append(list, fmt.Sprintf("%d.example.com", i))
	}
	refused(t, order(t, c, names(list...)), http.StatusBadRequest, "malformed")
}

// keepsConnection sends a body that is too large over HTTP/2: the stream ends, the connection, which may be a proxy's for
// many clients, does not.
func (s *suite) keepsConnection(t *testing.T, c *acmetest.Client) {
	t.Helper()
	client := s.transport(t, func(tr *http.Transport) { tr.Protocols = new(http.Protocols); tr.Protocols.SetHTTP2(true) })
	connections := 0
	trace := &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		if !got.Reused {
			connections++
		}
	}}
	for range 3 {
		request, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodPost, c.KID, strings.NewReader(strings.Repeat("a", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/jose+json")
		answer, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode != http.StatusRequestEntityTooLarge || answer.ProtoMajor != 2 {
			t.Errorf("%s: %d", answer.Proto, answer.StatusCode)
		}
	}
	if connections != 1 {
		t.Errorf("three large bodies took %d connections", connections)
	}
}

func payloadsOfReads(t *testing.T, s *suite) {
	c := s.account(t, "server")
	made := c.NewOrder(t, "jws41.example.com")
	valid := ok(t, c.Finalize(t, made, acmetest.ServerCSR(t, "jws41.example.com")), http.StatusOK).Order(t)
	for _, at := range []string{valid.URL, valid.Certificate, c.KID + "/orders", c.Prefix + "/directory"} {
		answer := c.PostRaw(t, at, []byte("{}"))
		if answer.Status != http.StatusBadRequest || answer.Problem(t).Type != "malformed" {
			t.Errorf("{} to %s: %d %s", at, answer.Status, answer.Body)
		}
	}
	// A POST-as-GET of a challenge reads it and starts nothing (CHA-4 holds the validator to it).
	v := s.scoped(t)
	pending := ok(t, order(t, v, names("jws41.test")), http.StatusCreated).Order(t)
	authz := readAuthz(t, v, pending.Authorizations[0])
	for range 3 {
		if got := statusOf(t, v, authz.Challenges[0].URL); got != "pending" {
			t.Errorf("challenge is %s after reading it", got)
		}
	}
}

func sameKeyWrittenDifferently(t *testing.T, s *suite) {
	c := s.account(t, "server")
	good := acmetest.JWK(t, c.Key.Public())
	for name, written := range map[string]string{
		"reordered": fmt.Sprintf(`{"y":%q,"x":%q,"kty":"EC","crv":"P-256"}`, good["y"], good["x"]),
		"extra":     fmt.Sprintf(`{"kty":"EC","use":"sig","alg":"ES256","kid":"x","crv":"P-256","x":%q,"y":%q}`, good["x"], good["y"]),
		"spaces":    fmt.Sprintf(` { "kty" : "EC" , "crv":"P-256", "x":%q, "y":%q } `, good["x"], good["y"]),
	} {
		header := fmt.Sprintf(`{"alg":"ES256","jwk":%s,"nonce":%q,"url":%q}`, written, c.Nonce(), newAccountURL(c))
		answer := ok(t, c.Send(t, newAccountURL(c), []byte(sign(t, c, header, s.registration(t, c, "server")))), http.StatusOK)
		if got := answer.Header.Get("Location"); got != c.KID {
			t.Errorf("%s: account %s, not %s", name, got, c.KID)
		}
	}
	// A number with a leading zero octet is no second spelling of it.
	n := rsaModulus(t)
	s.weak(t, "RS256", map[string]string{"leading-zero": rsaJWK(append([]byte{0}, n...), []byte{1, 0, 1})}, "malformed")
}
