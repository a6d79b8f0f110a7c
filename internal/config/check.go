package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Bounds of settings.
const (
	minOrderLifetime = 5 * time.Minute
	maxOrderLifetime = 30 * 24 * time.Hour
	minCRLLifetime   = 10 * time.Minute
	maxCRLLifetime   = 30 * 24 * time.Hour
	minOCSPLifetime  = time.Minute
	maxReject        = 90
	minLapsing       = 55
	maxLapsing       = 95
	minSession       = 5 * time.Minute
	maxSession       = 30 * 24 * time.Hour
	minIdle          = time.Minute
	minRetention     = 24 * time.Hour
	maxRetention     = 100 * 365 * 24 * time.Hour
)

// findings collects what is wrong.
type findings []error

func (f *findings) add(setting, format string, args ...any) {
	*f = append(*f, fmt.Errorf(setting+": "+format, args...))
}

// Check reports everything that is wrong with the settings themselves, joined by errors.Join.
func (c *Config) Check() error {
	var f findings
	if c.PublicURL == "" {
		f.add("publicUrl", "is missing; give the address that clients use, such as https://ca.example.com")
	} else {
		f.baseURL("publicUrl", c.PublicURL)
	}
	switch {
	case c.AgentURL != "" && c.Listen.Agent == "":
		f.add("agentUrl", "%q is given, but listen.agent is empty, so that agents are not served", c.AgentURL)
	case c.AgentURL != "":
		f.baseURL("agentUrl", c.AgentURL)
	}
	if c.DataDir == "" {
		f.add("dataDir", "is empty; give a folder")
	}
	f.database(c.Database)
	f.secrets(c.Keys)
	f.listen(c.Listen)
	f.tls(c)
	f.acme(c.ACME)
	f.between("revocation.crlLifetime", c.Revocation.CRLLifetime, minCRLLifetime, maxCRLLifetime)
	f.between("revocation.ocspLifetime", c.Revocation.OCSPLifetime, minOCSPLifetime, maxCRLLifetime)
	f.oneOf("revocation.ocspSigner", c.Revocation.OCSPSigner, OCSPDelegated, OCSPByCA)
	if share := c.Lifecycle.LapsingShare; share < minLapsing || share > maxLapsing {
		f.add("lifecycle.lapsingShare", "%d is not within %d and %d percent", share, minLapsing, maxLapsing)
	}
	f.retention(c)
	f.alerts(c.Alerts)
	f.oneOf("signIn.secondFactor", c.SignIn.SecondFactor, FactorOptional, FactorRequired)
	f.between("signIn.sessionLifetime", c.SignIn.SessionLifetime, minSession, maxSession)
	f.between("signIn.sessionIdle", c.SignIn.SessionIdle, minIdle, max(minIdle, time.Duration(c.SignIn.SessionLifetime)))
	f.oidc(c.SignIn.OIDC)
	f.oneOf("log.format", c.Log.Format, "text", "json")
	f.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	return errors.Join(f...)
}

// retention checks that nothing is deleted that is still needed.
func (f *findings) retention(c *Config) {
	f.between("retention.certificates", c.Retention.Certificates, minRetention, maxRetention)
	f.between("retention.identities", c.Retention.Identities, minRetention, maxRetention)
	for setting, least := range map[string]Duration{
		"acme.orderLifetime": c.ACME.OrderLifetime, "revocation.crlLifetime": c.Revocation.CRLLifetime,
	} {
		if c.Retention.Certificates < least {
			f.add("retention.certificates", "%s is shorter than %s, which is %s", c.Retention.Certificates, setting, least)
		}
	}
	if c.Retention.Identities < c.Retention.Certificates {
		f.add("retention.identities", "%s is shorter than retention.certificates, which is %s", c.Retention.Identities, c.Retention.Certificates)
	}
}

// alerts checks the settings of alerts.
func (f *findings) alerts(a Alerts) {
	f.between("alerts.interval", a.Interval, time.Second, 24*time.Hour)
	for _, network := range a.AllowedNetworks {
		if p, err := netip.ParsePrefix(network); err != nil || p != p.Masked() {
			f.add("alerts.allowedNetworks", "%q is not an address range such as 10.20.0.0/16, with zeros behind its length", network)
		}
	}
}

// baseURL checks an address that clients are told: https, a host, and perhaps a port.
func (f *findings) baseURL(setting, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		f.add(setting, "%q is not a URL", s)
	case u.Scheme != "https":
		f.add(setting, "%q does not begin with https://", s)
	case u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/"):
		f.add(setting, "%q has more or less than a host and perhaps a port", s)
	default:
		f.host(setting, u.Hostname())
	}
}

