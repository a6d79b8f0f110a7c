package pki

import "time"

type (
	// AlertID identifies an alert: one rule about one subject, from its beginning to its end.
	AlertID string
	// DeliveryID identifies a message to a channel. Receivers get it with each attempt, to tell a repetition.
	DeliveryID string
)

// AlertKind is what a rule looks at. The set is closed: docs/reference/alerts.md lists it.
type AlertKind string

// Kinds of rule.
const (
	AlertIdentityHealth   AlertKind = "identity-health"   // an identity lapses: its workload has stopped renewing
	AlertCAExpiry         AlertKind = "ca-expiry"         // a CA's certificate ends soon
	AlertCredentialExpiry AlertKind = "credential-expiry" // an EAB credential ends soon
	AlertCredentialUnused AlertKind = "credential-unused" // an EAB credential has not been used for long
	AlertIssuanceFailures AlertKind = "issuance-failures" // requests for certificates are refused, many
)

// AlertKinds returns all of them.
func AlertKinds() []AlertKind {
	return []AlertKind{AlertIdentityHealth, AlertCAExpiry, AlertCredentialExpiry, AlertCredentialUnused, AlertIssuanceFailures}
}

// Severity says how bad an alert is.
type Severity string

// Severities, as PagerDuty and Alertmanager know them.
const (
	SeverityInfo     Severity = "info"
	SeverityWarning  Severity = "warning"
	SeverityCritical Severity = "critical"
)

// Severities returns all of them, the mildest first.
func Severities() []Severity { return []Severity{SeverityInfo, SeverityWarning, SeverityCritical} }

// AlertRule says what people are told of, and how.
type AlertRule struct {
	Name      string // unique; lower-case letters, digits and hyphens
	Kind      AlertKind
	Enabled   bool
	Severity  Severity
	Settings  AlertSettings
	CheckedAt time.Time // up to when it was evaluated; zero: not yet
	Turn      int64     // grows with each change of its alerts, so that of two replicas at work one gives way
	CreatedAt time.Time
	UpdatedAt time.Time
}

// AlertSettings are the rest of a rule. Members that a kind has no use for are zero.
type AlertSettings struct {
	Profile   string      `json:"profile,omitempty"`   // name; "": all
	Namespace string      `json:"namespace,omitempty"` // pattern with "*"; "": all
	Cluster   string      `json:"cluster,omitempty"`   // name; "": all
	Channels  []string    `json:"channels,omitempty"`  // empty: all
	Quiet     *QuietHours `json:"quiet,omitempty"`
	GroupBy   GroupBy     `json:"groupBy"`
	// Repeat is after how many seconds an alert that goes on is told again; 0: never.
	Repeat   int64 `json:"repeat,omitempty"`
	Resolved bool  `json:"resolved"` // its end is told, too
	// Status is the identity's that begins an alert: lapsing or lapsed.
	Status IdentityStatus `json:"status,omitempty"`
	Within int64          `json:"within,omitempty"` // seconds before an end, or seconds to look back
	Count  int64          `json:"count,omitempty"`  // of failures, from which on
}

// GroupBy says which alerts of a rule share a message.
type GroupBy string

// Groupings.
const (
	GroupByRule      GroupBy = "rule" // all that begin, or end, at once
	GroupByNamespace GroupBy = "namespace"
	GroupByAlert     GroupBy = "alert" // each has its own
)

// QuietHours is when nothing is told; what begins then and goes on is told afterwards. To may be before From: the next
// morning.
type QuietHours struct {
	TimeZone string   `json:"timeZone"` // of the IANA database, such as Europe/Berlin
	From     string   `json:"from"`     // 22:00
	To       string   `json:"to"`       // 06:00
	Days     []string `json:"days,omitempty"`
}

// Alert is one rule about one subject, from its beginning to its end.
type Alert struct {
	ID         AlertID
	Rule       string
	Kind       AlertKind
	Subject    string // what it is about: the name of an identity, a CA, ...
	Severity   Severity
	Summary    string // one sentence
	Labels     map[string]string
	FiredAt    time.Time
	ResolvedAt time.Time // zero: it goes on
	ToldAt     time.Time // when a message last said that it goes on; zero: not yet
	EndToldAt  time.Time // when a message said that it has ended
}

// AlertFilter selects alerts, the newest first.
type AlertFilter struct {
	Rule     string
	Subject  string
	Open     bool // only those that go on
	Resolved bool // only those that have ended
	Before   AlertID
	Limit    int
}

// AlertChange is what an evaluation has found.
type AlertChange struct {
	Rule      string
	Turn      int64 // the rule's, as it was read
	CheckedAt time.Time
	Fired     []Alert
	Resolved  []AlertID
}

