package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Codes of the second factor are those of RFC 6238 as all authenticator apps make them: SHA-1, six digits, steps of 30 s.
const (
	factorStep   = 30 * time.Second
	factorDigits = otp.DigitsSix
	factorSecret = 20 // bytes, as RFC 4226 section 4 recommends
	factorDrift  = 1  // steps that a clock may be wrong by (RFC 6238 section 5.2)
)

// Recovery codes are for when the app is gone: 50 random bits each, so that a fast hash will do.
const (
	recoveryCodes  = 10
	recoveryDigits = 10 // of base32
)

// What the vault seals here.
const (
	factorPurpose = "second-factor"
	ticketPurpose = "sign-in-ticket"
	enrolPurpose  = "second-factor-enrolment"
)

// How long the steps of signing in and of setting up a second factor may take.
const (
	ticketLifetime = 5 * time.Minute
	enrolLifetime  = 30 * time.Minute
)

// codeNeeded is a refusal of somebody whose password was right.
type codeNeeded struct {
	refused *fault.Error
	ticket  string
}

func (e *codeNeeded) Error() string { return e.refused.Error() }
func (e *codeNeeded) Unwrap() error { return e.refused }

// Ticket returns what goes with a code in place of the password, if an error says that a code is needed.
func Ticket(err error) (ticket string, needed bool) {
	needs, ok := errors.AsType[*codeNeeded](err)
	if !ok {
		return "", false
	}
	return needs.ticket, true
}

// pass is what somebody carries from one step to the next. It is good for the same network, and until the user changes.
type pass struct {
	User    string    `json:"user"`
	Version int64     `json:"version"`
	Network string    `json:"network"`
	Until   time.Time `json:"until"`
	Secret  []byte    `json:"secret,omitempty"` // of a second factor that is being set up
}

