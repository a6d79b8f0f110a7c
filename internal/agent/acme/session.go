package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// session is an account with a client for it. It does not change once made.
type session struct {
	client  *acmeclient.Client
	account *record
}

const (
	connectTimeout = 10 * time.Second
	secretTimeout  = 3 * time.Second // leaves time for the CA when the API server hangs
	requestTimeout = 8 * time.Second
	dialTimeout    = 3 * time.Second
	idleTimeout    = 90 * time.Second
	firstRetry     = 200 * time.Millisecond
	retryGrowth    = 2
	// Between attempts to reach a CA that is gone, and to use an account that the CA has refused.
	longestRetry   = 5 * time.Second
	longestRefused = 30 * time.Second
	// doubtInterval bounds how often refusals make us look at the account.
	doubtInterval = 10 * time.Second

	userAgent = "certloom-agent"
	// What the client does by itself within a call: callers come again anyhow.
	clientRetries = 2
	clientMaxWait = time.Second
)

// stay keeps a session until ctx ends.
func (i *Issuer) stay(ctx context.Context) error {
	wait, doubt := firstRetry, false
	defer i.disconnect()
	for ctx.Err() == nil {
		err := i.connect(ctx, doubt)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			i.gate.close(err)
			i.config.Logger.WarnContext(ctx, "ACME account not ready", telemetry.KeyError, err)
			pause(ctx, wait)
			longest := longestRetry
			if refused(err) {
				longest = longestRefused
			}
			wait = min(retryGrowth*wait, longest)
			continue
		}
		wait = firstRetry
		if i.gate.open() {
			i.config.Logger.InfoContext(ctx, "ACME CA can be asked", telemetry.KeyAccount, i.session.Load().account.url)
		}
		doubt = i.watch(ctx)
	}
	return nil
}

// watch returns when the session must be made anew. The result says whether the account is in doubt.
func (i *Issuer) watch(ctx context.Context) bool {
	ticker := time.NewTicker(i.config.Ping)
	defer ticker.Stop()
	doubted, sure := i.doubted, i.config.Now()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-i.gate.broken:
			i.config.Logger.WarnContext(ctx, "ACME CA is not asked for now", telemetry.KeyError, i.gate.closedBy())
			return false
		case <-doubted:
			if i.config.Now().Sub(sure) >= doubtInterval {
				return true
			}
			doubted = nil // until the next tick
			i.doubt()
		case <-ticker.C:
			doubted = i.doubted
			if !i.alive(ctx) {
				return false
			}
		}
	}
}

// alive asks the CA for a sign of life, unless it wants none asked. It returns false when the session must be made anew.
func (i *Issuer) alive(ctx context.Context) bool {
	if i.gate.paused() {
		return true
	}
	s := i.session.Load()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if s.client.Ping(ctx) != nil {
		return false // connecting tells why, or that it was nothing
	}
	binding, err := i.config.Binding()
	return err != nil || !s.account.outdated(binding)
}

// connect makes a session. With doubt it also orders for the agent's own names, to see whether the account may order.
func (i *Issuer) connect(ctx context.Context, doubt bool) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := i.makeTransport(); err != nil {
		return err
	}
	s, err := i.enrol(ctx)
	if err != nil {
		return err
	}
	if doubt {
		if err := i.try(ctx, s); err != nil {
			return err
		}
	}
	i.session.Store(s)
	return nil
}

// try makes an order for names that the account should be allowed. What becomes of it otherwise is not asked: that is for
// whoever wants that certificate.
func (i *Issuer) try(ctx context.Context, s *session) error {
	request := acmeclient.OrderRequest{Profile: i.config.Profile}
	for _, name := range i.config.Own {
		request.Identifiers = append(request.Identifiers, pki.Identifier{Type: pki.DNS, Value: name})
	}
	if _, err := s.client.NewOrder(ctx, request); err != nil && (!refused(err) || aboutAccount(err)) {
		return err
	}
	return nil
}

// makeTransport makes the connections anew when the roots of the CA's TLS certificate have changed.
func (i *Issuer) makeTransport() error {
	roots, err := i.config.TLSRoots()
	if err != nil {
		return err
	}
	if i.transport != nil && (roots == i.tlsRoots || roots != nil && i.tlsRoots != nil && roots.Equal(i.tlsRoots)) {
		return nil
	}
	i.disconnect()
	i.tlsRoots = roots
	i.transport = &http.Transport{
		Proxy:                 i.config.Proxy,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Time: i.config.Now},
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: requestTimeout,
		IdleConnTimeout:       idleTimeout,
		// Of HTTP/1.1; HTTP/2 needs one.
		MaxIdleConnsPerHost: i.config.Concurrency,
		ForceAttemptHTTP2:   true,
		// A peer that vanished without a word is noticed after these two.
		HTTP2: &http.HTTP2Config{SendPingTimeout: requestTimeout, PingTimeout: dialTimeout},
	}
	return nil
}

func (i *Issuer) disconnect() {
	if i.transport != nil {
		i.transport.CloseIdleConnections()
	}
}

func (i *Issuer) newClient(r *record) (*acmeclient.Client, error) {
	return acmeclient.New(acmeclient.Config{
		DirectoryURL: i.config.DirectoryURL, Key: r.key, Random: i.config.Random, UserAgent: userAgent,
		HTTPClient: &http.Client{Transport: i.transport, Timeout: requestTimeout},
		Retries:    clientRetries, MaxWait: clientMaxWait,
	})
}

// errElsewhere is worth another attempt at once: then the other replica's account is found.
func errElsewhere() error {
	return errors.New("another replica has changed the ACME account meanwhile")
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
