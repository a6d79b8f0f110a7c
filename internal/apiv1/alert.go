package apiv1

import (
	"context"
	"net/http"
	"time"
)

// AlertRule says what people are told of, and how.
type AlertRule struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind" doc:"identity-health, ca-expiry, credential-expiry, credential-unused or issuance-failures."`
	Enabled   bool      `json:"enabled"`
	Severity  string    `json:"severity" doc:"info, warning or critical."`
	Open      int       `json:"open" doc:"How many alerts go on; 1000 are 1000 or more."`
	CheckedAt time.Time `json:"checkedAt,omitzero" doc:"When it was last evaluated."`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	AlertSettings
}

// AlertSettings are the part of a rule that is the same in what is sent and what is shown.
type AlertSettings struct {
	Profile   string      `json:"profile,omitempty" doc:"Name of the profile that the rule is about; absent: all."`
	Namespace string      `json:"namespace,omitempty" doc:"Pattern of namespaces, * for any letters; absent: all."`
	Cluster   string      `json:"cluster,omitempty" doc:"Name of the cluster; absent: all."`
	Channels  []string    `json:"channels,omitempty" nullable:"false" doc:"Names of the channels that are told; absent: all."`
	Quiet     *QuietHours `json:"quiet,omitempty" doc:"When nothing is told."`
	GroupBy   string      `json:"groupBy,omitempty" doc:"Which alerts share a message: rule (the usual), namespace or alert."`
	Repeat    string      `json:"repeat,omitempty" doc:"After how long an alert that goes on is told again, such as 24h; absent: never."`
	Resolved  bool        `json:"resolved" doc:"The end of alerts is told, too."`
	Status    string      `json:"status,omitempty" doc:"Of identity-health: lapsing (the usual) or lapsed begins an alert."`
	Within    string      `json:"within,omitempty" doc:"Of expiry: how long before. Of credential-unused: since when."`
	Count     int64       `json:"count,omitempty" doc:"Of issuance-failures: how many in an hour."`
}

// QuietHours is when nothing is told.
type QuietHours struct {
	TimeZone string   `json:"timeZone" doc:"Of the IANA database, such as Europe/Berlin."`
	From     string   `json:"from" doc:"22:00"`
	To       string   `json:"to" doc:"06:00, of the next day where it is before from."`
	Days     []string `json:"days,omitempty" nullable:"false" doc:"Days on which they begin: mon, tue, wed, thu, fri, sat, sun; absent: all."`
}

// CreateAlertRule makes a rule.
type CreateAlertRule struct {
	Name     string `json:"name" doc:"Lower-case letters, digits and hyphens."`
	Kind     string `json:"kind" doc:"As in the rule; it cannot be changed."`
	Enabled  *bool  `json:"enabled,omitempty" doc:"Absent: yes."`
	Severity string `json:"severity,omitempty" doc:"Absent: warning."`
	AlertSettings
}

// UpdateAlertRule replaces a rule's settings.
type UpdateAlertRule struct {
	Enabled  bool   `json:"enabled"`
	Severity string `json:"severity,omitempty" doc:"Absent: warning."`
	AlertSettings
}

// Alert is one rule about one subject, from its beginning to its end.
type Alert struct {
	ID         string            `json:"id"`
	Rule       string            `json:"rule"`
	Kind       string            `json:"kind"`
	State      string            `json:"state" doc:"firing or resolved."`
	Severity   string            `json:"severity"`
	Subject    string            `json:"subject" doc:"What it is about: the name of an identity, a CA, a credential, a reason."`
	Summary    string            `json:"summary"`
	Labels     map[string]string `json:"labels"`
	FiredAt    time.Time         `json:"firedAt"`
	ResolvedAt time.Time         `json:"resolvedAt,omitzero"`
	ToldAt     time.Time         `json:"toldAt,omitzero" doc:"When a message last said that it goes on."`
}

// Channel is where messages go. Its secret is never shown.
type Channel struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind" doc:"email, webhook, slack, teams, pagerduty or alertmanager."`
	Enabled   bool      `json:"enabled"`
	HasSecret bool      `json:"hasSecret"`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	ChannelSettings
}

// ChannelSettings are the part of a channel that is the same in what is sent and what is shown.
type ChannelSettings struct {
	URL          string   `json:"url,omitempty" doc:"Of webhook and alertmanager: where messages go."`
	AllowPrivate bool     `json:"allowPrivate,omitempty" doc:"Loopback and private addresses may be reached."`
	CA           string   `json:"ca,omitempty" doc:"Roots of the receiver's certificate in PEM; absent: the system's."`
	Host         string   `json:"host,omitempty" doc:"Of email: the mail server."`
	Port         int      `json:"port,omitempty" doc:"Of email."`
	TLS          string   `json:"tls,omitempty" doc:"Of email: starttls, tls, or none, which reaches loopback only."`
	User         string   `json:"user,omitempty" doc:"Of email: who signs in at the mail server; absent: nobody."`
	From         string   `json:"from,omitempty" doc:"Of email."`
	To           []string `json:"to,omitempty" nullable:"false" doc:"Of email."`
}

// CreateChannel makes a channel.
type CreateChannel struct {
	Name    string `json:"name" doc:"Lower-case letters, digits and hyphens."`
	Kind    string `json:"kind" doc:"As in the channel; it cannot be changed."`
	Enabled *bool  `json:"enabled,omitempty" doc:"Absent: yes."`
	Secret  string `json:"secret,omitempty" doc:"Of webhook: the signing key; absent: one is made, and shown once. Of slack and teams: the address. Of pagerduty: the integration key. Of email: the password. Of alertmanager: a bearer token."` //nolint:lll // one sentence for each
	ChannelSettings
}

