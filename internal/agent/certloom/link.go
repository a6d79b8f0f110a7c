package certloom

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/telemetry"
)

// link is a connection with the certificate that it was made with.
type link struct {
	connection  *grpc.ClientConn
	client      agentapi.AgentClient
	certificate *x509.Certificate
	made        time.Time
	profile     *agentapi.Profile
}

// allows returns why the profile of the agent's credential has nothing for a trust domain.
func (l *link) allows(domain string) error {
	if domains := l.profile.GetTrustDomains(); !slices.Contains(domains, domain) {
		return fmt.Errorf("profile %q of the agent's credential allows trust domains %q, not %q; change the profile or --trust-domain",
			l.profile.GetName(), domains, domain)
	}
	return nil
}

const (
	enrolTimeout = 10 * time.Second
	firstRetry   = 200 * time.Millisecond
	longestRetry = 5 * time.Second
	retryGrowth  = 2
	bundleWait   = 10 * time.Second
	// longestProbe is how long the server may be back before an agent knows: nobody is sent to an agent that is not ready.
	longestProbe   = time.Second
	reconnectFirst = 100 * time.Millisecond
	reconnectMost  = longestProbe
	// retiredFor is how long a connection stays open for calls that are under way after a newer one has replaced it.
	retiredFor = 2 * callTimeout
	// A peer that vanished without a word is noticed after these two.
	pingEvery   = 10 * time.Second
	pingTimeout = 3 * time.Second
	// windowSize has room for the answers to some full batches. gRPC would measure for one, with a ping and its answer for
	// nearly each call.
	windowSize = 1 << 20
	// maxAnswer has room for the CRLs, of which the server sends 8 MiB at most.
	maxAnswer = 16 << 20
)

// stayEnrolled enrols, renews at half life, and enrols again when the server has lost us, until ctx ends.
func (i *Issuer) stayEnrolled(ctx context.Context) error {
	wait := firstRetry
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer i.disconnect()
	enrolled := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-i.lost:
			enrolled = false
			if recent := longestRetry - i.config.Now().Sub(i.link.Load().made); recent > 0 {
				timer.Reset(recent) // a server that takes no certificate of its own making is not asked for many
				continue
			}
		}
		err := i.refresh(ctx, enrolled)
		i.contacted(err)
		if err != nil {
			i.config.Logger.WarnContext(ctx, "agent's own certificate not obtained", telemetry.KeyError, err)
			enrolled = enrolled && status.Code(err) != codes.Unauthenticated
			timer.Reset(wait)
			wait = min(retryGrowth*wait, longestRetry)
			continue
		}
		enrolled, wait = true, firstRetry
		l := i.link.Load()
		half := l.certificate.NotAfter.Sub(l.made) / 2
		i.config.Logger.InfoContext(ctx, "agent's own certificate obtained", telemetry.KeyProfile, l.profile.GetName(),
			"not_after", l.certificate.NotAfter, "renewal_in", half)
		timer.Reset(half)
	}
}

// disconnect closes the connection at the end. The link stays, for those who read its certificate.
func (i *Issuer) disconnect() {
	if l := i.link.Load(); l != nil {
		_ = l.connection.Close() // we end
	}
}

// refresh gets a new certificate: with the present one while that is good, otherwise with the credential.
func (i *Issuer) refresh(ctx context.Context, enrolled bool) error {
	ctx, cancel := context.WithTimeout(ctx, enrolTimeout)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), i.config.Random)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	request, err := x509.CreateCertificateRequest(i.config.Random, &x509.CertificateRequest{}, key)
	if err != nil {
		return fmt.Errorf("make a request: %w", err)
	}
	var answer *agentapi.EnrolResponse
	if l := i.link.Load(); enrolled && i.config.Now().Before(l.certificate.NotAfter) {
		answer, err = l.client.Renew(ctx, &agentapi.RenewRequest{Csr: request})
	} else {
		answer, err = i.enrol(ctx, request)
	}
	if err != nil {
		return err
	}
	return i.accept(ctx, key, answer)
}

// enrol proves that we have the credential.
func (i *Issuer) enrol(ctx context.Context, request []byte) (*agentapi.EnrolResponse, error) {
	credential, err := i.config.Credential()
	if err != nil {
		return nil, err
	}
	connection, err := i.connect(nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }() // it was for this enrolment
	client := agentapi.NewAgentClient(connection)
	challenge, err := client.Challenge(ctx, &agentapi.ChallengeRequest{}, grpc.WaitForReady(false))
	if err != nil {
		return nil, fmt.Errorf("ask for a challenge: %w", err)
	}
	enrolment := &agentapi.EnrolRequest{
		KeyId: credential.KeyID, Nonce: challenge.GetNonce(), Cluster: i.config.Cluster, Csr: request,
	}
	enrolment.Mac = agentapi.EnrolMAC(credential.Key, enrolment)
	answer, err := client.Enrol(ctx, enrolment)
	if err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	return answer, nil
}

