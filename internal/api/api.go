// Package api is the REST API at /api/v1: it translates between HTTP and the packages that decide, and serves the
// OpenAPI document that describes it.
//
// It must never decide what may be issued or changed, hold a key, or answer a request whose caller's role does not have
// the access that the operation declares. It trusts nothing of a request: bodies are bounded, unknown members and
// parameters are refused, and all that is wrong is told at once, as a problem document (RFC 9457) made from
// internal/fault.
package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
)

// Inventory finds certificates and identities. VisibleCertificate and VisibleIdentity answer NotFound, also for what
// none of the patterns that are seen names.
type Inventory interface {
	VisibleCertificate(ctx context.Context, serial pki.Serial, sees []string) (*pki.Certificate, error)
	Certificates(ctx context.Context, filter pki.CertificateFilter, now time.Time) ([]pki.Certificate, error)
	VisibleIdentity(ctx context.Context, name string, sees []string) (*pki.Identity, error)
	RolledUp(ctx context.Context, identity string) (*pki.RollUp, error)
	Retire(ctx context.Context, cluster string, names []string, at time.Time, event func(name string) audit.Event) ([]string, error)
	Restore(ctx context.Context, cluster string, names []string, event func(name string) audit.Event) ([]string, error)
	Identities(ctx context.Context, filter pki.IdentityFilter, now time.Time) ([]pki.Identity, error)
}

// Journal reads the audit log.
type Journal interface {
	Events(ctx context.Context, filter pki.EventFilter) ([]audit.Event, error)
}

// Database tells how the database is, and reads the credentials with what changes without a change of the catalog:
// when they were last used, and how many accounts they have.
type Database interface {
	Ping(ctx context.Context) error
	Dialect() string
	Stats(ctx context.Context) (pki.Stats, error)
	Space(ctx context.Context) (pki.Space, error)
	Credentials(ctx context.Context) ([]pki.Credential, error)
}

// Once keeps requests that have a key of their client's, for all replicas; pki.Once has the contract's words.
type Once interface {
	ClaimOnce(ctx context.Context, once pki.Once, abandoned time.Time) (*pki.Once, error)
	AnswerOnce(ctx context.Context, once pki.Once) error
	ReleaseOnce(ctx context.Context, once pki.Once) error
}

// Vault seals what must not lie in the database as it is.
type Vault interface {
	Seal(purpose, id string, plain []byte) ([]byte, error)
	Unseal(purpose, id string, sealed []byte) ([]byte, error)
}

// ConnectorReader reads connectors and what has happened in their clusters. Connector answers NotFound.
type ConnectorReader interface {
	Connectors(ctx context.Context) ([]pki.Connector, error)
	Connector(ctx context.Context, name string) (*pki.Connector, error)
	ConnectorFacts(ctx context.Context, credential pki.CredentialID, workloads, except string) (*pki.ConnectorFacts, error)
}

// ConnectorWriter changes connectors, each method in one transaction with its event. TakeDownload uses an address up: one
// of all that ask gets it, the others NotFound.
type ConnectorWriter interface {
	CreateConnector(ctx context.Context, c *pki.Connector, downloads []pki.Download, event audit.Event) error
	DeleteConnector(ctx context.Context, name string, event audit.Event) error
	TakeDownload(ctx context.Context, hash [32]byte, now time.Time, event audit.Event) (connector string, err error)
	RecordEvent(ctx context.Context, event audit.Event) error
}

// Imports keeps certificates of other CAs. Those that name one answer NotFound.
type Imports interface {
	AddImported(ctx context.Context, c *pki.Imported, event audit.Event) (added bool, err error)
	ImportedCertificates(ctx context.Context, filter pki.ImportedFilter, now time.Time) ([]pki.Imported, error)
	ImportedCertificate(ctx context.Context, fingerprint []byte) (*pki.Imported, error)
	DeleteImported(ctx context.Context, fingerprint []byte, event audit.Event) error
	CertificateByFingerprint(ctx context.Context, fingerprint []byte) (*pki.Certificate, error)
}

