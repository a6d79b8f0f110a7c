package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/acme/nonce"
	"github.com/certloom/certloom/internal/agentsrv"
	"github.com/certloom/certloom/internal/api"
	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/console"
	"github.com/certloom/certloom/internal/group"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/seal"
)

// stopGrace is how long a task may take to stop: a little longer than requests may take to drain.
const stopGrace = drainTime + 5*time.Second

// Server is everything that runs, ready to run.
type Server struct {
	parts     *Parts
	listeners *Listeners
	tasks     group.Group
}

// New makes the servers and handlers on top of the parts, and the server's own certificate. It serves nothing yet.
// The caller still closes parts and listeners.
func New(ctx context.Context, parts *Parts, listeners *Listeners) (*Server, error) {
	s := &Server{parts: parts, listeners: listeners}
	ring, err := parts.loadRing(ctx)
	if err != nil {
		return nil, err
	}
	own := &ownCertificate{
		source: newSource(parts.Settings, parts.Catalog, parts.Issuer, parts.Now, parts.Random), logger: parts.Logger, now: parts.Now,
	}
	if err := own.start(ctx); err != nil {
		return nil, err
	}
	nonces, err := parts.nonces(ring)
	if err != nil {
		return nil, err
	}
	acmeServer, err := s.acme(ring, nonces)
	if err != nil {
		return nil, err
	}
	checks := []check{
		{"database", parts.Store.Ping},
		{"configuration", func(context.Context) error { return parts.Catalog.Healthy() }},
		{"issuing CAs", parts.checkCAs},
		{"own certificate", own.check},
	}
	agents, err := agentsrv.New(agentsrv.Config{
		Catalog: parts.Catalog, Store: parts.Store, Issuer: parts.Issuer, Nonces: nonces, Now: parts.Now, Random: parts.Random,
		CRL: parts.Revoker.CRL, Logger: parts.Logger, Registerer: parts.Registry, Replica: parts.Replica,
	})
	if err != nil {
		return nil, fmt.Errorf("agent server: %w", err)
	}
	public, err := s.public(ring, acmeServer.Handler(), checks, own)
	if err != nil {
		return nil, err
	}
	if err := registerExpiry(parts.Registry, parts.Catalog.Snapshot); err != nil {
		return nil, err
	}
	living, err := newLive(parts)
	if err != nil {
		return nil, err
	}
	s.tasks.Add("live certificates", living.Run)
	jobs, err := parts.jobs(ctx)
	if err != nil {
		return nil, err
	}
	s.tasks.Add("jobs", jobs.Run)
	s.addTasks(ring, own, acmeServer, agents, public, checks)
	return s, nil
}

// addTasks lists what runs, in the order of its start. It stops the other way round: first no new requests, then the
// validations that are under way, then what they all stand on.
func (s *Server) addTasks(
	ring *seal.Ring, own *ownCertificate, acmeServer *acme.Server, agents *agentsrv.Server, public http.Handler, checks []check,
) {
	p := s.parts
	s.tasks.Add("catalog", p.Catalog.Run)
	s.tasks.Add("figures", p.Figures.Run)
	s.tasks.Add("ring keys", p.keepRing(ring))
	s.tasks.Add("nonce cleaning", p.cleanNonces)
	s.tasks.Add("index of identities", p.indexIdentities)
	s.tasks.Add("retention", p.keepRecords)
	s.tasks.Add("answer cleaning", p.cleanOnce)
	s.tasks.Add("own certificate", own.Run)
	s.tasks.Add("acme", acmeServer.Run)
	s.tasks.Add("health listener", serve(s.listeners.Health, healthHandler(checks, p.Registry, p.Settings.Debug.Pprof), nil, p.Logger))
	if s.listeners.HTTP != nil {
		mux := http.NewServeMux()
		p.publisher().register(mux)
		s.tasks.Add("http listener", serve(s.listeners.HTTP, mux, nil, p.Logger))
	}
	if s.listeners.Agent != nil {
		s.tasks.Add("agent listener", func(ctx context.Context) error {
			return agents.Serve(ctx, s.listeners.Agent, own.tlsConfig(), drainTime)
		})
	}
	s.tasks.Add("https listener", serve(s.listeners.HTTPS, public, own.tlsConfig(), p.Logger))
}