// UpdateChannel replaces a channel's settings.
type UpdateChannel struct {
	Enabled bool   `json:"enabled"`
	Secret  string `json:"secret,omitempty" doc:"Absent: it stays as it is."`
	ChannelSettings
}

// NewChannel is a channel that was made.
type NewChannel struct {
	Channel
	Secret string `json:"secret,omitempty" doc:"Of a webhook whose signing key was made: the key, shown once."`
}

// ChannelPreview is what a channel would be sent.
type ChannelPreview struct {
	ContentType string `json:"contentType"`
	Subject     string `json:"subject,omitempty" doc:"Of an e-mail."`
	Body        string `json:"body"`
	HTML        string `json:"html,omitempty" doc:"Of an e-mail."`
}

// Delivery is one message to one channel.
type Delivery struct {
	ID        string    `json:"id" doc:"Receivers get it with each attempt, to tell a repetition."`
	Channel   string    `json:"channel"`
	Rule      string    `json:"rule,omitempty" doc:"Absent of a test."`
	Message   string    `json:"message" doc:"firing, resolved or test."`
	Title     string    `json:"title"`
	Alerts    int       `json:"alerts"`
	State     string    `json:"state" doc:"pending, retrying, delivered or failed."`
	Attempts  int       `json:"attempts"`
	Error     string    `json:"error,omitempty" doc:"Of the last attempt."`
	CreatedAt time.Time `json:"createdAt"`
	NextAt    time.Time `json:"nextAt,omitzero" doc:"When it is tried again."`
	DoneAt    time.Time `json:"doneAt,omitzero" doc:"When it was delivered or given up."`
}

// AlertQuery selects alerts.
type AlertQuery struct {
	Rule  string
	State string // firing, resolved; "": both
	After string
	Limit int
}

// DeliveryQuery selects deliveries.
type DeliveryQuery struct {
	Channel string
	Rule    string
	State   string
	After   string
	Limit   int
}

// AlertRules lists the rules.
func (c *Client) AlertRules(ctx context.Context) (*Page[AlertRule], error) {
	return whole[AlertRule](ctx, c, "/alert-rules", query{})
}

// AlertRule shows one.
func (c *Client) AlertRule(ctx context.Context, name string) (*AlertRule, error) {
	return get[AlertRule](ctx, c, at("alert-rules", name), nil)
}

// CreateAlertRule makes one.
func (c *Client) CreateAlertRule(ctx context.Context, in CreateAlertRule) (*AlertRule, error) {
	return send[AlertRule](ctx, c, http.MethodPost, "/alert-rules", in)
}

// UpdateAlertRule replaces its settings.
func (c *Client) UpdateAlertRule(ctx context.Context, name string, in UpdateAlertRule) (*AlertRule, error) {
	return send[AlertRule](ctx, c, http.MethodPut, at("alert-rules", name), in)
}

// DeleteAlertRule removes one and ends its alerts.
func (c *Client) DeleteAlertRule(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, at("alert-rules", name), nil, nil, nil)
}

// Alerts lists alerts, the newest first.
func (c *Client) Alerts(ctx context.Context, q AlertQuery) (*Page[Alert], error) {
	return get[Page[Alert]](ctx, c, "/alerts", query{}.text("rule", q.Rule).text("state", q.State).text("after", q.After).number("limit", q.Limit))
}

// Alert shows one.
func (c *Client) Alert(ctx context.Context, id string) (*Alert, error) {
	return get[Alert](ctx, c, at("alerts", id), nil)
}

// Channels lists the channels.
func (c *Client) Channels(ctx context.Context) (*Page[Channel], error) {
	return whole[Channel](ctx, c, "/channels", query{})
}

// Channel shows one.
func (c *Client) Channel(ctx context.Context, name string) (*Channel, error) {
	return get[Channel](ctx, c, at("channels", name), nil)
}

// CreateChannel makes one.
func (c *Client) CreateChannel(ctx context.Context, in CreateChannel) (*NewChannel, error) {
	return send[NewChannel](ctx, c, http.MethodPost, "/channels", in)
}

// UpdateChannel replaces its settings.
func (c *Client) UpdateChannel(ctx context.Context, name string, in UpdateChannel) (*Channel, error) {
	return send[Channel](ctx, c, http.MethodPut, at("channels", name), in)
}

// DeleteChannel removes one; what waits for it has failed.
func (c *Client) DeleteChannel(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, at("channels", name), nil, nil, nil)
}

// TestChannel sends a test, and says what became of it.
func (c *Client) TestChannel(ctx context.Context, name string) (*Delivery, error) {
	return send[Delivery](ctx, c, http.MethodPost, at("channels", name, "test"), nil)
}

// PreviewChannel shows an example of what a channel would be sent.
func (c *Client) PreviewChannel(ctx context.Context, name string) (*ChannelPreview, error) {
	return get[ChannelPreview](ctx, c, at("channels", name, "preview"), nil)
}

// Deliveries lists deliveries, the newest first.
func (c *Client) Deliveries(ctx context.Context, q DeliveryQuery) (*Page[Delivery], error) {
	return get[Page[Delivery]](ctx, c, "/deliveries",
		query{}.text("channel", q.Channel).text("rule", q.Rule).text("state", q.State).text("after", q.After).number("limit", q.Limit))
}

// RetryDelivery has one tried again that has failed.
func (c *Client) RetryDelivery(ctx context.Context, id string) (*Delivery, error) {
	return send[Delivery](ctx, c, http.MethodPost, at("deliveries", id, "retry"), nil)
}
