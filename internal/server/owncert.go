package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
	"github.com/certloom/certloom/internal/telemetry"
)

// ownCheck is how often the server looks whether its own certificate is due or its file has changed.
const ownCheck = 10 * time.Second

// certificateSource makes or reads the server's own certificate.
type certificateSource interface {
	// load returns a certificate to serve from now on.
	load(ctx context.Context) (*tls.Certificate, error)
	// due reports whether current should be replaced.
	due(current *tls.Certificate) bool
}

// ownCertificate is the certificate of the HTTPS listener, replaced while it serves.
type ownCertificate struct {
	source  certificateSource
	logger  *slog.Logger
	now     func() time.Time
	current atomic.Pointer[tls.Certificate]
}

// start gets the first certificate.
func (o *ownCertificate) start(ctx context.Context) error {
	certificate, err := o.source.load(ctx)
	if err != nil {
		return fmt.Errorf("the server's own certificate: %w", withWayOut(err))
	}
	o.current.Store(certificate)
	return nil
}

// withWayOut tells how to start when the profile or the CA of the own certificate was suspended or has expired: what
// mends that needs a running server.
func withWayOut(err error) error {
	refused, ok := errors.AsType[*fault.Error](err)
	if !ok || refused.Kind.Meaning().Status >= http.StatusInternalServerError {
		return err
	}
	told := *refused
	return told.WithHint("to start all the same, give tls.certificateFile and tls.keyFile in the settings instead of tls.profile;" +
		" then activate or replace what the certificate is issued with")
}

// Run replaces the certificate when it is due. A failure is logged, and tried again: the one that we have serves on.
func (o *ownCertificate) Run(ctx context.Context) error {
	ticker := time.NewTicker(ownCheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !o.source.due(o.current.Load()) {
			continue
		}
		certificate, err := o.source.load(ctx)
		if err != nil {
			o.logger.ErrorContext(ctx, "own certificate not renewed", telemetry.KeyError, err)
			continue
		}
		o.current.Store(certificate)
		o.logger.InfoContext(ctx, "own certificate renewed", "not_after", certificate.Leaf.NotAfter)
	}
}

// check is the readiness of the certificate.
func (o *ownCertificate) check(context.Context) error {
	if current := o.current.Load(); current == nil || o.now().After(current.Leaf.NotAfter) {
		return errors.New("it has expired; the log says why it was not renewed")
	}
	return nil
}

// tlsConfig serves it with TLS 1.2 or newer.
func (o *ownCertificate) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return o.current.Load(), nil
		},
	}
}

// fileSource reads the certificate from the files of the settings.
type fileSource struct {
	certificateFile, keyFile string
	read                     [2]time.Time // modification times of what was loaded; owned by start and then by Run
}

func (f *fileSource) load(context.Context) (*tls.Certificate, error) {
	seen := f.times()
	certificate, err := tls.LoadX509KeyPair(f.certificateFile, f.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read %s and %s: %w", f.certificateFile, f.keyFile, err)
	}
	f.read = seen
	return &certificate, nil
}

func (f *fileSource) due(*tls.Certificate) bool { return f.times() != f.read }

func (f *fileSource) times() (times [2]time.Time) {
	for i, path := range []string{f.certificateFile, f.keyFile} {
		if info, err := os.Stat(path); err == nil {
			times[i] = info.ModTime()
		}
	}
	return times
}

// issuedSource makes a key and issues a certificate for it, along the same path as every other certificate.
type issuedSource struct {
	profile string
	names   []string
	catalog *catalog.Catalog
	issuer  *issue.Issuer
	now     func() time.Time
	random  io.Reader
	renewAt time.Time // owned by start and then by Run
}

// newSource chooses the source that the settings name.
func newSource(settings *config.Config, c *catalog.Catalog, issuer *issue.Issuer, now func() time.Time, random io.Reader) certificateSource {
	if settings.TLS.CertificateFile != "" {
		return &fileSource{certificateFile: settings.TLS.CertificateFile, keyFile: settings.TLS.KeyFile}
	}
	return &issuedSource{
		profile: settings.TLS.Profile, names: ownNames(settings), catalog: c, issuer: issuer, now: now, random: random,
	}
}

// ownNames are the hosts of the URLs that clients and agents use and the further names of the settings, each once.
func ownNames(settings *config.Config) []string {
	var names []string
	if u, err := url.Parse(settings.PublicURL); err == nil {
		names = append(names, u.Hostname())
	}
	further := settings.TLS.Names
	if u, err := url.Parse(settings.AgentAddress()); err == nil && u.Hostname() != "" {
		further = append([]string{u.Hostname()}, further...)
	}
	for _, name := range further {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func (s *issuedSource) due(*tls.Certificate) bool { return !s.now().Before(s.renewAt) }

func (s *issuedSource) load(ctx context.Context) (*tls.Certificate, error) {
	snapshot, err := s.catalog.Current()
	if err != nil {
		return nil, err
	}
	profile, ok := snapshot.ProfileByName(s.profile)
	if !ok {
		return nil, fault.New(fault.NotFound, "tls.profile: there is no certificate profile %q", s.profile).
			WithHint("create it with enrollment method rest-api, or give tls.certificateFile and tls.keyFile")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), s.random)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	request, identifiers, err := s.request(key)
	if err != nil {
		return nil, err
	}
	issued, err := s.issuer.Issue(ctx, issue.Request{
		Profile:     profile,
		Identifiers: identifiers,
		CSR:         request,
		Actor:       audit.Actor{Kind: audit.System, Name: "own certificate"},
	})
	if err != nil {
		return nil, fmt.Errorf("issue under profile %s: %w", s.profile, err)
	}
	chain, err := s.issuer.Chain(issued, profile.Rules.IncludeRoot)
	if err != nil {
		return nil, fmt.Errorf("chain of the own certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		return nil, fmt.Errorf("parse own certificate: %w", err)
	}
	s.renewAt = issued.RenewAt
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// request makes the CSR for the names.
func (s *issuedSource) request(key *ecdsa.PrivateKey) (*csr.Request, []pki.Identifier, error) {
	var template x509.CertificateRequest
	for _, name := range s.names {
		if addr, err := netip.ParseAddr(name); err == nil {
			template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
			continue
		}
		template.DNSNames = append(template.DNSNames, name)
	}
	der, err := x509.CreateCertificateRequest(s.random, &template, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make request: %w", err)
	}
	request, err := csr.Parse(der)
	if err != nil {
		return nil, nil, fmt.Errorf("read own request: %w", err)
	}
	identifiers, err := policy.Requested(request)
	if err != nil {
		return nil, nil, fmt.Errorf("names of own request: %w", err)
	}
	return request, identifiers, nil
}
