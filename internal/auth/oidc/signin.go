package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/certloom/certloom/internal/fault"
)

// cookieKind is the kind of what is sealed into the browser's cookie.
const cookieKind = "oidc-sign-in"

// begun is a sign-in that is under way, as the browser keeps it in a cookie: sealed, so that it neither reads nor
// changes it, and any replica can finish what another has begun.
type begun struct {
	State    string    `json:"state"`
	Nonce    string    `json:"nonce"`
	Verifier string    `json:"verifier"`
	Next     string    `json:"next"`
	Until    time.Time `json:"until"`
}

// Start is the beginning of a sign-in.
type Start struct {
	URL    string        // of the provider, where the browser goes next
	Cookie string        // that the browser must bring back
	Keep   time.Duration // how long it is good for
}

// Begin begins a sign-in, after which the person goes to next, an address on this server. Unavailable when the provider
// cannot be reached.
func (p *Provider) Begin(ctx context.Context, next string) (*Start, error) {
	found, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	b := begun{Next: next, Until: p.config.Now().UTC().Add(signInTime)}
	for _, secret := range []*string{&b.State, &b.Nonce, &b.Verifier} {
		if *secret, err = p.secret(); err != nil {
			return nil, err
		}
	}
	plain, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return &Start{
		URL:    found.oauth.AuthCodeURL(b.State, oidc.Nonce(b.Nonce), oauth2.S256ChallengeOption(b.Verifier)),
		Cookie: p.config.Seal.Seal(cookieKind, p.aad, plain), Keep: signInTime,
	}, nil
}

// secret makes 256 random bits, which is also the length of a verifier that RFC 7636 section 4.1 recommends.
func (p *Provider) secret() (string, error) {
	raw := make([]byte, 32)
	if _, err := io.ReadFull(p.config.Random, raw); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(raw), nil
}

// Finish ends a sign-in with what the provider sent the browser back with, and the browser's cookie. The person is
// returned with a role, and where to go next. Unauthenticated when the sign-in does not hold: it must be begun again;
// Unauthorized, together with the person, when the provider knows who it is and no group of theirs has a role;
// Unavailable when the provider does not answer. A code that comes again is refused by the provider (RFC 6749 section
// 4.1.2), and without the cookie, which whoever stole the address does not have, it is not even asked.
func (p *Provider) Finish(ctx context.Context, cookie string, answer url.Values) (*Person, string, error) {
	b, err := p.open(cookie)
	if err != nil {
		return nil, "", err
	}
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(b.State)) != 1 {
		return nil, "", again(nil, "the answer of the identity provider belongs to another sign-in")
	}
	select {
	case p.finishing <- struct{}{}:
		defer func() { <-p.finishing }()
	default:
		busy := fault.New(fault.Unavailable, "too many people are signing in; try again in a moment")
		busy.RetryAfter = retryAfter
		return nil, "", busy
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.config.HTTP), providerTime)
	defer cancel()
	found, err := p.discover(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := p.checkAnswer(found, answer); err != nil {
		return nil, "", err
	}
	person, err := p.redeem(ctx, found, answer.Get("code"), b)
	return person, b.Next, err
}

// open reads the cookie of a sign-in that is under way.
func (p *Provider) open(cookie string) (*begun, error) {
	if cookie == "" {
		return nil, again(nil, "this sign-in was not begun in this browser, or was finished already")
	}
	plain, err := p.config.Seal.Open(cookieKind, p.aad, cookie)
	if err != nil {
		return nil, again(err, "this sign-in was not begun here")
	}
	var b begun
	if err := json.Unmarshal(plain, &b); err != nil {
		return nil, again(err, "this sign-in was not begun here")
	}
	if !p.config.Now().Before(b.Until) {
		return nil, again(nil, "this sign-in has taken longer than %s", signInTime)
	}
	return &b, nil
}

// checkAnswer checks the provider's answer as far as it can be without asking (RFC 6749 section 4.1.2, RFC 9207
// section 2.4).
func (p *Provider) checkAnswer(found *endpoints, answer url.Values) error {
	iss, named := answer.Get("iss"), answer.Has("iss")
	switch {
	case named && iss != p.config.Issuer:
		return again(fmt.Errorf("answer of %.200q", iss), "the answer is of another identity provider than the one that was asked")
	case !named && found.namesIss:
		return again(nil, "the answer does not name the identity provider, which always does")
	case answer.Has("error"):
		code := answer.Get("error")
		return again(fmt.Errorf("the provider says %.100q: %.300q", code, answer.Get("error_description")),
			"the identity provider has not let you sign in (%s)", errorCode(code))
	case len(answer["code"]) != 1 || answer.Get("code") == "":
		return again(nil, "the answer of the identity provider has no code")
	default:
		return nil
	}
}