// accept checks what the server sent and connects with it.
func (i *Issuer) accept(ctx context.Context, key crypto.Signer, answer *agentapi.EnrolResponse) error {
	if len(answer.GetChain()) == 0 {
		return errors.New("the server sent no certificate for the agent")
	}
	certificate, err := x509.ParseCertificate(answer.GetChain()[0])
	if err != nil {
		return fmt.Errorf("read the agent's certificate: %w", err)
	}
	public, ok := certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok || !public.Equal(key.Public()) {
		return errors.New("the server's certificate for the agent has another key than the request")
	}
	if err := i.setBundle(ctx, answer.GetBundle()); err != nil {
		return err
	}
	connection, err := i.connect(&tls.Certificate{Certificate: answer.GetChain(), PrivateKey: key, Leaf: certificate})
	if err != nil {
		return err
	}
	i.replace(ctx, &link{
		connection: connection, client: agentapi.NewAgentClient(connection),
		certificate: certificate, made: i.config.Now(), profile: answer.GetProfile(),
	})
	return nil
}

// connect makes a connection, which is established when it is first used, with or without a certificate of ours.
func (i *Issuer) connect(own *tls.Certificate) (*grpc.ClientConn, error) {
	roots, err := i.config.Roots()
	if err != nil {
		return nil, err
	}
	secure := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, Time: i.config.Now}
	if own != nil {
		secure.Certificates = []tls.Certificate{*own}
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(secure)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMost},
			MinConnectTimeout: callTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithStaticStreamWindowSize(windowSize), grpc.WithStaticConnWindowSize(windowSize),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithIdleTimeout(0), // the next workload should not pay for a handshake
	}
	target := "dns:///" + i.config.Server
	if i.config.Dial != nil { // it resolves the name itself
		target = "passthrough:///" + i.config.Server
		options = append(options, grpc.WithContextDialer(i.config.Dial))
	}
	if _, _, err := net.SplitHostPort(i.config.Server); err != nil {
		return nil, fmt.Errorf("server %q is not HOST:PORT: %w", i.config.Server, err)
	}
	connection, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", i.config.Server, err)
	}
	connection.Connect()
	return connection, nil
}

// replace puts a new link in place; the one before is closed once its calls have had time to end.
func (i *Issuer) replace(ctx context.Context, next *link) {
	before := i.link.Swap(next)
	if before == nil {
		return
	}
	select {
	case i.retired <- before.connection:
	case <-ctx.Done():
		_ = before.connection.Close() // we end
	}
}

// closeRetired closes connections that others have replaced, until ctx ends.
func (i *Issuer) closeRetired(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case connection := <-i.retired:
			pause(ctx, retiredFor)
			_ = connection.Close() // nobody uses it any more
		}
	}
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

// setBundle notes the roots that clients must trust.
func (i *Issuer) setBundle(ctx context.Context, sent *agentapi.TrustBundle) error {
	bundle, err := issuer.NewBundle(sent.GetRoots())
	if err != nil {
		return fmt.Errorf("trust bundle of the server: %w", err)
	}
	before := i.bundle.Load()
	version := sent.GetVersion()
	i.version.Store(&version)
	if before != nil && before.Version == bundle.Version {
		return nil // what is known of it stays known
	}
	i.bundle.Store(bundle)
	i.config.Logger.InfoContext(ctx, "trust bundle obtained", "roots", len(bundle.Roots), "version", bundle.Version)
	return nil
}

// watchBundle asks for the roots again and again; the server answers when they change. It is also how we notice that
// the server has gone, or is back, while nobody asks for certificates.
func (i *Issuer) watchBundle(ctx context.Context) error {
	wait := firstRetry
	for ctx.Err() == nil {
		l := i.link.Load()
		if l == nil {
			pause(ctx, firstRetry)
			continue
		}
		version, seconds := i.knownVersion(), int64(bundleWait/time.Second)
		if i.lastFailure() != nil {
			seconds = 0 // whether the server is back is wanted now
		}
		asking, cancel := context.WithTimeout(ctx, bundleWait+callTimeout)
		answer, err := l.client.Bundle(asking, &agentapi.BundleRequest{
			Version: version, WaitSeconds: seconds, WithCrls: true, CrlsVersion: i.lists.Load().known(),
		})
		cancel()
		if err == nil {
			err = i.setBundle(ctx, answer.GetBundle())
			i.setLists(ctx, answer.GetCrls())
		} else {
			err = i.explain(err)
		}
		if ctx.Err() != nil || i.link.Load() != l {
			continue // the connection was replaced meanwhile: its end says nothing
		}
		i.contacted(err)
		if err != nil {
			i.config.Logger.WarnContext(ctx, "trust bundle not obtained", telemetry.KeyError, err)
			pause(ctx, wait)
			wait = min(retryGrowth*wait, longestProbe)
			continue
		}
		wait = firstRetry
		pause(ctx, firstRetry) // of a server that does not wait
	}
	return nil
}

func (i *Issuer) knownVersion() string {
	if version := i.version.Load(); version != nil {
		return *version
	}
	return ""
}
