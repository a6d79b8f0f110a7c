package acmeclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Order is an ACME order (RFC 8555 section 7.1.3).
type Order struct {
	URL            string           `json:"-"`
	Status         pki.ACMEStatus   `json:"status"`
	Expires        time.Time        `json:"expires"`
	Identifiers    []pki.Identifier `json:"identifiers"`
	Authorizations []string         `json:"authorizations"`
	Finalize       string           `json:"finalize"`
	Certificate    string           `json:"certificate"`
	NotBefore      time.Time        `json:"notBefore"`
	NotAfter       time.Time        `json:"notAfter"`
	Profile        string           `json:"profile"`
	Replaces       string           `json:"replaces"`
	Error          *Problem         `json:"error"`

	retryAfter time.Duration
}

// OrderRequest is a newOrder request (section 7.4).
type OrderRequest struct {
	// Identifiers may be empty for a certificate whose only name is a SPIFFE ID in the CSR. They are then sent as null, as
	// cert-manager sends them.
	Identifiers []pki.Identifier
	NotBefore   time.Time // zero: not sent
	NotAfter    time.Time // zero: not sent
	Profile     string    // "": not sent
	Replaces    string    // ARI certificate identifier of the predecessor, "": not sent
}

// NewOrder makes an order.
func (c *Client) NewOrder(ctx context.Context, r OrderRequest) (*Order, error) {
	directory, id, err := c.ready(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := r.payload()
	if err != nil {
		return nil, err
	}
	got, err := c.post(ctx, call{url: directory.NewOrder, payload: raw, signer: id, safe: true})
	if err != nil {
		return nil, fmt.Errorf("make ACME order: %w", err)
	}
	order, err := readOrder(got, "")
	if err == nil && order.URL == "" {
		return nil, errors.New("CA answers newOrder without the order's URL")
	}
	return order, err
}

func (r *OrderRequest) payload() ([]byte, error) {
	if len(r.Identifiers) == 0 && r.NotBefore.IsZero() && r.NotAfter.IsZero() && r.Profile == "" && r.Replaces == "" {
		return []byte(`{"identifiers":null}`), nil
	}
	type wire struct {
		Identifiers []pki.Identifier `json:"identifiers"`
		NotBefore   time.Time        `json:"notBefore,omitzero"`
		NotAfter    time.Time        `json:"notAfter,omitzero"`
		Profile     string           `json:"profile,omitempty"`
		Replaces    string           `json:"replaces,omitempty"`
	}
	return json.Marshal(wire(*r))
}

// Order reads an order.
func (c *Client) Order(ctx context.Context, url string) (*Order, error) {
	got, err := c.read(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("read ACME order: %w", err)
	}
	return readOrder(got, url)
}

// Finalize asks for the certificate of an order that is ready, with a CSR in DER, and waits until the order is valid. An
// order that the CA has begun to finalize already, because an earlier answer was lost, is waited for as well: a second order
// for the same CSR would be a second certificate.
func (c *Client) Finalize(ctx context.Context, order *Order, csr []byte) (*Order, error) {
	id, err := c.registered()
	if err != nil {
		return nil, err
	}
	payload := []byte(`{"csr":"` + encode(csr) + `"}`)
	got, err := c.post(ctx, call{url: order.Finalize, payload: payload, signer: id, safe: true})
	if IsProblem(err, "orderNotReady") {
		return c.begun(ctx, order.URL, err)
	}
	if err != nil {
		return nil, fmt.Errorf("finalize ACME order: %w", err)
	}
	current, err := readOrder(got, order.URL)
	if err != nil {
		return nil, err
	}
	return c.finished(ctx, order.URL, current)
}

// begun waits for an order whose finalize was refused because an earlier one had arrived.
func (c *Client) begun(ctx context.Context, url string, refusal error) (*Order, error) {
	order, err := c.Order(ctx, url)
	if err != nil || order.Status != pki.StatusProcessing && order.Status != pki.StatusValid {
		return nil, fmt.Errorf("finalize ACME order: %w", refusal)
	}
	return c.finished(ctx, url, order)
}

// finished waits until an order is valid.
func (c *Client) finished(ctx context.Context, url string, order *Order) (*Order, error) {
	for {
		switch order.Status {
		case pki.StatusValid:
			return order, nil
		case pki.StatusProcessing:
		default:
			return nil, order.failure()
		}
		if err := sleep(ctx, order.wait(c.config.Poll)); err != nil {
			return nil, err
		}
		var err error
		if order, err = c.Order(ctx, url); err != nil {
			return nil, err
		}
	}
}

func (o *Order) wait(poll time.Duration) time.Duration {
	if o.retryAfter > 0 {
		return o.retryAfter
	}
	return poll
}

// failure is the error of an order that will not get a certificate.
func (o *Order) failure() error {
	if o.Error != nil {
		return fmt.Errorf("ACME order is %s: %w", o.Status, o.Error)
	}
	return fmt.Errorf("ACME order is %s", o.Status)
}

// Issued is a certificate with the order that it came from.
type Issued struct {
	Order *Order
	Chain []byte // PEM, the certificate first
}

// Obtain does all of it: order, authorizations, finalize, download. The solver may be nil when names are
// pre-authorized.
func (c *Client) Obtain(ctx context.Context, r OrderRequest, csr []byte, solver Solver) (*Issued, error) {
	order, err := c.NewOrder(ctx, r)
	if err != nil {
		return nil, err
	}
	if order.Status == pki.StatusPending {
		if err := c.Authorize(ctx, order, solver); err != nil {
			return nil, err
		}
	}
	order, err = c.Finalize(ctx, order, csr)
	if err != nil {
		return nil, err
	}
	chain, err := c.Certificate(ctx, order.Certificate)
	if err != nil {
		return nil, err
	}
	return &Issued{Order: order, Chain: chain}, nil
}

// ready returns what a request of an account needs.
func (c *Client) ready(ctx context.Context) (*Directory, *identity, error) {
	id, err := c.registered()
	if err != nil {
		return nil, nil, err
	}
	directory, err := c.Directory(ctx)
	return directory, id, err
}

// read is a POST-as-GET (section 6.3).
func (c *Client) read(ctx context.Context, url string) (*answer, error) {
	id, err := c.registered()
	if err != nil {
		return nil, err
	}
	return c.post(ctx, call{url: url, signer: id, safe: true})
}

// readOrder reads an order; its URL is that of the answer, or else the one that is known.
func readOrder(got *answer, url string) (*Order, error) {
	order := &Order{URL: url, retryAfter: got.retryAfter()}
	if err := json.Unmarshal(got.body, order); err != nil {
		return nil, fmt.Errorf("read ACME order: %w", err)
	}
	if location := got.header.Get("Location"); location != "" {
		order.URL = location
	}
	return order, nil
}