// Run serves until ctx ends, and returns when everything has stopped.
func (s *Server) Run(ctx context.Context) error {
	agents := "off"
	if s.listeners.Agent != nil {
		agents = s.listeners.Agent.Addr().String()
	}
	s.parts.Logger.InfoContext(ctx, "certloom is serving", "version", s.parts.Version, "url", s.parts.Settings.PublicURL,
		"https", s.listeners.HTTPS.Addr().String(), "agents", agents, "health", s.listeners.Health.Addr().String())
	err := s.tasks.Run(ctx, stopGrace)
	s.parts.Logger.InfoContext(ctx, "certloom has stopped")
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// nonces makes the nonces of ACME, which agents use as well when they enrol.
func (p *Parts) nonces(ring *seal.Ring) (*nonce.Nonces, error) {
	nonces := nonce.Config{Ring: ring, Now: p.Now, Random: p.Random, Registerer: p.Registry}
	if p.Settings.Database.Driver == config.Postgres {
		nonces.Shared = p.Store // there may be other replicas
	}
	issued, err := nonce.New(nonces)
	if err != nil {
		return nil, fmt.Errorf("nonces: %w", err)
	}
	return issued, nil
}

// acme makes the ACME server.
func (s *Server) acme(ring *seal.Ring, nonces *nonce.Nonces) (*acme.Server, error) {
	p, settings := s.parts, s.parts.Settings.ACME
	validator, err := challenge.New(challenge.Config{
		HTTPPort: settings.HTTP01Port, TLSPort: settings.TLSALPN01Port, Resolver: settings.DNSResolver,
	})
	if err != nil {
		return nil, fmt.Errorf("challenge validation: %w", err)
	}
	made, err := acme.New(acme.Config{
		BaseURL: p.baseURL(), Replica: p.Replica, Catalog: p.Catalog, Store: p.Store, Issuer: p.Issuer, Revoker: p.Revoker,
		Nonces: nonces, Ring: ring, Validator: validator, Now: p.Now, Random: p.Random, Logger: p.Logger, Registerer: p.Registry,
		Options: acme.Options{
			TermsOfService:     settings.TermsOfService,
			Website:            settings.Website,
			CAAIdentities:      settings.CAAIdentities,
			StrictFinalize:     settings.StrictFinalize,
			LenientCSRPadding:  settings.LenientCSRPadding,
			NonceRejectPercent: settings.NonceRejectPercent,
			OrderLifetime:      time.Duration(settings.OrderLifetime),
			OrdersPerMinute:    settings.OrdersPerMinute,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("acme server: %w", err)
	}
	return made, nil
}

// public makes the handler of the HTTPS listener.
func (s *Server) public(ring *seal.Ring, acmeHandler http.Handler, checks []check, own *ownCertificate) (http.Handler, error) {
	p := s.parts
	rest, err := api.New(p.apiConfig(checks, own))
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	signOn, err := p.singleSignOn(ring)
	if err != nil {
		return nil, err
	}
	pages, err := console.New(console.Config{
		BaseURL: p.baseURL(), Version: p.Version, API: rest.Handler(), Sessions: p.Auth, SingleSignOn: signOn, CAs: p.cas,
		Now: p.Now, Random: p.Random, Logger: p.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/acme/", acmeHandler)
	mux.Handle("/api/", rest.Handler())
	mux.Handle("/connect/", rest.Connect())
	p.publisher().register(mux)
	if err := pages.Register(mux); err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	return mux, nil
}

func (p *Parts) baseURL() string { return strings.TrimSuffix(p.Settings.PublicURL, "/") }

func (p *Parts) profiles() []*pki.Profile { return p.Catalog.Snapshot().Profiles() }

func (p *Parts) cas() []*pki.CA { return p.Catalog.Snapshot().CAs() }

func (p *Parts) publisher() *publisher {
	return &publisher{snapshot: p.Catalog.Snapshot, crl: p.Revoker.CRL, ocsp: p.Revoker.OCSP, ocspLifetime: time.Duration(p.Settings.Revocation.OCSPLifetime), now: p.Now, logger: p.Logger}
}

// checkCAs is the readiness of signing: some issuing CA that is active must have a key that opens. A server without any
// CA is ready: it is being set up.
func (p *Parts) checkCAs(ctx context.Context) error {
	var problems []error
	issuing := 0
	for _, ca := range p.Catalog.Snapshot().CAs() {
		if !canIssue(ca) {
			continue
		}
		issuing++
		if _, err := p.Signers.Signer(ctx, ca.KeyID); err != nil {
			problems = append(problems, fmt.Errorf("key of CA %s: %w", ca.Name, err))
		}
	}
	if issuing > 0 && len(problems) == issuing {
		return errors.Join(problems...)
	}
	return nil
}

// apiConfig is what the REST API needs.
func (p *Parts) apiConfig(checks []check, own *ownCertificate) api.Config {
	return api.Config{
		BaseURL: p.baseURL(), AgentURL: p.Settings.AgentAddress(), Version: p.Version, Catalog: p.Catalog, Auth: p.Auth, Store: p.Store, Figures: p.Figures, Authority: p.Authority,
		Issuer: p.Issuer, Revoker: p.Revoker, Notifier: p.Notifier, Vault: p.Vault, Now: p.Now, Random: p.Random, Logger: p.Logger,
		Ready:    func(ctx context.Context) []string { return failures(ctx, checks) },
		ServerCA: func() string { return own.root(p.cas()) }, Replica: p.Replica,
	}
}
