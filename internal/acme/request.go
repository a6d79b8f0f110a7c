package acme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// request is a request whose signature, nonce and account have been checked, as far as its route asks for them.
type request struct {
	http   *http.Request
	header http.Header // of the answer
	id     string      // of the request, in log lines and audit events
	now    time.Time
	dir    directory
	client pki.Client

	url     string       // of the resource, as the client signed it
	payload []byte       // empty in a POST-as-GET
	key     *jose.Key    // that signed
	account *pki.Account // that signed, nil when the request has a "jwk"

	credential pki.CredentialID // that a newAccount request names, whether it proves to have it or not
}

// postAsGet refuses a payload where only reading is possible (RFC 8555 section 6.3).
func (r *request) postAsGet() error {
	if len(r.payload) == 0 {
		return nil
	}
	return fault.New(fault.Malformed, "payload is not empty; this resource can only be read (POST-as-GET, RFC 8555 section 6.3)")
}

// decode reads the payload, which must be a JSON object, into a struct.
func (r *request) decode(into any) error {
	if len(r.payload) == 0 {
		return fault.New(fault.Malformed, "payload is empty; a JSON object is wanted")
	}
	return jose.Decode(r.payload, into)
}

// actor returns who signed, for audit events.
func (r *request) actor() audit.Actor {
	if r.account == nil {
		return audit.Actor{Kind: audit.Nobody}
	}
	return audit.Actor{Kind: audit.Account, ID: string(r.account.ID)}
}

// event returns an audit event of something that the request did.
func (s *Server) event(r *request, action audit.Action, target string, detail audit.Detail) audit.Event {
	if r.account != nil {
		detail.Account = r.account.ID
		if detail.Credential == "" {
			detail.Credential = r.account.CredentialID
		}
		if detail.Profile == "" {
			detail.Profile = r.account.ProfileID
		}
	} else if detail.Credential == "" {
		detail.Credential = r.credential
	}
	return audit.Event{
		Time: r.now, Actor: r.actor(), Action: action, Target: target, Client: r.client,
		Request: r.id, Replica: s.Replica, Outcome: audit.Done, Detail: detail,
	}
}

// authenticate runs the checks of a POST in this order: size, content type, form, URL, key, signature, nonce, account.
// The signature comes before the nonce, so that only whoever was given a nonce's request can burn it; both come before
// anything that the request could change.
func (s *Server) authenticate(ctx context.Context, r *request, rt *route) error {
	body, err := readBody(r.http, rt.limit)
	if fault.Is(err, fault.TooLarge) && r.http.ProtoMajor == 1 {
		// The rest of the body is not read, so the connection cannot be used again. In HTTP/2 only the stream ends: the
		// connection may be a proxy's, with the requests of many clients on it.
		r.header.Set("Connection", "close")
	}
	if err != nil {
		return err
	}
	if err := checkContentType(r.http); err != nil {
		return err
	}
	message, err := jose.Parse(body)
	if err != nil {
		return err
	}
	r.url = s.BaseURL + r.http.URL.EscapedPath()
	if r.http.URL.RawQuery != "" {
		r.url += "?" + r.http.URL.RawQuery
	}
	// RFC 8555 section 6.4. A query where a resource has none would make many URLs of one.
	if message.Header.URL != r.url || r.http.URL.RawQuery != "" && !rt.query {
		return fault.New(fault.Unauthorized, "JWS has url %.200q, but the request came to %.200q (RFC 8555 section 6.4)", message.Header.URL, r.url)
	}
	if err := s.findKey(ctx, r, rt, message); err != nil {
		return err
	}
	if err := s.verify(ctx, r, message); err != nil {
		return err
	}
	if err := s.redeem(ctx, message.Header.Nonce); err != nil {
		return err
	}
	if r.account != nil {
		if err := usable(r.account); err != nil {
			return err
		}
	}
	r.payload = message.Payload
	return nil
}

// usualBody is the size up to which room for a body is made before it comes.
const usualBody = 8 << 10

// readBody reads up to limit bytes. What is larger is refused without being read.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	tooLarge := fault.New(fault.TooLarge, "request body is larger than %d bytes", limit)
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return nil, fault.New(fault.UnsupportedMediaType, "request body has content encoding %.40q; none is accepted", encoding)
	}
	var body []byte
	var err error
	if 0 <= r.ContentLength && r.ContentLength <= usualBody {
		body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, body)
	} else {
		// Room is made for what has come, not for what is announced: that costs whoever announces it nothing.
		var b bytes.Buffer
		_, err = io.Copy(&b, io.LimitReader(r.Body, limit+1))
		body = b.Bytes()
		if err == nil && r.ContentLength > int64(len(body)) {
			err = io.ErrUnexpectedEOF
		}
	}
	switch {
	case err != nil:
		return nil, fault.Wrap(err, fault.Malformed, "request body ended before its length")
	case int64(len(body)) > limit:
		return nil, tooLarge
	}
	return body, nil
}

