package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Requests that change something may be sent again without doing it again: a client gives each a key of its own, and a
// repetition gets the answer of the first (draft-ietf-httpapi-idempotency-key-header-07). Only successes are kept: a
// refusal has made nothing, so the request may be sent again with the same key. Answers may have secrets that are shown
// once, so they are sealed like the keys that are stored.
const (
	onceHeader = "Idempotency-Key"
	// onceRepeated tells a repeated answer from a first one.
	onceRepeated = "Idempotency-Replayed"
	onceMaxKey   = 255
	onceLifetime = 24 * time.Hour
	// onceAbandoned is when whoever serves a request is taken for dead: longer than any request may take.
	onceAbandoned = 2 * time.Minute
	// oncePatience is how long keeping the answer may take, also when the client is gone by then.
	oncePatience = 10 * time.Second
	onceRetry    = time.Second
	oncePurpose  = "answer"
)

// repeatable says for which operations a key means something: those that are not idempotent by themselves and have a
// caller whose keys they can be.
func repeatable(op *huma.Operation) bool {
	_, streams := op.Metadata[streamExtension]
	return op.Method == http.MethodPost && len(op.Security) > 0 && !streams
}

func onceParameter() *huma.Param {
	most := onceMaxKey
	return &huma.Param{
		Name: onceHeader, In: "header", Schema: &huma.Schema{Type: huma.TypeString, MaxLength: &most},
		Description: "A key of the client's choice, a UUID say. The same request with the same key within 24 hours is answered as the first was, and does nothing again.",
		Example:     `"8e03978e-40d5-43dd-bc93-6894a57f9324"`,
	}
}

// keptAnswer is what is repeated of an answer.
type keptAnswer struct {
	Status      int    `json:"status"`
	ContentType string `json:"contentType,omitempty"`
	Body        []byte `json:"body,omitempty"`
}

// once serves a request that has a key of its client's once.
func (s *Server) once(ctx huma.Context, next func(huma.Context)) {
	request, writer := humago.Unwrap(ctx)
	values := request.Header.Values(onceHeader)
	if len(values) == 0 || !repeatable(ctx.Operation()) {
		next(ctx)
		return
	}
	claim, stored, err := s.claim(ctx, request, values)
	switch {
	case err != nil:
		s.writeProblem(ctx, s.problem(ctx.Context(), err))
		return
	case stored == nil:
		next(ctx) // a body that is too large, or that cannot be read: its refusal is not kept
		return
	case stored.Claim != claim.Claim:
		s.repeat(ctx, claim, stored)
		return
	}
	served := false
	defer func() {
		if !served { // a panic goes on its way; the key is free for another attempt
			s.settle(ctx.Context(), claim, nil)
		}
	}()
	next(ctx)
	served = true
	held := heldOf(ctx)
	if held.status < http.StatusOK || held.status >= http.StatusMultipleChoices {
		s.settle(ctx.Context(), claim, nil)
		return
	}
	s.settle(ctx.Context(), claim, &keptAnswer{
		Status: held.status, ContentType: writer.Header().Get("Content-Type"), Body: held.body.Bytes(),
	})
}

// claim asks the database whose turn it is. Without an error, nothing stored means that the request cannot be kept.
func (s *Server) claim(ctx huma.Context, request *http.Request, values []string) (claim pki.Once, stored *pki.Once, err error) {
	key, err := onceKey(values)
	if err != nil {
		return claim, nil, err
	}
	most := ctx.Operation().MaxBodyBytes
	body, err := io.ReadAll(io.LimitReader(request.Body, most+1))
	// What comes after this reads the same, and fails where this has failed.
	request.Body = &readAgain{Reader: io.MultiReader(bytes.NewReader(body), failing{err}, request.Body), Closer: request.Body}
	if err != nil || int64(len(body)) > most {
		return claim, nil, nil //nolint:nilerr // whoever reads the body next tells of it
	}
	caller := auth.PrincipalOf(ctx.Context()).By().Actor
	claim = pki.Once{
		ID:        digest("key", string(caller.Kind), caller.ID, key),
		Request:   digest("request", request.Method, request.URL.RequestURI(), string(body)),
		StartedAt: s.config.Now(),
	}
	claim.ExpiresAt = claim.StartedAt.Add(onceLifetime)
	if _, err := io.ReadFull(s.config.Random, claim.Claim[:]); err != nil {
		return claim, nil, fmt.Errorf("read randomness: %w", err)
	}
	if stored, err = s.config.Store.ClaimOnce(ctx.Context(), claim, claim.StartedAt.Add(-onceAbandoned)); err != nil {
		return claim, nil, fmt.Errorf("claim request: %w", err)
	}
	return claim, stored, nil
}