// Store is all of them. It is safe for concurrent use.
type Store interface {
	Inventory
	Views
	Journal
	Database
	Once
	ConnectorReader
	ConnectorWriter
	Imports
	AlertRules
	Channels
	Deliveries
}

// Config is what a Server needs.
type Config struct {
	// BaseURL is how clients reach this server, https://HOST[:PORT]; the ACME directory that new credentials are
	// handed out with lies there. Required.
	BaseURL   string
	AgentURL  string                         // where agents enrol; "" when they are not served
	Version   string                         // of the product
	Catalog   *catalog.Catalog               // required
	Auth      *auth.Authenticator            // required
	Store     Store                          // required
	Figures   Figures                        // required
	Authority Authority                      // required
	Issuer    Issuer                         // required
	Revoker   Revoker                        // required
	Notifier  Notifier                       // required
	Ready     func(context.Context) []string // why the server is not ready, for the status; nil: the catalog's health alone
	Vault     Vault                          // required; of answers that are kept to be repeated
	Now       func() time.Time               // required
	Random    io.Reader                      // required; of request IDs and of what the ceremony of CAs needs
	Logger    *slog.Logger                   // nil: nothing is logged
	Replica   string                         // name of this process in audit events; may be empty
	// ServerCA returns the roots, in PEM, that this server's own certificate leads to; "" when it is not one of our CAs.
	// nil: always "".
	ServerCA func() string
	// Client says where a request came from; nil: the connection's peer. A server behind a proxy knows better.
	Client func(*http.Request) pki.Client
}

// Server answers the API. It is safe for concurrent use.
type Server struct {
	config   Config
	mux      *http.ServeMux
	api      huma.API
	document []byte
	chart    []byte         // of certloom-agent, packed
	refusals *audit.Limiter // which ones are recorded
	// operations are all that are registered, until New returns.
	operations []shown
	// compressors are *gzip.Writer that are not in use.
	compressors sync.Pool
}

// check names what a configuration lacks.
func (config *Config) check() error {
	switch {
	case config.Catalog == nil || config.Auth == nil || config.Store == nil:
		return errors.New("api: Catalog, Auth and Store are required")
	case config.Authority == nil || config.Issuer == nil || config.Revoker == nil || config.Figures == nil:
		return errors.New("api: Authority, Issuer, Revoker and Figures are required")
	case config.Notifier == nil:
		return errors.New("api: Notifier is required")
	case config.Vault == nil || config.Now == nil || config.Random == nil:
		return errors.New("api: Vault, Now and Random are required")
	case !strings.HasPrefix(config.BaseURL, "https://"):
		return fmt.Errorf("api: BaseURL %q does not begin with https://", config.BaseURL)
	}
	return nil
}

// New checks the configuration and registers every operation.
func New(config Config) (*Server, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Client == nil {
		config.Client = peer
	}
	config.BaseURL = strings.TrimSuffix(config.BaseURL, "/")
	s := &Server{config: config, mux: http.NewServeMux()}
	if err := s.prepareConnectors(); err != nil {
		return nil, err
	}
	s.api = huma.NewAPI(s.description(), adapter{humago.NewAdapter(s.mux, apiv1.Prefix), s})
	s.api.UseMiddleware(s.admit, s.choose, s.once, s.match)
	s.routes()
	return s, s.describe()
}

// routes lists every operation.
func (s *Server) routes() {
	s.accessRoutes()
	s.statusRoutes()
	s.statisticsRoutes()
	s.caRoutes()
	s.profileRoutes()
	s.policyRoutes()
	s.credentialRoutes()
	s.connectorRoutes()
	s.denialRoutes()
	s.certificateRoutes()
	s.identityRoutes()
	s.viewRoutes()
	s.importedRoutes()
	s.alertRoutes()
	s.channelRoutes()
	s.tokenRoutes()
	s.userRoutes()
	s.factorRoutes()
	s.eventRoutes()
	s.mux.HandleFunc("GET "+apiv1.Prefix+"/openapi.json", s.openAPI)
	s.mux.HandleFunc("/", s.noRoute)
}

// Handler answers everything that it is handed, which should be everything under /api/.
func (s *Server) Handler() http.Handler { return s.mux }