// host checks a host that certificates will carry.
func (f *findings) host(setting, host string) {
	if _, err := netip.ParseAddr(host); err == nil {
		return
	}
	if err := pki.CheckDNSName(host); err != nil {
		f.add(setting, "%v", err)
	}
}

func (f *findings) database(d Database) {
	f.oneOf("database.driver", d.Driver, SQLite, Postgres)
	switch {
	case d.Driver == Postgres && d.DSNFile == "":
		f.add("database.dsnFile", "is missing; driver postgres needs a file with its connection string")
	case d.Driver == SQLite && d.DSNFile != "":
		f.add("database.dsnFile", "%q is given, but driver sqlite has no connection string", d.DSNFile)
	}
}

func (f *findings) secrets(k Keys) {
	switch {
	case k.PassphraseFile == "" && k.KeyFile == "":
		f.add("keys", "neither passphraseFile nor keyFile is given; one of them opens the CA keys."+
			" A new key file: (umask 077; openssl rand -base64 32 > certloom.key)")
	case k.PassphraseFile != "" && k.KeyFile != "":
		f.add("keys", "both passphraseFile and keyFile are given; give one of them")
	}
}

func (f *findings) listen(l Listen) {
	f.address("listen.https", l.HTTPS)
	f.address("listen.health", l.Health)
	addresses := []string{l.HTTPS, l.Health}
	for _, optional := range []struct{ setting, address string }{{"listen.agent", l.Agent}, {"listen.http", l.HTTP}} {
		if optional.address != "" {
			f.address(optional.setting, optional.address)
			addresses = append(addresses, optional.address)
		}
	}
	slices.Sort(addresses)
	for i := 1; i < len(addresses); i++ {
		if addresses[i] == addresses[i-1] && !strings.HasSuffix(addresses[i], ":0") {
			f.add("listen", "address %q is given twice", addresses[i])
		}
	}
}

func (f *findings) address(setting, s string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		f.add(setting, "%q is not HOST:PORT or :PORT", s)
		return
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		f.add(setting, "%q has port %q, which is not a number from 0 to 65535", s, port)
	}
	if host != "" {
		f.host(setting, host)
	}
}

func (f *findings) tls(c *Config) {
	t := c.TLS
	files := t.CertificateFile != "" || t.KeyFile != ""
	switch {
	case files && (t.CertificateFile == "" || t.KeyFile == ""):
		f.add("tls", "certificateFile and keyFile belong together; one of them is missing")
	case files && t.Profile != "":
		f.add("tls", "both certificateFile and profile are given; give one of them")
	case !files && t.Profile == "":
		f.add("tls", "neither certificateFile and keyFile nor profile is given; the server needs a certificate")
	case !files:
		if err := pki.CheckName(t.Profile); err != nil {
			f.add("tls.profile", "%v", err)
		}
	}
	if files && len(t.Names) > 0 {
		f.add("tls.names", "are given, but the certificate comes from a file")
	}
	for i, name := range t.Names {
		f.host(fmt.Sprintf("tls.names[%d]", i), name)
	}
}

func (f *findings) acme(a ACME) {
	f.webURL("acme.termsOfService", a.TermsOfService)
	f.webURL("acme.website", a.Website)
	for i, name := range a.CAAIdentities {
		if err := pki.CheckDNSName(name); err != nil {
			f.add(fmt.Sprintf("acme.caaIdentities[%d]", i), "%v", err)
		}
	}
	if a.NonceRejectPercent < 0 || a.NonceRejectPercent > maxReject {
		f.add("acme.nonceRejectPercent", "%d is not within 0 and %d", a.NonceRejectPercent, maxReject)
	}
	f.between("acme.orderLifetime", a.OrderLifetime, minOrderLifetime, maxOrderLifetime)
	if a.OrdersPerMinute < 0 {
		f.add("acme.ordersPerMinute", "%d is negative", a.OrdersPerMinute)
	}
	if a.DNSResolver != "" {
		f.address("acme.dnsResolver", a.DNSResolver)
	}
	f.port("acme.http01Port", a.HTTP01Port)
	f.port("acme.tlsAlpn01Port", a.TLSALPN01Port)
}

func (f *findings) port(setting string, port int) {
	if port < 1 || port > 65535 {
		f.add(setting, "%d is not a port from 1 to 65535", port)
	}
}

func (f *findings) webURL(setting, s string) {
	if s == "" {
		return
	}
	if u, err := url.Parse(s); err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		f.add(setting, "%q is not an http or https URL", s)
	}
}

func (f *findings) between(setting string, d Duration, least, most time.Duration) {
	if time.Duration(d) < least || time.Duration(d) > most {
		f.add(setting, "%s is not within %s and %s", d, Duration(least), Duration(most))
	}
}

func (f *findings) oneOf(setting, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		f.add(setting, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}
