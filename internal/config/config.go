package config

import (
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Config is the settings file of `certloom server`. Paths that are not absolute are relative to the folder of the file.
type Config struct {
	// PublicURL is the address under which clients reach this server: https, a host, perhaps a port, no path. All URLs
	// that ACME clients see and all addresses in certificates are made of it, never of what a request says.
	PublicURL string `yaml:"publicUrl"`
	// AgentURL is the address that agents use, such as `https://ca.example.com:8444`. Empty: the host of publicUrl with
	// the port of listen.agent.
	AgentURL string `yaml:"agentUrl"`
	// DataDir holds the SQLite database and files that the server writes. It is created with mode 0700.
	DataDir string `yaml:"dataDir"`
	// Database chooses where everything is stored.
	Database Database `yaml:"database"`
	// Keys says what opens the CA keys and other secrets in the database.
	Keys Keys `yaml:"keys"`
	// Listen has the addresses to listen on.
	Listen Listen `yaml:"listen"`
	// TLS is the server's own certificate.
	TLS TLS `yaml:"tls"`
	// ACME has the settings of the ACME server.
	ACME ACME `yaml:"acme"`
	// Revocation has the settings of CRLs and OCSP.
	Revocation Revocation `yaml:"revocation"`
	// Lifecycle says when something is wrong with an identity.
	Lifecycle Lifecycle `yaml:"lifecycle"`
	// Retention says how long records of what has expired are kept.
	Retention Retention `yaml:"retention"`
	// Alerts has the settings of alerts. Rules and channels are made in the console, by the API or the CLI.
	Alerts Alerts `yaml:"alerts"`
	// SignIn says how people get into the console.
	SignIn SignIn `yaml:"signIn"`
	// Log has the settings of the log, which goes to standard error.
	Log Log `yaml:"log"`
	// Debug has switches for developers.
	Debug Debug `yaml:"debug"`
}

// Database chooses where everything is stored.
type Database struct {
	// Driver is sqlite (one file in dataDir, one server process) or postgres (any number of replicas).
	Driver string `yaml:"driver"`
	// DSNFile is a file with the PostgreSQL connection string, such as
	// `postgres://certloom:PASSWORD@db.example.com/certloom?sslmode=verify-full`. It must not be readable by others.
	DSNFile string `yaml:"dsnFile"`
}

// Keys says what opens the CA keys and other secrets in the database. Exactly one of the two must be given.
type Keys struct {
	// PassphraseFile is a file with a passphrase of at least 12 characters. It must not be readable by others.
	PassphraseFile string `yaml:"passphraseFile"`
	// KeyFile is a file with 32 random bytes, raw or in base64 or hexadecimal. It must not be readable by others.
	KeyFile string `yaml:"keyFile"`
}

// Listen has the addresses to listen on, HOST:PORT or :PORT.
type Listen struct {
	// HTTPS serves ACME, the REST API, the console, CA certificates, CRLs and OCSP.
	HTTPS string `yaml:"https"`
	// Agent serves certloom-agent over mutual TLS, with the same certificate as https. Empty: off.
	Agent string `yaml:"agent"`
	// HTTP serves CA certificates, CRLs and OCSP only, for clients that check revocation while they set up TLS. Empty: off.
	HTTP string `yaml:"http"`
	// Health serves /livez, /readyz and /metrics without TLS or sign-in; keep it away from clients.
	Health string `yaml:"health"`
}

// TLS is the server's own certificate: files, or a certificate of our own.
type TLS struct {
	// CertificateFile is a PEM file with the certificate and its chain, leaf first. It is read again when it changes.
	CertificateFile string `yaml:"certificateFile"`
	// KeyFile is the PEM file of the certificate's private key. It must not be readable by others.
	KeyFile string `yaml:"keyFile"`
	// Profile is the certificate profile (enrollment method rest-api) under which the server issues its own
	// certificate, for the host of publicUrl and for names, and renews it.
	Profile string `yaml:"profile"`
	// Names are further DNS names and IP addresses of a certificate of our own.
	Names []string `yaml:"names"`
}

// ACME has the settings of the ACME server.
type ACME struct {
	// TermsOfService is the URL of terms that clients must agree to. Empty: none.
	TermsOfService string `yaml:"termsOfService"`
	// Website is a URL that the directory shows to clients.
	Website string `yaml:"website"`
	// CAAIdentities are the domain names that the directory says this CA is known by.
	CAAIdentities []string `yaml:"caaIdentities"`
	// StrictFinalize answers a repeated finalize of a valid order with 403 orderNotReady, as RFC 8555 section 7.4
	// has it, instead of the order and its certificate.
	StrictFinalize bool `yaml:"strictFinalize"`
	// LenientCSRPadding accepts CSRs in base64url with padding, which some appliances send.
	LenientCSRPadding bool `yaml:"lenientCsrPadding"`
	// NonceRejectPercent refuses that many percent of good nonces, to test clients. 0 to 90.
	NonceRejectPercent int `yaml:"nonceRejectPercent"`
	// OrderLifetime is how long an order and its authorizations may be used.
	OrderLifetime Duration `yaml:"orderLifetime"`
	// OrdersPerMinute limits how many orders an account may make a minute under profiles that validate by challenge.
	// 0: no limit. Pre-authorized profiles are never limited.
	OrdersPerMinute int `yaml:"ordersPerMinute"`
	// DNSResolver is the HOST:PORT of the DNS server that validates names. Empty: those of /etc/resolv.conf.
	DNSResolver string `yaml:"dnsResolver"`
	// HTTP01Port is the port that http-01 is asked on. Anything but 80 is for tests.
	HTTP01Port int `yaml:"http01Port"`
	// TLSALPN01Port is the port that tls-alpn-01 is asked on. Anything but 443 is for tests.
	TLSALPN01Port int `yaml:"tlsAlpn01Port"`
}

// Revocation has the settings of CRLs and OCSP.
type Revocation struct {
	// CRLLifetime is the time from a CRL's thisUpdate to its nextUpdate.
	CRLLifetime Duration `yaml:"crlLifetime"`
	// OCSPLifetime is the same for OCSP answers.
	OCSPLifetime Duration `yaml:"ocspLifetime"`
	// OCSPSigner says who signs OCSP answers: "delegated", a key that each replica makes and the CA certifies for a day and
	// for nothing else, or "ca", the CA's own key, which is then used for each answer.
	OCSPSigner string `yaml:"ocspSigner"`
}

// Who signs OCSP answers.
const (
	OCSPDelegated = "delegated"
	OCSPByCA      = "ca"
)

// Lifecycle says when something is wrong with an identity.
type Lifecycle struct {
	// LapsingShare is after which part of its newest certificate's life, in percent, an identity is said to lapse, since its
	// client has stopped renewing. One that was renewed later than that before has a tenth of a life longer than it had then. A
	// change counts for certificates from then on.
	LapsingShare int `yaml:"lapsingShare"`
}

// Retention says how long records of what has expired are kept. The audit log is not concerned.
type Retention struct {
	// Certificates is how long certificates are kept after they have expired, under profiles that say nothing else. Then they
	// are added up in their identity. At least as long as acme.orderLifetime and revocation.crlLifetime.
	Certificates Duration `yaml:"certificates"`
	// Identities is how long identities are kept after their last certificate has expired.
	Identities Duration `yaml:"identities"`
}

// SignIn says how people get into the console. Passwords of local users always work.
type SignIn struct {
	// SecondFactor is optional, or required: then local users must set one up (a code of an authenticator app) before they may
	// do anything else. People of an identity provider give theirs there.
	SecondFactor string `yaml:"secondFactor"`
	// SessionLifetime is how long somebody stays signed in at most, in the console or by `certloom login`.
	SessionLifetime Duration `yaml:"sessionLifetime"`
	// SessionIdle is after how much time without a request a session of the console ends.
	SessionIdle Duration `yaml:"sessionIdle"`
	// OIDC lets people in whom an OpenID Connect provider knows. Without issuer it is off.
	OIDC OIDC `yaml:"oidc"`
}

// OIDC is an OpenID Connect provider, with which this server is registered as a client of the authorization code flow.
// The address to send people back to is publicUrl with the path `/sign-in/oidc/callback`.
type OIDC struct {
	// Issuer is the provider's URL, letter by letter as its tokens have it: `https://login.example.com/realms/company`.
	// Its metadata is below `/.well-known/openid-configuration`.
	Issuer string `yaml:"issuer"`
	// DisplayName is what the button on the sign-in page calls the provider. Empty: the host of issuer.
	DisplayName string `yaml:"displayName"`
	// ClientID is the name under which the provider knows this server.
	ClientID string `yaml:"clientId"`
	// ClientSecretFile is a file with the secret that the provider gave for clientId. It must not be readable by others.
	ClientSecretFile string `yaml:"clientSecretFile"`
	// Scopes are what is asked for beside openid. Some providers tell groups only when asked for a scope of theirs.
	Scopes []string `yaml:"scopes"`
	// GroupsClaim is the claim that has a person's groups, in the ID token or at the userinfo endpoint: a list of texts.
	// One inside of another is written with a dot, such as `realm_access.roles`.
	GroupsClaim string `yaml:"groupsClaim"`
	// NameClaim is the claim that has the name under which a person is shown. It decides nothing: a person is who has the
	// same subject at the same issuer.
	NameClaim string `yaml:"nameClaim"`
	// CAFile is a PEM file with the roots below which the provider has its TLS certificate. Empty: the system's.
	CAFile string `yaml:"caFile"`
	// Roles say what the people in a group may do. The first entry with a group of theirs decides; whoever is in none of
	// the groups does not get in. A namespace viewer in several groups sees the identities of all of them.
	Roles []GroupRole `yaml:"roles"`
}

// GroupRole gives the people in a group a role.
type GroupRole struct {
	// Group is a value of groupsClaim, letter by letter. Entra ID has identifiers there.
	Group string `yaml:"group"`
	// Role is admin, operator, auditor or namespace-viewer.
	Role string `yaml:"role"`
	// Sees are the identities that a namespace viewer sees: names, or beginnings of names with `*` at the end, such as
	// `spiffe://cluster.local/ns/shop/*`.
	Sees []string `yaml:"sees"`
}

// Alerts has the settings of alerts.
type Alerts struct {
	// Interval is how often rules are evaluated, at least a second.
	Interval Duration `yaml:"interval"`
	// AllowedNetworks are address ranges that every channel may connect to, such as `10.20.0.0/16`. Public addresses are
	// always allowed; private ones otherwise for channels that say so.
	AllowedNetworks []string `yaml:"allowedNetworks"`
}

// Log has the settings of the log.
type Log struct {
	// Format is text or json.
	Format string `yaml:"format"`
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
}

// Debug has switches for developers.
type Debug struct {
	// Pprof serves Go profiles under /debug/pprof/ on the health address.
	Pprof bool `yaml:"pprof"`
}

// Default returns the settings that hold where a file says nothing.
func Default() Config {
	return Config{
		DataDir:  "/var/lib/certloom",
		Database: Database{Driver: SQLite},
		Listen:   Listen{HTTPS: ":8443", Agent: ":8444", Health: "127.0.0.1:8445"},
		ACME: ACME{
			OrderLifetime: Duration(24 * time.Hour),
			HTTP01Port:    80,
			TLSALPN01Port: 443,
		},
		Revocation: Revocation{CRLLifetime: Duration(24 * time.Hour), OCSPLifetime: Duration(time.Hour), OCSPSigner: OCSPDelegated},
		Lifecycle:  Lifecycle{LapsingShare: pki.DefaultLapsingShare},
		Retention:  Retention{Certificates: Duration(30 * 24 * time.Hour), Identities: Duration(365 * 24 * time.Hour)},
		Alerts:     Alerts{Interval: Duration(time.Minute)},
		SignIn: SignIn{SecondFactor: FactorOptional, SessionLifetime: Duration(12 * time.Hour), SessionIdle: Duration(time.Hour), OIDC: OIDC{
			Scopes: []string{"profile", "email"}, GroupsClaim: "groups", NameClaim: "preferred_username",
		}},
		Log: Log{Format: "text", Level: "info"},
	}
}

// Values of signIn.secondFactor.
const (
	FactorOptional = "optional"
	FactorRequired = "required"
)

// The database drivers.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// AgentAddress returns the URL that agents use, "" when they are not served. The settings must have passed Check.
func (c *Config) AgentAddress() string {
	if c.Listen.Agent == "" || c.AgentURL != "" {
		return strings.TrimSuffix(c.AgentURL, "/")
	}
	u, err := url.Parse(c.PublicURL)
	_, port, portErr := net.SplitHostPort(c.Listen.Agent)
	if err != nil || portErr != nil {
		return ""
	}
	return "https://" + net.JoinHostPort(u.Hostname(), port)
}