// AlertNews is what is told of a rule's alerts: the alerts, and the messages.
type AlertNews struct {
	Rule       string
	Turn       int64
	At         time.Time
	Told       []AlertID // that they go on
	EndTold    []AlertID // that they have ended
	Deliveries []Delivery
}

// ChannelKind is where messages go.
type ChannelKind string

// Kinds of channel.
const (
	ChannelEmail        ChannelKind = "email"
	ChannelWebhook      ChannelKind = "webhook" // CloudEvents, signed
	ChannelSlack        ChannelKind = "slack"   // and what takes the same
	ChannelTeams        ChannelKind = "teams"
	ChannelPagerDuty    ChannelKind = "pagerduty"
	ChannelAlertmanager ChannelKind = "alertmanager"
)

// ChannelKinds returns all of them.
func ChannelKinds() []ChannelKind {
	return []ChannelKind{ChannelEmail, ChannelWebhook, ChannelSlack, ChannelTeams, ChannelPagerDuty, ChannelAlertmanager}
}

// Channel is where messages go.
type Channel struct {
	Name      string // unique; lower-case letters, digits and hyphens
	Kind      ChannelKind
	Enabled   bool
	Settings  ChannelSettings
	Sealed    []byte // its secret, opened by the vault: a password, a signing key, an address that is one; empty: none
	CreatedAt time.Time
	UpdatedAt time.Time
}

// ChannelSettings are the rest of a channel. Members that a kind has no use for are zero.
type ChannelSettings struct {
	URL string `json:"url,omitempty"`
	// AllowPrivate lets the channel reach loopback and private addresses. Link-local ones, where clouds keep secrets, stay
	// closed.
	AllowPrivate bool   `json:"allowPrivate,omitempty"`
	CA           string `json:"ca,omitempty"` // roots in PEM; "": the system's
	// Of e-mail.
	Host string   `json:"host,omitempty"`
	Port int      `json:"port,omitempty"`
	TLS  MailTLS  `json:"tls,omitempty"`
	User string   `json:"user,omitempty"`
	From string   `json:"from,omitempty"`
	To   []string `json:"to,omitempty"`
}

// MailTLS says how a connection to a mail server is protected.
type MailTLS string

// Ways.
const (
	MailStartTLS MailTLS = "starttls" // demanded, not just tried
	MailImplicit MailTLS = "tls"      // from the first byte
	MailPlain    MailTLS = "none"     // to loopback only
)

// MessageState is what a message says of its alerts.
type MessageState string

// States of messages.
const (
	MessageFiring   MessageState = "firing"
	MessageResolved MessageState = "resolved"
	MessageTest     MessageState = "test"
)

// Message is what a channel is told. It is kept with its delivery.
type Message struct {
	ID       DeliveryID     `json:"id"`
	State    MessageState   `json:"state"`
	Rule     string         `json:"rule"`
	Kind     AlertKind      `json:"kind"`
	Severity Severity       `json:"severity"`
	Group    string         `json:"group,omitempty"` // the namespace, or the alert, by which it was grouped
	Time     time.Time      `json:"time"`
	Title    string         `json:"title"` // one line
	Total    int            `json:"total"` // of alerts; Alerts may hold fewer
	Alerts   []MessageAlert `json:"alerts"`
	URL      string         `json:"url"` // of the console's page
}

// MessageAlert is one alert of a message.
type MessageAlert struct {
	ID         AlertID           `json:"id"`
	Subject    string            `json:"subject"`
	Summary    string            `json:"summary"`
	Labels     map[string]string `json:"labels,omitempty"`
	FiredAt    time.Time         `json:"firedAt"`
	ResolvedAt time.Time         `json:"resolvedAt,omitzero"`
}

// DeliveryState is how far a delivery is.
type DeliveryState string

// States of deliveries.
const (
	DeliveryPending   DeliveryState = "pending"
	DeliveryRetrying  DeliveryState = "retrying" // an attempt has failed; there will be another
	DeliveryDelivered DeliveryState = "delivered"
	DeliveryFailed    DeliveryState = "failed" // for good, unless somebody has it tried again
)

// Delivery is one message to one channel.
type Delivery struct {
	ID        DeliveryID
	Channel   string
	Rule      string // "" of a test
	State     DeliveryState
	Attempts  int
	NextAt    time.Time // when it is tried again
	Error     string    // of the last attempt; without secrets
	Message   Message
	CreatedAt time.Time
	DoneAt    time.Time // delivered, or given up
}

// DeliveryFilter selects deliveries, the newest first.
type DeliveryFilter struct {
	Channel string
	Rule    string
	State   DeliveryState
	Before  DeliveryID
	Limit   int
}
