package acmeclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Authorization is an ACME authorization (RFC 8555 section 7.1.4).
type Authorization struct {
	URL        string         `json:"-"`
	Identifier pki.Identifier `json:"identifier"`
	Status     pki.ACMEStatus `json:"status"`
	Expires    time.Time      `json:"expires"`
	Wildcard   bool           `json:"wildcard"`
	Challenges []Challenge    `json:"challenges"`

	retryAfter time.Duration
}

// Challenge is an ACME challenge (section 8).
type Challenge struct {
	Type      string         `json:"type"`
	URL       string         `json:"url"`
	Status    pki.ACMEStatus `json:"status"`
	Token     string         `json:"token"`
	Validated time.Time      `json:"validated"`
	Error     *Problem       `json:"error"`
}

// Task is what a solver has to show (section 8.1).
type Task struct {
	Identifier       pki.Identifier
	Wildcard         bool
	Token            string
	KeyAuthorization string
}

// Solver proves control of names by one type of challenge.
type Solver interface {
	// Type returns the challenge type, such as "http-01".
	Type() string
	// Present makes the proof visible to the CA before it returns.
	Present(ctx context.Context, task Task) error
	// CleanUp takes it away again. It is called after each Present that returned nil.
	CleanUp(ctx context.Context, task Task) error
}

// Authorize has the solver prove what an order needs, one name after the other, until the order is ready.
func (c *Client) Authorize(ctx context.Context, order *Order, solver Solver) error {
	for _, url := range order.Authorizations {
		authorization, err := c.Authorization(ctx, url)
		if err != nil {
			return err
		}
		if authorization.Status == pki.StatusValid {
			continue
		}
		if err := c.prove(ctx, authorization, solver); err != nil {
			return fmt.Errorf("prove control of %s: %w", authorization.Identifier, err)
		}
	}
	return nil
}

func (c *Client) prove(ctx context.Context, authorization *Authorization, solver Solver) error {
	if authorization.Status != pki.StatusPending {
		return authorization.failure()
	}
	if solver == nil {
		return errors.New("CA wants a proof, and there is no solver")
	}
	challenge, err := authorization.challenge(solver.Type())
	if err != nil {
		return err
	}
	task := Task{
		Identifier:       authorization.Identifier,
		Wildcard:         authorization.Wildcard,
		Token:            challenge.Token,
		KeyAuthorization: challenge.Token + "." + c.Thumbprint(),
	}
	if err := solver.Present(ctx, task); err != nil {
		return err
	}
	err = c.validate(ctx, authorization.URL, challenge.URL)
	// The proof is taken away also when the caller has given up.
	if cleanErr := solver.CleanUp(context.WithoutCancel(ctx), task); err == nil && cleanErr != nil {
		return fmt.Errorf("take the proof away: %w", cleanErr)
	}
	return err
}

func (a *Authorization) challenge(kind string) (*Challenge, error) {
	for i := range a.Challenges {
		if a.Challenges[i].Type == kind {
			return &a.Challenges[i], nil
		}
	}
	return nil, fmt.Errorf("CA offers no %s challenge", kind)
}

// validate starts the validation and waits for its end.
func (c *Client) validate(ctx context.Context, authorizationURL, challengeURL string) error {
	if _, err := c.Accept(ctx, challengeURL); err != nil {
		return err
	}
	for {
		authorization, err := c.Authorization(ctx, authorizationURL)
		if err != nil {
			return err
		}
		switch authorization.Status {
		case pki.StatusValid:
			return nil
		case pki.StatusPending:
		default:
			return authorization.failure()
		}
		wait := c.config.Poll
		if authorization.retryAfter > 0 {
			wait = authorization.retryAfter
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// failure is the error of an authorization that will not become valid: that of its challenge, when there is one.
func (a *Authorization) failure() error {
	for _, challenge := range a.Challenges {
		if challenge.Error != nil {
			return fmt.Errorf("authorization is %s: %w", a.Status, challenge.Error)
		}
	}
	return fmt.Errorf("authorization is %s", a.Status)
}

// Authorization reads an authorization.
func (c *Client) Authorization(ctx context.Context, url string) (*Authorization, error) {
	return c.authorization(ctx, url, nil)
}

// DeactivateAuthorization gives an authorization up (section 7.5.2).
func (c *Client) DeactivateAuthorization(ctx context.Context, url string) (*Authorization, error) {
	return c.authorization(ctx, url, []byte(`{"status":"deactivated"}`))
}

func (c *Client) authorization(ctx context.Context, url string, payload []byte) (*Authorization, error) {
	id, err := c.registered()
	if err != nil {
		return nil, err
	}
	got, err := c.post(ctx, call{url: url, payload: payload, signer: id, safe: true})
	if err != nil {
		return nil, fmt.Errorf("read ACME authorization: %w", err)
	}
	authorization := &Authorization{URL: url, retryAfter: got.retryAfter()}
	if err := json.Unmarshal(got.body, authorization); err != nil {
		return nil, fmt.Errorf("read ACME authorization: %w", err)
	}
	return authorization, nil
}

// Accept tells the CA that the proof of a challenge can be seen (section 7.5.1).
func (c *Client) Accept(ctx context.Context, challengeURL string) (*Challenge, error) {
	id, err := c.registered()
	if err != nil {
		return nil, err
	}
	got, err := c.post(ctx, call{url: challengeURL, payload: []byte("{}"), signer: id, safe: true})
	if err != nil {
		return nil, fmt.Errorf("accept ACME challenge: %w", err)
	}
	var challenge Challenge
	if err := json.Unmarshal(got.body, &challenge); err != nil {
		return nil, fmt.Errorf("read ACME challenge: %w", err)
	}
	return &challenge, nil
}
