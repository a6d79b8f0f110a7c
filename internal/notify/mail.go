package notify

import (
	"context"
	"crypto/tls"
	_ "embed" // the templates of messages
	"errors"
	"fmt"
	htmltemplate "html/template"
	"net"
	"net/netip"
	"strings"
	"text/template"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/certloom/certloom/internal/pki"
)

//go:embed mail.txt
var mailText string

//go:embed mail.html
var mailHTML string

// mailView is all that the templates see: plain texts.
type mailView struct {
	Title, State, Rule, Severity, Time, URL, More string
	Alerts                                        []mailAlert
}

type mailAlert struct{ Subject, Summary, Since, Until string }

func viewOf(m *pki.Message) mailView {
	view := mailView{
		Title: oneLine(m.Title), State: string(m.State), Rule: oneLine(m.Rule), Severity: string(m.Severity),
		Time: m.Time.UTC().Format(time.RFC1123), URL: m.URL, More: more(m),
	}
	for i := range m.Alerts {
		a := &m.Alerts[i]
		line := mailAlert{Subject: oneLine(a.Subject), Summary: oneLine(a.Summary), Since: a.FiredAt.UTC().Format(time.RFC1123)}
		if !a.ResolvedAt.IsZero() {
			line.Until = a.ResolvedAt.UTC().Format(time.RFC1123)
		}
		view.Alerts = append(view.Alerts, line)
	}
	return view
}

// mailBodies renders both forms of a message.
func mailBodies(m *pki.Message) (text, html string, err error) {
	view := viewOf(m)
	var plainBody, htmlBody strings.Builder
	plainTemplate, err := template.New("text").Parse(mailText)
	if err != nil {
		return "", "", fmt.Errorf("template of e-mails: %w", err)
	}
	htmlTemplate, err := htmltemplate.New("html").Parse(mailHTML)
	if err != nil {
		return "", "", fmt.Errorf("template of e-mails: %w", err)
	}
	if err := plainTemplate.Execute(&plainBody, view); err != nil {
		return "", "", fmt.Errorf("render e-mail: %w", err)
	}
	if err := htmlTemplate.Execute(&htmlBody, view); err != nil {
		return "", "", fmt.Errorf("render e-mail: %w", err)
	}
	return plainBody.String(), htmlBody.String(), nil
}

// mail hands a message to the channel's mail server.
func (n *Notifier) mail(ctx context.Context, t *target, m *pki.Message) error {
	msg, err := n.compose(t, m)
	if err != nil {
		return err
	}
	client, err := n.mailClient(t)
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, msg); err != nil {
		return mailFailure(err)
	}
	return nil
}

func (n *Notifier) compose(t *target, m *pki.Message) (*mail.Msg, error) {
	text, html, err := mailBodies(m)
	if err != nil {
		return nil, err
	}
	msg := mail.NewMsg()
	if err := msg.From(t.Settings.From); err != nil {
		return nil, failed(true, "sender %.100q is not an e-mail address", t.Settings.From)
	}
	if err := msg.To(t.Settings.To...); err != nil {
		return nil, failed(true, "a recipient is not an e-mail address")
	}
	_, domain, _ := strings.Cut(strings.Trim(t.Settings.From[strings.LastIndex(t.Settings.From, "@")-1:], "<> "), "@")
	msg.SetMessageIDWithValue(string(m.ID) + "@" + domain) // the same for each attempt, so that a repetition is known as one
	msg.SetDateWithValue(m.Time)
	msg.Subject("[certloom] " + oneLine(m.Title))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation notices, please
	msg.SetBodyString(mail.TypeTextPlain, text)
	msg.AddAlternativeString(mail.TypeTextHTML, html)
	return msg, nil
}

// mailClient speaks to the channel's server. STARTTLS is demanded where it is set, never just tried.
func (n *Notifier) mailClient(t *target) (*mail.Client, error) {
	set := t.Settings
	roots, err := rootsOf(t)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: roots, ServerName: set.Host, MinVersion: tls.VersionTLS12}
	dialer := n.dialer(t)
	dial := dialer.DialContext
	options := []mail.Option{mail.WithPort(set.Port), mail.WithTimeout(n.Timeout), mail.WithTLSConfig(config), mail.WithoutNoop()}
	switch set.TLS {
	case pki.MailStartTLS:
		options = append(options, mail.WithTLSPolicy(mail.TLSMandatory))
	case pki.MailImplicit:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
		dial = (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext
	case pki.MailPlain:
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
		dial = loopbackOnly(dial)
	default:
		return nil, failed(true, "TLS mode %.20q is not one of starttls, tls, none", string(set.TLS))
	}
	options = append(options, mail.WithDialContextFunc(dial))
	if set.User != "" {
		options = append(options, mail.WithUsername(set.User), mail.WithPassword(t.secret), mail.WithSMTPAuth(mail.SMTPAuthPlain))
	}
	client, err := mail.NewClient(set.Host, options...)
	if err != nil {
		return nil, &failure{text: "the mail server's settings are not accepted", final: true, cause: err}
	}
	return client, nil
}

// loopbackOnly refuses connections without TLS that leave the machine.
func loopbackOnly(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err != nil || !at.Addr().Unmap().IsLoopback() {
			return nil, errors.Join(failed(true, "without TLS only a mail server on the same machine is spoken to"), conn.Close())
		}
		return conn, nil
	}
}

// mailFailure tells what will not get better from what may.
func mailFailure(err error) error {
	if refused, ok := errors.AsType[*failure](err); ok {
		return refused
	}
	if sent, ok := errors.AsType[*mail.SendError](err); ok {
		if code := sent.ErrorCode(); code > 0 {
			return failed(!sent.IsTemp(), "the mail server refused it with %d", code)
		}
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &failure{text: "the mail server's certificate is not accepted", cause: plain(certificate.Err)}
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return failed(false, "the mail server did not answer in time")
	}
	return failed(false, "the mail server did not take it: %.200s", oneLine(err.Error()))
}