// errorCode is a provider's error in a sentence for people: the closed set of what providers say, nothing else that an
// address may hold (RFC 6749 section 4.1.2.1, OpenID Connect Core 1.0 section 3.1.2.6).
func errorCode(code string) string {
	known := []string{
		"access_denied", "consent_required", "interaction_required", "invalid_request", "invalid_scope", "login_required",
		"server_error", "temporarily_unavailable", "unauthorized_client", "unsupported_response_type",
	}
	if slices.Contains(known, code) {
		return code
	}
	return "for a reason of its own"
}

// redeem exchanges the code for tokens, verifies them, and finds the person's role.
func (p *Provider) redeem(ctx context.Context, found *endpoints, code string, b *begun) (*Person, error) {
	tokens, err := found.oauth.Exchange(ctx, code, oauth2.VerifierOption(b.Verifier))
	if err != nil {
		return nil, p.exchangeFault(err)
	}
	raw, ok := tokens.Extra("id_token").(string)
	if !ok || raw == "" {
		return nil, again(errors.New("token answer without id_token"), "the identity provider has not said who you are")
	}
	token, err := found.verifier.Verify(ctx, raw)
	if err != nil {
		return nil, again(err, "what the identity provider says of you cannot be verified")
	}
	claims := make(map[string]any)
	if err := token.Claims(&claims); err != nil {
		return nil, again(err, "what the identity provider says of you cannot be read")
	}
	if err := p.checkToken(token, claims, tokens.AccessToken, b.Nonce); err != nil {
		return nil, again(err, "what the identity provider says of you cannot be verified")
	}
	claims, err = p.complete(ctx, found, token, claims, tokens)
	if err != nil {
		return nil, err
	}
	return p.person(token.Subject, claims)
}

// exchangeFault tells apart whose fault it is that a code was not exchanged (RFC 6749 section 5.2). The body of the
// provider's answer stays out of the log but for its two members that explain.
func (p *Provider) exchangeFault(err error) error {
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	switch {
	case !ok:
		return p.unreachable(fmt.Errorf("exchange the code: %w", err))
	case refused.ErrorCode == "invalid_grant":
		return again(fmt.Errorf("exchange the code: %.100q: %.300q", refused.ErrorCode, refused.ErrorDescription),
			"the identity provider does not know this sign-in any more")
	default:
		status := 0
		if refused.Response != nil {
			status = refused.Response.StatusCode
		}
		return p.unreachable(fmt.Errorf("exchange the code: status %d, %.100q: %.300q", status, refused.ErrorCode, refused.ErrorDescription))
	}
}

// checkToken makes the checks of OpenID Connect Core 1.0 section 3.1.3.7 that the verifier leaves to its caller: the
// nonce, the authorized party, the access token's hash, and that there is a subject.
func (p *Provider) checkToken(token *oidc.IDToken, claims map[string]any, access, nonce string) error {
	if subtle.ConstantTimeCompare([]byte(token.Nonce), []byte(nonce)) != 1 {
		return errors.New("ID token has another nonce")
	}
	if token.Subject == "" || len(token.Subject) > 255 { // section 2: at most 255 ASCII characters
		return errors.New("ID token has no subject, or one of more than 255 characters")
	}
	azp, named := claims["azp"]
	if len(token.Audience) > 1 && !named {
		return fmt.Errorf("ID token is for %.200q, and does not say which of them asked for it", token.Audience)
	}
	if named && azp != p.config.ClientID {
		return fmt.Errorf("ID token was made for %.200q", fmt.Sprint(azp))
	}
	if token.AccessTokenHash != "" {
		if err := token.VerifyAccessToken(access); err != nil {
			return fmt.Errorf("access token and ID token do not belong together: %w", err)
		}
	}
	return nil
}

// again is the refusal of a sign-in that does not hold.
func again(cause error, format string, args ...any) error {
	return fault.Wrap(cause, fault.Unauthenticated, format+"; begin the sign-in again", args...)
}
