package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// maxAnswer is how much of an answer is read: enough to use the connection's end properly, no more.
const maxAnswer = 16 << 10

// maxWait bounds what a receiver may ask to wait.
const maxWait = time.Hour

// post makes one HTTP request.
func (n *Notifier) post(ctx context.Context, t *target, r *request) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(r.content))
	if err != nil {
		return failed(true, "the channel's address is not a URL") // the error would show it, and it may be a secret
	}
	req.Header.Set("Content-Type", r.contentType)
	req.Header.Set("User-Agent", "Certloom")
	switch {
	case t.Kind == pki.ChannelWebhook:
		n.sign(req, r, t.secret)
	case t.Kind == pki.ChannelAlertmanager && t.secret != "":
		req.Header.Set("Authorization", "Bearer "+t.secret)
	}
	client, err := n.client(t)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	response, err := client.Do(req)
	if err != nil {
		return connectFailure(err)
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer)) // the status says it all
	return judge(response, n.Now())
}

// SecretPrefix begins secrets of webhooks, as Standard Webhooks has them.
const SecretPrefix = "whsec_"

// sign adds the headers of Standard Webhooks 1.0.0 (standardwebhooks.com): receivers have libraries for them.
func (n *Notifier) sign(req *http.Request, r *request, secret string) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, SecretPrefix))
	if err != nil || !strings.HasPrefix(secret, SecretPrefix) {
		key = []byte(secret)
	}
	stamp := strconv.FormatInt(n.Now().Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(string(r.id) + "." + stamp + "."))
	mac.Write(r.content)
	req.Header.Set("Webhook-Id", string(r.id))
	req.Header.Set("Webhook-Timestamp", stamp)
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// judge reads the status. What the receiver has refused as such is not tried again.
func judge(response *http.Response, now time.Time) error {
	status := response.StatusCode
	switch {
	case status >= http.StatusOK && status < http.StatusMultipleChoices:
		return nil
	case status >= http.StatusMultipleChoices && status < http.StatusBadRequest:
		return failed(false, "the receiver answered %d, a redirect, which is not followed", status)
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		f := failed(false, "the receiver answered %d", status)
		f.wait = retryAfter(response.Header.Get("Retry-After"), now)
		return f
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status >= http.StatusInternalServerError:
		return failed(false, "the receiver answered %d", status)
	default:
		return failed(true, "the receiver refused it with %d", status)
	}
}

// retryAfter reads the header of RFC 9110 section 10.2.3; what is not understood is no wait.
func retryAfter(value string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(value); err == nil && seconds < int(maxWait/time.Second) {
		wait = time.Duration(seconds) * time.Second
	} else if err == nil {
		wait = maxWait
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return max(0, min(wait, maxWait))
}

// connectFailure says what is wrong with a connection, without the address, which may be a secret.
func connectFailure(err error) error {
	if refused, ok := errors.AsType[*failure](err); ok {
		return refused
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &failure{text: "the receiver's certificate is not accepted", cause: plain(certificate.Err)}
	}
	if resolve, ok := errors.AsType[*net.DNSError](err); ok {
		return failed(false, "the name %.100q does not resolve", resolve.Name)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return failed(false, "the receiver did not answer in time")
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		return &failure{text: "no connection", cause: operation}
	}
	return failed(false, "the connection broke or did not speak HTTP")
}

// plain keeps the text of an error of crypto/x509, which shows names and dates of certificates at most.
func plain(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(oneLine(err.Error()))
}

// client makes an HTTP client for one attempt: each channel has its own roots and its own rule for addresses.
func (n *Notifier) client(t *target) (*http.Client, error) {
	roots, err := rootsOf(t)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout:       n.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            n.dialer(t).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    n.Timeout,
			ResponseHeaderTimeout:  n.Timeout,
			MaxResponseHeaderBytes: maxAnswer,
			DisableKeepAlives:      true,
			ForceAttemptHTTP2:      true,
		},
	}, nil
}

// rootsOf returns the channel's own roots; nil: the system's.
func rootsOf(t *target) (*x509.CertPool, error) {
	if t.Settings.CA == "" {
		return nil, nil //nolint:nilnil // "the system's" is an answer here
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(t.Settings.CA)) {
		return nil, failed(true, "the channel's CA certificates cannot be read")
	}
	return pool, nil
}

// dialer checks the address when the connection is made: a name may point anywhere, and elsewhere the next moment.
func (n *Notifier) dialer(t *target) *net.Dialer {
	return &net.Dialer{
		Timeout: n.Timeout,
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			at, err := netip.ParseAddrPort(address)
			if err != nil {
				return failed(false, "address %.60q is not an IP address with a port", address)
			}
			if !n.allowed(t, at.Addr()) {
				return failed(false, "address %s is not a public one; allow private addresses for the channel, or its network in alerts.allowedNetworks", at.Addr())
			}
			return nil
		},
	}
}

// allowed says whether a channel may reach an address.
func (n *Notifier) allowed(t *target, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for _, network := range n.Allowed {
		if network.Contains(addr) {
			return true
		}
	}
	switch {
	case addr.IsUnspecified(), addr.IsMulticast(), addr.IsLinkLocalUnicast(), !addr.IsValid():
		return false
	case addr.IsLoopback(), addr.IsPrivate(), reserved(addr):
		return t.Settings.AllowPrivate
	default:
		return true
	}
}

// reserved tells addresses that are not public for other reasons (RFC 6890): carriers' networks, "this" network, what is
// kept for benchmarks and the future, and IPv6 addresses that hold an IPv4 address.
func reserved(addr netip.Addr) bool {
	for _, text := range []string{"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15", "240.0.0.0/4", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"} {
		if netip.MustParsePrefix(text).Contains(addr) {
			return true
		}
	}
	return false
}
