package notify

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/mail"
	"net/url"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Bounds of settings.
const (
	maxURL        = 2048
	maxCA         = 64 << 10
	maxSecret     = 1024
	maxRecipients = 50
	minSecret     = 16 // characters of a webhook's
	maxPort       = 65535
)

// checks gathers what is wrong.
type checks []*fault.Error

func (c *checks) add(field, format string, args ...any) {
	*c = append(*c, fault.New(fault.Malformed, format, args...).WithField(field))
}

// Check returns all that is wrong with a channel and its new secret; hasSecret: it has one already.
func Check(c *pki.Channel, secret string, hasSecret bool) []*fault.Error {
	var found checks
	if len(secret) > maxSecret || strings.ContainsFunc(secret, control) {
		found.add("/secret", "secret has more than %d bytes or control characters", maxSecret)
	}
	set := &c.Settings
	if set.CA != "" && !certificates(set.CA) {
		found.add("/ca", "CA certificates are not up to %d bytes of certificates in PEM", maxCA)
	}
	found.kind(c, secret, secret == "" && !hasSecret)
	return found
}

// control: characters that no secret has.
func control(r rune) bool { return r < ' ' || r == 0x7f }

// kind checks what the kind of a channel needs; missing: it has no secret, and gets none.
func (c *checks) kind(channel *pki.Channel, secret string, missing bool) {
	set := &channel.Settings
	switch channel.Kind {
	case pki.ChannelWebhook:
		c.url("/url", set.URL)
		if secret != "" && len(secret) < minSecret {
			c.add("/secret", "secret of a webhook has %d characters, fewer than %d", len(secret), minSecret)
		}
	case pki.ChannelAlertmanager:
		c.url("/url", set.URL)
	case pki.ChannelSlack, pki.ChannelTeams:
		if missing || secret != "" {
			c.url("/secret", secret)
		}
	case pki.ChannelPagerDuty:
		if missing {
			c.add("/secret", "secret is missing: the integration key of a service of PagerDuty")
		}
	case pki.ChannelEmail:
		c.mail(set, missing)
	default:
		c.add("/kind", "%s", unknownKind(channel.Kind).Error())
	}
}

// url checks an address. It is not repeated in the error: it may hold a secret.
func (c *checks) url(field, text string) {
	u, err := url.Parse(text)
	switch {
	case text == "":
		c.add(field, "address is missing: where the channel's messages go, https://...")
	case err != nil || len(text) > maxURL || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		c.add(field, "address is not an http or https URL of up to %d bytes with a host, without user and fragment", maxURL)
	}
}

func (c *checks) mail(set *pki.ChannelSettings, missing bool) {
	if set.Host == "" || strings.ContainsAny(set.Host, " /@\r\n\t") || len(set.Host) > 253 {
		c.add("/host", "host %.100q is not the name or address of a mail server", set.Host)
	}
	if set.Port < 1 || set.Port > maxPort {
		c.add("/port", "port %d is not between 1 and %d", set.Port, maxPort)
	}
	switch set.TLS {
	case pki.MailStartTLS, pki.MailImplicit, pki.MailPlain:
	default:
		c.add("/tls", "TLS mode %.20q is not one of starttls, tls, none", string(set.TLS))
	}
	if set.User != "" && missing {
		c.add("/secret", "secret is missing: the password of %.100q", set.User)
	}
	if !address(set.From) {
		c.add("/from", "sender %.100q is not an e-mail address", set.From)
	}
	if len(set.To) == 0 || len(set.To) > maxRecipients {
		c.add("/to", "there are %d recipients, not 1 to %d", len(set.To), maxRecipients)
	}
	for i, to := range set.To {
		if !address(to) {
			c.add(fmt.Sprintf("/to/%d", i), "recipient %.100q is not an e-mail address", to)
		}
	}
}

// address accepts what headers take, alone in its line.
func address(text string) bool {
	if strings.ContainsAny(text, "\r\n\x00") {
		return false
	}
	_, err := mail.ParseAddress(text)
	return err == nil
}

func certificates(text string) bool {
	rest := []byte(text)
	if len(rest) > maxCA {
		return false
	}
	n := 0
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return n > 0 && strings.TrimSpace(string(rest)) == ""
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return false
		}
		n++
	}
}

// NewSecret makes a webhook's secret.
func NewSecret(random io.Reader) (string, error) {
	raw := make([]byte, 32)
	if _, err := io.ReadFull(random, raw); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return SecretPrefix + base64.StdEncoding.EncodeToString(raw), nil
}
