package notify_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/notify"
	"github.com/certloom/certloom/internal/pki"
)

const password = "correct horse battery"

// letter is what a mail server was handed.
type letter struct {
	User, From string
	To         []string
	Body       string
	TLS        bool
}

// mailbox is a mail server's storage.
type mailbox struct{ letters chan letter }

func (m *mailbox) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &session{box: m, conn: c}, nil
}

type session struct {
	box  *mailbox
	conn *smtp.Conn
	letter
}

func (s *session) Reset()        { s.letter = letter{User: s.User} }
func (s *session) Logout() error { return nil }

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	s.From = from
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "there is no such mailbox: " + password}
	}
	s.To = append(s.To, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, s.TLS = s.conn.TLSConnectionState()
	s.Body = string(body)
	s.box.letters <- s.letter
	return nil
}

func (s *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, secret string) error {
		if secret != password {
			return errors.New("wrong password")
		}
		s.User = user
		return nil
	}), nil
}

// vault opens what was never sealed.
type vault struct{}

func (vault) Unseal(_, _ string, sealed []byte) ([]byte, error) { return sealed, nil }

// none has no deliveries and no channels.
type none struct{}

func (none) ClaimDeliveries(context.Context, time.Time, time.Time, int) ([]pki.Delivery, error) {
	return nil, nil
}
func (none) FinishDelivery(context.Context, *pki.Delivery) error { return nil }
func (none) Channel(context.Context, string) (*pki.Channel, error) {
	return nil, fault.New(fault.NotFound, "there is no channel")
}

// post is a mail server on the loopback interface.
type post struct {
	*mailbox
	port int
	ca   string // PEM
}

// servePost starts a mail server that offers STARTTLS, speaks TLS from the beginning, or neither.
func servePost(t *testing.T, mode pki.MailTLS) *post {
	t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate, which is for 127.0.0.1
	t.Cleanup(web.Close)
	config := &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}
	p := &post{mailbox: &mailbox{letters: make(chan letter, 8)}, ca: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw}))}
	server := smtp.NewServer(p.mailbox)
	server.Domain = "mail.example.test"
	var local net.ListenConfig
	listener, err := local.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = listener.Addr().(*net.TCPAddr).Port
	switch mode {
	case pki.MailStartTLS:
		server.TLSConfig = config
	case pki.MailImplicit:
		listener = tls.NewListener(listener, config)
	case pki.MailPlain:
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends with Close
	}()
	t.Cleanup(func() {
		_ = listener.Close() // by itself, too: the server may not have begun to serve
		_ = server.Close()
		<-done
	})
	return p
}

func notifier(t *testing.T) *notify.Notifier {
	t.Helper()
	n, err := notify.New(notify.Config{Store: none{}, Vault: vault{}, Now: time.Now, BaseURL: "https://ca.example.test"})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// message holds what an attacker may have put into a certificate.
func message() *pki.Message {
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	return &pki.Message{
		ID: "06bj4v2r0s5o", State: pki.MessageFiring, Rule: "identity-lapsing", Kind: pki.AlertIdentityHealth, Severity: pki.SeverityWarning, Time: at,
		Title:  "1 identity lapses\r\nBcc: everybody@example.test",
		Alerts: []pki.MessageAlert{{ID: "a", Subject: "spiffe://cluster.local/ns/shop/sa/<b>web</b>", Summary: "it has not renewed\r\n.\r\nMAIL FROM:<x@y>", FiredAt: at}},
	}
}

// TestMail brings messages to a mail server in each way of using TLS.
func TestMail(t *testing.T) {
	t.Parallel()
	for _, mode := range []pki.MailTLS{pki.MailStartTLS, pki.MailImplicit, pki.MailPlain} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			server := servePost(t, mode)
			channel := &pki.Channel{Name: "mail", Kind: pki.ChannelEmail, Enabled: true, Settings: pki.ChannelSettings{
				Host: "127.0.0.1", Port: server.port, TLS: mode, CA: server.ca, AllowPrivate: true,
				From: "Certloom <ca@example.test>", To: []string{"on-call@example.test", "platform@example.test"},
			}}
			if mode != pki.MailPlain {
				channel.Settings.User, channel.Sealed = "certloom", []byte(password)
			}
			if err := notifier(t).Send(t.Context(), channel, message()); err != nil {
				t.Fatal(err)
			}
			got := <-server.letters
			if got.User != channel.Settings.User || got.TLS != (mode != pki.MailPlain) || got.From != "ca@example.test" || len(got.To) != 2 {
				t.Errorf("the server got %+v", got)
			}
			checkLetter(t, got.Body)
		})
	}
}

func checkLetter(t *testing.T, text string) {
	t.Helper()
	read, err := mail.ReadMessage(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if bcc := read.Header.Get("Bcc"); bcc != "" {
		t.Errorf("a title has become header Bcc: %s", bcc)
	}
	if id := read.Header.Get("Message-ID"); id != "<06bj4v2r0s5o@example.test>" {
		t.Errorf("Message-ID %q is not the delivery's", id)
	}
	if got := read.Header.Get("Auto-Submitted"); got != "auto-generated" {
		t.Errorf("Auto-Submitted is %q", got)
	}
	if strings.Count(text, "text/plain") != 1 || strings.Count(text, "text/html") != 1 || !strings.Contains(text, "&lt;x@y&gt;") {
		t.Errorf("the letter lacks a form, or its HTML is not escaped:\n%s", text)
	}
}

// TestMailRefused sends nothing where it would be read on the way, and says why without secrets.
func TestMailRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		server  pki.MailTLS
		change  func(*pki.Channel)
		message string
	}{
		{"the server offers no STARTTLS", pki.MailPlain, func(*pki.Channel) {}, "STARTTLS"},
		{"its certificate is of another CA", pki.MailStartTLS, func(c *pki.Channel) { c.Settings.CA = "" }, "certificate is not accepted"},
		{"wrong password", pki.MailStartTLS, func(c *pki.Channel) { c.Sealed = []byte("wrong") }, "mail server"},
		{"no such mailbox", pki.MailStartTLS, func(c *pki.Channel) { c.Settings.To = []string{"nobody@example.test"} }, "refused it with 550"},
		{"private address", pki.MailStartTLS, func(c *pki.Channel) { c.Settings.AllowPrivate = false }, "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := servePost(t, test.server)
			channel := &pki.Channel{Name: "mail", Kind: pki.ChannelEmail, Enabled: true, Sealed: []byte(password), Settings: pki.ChannelSettings{
				Host: "127.0.0.1", Port: server.port, TLS: pki.MailStartTLS, CA: server.ca, AllowPrivate: true, User: "certloom",
				From: "ca@example.test", To: []string{"on-call@example.test"},
			}}
			test.change(channel)
			err := notifier(t).Send(t.Context(), channel, message())
			if err == nil || !strings.Contains(err.Error(), test.message) || strings.Contains(err.Error(), password) {
				t.Errorf("got %v, want an error with %q", err, test.message)
			}
			if len(server.letters) != 0 {
				t.Errorf("the server got %+v", <-server.letters)
			}
		})
	}
}
