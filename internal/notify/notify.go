// Package notify brings messages to channels: e-mail, webhooks, Slack, Microsoft Teams, PagerDuty, Alertmanager.
//
// It trusts neither what a message holds, which comes from certificates, nor who receives it: texts are data in whatever
// format they go into, connections are made to allowed addresses only, redirects are not followed, answers are read to a
// bound, and everything has a deadline. It never puts a secret into an error.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/pki"
)

// Store keeps deliveries. Whoever claims one has it alone until the lease ends.
type Store interface {
	ClaimDeliveries(ctx context.Context, now, lease time.Time, limit int) ([]pki.Delivery, error)
	FinishDelivery(ctx context.Context, d *pki.Delivery) error
	Channel(ctx context.Context, name string) (*pki.Channel, error)
}

// Vault opens the secrets of channels.
type Vault interface {
	Unseal(purpose, id string, sealed []byte) ([]byte, error)
}

// SecretPurpose is what secrets of channels are sealed for; the ID is the channel's name.
const SecretPurpose = "channel"

// Config is what a Notifier needs.
type Config struct {
	Store      Store            // required
	Vault      Vault            // required
	Now        func() time.Time // required
	Jitter     func() float64   // 0 to 1, spreads attempts; nil: always 0
	BaseURL    string           // of this server: the source of events
	Allowed    []netip.Prefix   // networks that every channel may reach, besides public addresses
	Timeout    time.Duration    // of one attempt; 0: 15 seconds
	Logger     *slog.Logger     // nil: nothing is logged
	Registerer prometheus.Registerer
	// PagerDuty is where its events go; "": https://events.pagerduty.com/v2/enqueue.
	PagerDuty string
}

// Notifier delivers messages. It is safe for concurrent use.
type Notifier struct {
	Config
	metrics *metrics
}

const (
	defaultTimeout   = 15 * time.Second
	defaultPagerDuty = "https://events.pagerduty.com/v2/enqueue"
)

// New checks the configuration.
func New(c Config) (*Notifier, error) {
	if c.Store == nil || c.Vault == nil || c.Now == nil {
		return nil, errors.New("notify: Store, Vault and Now are required")
	}
	if c.Jitter == nil {
		c.Jitter = func() float64 { return 0 }
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PagerDuty == "" {
		c.PagerDuty = defaultPagerDuty
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	return &Notifier{c, m}, nil
}

// failure is an attempt that did not succeed.
type failure struct {
	text  string        // for the activity log: no secret, nothing that the receiver has said
	final bool          // trying again would not help
	wait  time.Duration // the receiver asked to wait so long
	cause error
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.text
	}
	return f.text + ": " + f.cause.Error()
}

func (f *failure) Unwrap() error { return f.cause }

func failed(final bool, format string, args ...any) *failure {
	return &failure{text: fmt.Sprintf(format, args...), final: final}
}

// target is a channel with its secret.
type target struct {
	*pki.Channel
	secret string
}

// open reads a channel's secret.
func (n *Notifier) open(c *pki.Channel) (*target, error) {
	t := &target{Channel: c}
	if len(c.Sealed) == 0 {
		return t, nil
	}
	secret, err := n.Vault.Unseal(SecretPurpose, c.Name, c.Sealed)
	if err != nil {
		return nil, fmt.Errorf("channel %s: %w", c.Name, err)
	}
	t.secret = string(secret)
	return t, nil
}

// Send makes one attempt to bring a message to a channel, also to one that is switched off: a test is one.
func (n *Notifier) Send(ctx context.Context, c *pki.Channel, m *pki.Message) error {
	t, err := n.open(c)
	if err != nil {
		return &failure{text: "the channel's secret does not open", final: true, cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, n.Timeout)
	defer cancel()
	if c.Kind == pki.ChannelEmail {
		return n.mail(ctx, t, m)
	}
	body, err := n.render(t, m)
	if err != nil {
		return err
	}
	return n.post(ctx, t, body)
}

// Preview is what would be sent.
type Preview struct {
	ContentType string
	Subject     string // of an e-mail
	Body        string
	HTML        string // of an e-mail
}

// Preview renders a message as the channel would get it, without secrets.
func (n *Notifier) Preview(c *pki.Channel, m *pki.Message) (*Preview, error) {
	if c.Kind == pki.ChannelEmail {
		text, html, err := mailBodies(m)
		if err != nil {
			return nil, err
		}
		return &Preview{ContentType: "multipart/alternative", Subject: oneLine(m.Title), Body: text, HTML: html}, nil
	}
	body, err := n.render(&target{Channel: c}, m)
	if err != nil {
		return nil, err
	}
	return &Preview{ContentType: body.contentType, Body: string(body.content)}, nil
}