// checkContentType wants application/jose+json (RFC 8555 section 6.2); parameters are ignored.
func checkContentType(r *http.Request) error {
	given := r.Header.Get(headerType)
	if given == typeJOSE {
		return nil
	}
	if media, _, err := mime.ParseMediaType(given); err == nil && media == typeJOSE {
		return nil
	}
	return fault.New(fault.UnsupportedMediaType, "content type %.80q is not %s (RFC 8555 section 6.2)", given, typeJOSE)
}

// findKey sets the key that must have signed, and the account when "kid" names one.
func (s *Server) findKey(ctx context.Context, r *request, rt *route, m *jose.Message) error {
	h := &m.Header
	switch {
	case h.JWK != nil && rt.signer == byAccount:
		return fault.New(fault.Malformed, "JWS has \"jwk\"; this resource wants the account's URL as \"kid\" (RFC 8555 section 6.2)")
	case h.JWK != nil:
		r.key = h.JWK
		return nil
	case rt.signer == byKey:
		return fault.New(fault.Malformed, "JWS has \"kid\"; this resource wants the account's key as \"jwk\" (RFC 8555 section 6.2)")
	}
	// The whole URL is compared: an account of another directory is another account.
	id, ok := strings.CutPrefix(h.KID, r.dir.accountURL(""))
	if !ok || !pki.ValidID(id) {
		return noAccount(h.KID)
	}
	known, err := s.accounts.get(ctx, pki.AccountID(id))
	if fault.Is(err, fault.NotFound) || err == nil && known.account.Scope != r.dir.scope {
		return noAccount(h.KID)
	}
	if err != nil {
		// Never a 4xx, which would be final for an order of cert-manager: the account may well exist.
		return fmt.Errorf("look up account: %w", err)
	}
	r.key, r.account = known.key, known.account
	return nil
}

func noAccount(kid string) error {
	return fault.New(fault.AccountDoesNotExist, "kid %.200q is not the URL of an account in this directory", kid)
}

// verify checks the signature. The copy of an account may be older than a change of its key on another replica, and
// the new key must work at once (RFC 8555 section 7.3.5), so the store has the last word.
func (s *Server) verify(ctx context.Context, r *request, m *jose.Message) error {
	refused := m.Verify(r.key)
	if refused == nil || r.account == nil {
		return refused
	}
	known, err := s.accounts.reload(ctx, r.account.ID)
	if err != nil {
		return fmt.Errorf("look up account: %w", err)
	}
	if known.key.Thumbprint == r.key.Thumbprint {
		return refused
	}
	r.key, r.account = known.key, known.account
	return m.Verify(r.key)
}

// redeem uses a nonce. In mean mode some good ones are refused, as if they had been used before.
func (s *Server) redeem(ctx context.Context, nonce string) error {
	if err := s.Nonces.Redeem(ctx, nonce); err != nil {
		return err
	}
	if s.Options.NonceRejectPercent == 0 {
		return nil
	}
	var die [2]byte
	if _, err := io.ReadFull(s.Random, die[:]); err != nil {
		return fmt.Errorf("read randomness: %w", err)
	}
	if (int(die[0])<<8|int(die[1]))%100 < s.Options.NonceRejectPercent {
		return fault.New(fault.BadNonce, "JWS has an invalid anti-replay nonce: refused to test the client")
	}
	return nil
}

// usable refuses an account that is no longer valid (RFC 8555 section 7.3.6).
func usable(a *pki.Account) error {
	switch a.Status {
	case pki.StatusValid:
		return nil
	case pki.StatusDeactivated:
		return fault.New(fault.AccountDeactivated, "account is deactivated")
	default:
		return fault.New(fault.Unauthorized, "account is %s", a.Status)
	}
}

// maxUserAgent bounds what is kept of a User-Agent header.
const maxUserAgent = 200

// clientOf returns where a request came from: what the connection says, no header. A proxy's word would be anybody's.
func clientOf(r *http.Request) pki.Client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = ""
	}
	return pki.Client{UserAgent: cut(printable(r.UserAgent()), maxUserAgent), Address: host}
}

// cut shortens text to at most limit bytes and makes it valid UTF-8.
func cut(text string, limit int) string {
	if len(text) > limit {
		text = text[:limit]
	}
	return strings.ToValidUTF8(text, "")
}

// trouble turns an error of a handler into the one that the client is told. A request that ran out of time, or whose
// client has gone, is no fault of the server's insides.
func trouble(ctx context.Context, err error) *fault.Error {
	if _, known := errors.AsType[*fault.Error](err); known {
		return fault.From(err)
	}
	switch {
	case errors.Is(err, context.Canceled):
		return fault.Wrap(err, fault.Unavailable, "the client has gone before it was answered")
	case errors.Is(ctx.Err(), context.Canceled):
		return fault.Wrap(fmt.Errorf("%w: %w", context.Canceled, err), fault.Unavailable, "the client has gone before it was answered")
	case errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil:
		return fault.Wrap(err, fault.Unavailable, "request took too long; try again")
	}
	return fault.From(err)
}
