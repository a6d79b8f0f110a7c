package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/notify"
	"github.com/certloom/certloom/internal/pki"
)

// Channels keeps where messages go, and the messages. Those that name one answer NotFound.
type Channels interface {
	Channels(ctx context.Context) ([]pki.Channel, error)
	Channel(ctx context.Context, name string) (*pki.Channel, error)
	CreateChannel(ctx context.Context, c *pki.Channel, event audit.Event) error
	UpdateChannel(ctx context.Context, c *pki.Channel, event audit.Event) error
	DeleteChannel(ctx context.Context, name string, at time.Time, event audit.Event) error
}

// Deliveries keeps messages on their way.
type Deliveries interface {
	Deliveries(ctx context.Context, filter pki.DeliveryFilter) ([]pki.Delivery, error)
	Delivery(ctx context.Context, id pki.DeliveryID) (*pki.Delivery, error)
	CreateDelivery(ctx context.Context, d *pki.Delivery, event audit.Event) error
	RetryDelivery(ctx context.Context, id pki.DeliveryID, at time.Time, event audit.Event) error
}

// Notifier brings messages to channels. Attempt makes one attempt, and stores and sets in d what became of it.
type Notifier interface {
	Attempt(ctx context.Context, d *pki.Delivery) error
	Preview(c *pki.Channel, m *pki.Message) (*notify.Preview, error)
}

func (s *Server) channelRoutes() {
	const tag = "alerts"
	register(s, operation{
		id: "list-channels", method: http.MethodGet, path: "/channels", tag: tag, access: auth.Read, asIs: true,
		summary: "List channels, without their secrets",
	}, s.listChannels)
	register(s, operation{
		id: "create-channel", method: http.MethodPost, path: "/channels", tag: tag, access: auth.Administer, asIs: true,
		status: http.StatusCreated, summary: "Create a channel; a signing key that is made is shown once",
	}, s.createChannel)
	register(s, operation{
		id: "get-channel", method: http.MethodGet, path: "/channels/{channel}", tag: tag, access: auth.Read, asIs: true,
		summary: "Show a channel, without its secret",
	}, s.getChannel)
	register(s, operation{
		id: "update-channel", method: http.MethodPut, path: "/channels/{channel}", tag: tag, access: auth.Administer, asIs: true,
		summary: "Replace the settings of a channel",
	}, s.updateChannel)
	register(s, operation{
		id: "delete-channel", method: http.MethodDelete, path: "/channels/{channel}", tag: tag, access: auth.Administer, asIs: true,
		summary: "Delete a channel; what waits for it has failed",
	}, s.deleteChannel)
	register(s, operation{
		id: "test-channel", method: http.MethodPost, path: "/channels/{channel}/test", tag: tag, access: auth.Operate, asIs: true,
		summary: "Send a test to a channel",
	}, s.testChannel)
	register(s, operation{
		id: "preview-channel", method: http.MethodGet, path: "/channels/{channel}/preview", tag: tag, access: auth.Read, asIs: true,
		summary: "Show an example of what a channel would be sent",
	}, s.previewChannel)
	register(s, operation{
		id: "list-deliveries", method: http.MethodGet, path: "/deliveries", tag: tag, access: auth.Read, asIs: true,
		summary: "List messages to channels and what became of them, the newest first",
	}, s.listDeliveries)
	register(s, operation{
		id: "retry-delivery", method: http.MethodPost, path: "/deliveries/{delivery}/retry", tag: tag, access: auth.Operate, asIs: true,
		summary: "Have a message tried again that has failed",
	}, s.retryDelivery)
}

// ChannelPath names a channel.
type ChannelPath struct {
	Channel string `path:"channel" doc:"Name of the channel." maxLength:"100"`
}

func (s *Server) listChannels(ctx context.Context, in *struct{ PageQuery }) (*output[apiv1.Page[apiv1.Channel]], error) {
	channels, err := s.config.Store.Channels(ctx)
	if err != nil {
		return nil, err
	}
	return answer(pageOf(&in.PageQuery, channels, func(c pki.Channel) string { return c.Name }, wireChannel)), nil
}