// readAgain is a body of which the beginning has been read.
type readAgain struct {
	io.Reader
	io.Closer
}

// failing fails with an error where there is one, and is empty otherwise.
type failing struct{ err error }

// Read is part of io.Reader.
func (f failing) Read([]byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	return 0, io.EOF
}

// onceKey reads the header: a string of RFC 9651 section 3.3.3, or the same without its quotation marks, as most
// clients send it.
func onceKey(values []string) (string, error) {
	key := strings.TrimSpace(values[0])
	if len(key) > 1 && strings.HasPrefix(key, `"`) && strings.HasSuffix(key, `"`) {
		key = key[1 : len(key)-1]
	}
	printable := !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
	if len(values) > 1 || key == "" || len(key) > onceMaxKey || !printable {
		return "", fault.New(fault.Malformed, "header %s is not one key of 1 to %d printable ASCII characters", onceHeader, onceMaxKey).
			WithField(onceHeader)
	}
	return key, nil
}

// digest hashes texts so that no two lists of them give the same.
func digest(texts ...string) [32]byte {
	h := sha256.New()
	for _, text := range texts {
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	return [32]byte(h.Sum(nil))
}

// repeat answers a request whose key has been used.
func (s *Server) repeat(ctx huma.Context, claim pki.Once, stored *pki.Once) {
	kept, err := s.kept(claim, stored)
	if err != nil {
		s.writeProblem(ctx, s.problem(ctx.Context(), err))
		return
	}
	ctx.SetHeader(onceRepeated, "true")
	if kept.ContentType != "" {
		ctx.SetHeader("Content-Type", kept.ContentType)
	}
	ctx.SetStatus(kept.Status)
	_, _ = ctx.BodyWriter().Write(kept.Body) // held back: cannot fail
}

func (s *Server) kept(claim pki.Once, stored *pki.Once) (*keptAnswer, error) {
	switch {
	case stored.Request != claim.Request:
		return nil, fault.New(fault.Malformed, "the key in header %s was used for another request, less than %d hours ago",
			onceHeader, int(onceLifetime.Hours())).WithField(onceHeader).WithHint("give each request a key of its own")
	case stored.Answer == nil:
		busy := fault.New(fault.Conflict, "the request with this key in header %s is being served", onceHeader).WithField(onceHeader)
		busy.RetryAfter = onceRetry
		return nil, busy
	}
	raw, err := s.config.Vault.Unseal(oncePurpose, hex.EncodeToString(stored.ID[:]), stored.Answer)
	if err != nil {
		return nil, fmt.Errorf("open kept answer: %w", err)
	}
	kept := new(keptAnswer)
	if err := json.Unmarshal(raw, kept); err != nil {
		return nil, fmt.Errorf("read kept answer: %w", err)
	}
	return kept, nil
}

// settle keeps the answer, or forgets a request of which nothing came. What was done is done, whether its answer can be
// kept or not: the client gets it, and the log tells of the rest.
func (s *Server) settle(ctx context.Context, claim pki.Once, answer *keptAnswer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), oncePatience)
	defer cancel()
	err := s.keep(ctx, claim, answer)
	if err != nil {
		s.config.Logger.ErrorContext(ctx, "answer not kept for repetition",
			telemetry.KeyRequest, auth.PrincipalOf(ctx).Request, telemetry.KeyError, err)
	}
}

func (s *Server) keep(ctx context.Context, claim pki.Once, answer *keptAnswer) error {
	if answer == nil {
		return s.config.Store.ReleaseOnce(ctx, claim)
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return errors.New("answer is not JSON") // the cause could quote it
	}
	if claim.Answer, err = s.config.Vault.Seal(oncePurpose, hex.EncodeToString(claim.ID[:]), raw); err != nil {
		return fmt.Errorf("seal answer: %w", err)
	}
	return s.config.Store.AnswerOnce(ctx, claim)
}
