package acmeclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// maxAnswer bounds the body of an answer. A chain of certificates has some 10 kB.
const maxAnswer = 1 << 20

// answer is an HTTP response that was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// retryAfter returns the Retry-After header as a duration, 0 when it is absent or unreadable. A date is taken
// relative to the answer's own Date, so that the clocks need not agree.
func (a *answer) retryAfter() time.Duration {
	value := a.header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return 0
	}
	return max(until.Sub(now), 0)
}

// call says how a request is signed and whether it may be sent again when its fate is unknown.
type call struct {
	url     string
	payload []byte // nil or empty: POST-as-GET
	signer  *identity
	withJWK bool
	safe    bool
}

// post signs and sends a request until it gets an answer below 400, or the retries are over. Each time it takes
// another nonce, so that a request whose fate is unknown is not sent with one that may have been used.
func (c *Client) post(ctx context.Context, request call) (*answer, error) {
	for attempt := 0; ; attempt++ {
		got, err := c.postOnce(ctx, request)
		if err == nil {
			return got, nil
		}
		wait, again := c.retry(err, attempt, request.safe)
		if !again || ctx.Err() != nil {
			return nil, err
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

func (c *Client) postOnce(ctx context.Context, request call) (*answer, error) {
	nonce, err := c.nonce(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a nonce: %w", notSent{err})
	}
	body, err := request.signer.request(c.config.Random, request.withJWK, nonce, request.url, request.payload)
	if err != nil {
		return nil, err
	}
	got, err := c.send(ctx, http.MethodPost, request.url, body)
	if err != nil {
		return nil, err
	}
	if got.status < http.StatusBadRequest {
		return got, nil
	}
	refusal := problem(got)
	if refusal.Kind() == "badNonce" {
		c.nonces.clear()
		c.nonces.put(got.header.Get("Replay-Nonce"))
	}
	return nil, refusal
}

// get sends a GET until it gets an answer below 400, or the retries are over.
func (c *Client) get(ctx context.Context, url string) (*answer, error) {
	for attempt := 0; ; attempt++ {
		got, err := c.send(ctx, http.MethodGet, url, nil)
		if err == nil && got.status >= http.StatusBadRequest {
			err = problem(got)
		}
		if err == nil {
			return got, nil
		}
		wait, again := c.retry(err, attempt, true)
		if !again || ctx.Err() != nil {
			return nil, err
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// send sends one request and reads the whole answer, so that the connection can be used again.
func (c *Client) send(ctx context.Context, method, url string, body []byte) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make a request for %.200q: %w", url, err)
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/jose+json")
	}
	if c.config.UserAgent != "" {
		request.Header.Set("User-Agent", c.config.UserAgent)
	}
	response, err := c.config.HTTPClient.Do(request)
	if err != nil {
		return nil, transportError{err}
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return nil, transportError{fmt.Errorf("read the answer of %s: %w", url, err)}
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("answer of %s has more than %d bytes", url, maxAnswer)
	}
	got := &answer{status: response.StatusCode, header: response.Header, body: text}
	if method == http.MethodPost {
		c.nonces.put(got.header.Get("Replay-Nonce"))
	}
	return got, nil
}

// transportError is a broken connection: nobody knows what became of the request.
type transportError struct{ error }

// Unwrap returns the cause.
func (e transportError) Unwrap() error { return e.error }

// notSent is an error from before the request was sent.
type notSent struct{ error }

// Unwrap returns the cause.
func (e notSent) Unwrap() error { return e.error }

// Waits between attempts when the CA does not say.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = 5 * time.Second
	// promptly is how many bad nonces are answered at once: the first shows that the pool is stale.
	promptly = 3
	// badNonces is how many bad nonces are borne with at least.
	badNonces = 8
)

// retry says whether a request may be sent again after err, and when.
func (c *Client) retry(err error, attempt int, safe bool) (time.Duration, bool) {
	if IsProblem(err, "badNonce") {
		// The CA does nothing with such a request and answers with a good nonce, so this has a bound of its own.
		if attempt < promptly {
			return 0, true
		}
		return c.backoff(attempt), attempt < max(badNonces, c.config.Retries)
	}
	if attempt >= c.config.Retries {
		return 0, false
	}
	wait := c.backoff(attempt)
	if _, ok := errors.AsType[notSent](err); ok {
		safe = true
	}
	refusal, refused := errors.AsType[*Problem](err)
	switch {
	case !refused:
		return wait, Unreachable(err) && safe
	case refusal.Status == http.StatusServiceUnavailable:
		// The CA says that it did nothing, and when it will.
		return max(wait, refusal.RetryAfter), refusal.RetryAfter <= c.config.MaxWait
	case refusal.Status >= http.StatusInternalServerError:
		return max(wait, refusal.RetryAfter), safe && refusal.RetryAfter <= c.config.MaxWait
	default:
		return 0, false
	}
}

// Unreachable reports whether err is of a connection that was not made or broke, so that nobody knows what the CA thinks.
func Unreachable(err error) bool {
	_, broken := errors.AsType[transportError](err)
	return broken
}

func (c *Client) backoff(attempt int) time.Duration {
	wait := min(firstWait<<min(attempt, 10), longestWait)
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // jitter, so that clients that failed together do not return together
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the CA: %w", ctx.Err())
	}
}