func (a *Authenticator) makePass(purpose string, p pass) (string, error) {
	raw, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	sealed, err := a.config.Vault.Seal(purpose, "", raw)
	if err != nil {
		return "", fmt.Errorf("seal: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// readPass returns what was sealed, if it is of this server and its time has not passed.
func (a *Authenticator) readPass(purpose, text string) (*pass, bool) {
	const most = 2048
	if len(text) > most {
		return nil, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, false
	}
	raw, err := a.config.Vault.Unseal(purpose, "", sealed)
	if err != nil {
		return nil, false
	}
	var p pass
	if err := json.Unmarshal(raw, &p); err != nil || !a.config.Now().Before(p.Until) {
		return nil, false
	}
	return &p, true
}

// needCode refuses somebody whose password was right and who has given no code.
func (a *Authenticator) needCode(user *pki.User, by audit.By) error {
	ticket, err := a.makePass(ticketPurpose, pass{
		User: user.Name, Version: user.Version, Network: network(by.Client.Address).String(), Until: a.config.Now().Add(ticketLifetime),
	})
	if err != nil {
		return err
	}
	refused := fault.New(fault.Unauthenticated, "user %q has a second factor; give a code of the authenticator app, or a recovery code", user.Name).WithField("/code")
	return &codeNeeded{refused: refused, ticket: ticket}
}

func (a *Authenticator) signInWithTicket(ctx context.Context, ticket, code string, by audit.By) (*pki.User, audit.By, error) {
	by.Actor = audit.Actor{Kind: audit.Nobody}
	late := fault.New(fault.Unauthenticated, "signing in has taken too long, or was begun elsewhere; begin again")
	p, ok := a.readPass(ticketPurpose, ticket)
	if !ok || p.Network != network(by.Client.Address).String() {
		return nil, by, late
	}
	if err := a.admitAttempt(ctx, by); err != nil {
		return nil, by, err
	}
	user, err := a.config.Store.User(ctx, p.User)
	if fault.Is(err, fault.NotFound) {
		return nil, by, late
	}
	if err != nil {
		return nil, by, fmt.Errorf("find user: %w", err)
	}
	by.Actor = audit.Actor{Kind: audit.User, ID: user.Name, Name: user.Name}
	locked, err := a.locked(ctx, user, by)
	switch {
	case err != nil:
		return nil, by, err
	case user.Version != p.Version || user.State != pki.Active || user.TOTP == nil:
		return nil, by, late
	case locked:
		return nil, by, a.refuseLogin(ctx, by, nil, wrongCode())
	}
	if err := a.proveCode(ctx, user, code, by); err != nil {
		return nil, by, err
	}
	return user, by, a.noteSignIn(ctx, user, by)
}

func wrongCode() *fault.Error {
	return fault.New(fault.Unauthenticated, "code is wrong, was used before, or is too old").WithField("/code")
}

// proveCode takes a code of a user's authenticator app, or a recovery code; each is good once. What is wrong counts as a
// failure to sign in.
func (a *Authenticator) proveCode(ctx context.Context, user *pki.User, code string, by audit.By) error {
	code = strings.ToUpper(strings.Join(strings.FieldsFunc(code, func(r rune) bool { return r == ' ' || r == '-' }), ""))
	ok, err := false, error(nil)
	switch len(code) {
	case factorDigits.Length():
		ok, err = a.takeCode(ctx, user, code)
	case recoveryDigits:
		ok, err = a.config.Store.UseRecoveryCode(ctx, user.Name, sha256.Sum256([]byte(code)), a.event(by, audit.RecoveryCodeUse, user.Name, audit.Detail{}))
	}
	if err != nil {
		return fmt.Errorf("take code: %w", err)
	}
	if !ok {
		return a.refuseLogin(ctx, by, user, wrongCode())
	}
	return nil
}

func (a *Authenticator) takeCode(ctx context.Context, user *pki.User, code string) (bool, error) {
	secret, err := a.config.Vault.Unseal(factorPurpose, user.Name, user.TOTP)
	if err != nil {
		return false, fmt.Errorf("open second factor: %w", err)
	}
	step, err := stepOf(secret, code, a.config.Now())
	if err != nil || step < 0 {
		return false, err
	}
	return a.config.Store.UseStep(ctx, user.Name, step)
}

// stepOf returns the step of time that a code is of; -1: of none near now.
func stepOf(secret []byte, code string, now time.Time) (int64, error) {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	found := int64(-1)
	current := now.Unix() / int64(factorStep/time.Second)
	for step := current - factorDrift; step <= current+factorDrift; step++ {
		want, err := hotp.GenerateCodeCustom(text, uint64(step), hotp.ValidateOpts{Digits: factorDigits, Algorithm: otp.AlgorithmSHA1})
		if err != nil {
			return -1, fmt.Errorf("make code: %w", err)
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 {
			found = step
		}
	}
	return found, nil
}

// mustEnrol tells that a user may do nothing before setting up a second factor. The provider of others asks for theirs.
func (a *Authenticator) mustEnrol(user *pki.User) bool {
	return a.config.SecondFactor && user.Issuer == "" && user.TOTP == nil
}

// Enrolment is a second factor that is being set up.
type Enrolment struct {
	Secret string // base32, for typing
	URI    string // otpauth, for scanning
	Ticket string // goes with the first code
}

// BeginSecondFactor makes the secret of a second factor for a user who has signed in and gives the password again. Nothing is
// stored before the first code.
func (a *Authenticator) BeginSecondFactor(ctx context.Context, name, password string, by audit.By) (*Enrolment, error) {
	user, err := a.CheckOwnPassword(ctx, name, password, by)
	if err != nil {
		return nil, atPassword(err)
	}
	if user.TOTP != nil {
		return nil, fault.New(fault.Conflict, "user %q has a second factor already; turn it off first", name)
	}
	secret := make([]byte, factorSecret)
	if _, err := io.ReadFull(a.config.Random, secret); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	ticket, err := a.makePass(enrolPurpose, pass{User: name, Version: user.Version, Until: a.config.Now().Add(enrolLifetime), Secret: secret})
	if err != nil {
		return nil, err
	}
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	uri := url.URL{
		Scheme: "otpauth", Host: "totp", Path: "/" + a.config.Issuer + ":" + name,
		RawQuery: url.Values{"secret": {text}, "issuer": {a.config.Issuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {"30"}}.Encode(),
	}
	return &Enrolment{Secret: text, URI: uri.String(), Ticket: ticket}, nil
}

// atPassword moves what is wrong with a password to the member that it is called here.
func atPassword(err error) error {
	if found := fault.From(err); found != nil && found.Field == "/old" {
		found.Field = "/password"
		return found
	}
	return err
}

// ConfirmSecondFactor stores the second factor that a ticket has, when the code is one of it, and returns recovery codes, which
// nobody can ask for again.
func (a *Authenticator) ConfirmSecondFactor(ctx context.Context, name, ticket, code string, by audit.By) ([]string, error) {
	p, ok := a.readPass(enrolPurpose, ticket)
	if !ok || p.User != name {
		return nil, fault.New(fault.Malformed, "ticket is not one of this server for user %q, or is older than %s; begin again", name, enrolLifetime).WithField("/ticket")
	}
	user, err := a.config.Store.User(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("find user: %w", err)
	}
	if user.TOTP != nil || user.Version != p.Version {
		return nil, fault.New(fault.Conflict, "user %q was changed in the meantime; begin again", name)
	}
	step, err := stepOf(p.Secret, strings.ReplaceAll(code, " ", ""), a.config.Now())
	if err != nil {
		return nil, err
	}
	if step < 0 {
		return nil, fault.New(fault.Malformed, "code is not the one that the app shows now; is the clock of one of the two wrong?").WithField("/code")
	}
	sealed, err := a.config.Vault.Seal(factorPurpose, name, p.Secret)
	if err != nil {
		return nil, fmt.Errorf("seal second factor: %w", err)
	}
	codes, hashes, err := a.makeRecoveryCodes()
	if err != nil {
		return nil, err
	}
	event := a.event(by, audit.FactorSet, name, audit.Detail{})
	if err := a.config.Store.SetSecondFactor(ctx, name, user.Version, pki.SecondFactor{Sealed: sealed, Step: step, Recovery: hashes}, event); err != nil {
		return nil, fmt.Errorf("store second factor: %w", err)
	}
	return codes, nil
}

func (a *Authenticator) makeRecoveryCodes() (codes []string, hashes [][32]byte, err error) {
	for range recoveryCodes {
		raw := make([]byte, 8)
		if _, err := io.ReadFull(a.config.Random, raw); err != nil {
			return nil, nil, fmt.Errorf("read randomness: %w", err)
		}
		text := base32.StdEncoding.EncodeToString(raw)[:recoveryDigits]
		codes, hashes = append(codes, text[:recoveryDigits/2]+"-"+text[recoveryDigits/2:]), append(hashes, sha256.Sum256([]byte(text)))
	}
	return codes, hashes, nil
}

// proveOwnFactor checks the password and a code of a user who has signed in and changes the second factor.
func (a *Authenticator) proveOwnFactor(ctx context.Context, name, password, code string, by audit.By) error {
	user, err := a.CheckOwnPassword(ctx, name, password, by)
	if err != nil {
		return atPassword(err)
	}
	if user.TOTP == nil {
		return fault.New(fault.Conflict, "user %q has no second factor", name)
	}
	err = a.proveCode(ctx, user, code, by)
	if fault.Is(err, fault.Unauthenticated) {
		return fault.New(fault.Malformed, "%s", fault.From(err).Public).WithField("/code")
	}
	return err
}

// NewRecoveryCodes replaces a user's recovery codes.
func (a *Authenticator) NewRecoveryCodes(ctx context.Context, name, password, code string, by audit.By) ([]string, error) {
	if err := a.proveOwnFactor(ctx, name, password, code, by); err != nil {
		return nil, err
	}
	codes, hashes, err := a.makeRecoveryCodes()
	if err != nil {
		return nil, err
	}
	if err := a.config.Store.SetRecoveryCodes(ctx, name, hashes, a.event(by, audit.RecoveryCodesMake, name, audit.Detail{})); err != nil {
		return nil, fmt.Errorf("store recovery codes: %w", err)
	}
	return codes, nil
}

// DropSecondFactor takes a user's own second factor away.
func (a *Authenticator) DropSecondFactor(ctx context.Context, name, password, code string, by audit.By) error {
	if err := a.proveOwnFactor(ctx, name, password, code, by); err != nil {
		return err
	}
	return a.ResetSecondFactor(ctx, name, by)
}

// ResetSecondFactor takes a user's second factor away, for one whose app and recovery codes are gone. NotFound.
func (a *Authenticator) ResetSecondFactor(ctx context.Context, name string, by audit.By) error {
	err := a.config.Store.SetSecondFactor(ctx, name, 0, pki.SecondFactor{}, a.event(by, audit.FactorReset, name, audit.Detail{}))
	if err != nil {
		return fmt.Errorf("reset second factor: %w", err)
	}
	return nil
}

// RecoveryCodes returns how many recovery codes a user has left.
func (a *Authenticator) RecoveryCodes(ctx context.Context, name string) (int, error) {
	return a.config.Store.RecoveryCodes(ctx, name)
}