func wireChannel(c pki.Channel) apiv1.Channel {
	set := c.Settings
	return apiv1.Channel{
		Name: c.Name, Kind: string(c.Kind), Enabled: c.Enabled, HasSecret: len(c.Sealed) > 0, CreatedAt: utc(c.CreatedAt), UpdatedAt: utc(c.UpdatedAt),
		ChannelSettings: apiv1.ChannelSettings{
			URL: set.URL, AllowPrivate: set.AllowPrivate, CA: set.CA, Host: set.Host, Port: set.Port, TLS: string(set.TLS), User: set.User,
			From: set.From, To: set.To,
		},
	}
}

func channelSettings(in *apiv1.ChannelSettings) pki.ChannelSettings {
	return pki.ChannelSettings{
		URL: in.URL, AllowPrivate: in.AllowPrivate, CA: in.CA, Host: in.Host, Port: in.Port, TLS: pki.MailTLS(in.TLS), User: in.User,
		From: in.From, To: in.To,
	}
}

func (s *Server) getChannel(ctx context.Context, in *ChannelPath) (*output[apiv1.Channel], error) {
	c, err := s.config.Store.Channel(ctx, in.Channel)
	if err != nil {
		return nil, err
	}
	return answer(wireChannel(*c)), nil
}

func (s *Server) createChannel(ctx context.Context, in *struct{ body[apiv1.CreateChannel] }) (*output[apiv1.NewChannel], error) {
	var found findings
	now := s.config.Now()
	c := &pki.Channel{
		Name: in.Body.Name, Kind: pki.ChannelKind(in.Body.Kind), Enabled: in.Body.Enabled == nil || *in.Body.Enabled,
		Settings: channelSettings(&in.Body.ChannelSettings), CreatedAt: now, UpdatedAt: now,
	}
	if err := pki.CheckName(c.Name); err != nil {
		found.add("/name", "%v", err)
	}
	for _, problem := range notify.Check(c, in.Body.Secret, false) {
		found = append(found, problem)
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	secret, shown := in.Body.Secret, ""
	if c.Kind == pki.ChannelWebhook && secret == "" {
		var err error
		if secret, err = notify.NewSecret(s.config.Random); err != nil {
			return nil, err
		}
		shown = secret
	}
	if err := s.sealChannel(c, secret); err != nil {
		return nil, err
	}
	if err := s.config.Store.CreateChannel(ctx, c, s.alertEvent(ctx, audit.ChannelCreate, c.Name)); err != nil {
		return nil, err
	}
	return answer(apiv1.NewChannel{Channel: wireChannel(*c), Secret: shown}), nil
}

// sealChannel gives a channel a secret; "": it keeps the one that it has.
func (s *Server) sealChannel(c *pki.Channel, secret string) error {
	if secret == "" {
		return nil
	}
	sealed, err := s.config.Vault.Seal(notify.SecretPurpose, c.Name, []byte(secret))
	if err != nil {
		return fmt.Errorf("seal secret of channel: %w", err)
	}
	c.Sealed = sealed
	return nil
}

func (s *Server) updateChannel(ctx context.Context, in *struct {
	ChannelPath
	body[apiv1.UpdateChannel]
},
) (*output[apiv1.Channel], error) {
	c, err := s.config.Store.Channel(ctx, in.Channel)
	if err != nil {
		return nil, err
	}
	moved := in.Body.Secret == "" && len(c.Sealed) > 0 && elsewhere(&c.Settings, &in.Body.ChannelSettings)
	c.Enabled, c.Settings, c.UpdatedAt = in.Body.Enabled, channelSettings(&in.Body.ChannelSettings), s.config.Now()
	var found findings
	for _, problem := range notify.Check(c, in.Body.Secret, len(c.Sealed) > 0) {
		found = append(found, problem)
	}
	if moved && c.Kind != pki.ChannelWebhook {
		found.add("/secret", "secret is missing: it is given again when the channel's messages go elsewhere, so that nobody sends it there unawares")
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	if err := s.sealChannel(c, in.Body.Secret); err != nil {
		return nil, err
	}
	if err := s.config.Store.UpdateChannel(ctx, c, s.alertEvent(ctx, audit.ChannelUpdate, c.Name)); err != nil {
		return nil, err
	}
	return answer(wireChannel(*c)), nil
}

// elsewhere says whether a secret that is kept would be shown to another receiver.
func elsewhere(was *pki.ChannelSettings, will *apiv1.ChannelSettings) bool {
	return was.URL != will.URL || was.Host != will.Host || was.Port != will.Port
}

func (s *Server) deleteChannel(ctx context.Context, in *ChannelPath) (*struct{}, error) {
	return nil, s.config.Store.DeleteChannel(ctx, in.Channel, s.config.Now(), s.alertEvent(ctx, audit.ChannelDelete, in.Channel))
}

// testLease is how long a test is this request's; then the jobs see to it.
const testLease = time.Minute

func (s *Server) testChannel(ctx context.Context, in *ChannelPath) (*output[apiv1.Delivery], error) {
	c, err := s.config.Store.Channel(ctx, in.Channel)
	if err != nil {
		return nil, err
	}
	now := s.config.Now()
	id, err := pki.NewID[pki.DeliveryID](now, s.config.Random)
	if err != nil {
		return nil, err
	}
	d := &pki.Delivery{
		ID: id, Channel: c.Name, State: pki.DeliveryPending, NextAt: now.Add(testLease), CreatedAt: now,
		Message: notify.TestMessage(id, c.Name, s.alertsPage(), now),
	}
	if err := s.config.Store.CreateDelivery(ctx, d, s.alertEvent(ctx, audit.ChannelTest, c.Name)); err != nil {
		return nil, err
	}
	d.Attempts = 1
	if err := s.config.Notifier.Attempt(ctx, d); err != nil {
		return nil, err
	}
	return answer(wireDelivery(d)), nil
}

func (s *Server) previewChannel(ctx context.Context, in *ChannelPath) (*output[apiv1.ChannelPreview], error) {
	c, err := s.config.Store.Channel(ctx, in.Channel)
	if err != nil {
		return nil, err
	}
	m := notify.ExampleMessage(s.alertsPage(), s.config.Now())
	p, err := s.config.Notifier.Preview(c, &m)
	if err != nil {
		return nil, err
	}
	return answer(apiv1.ChannelPreview{ContentType: p.ContentType, Subject: p.Subject, Body: p.Body, HTML: p.HTML}), nil
}

func (s *Server) listDeliveries(ctx context.Context, in *struct {
	Channel string `query:"channel" doc:"Name of the channel; absent: all." maxLength:"100"`
	Rule    string `query:"rule" doc:"Name of the rule; absent: all." maxLength:"100"`
	State   string `query:"state" enum:"pending,retrying,delivered,failed" doc:"Only those; absent: all."`
	PageQuery
},
) (*output[apiv1.Page[apiv1.Delivery]], error) {
	found, err := s.config.Store.Deliveries(ctx, pki.DeliveryFilter{
		Channel: in.Channel, Rule: in.Rule, State: pki.DeliveryState(in.State), Before: pki.DeliveryID(in.After), Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	page := apiv1.Page[apiv1.Delivery]{Items: []apiv1.Delivery{}}
	for i := range found {
		page.Items = append(page.Items, wireDelivery(&found[i]))
	}
	if len(found) == in.Limit {
		page.Next = string(found[len(found)-1].ID)
	}
	return answer(page), nil
}

func wireDelivery(d *pki.Delivery) apiv1.Delivery {
	out := apiv1.Delivery{
		ID: string(d.ID), Channel: d.Channel, Rule: d.Rule, Message: string(d.Message.State), Title: d.Message.Title, Alerts: d.Message.Total,
		State: string(d.State), Attempts: d.Attempts, Error: d.Error, CreatedAt: utc(d.CreatedAt), DoneAt: utc(d.DoneAt),
	}
	if d.DoneAt.IsZero() {
		out.NextAt = utc(d.NextAt)
	}
	return out
}

func (s *Server) retryDelivery(ctx context.Context, in *struct {
	Delivery string `path:"delivery" doc:"Identifier of the delivery." maxLength:"100"`
},
) (*output[apiv1.Delivery], error) {
	id := pki.DeliveryID(in.Delivery)
	if err := s.config.Store.RetryDelivery(ctx, id, s.config.Now(), s.alertEvent(ctx, audit.DeliveryRetry, in.Delivery)); err != nil {
		return nil, err
	}
	d, err := s.config.Store.Delivery(ctx, id)
	if err != nil {
		return nil, err
	}
	return answer(wireDelivery(d)), nil
}
