package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/connector"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

func (s *Server) connectorRoutes() {
	const tag = "connectors"
	register(s, operation{
		id: "list-connectors", method: http.MethodGet, path: "/connectors", tag: tag, access: auth.Read,
		summary: "List connectors",
	}, s.listConnectors)
	register(s, operation{
		id: "create-connector", method: http.MethodPost, path: "/connectors", tag: tag, access: auth.Operate,
		status: http.StatusCreated, summary: "Make a connector and its package, which is shown once",
	}, s.createConnector)
	register(s, operation{
		id: "get-connector", method: http.MethodGet, path: "/connectors/{name}", tag: tag, access: auth.Read,
		summary: "Show a connector",
	}, s.getConnector)
	register(s, operation{
		id: "get-connector-status", method: http.MethodGet, path: "/connectors/{name}/status", tag: tag, access: auth.Read,
		summary: "Show how far a connector's cluster has come",
	}, s.connectorStatus)
	register(s, operation{
		id: "delete-connector", method: http.MethodDelete, path: "/connectors/{name}", tag: tag, access: auth.Operate,
		summary: "Delete a connector; what was issued stays",
	}, s.deleteConnector)
}

// ConnectorPath names a connector.
type ConnectorPath struct {
	Name string `path:"name" doc:"Name of the connector." maxLength:"100"`
}

func (s *Server) listConnectors(ctx context.Context, in *PageQuery) (*output[apiv1.Page[apiv1.Connector]], error) {
	all, err := s.config.Store.Connectors(ctx)
	if err != nil {
		return nil, err
	}
	name := func(c pki.Connector) string { return c.Name }
	shown, next := cut(in, sortedBy(all, name), name)
	page := apiv1.Page[apiv1.Connector]{Items: make([]apiv1.Connector, 0, len(shown)), Next: next}
	for i := range shown {
		status, err := s.progress(ctx, &shown[i])
		if err != nil {
			return nil, err
		}
		page.Items = append(page.Items, status.Connector)
	}
	return answer(page), nil
}

func (s *Server) getConnector(ctx context.Context, in *ConnectorPath) (*output[apiv1.Connector], error) {
	status, err := s.connectorStatus(ctx, in)
	if err != nil {
		return nil, err
	}
	return answer(status.Body.Connector), nil
}

func (s *Server) connectorStatus(ctx context.Context, in *ConnectorPath) (*output[apiv1.ConnectorStatus], error) {
	c, err := s.config.Store.Connector(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	status, err := s.progress(ctx, c)
	if err != nil {
		return nil, err
	}
	return answer(*status), nil
}

// progress reads how far a cluster has come from what the database holds of its credential.
func (s *Server) progress(ctx context.Context, c *pki.Connector) (*apiv1.ConnectorStatus, error) {
	workloads := "spiffe://" + c.Settings.TrustDomain + "/ns/"
	facts, err := s.config.Store.ConnectorFacts(ctx, c.CredentialID, workloads, connector.IstiodID(c).String())
	if err != nil {
		return nil, err
	}
	view := s.config.Catalog.Snapshot()
	step := func(id string, at time.Time) apiv1.ConnectorProgress {
		return apiv1.ConnectorProgress{ID: id, Done: !at.IsZero(), At: utc(at)}
	}
	wire := s.wireConnector(view, c)
	wire.Workloads, wire.Certificates, wire.LastIssuedAt = facts.Workloads, facts.Certificates, utc(facts.NewestAt)
	wire.State = connectorState(view, c, facts, s.config.Now())
	return &apiv1.ConnectorStatus{Connector: wire, Progress: []apiv1.ConnectorProgress{
		step("credential", c.CreatedAt), step("registered", facts.RegisteredAt), step("certificate", facts.FirstAt),
		step("workloads", facts.FirstWorkloadAt),
	}}, nil
}

// connectorState is one word for it.
func connectorState(view *catalog.Snapshot, c *pki.Connector, facts *pki.ConnectorFacts, now time.Time) string {
	credential, ok := view.Credential(c.CredentialID)
	p, known := view.Profile(c.ProfileID)
	switch {
	case !ok || !credential.Usable(now):
		return "revoked"
	case facts.RegisteredAt.IsZero():
		return "waiting"
	case facts.FirstAt.IsZero():
		return "registered"
	case known && now.Sub(facts.NewestAt) > time.Duration(p.Rules.Validity.Max):
		return "quiet"
	default:
		return "issuing"
	}
}

func (s *Server) wireConnector(view *catalog.Snapshot, c *pki.Connector) apiv1.Connector {
	out := apiv1.Connector{
		Name: c.Name, Kind: c.Kind, Mode: string(c.Mode), Profile: profileName(view, c.ProfileID), KeyID: string(c.CredentialID),
		TrustDomain: c.Settings.TrustDomain, IstioNamespace: c.Settings.IstioNamespace, Dataplane: string(c.Settings.Dataplane),
		IssuerName: c.Settings.IssuerName, Email: c.Settings.Email, AgentImage: c.Settings.AgentImage, State: "waiting",
		CreatedBy: c.CreatedBy, CreatedAt: utc(c.CreatedAt),
	}
	if credential, ok := view.Credential(c.CredentialID); ok {
		out.Credential = credential.Name
	}
	return out
}

func (s *Server) createConnector(ctx context.Context, in *struct{ body[apiv1.CreateConnector] }) (*output[apiv1.NewConnector], error) {
	view, now := s.config.Catalog.Snapshot(), s.config.Now().UTC()
	p, err := namedProfile(view, in.Body.Profile, "/profile")
	if err != nil {
		return nil, err
	}
	subject := &connector.Subject{Profile: p, AgentURL: s.config.AgentURL}
	subject.IssuingCA, _ = view.CA(p.IssuingCA)
	by := auth.PrincipalOf(ctx).By()
	c := connectorOf(&in.Body, p, by, now)
	connector.Complete(c, subject)
	key, err := s.existingKey(ctx, view, &in.Body, subject)
	if err := errors.Join(err, s.checkConnector(ctx, c), checkServerCA(in.Body.ServerCA), connector.Check(c, subject, now)); err != nil {
		return nil, err
	}
	made := subject.Credential == nil
	if made {
		request := catalog.NewCredential{ProfileID: p.ID, Name: in.Body.Credential, ExpiresAt: in.Body.ExpiresAt}
		if subject.Credential, key, err = s.config.Catalog.CreateCredential(ctx, request, by); err != nil {
			return nil, nameOf(err)
		}
	}
	c.CredentialID = subject.Credential.ID
	out, err := s.storeConnector(ctx, c, p, key, by)
	if err != nil && made {
		// Nobody has its key, so it is of no use; and its name stays taken, which the refusal should not cost twice.
		_, revokeErr := s.config.Catalog.RevokeCredential(ctx, subject.Credential.ID, by)
		err = errors.Join(err, revokeErr)
	}
	if err != nil {
		return nil, err
	}
	return answer(*out), nil
}

// connectorOf reads a request; what is left out stays empty.
func connectorOf(in *apiv1.CreateConnector, p *pki.Profile, by audit.By, now time.Time) *pki.Connector {
	c := &pki.Connector{
		Name: in.Name, Kind: in.Kind, Mode: pki.ConnectorMode(in.Mode), ProfileID: p.ID, CreatedBy: by.Actor.Name, CreatedAt: now,
		Settings: pki.ConnectorSettings{
			TrustDomain: in.TrustDomain, IstioNamespace: in.IstioNamespace, Dataplane: pki.Dataplane(in.Dataplane),
			IssuerName: in.IssuerName, Email: in.Email, AgentImage: in.AgentImage, ServerCA: in.ServerCA,
		},
	}
	if c.Name == "" {
		c.Name = in.Credential
	}
	return c
}

// nameOf makes a refusal of the credential's name one of this request's field.
func nameOf(err error) error {
	refused := fault.From(err)
	if refused.Kind == fault.Internal || refused.Field != "/name" {
		return err
	}
	told := *refused
	return told.WithField("/credential")
}

// existingKey finds the credential that the request has the key of. Without a key it must not exist: keys are shown once.
func (s *Server) existingKey(ctx context.Context, view *catalog.Snapshot, in *apiv1.CreateConnector, subject *connector.Subject) ([]byte, error) {
	p := subject.Profile
	var known *pki.Credential
	for _, c := range view.CredentialsOf(p.ID) {
		if c.Name == in.Credential {
			known = c
		}
	}
	switch {
	case known == nil && in.HMACKey != "":
		return nil, fault.New(fault.Malformed, "profile %q has no credential %.80q whose HMAC key this could be", p.Name, in.Credential).WithField("/credential")
	case known == nil:
		if err := pki.CheckName(in.Credential); err != nil {
			return nil, fault.New(fault.Malformed, "credential %v", err).WithField("/credential")
		}
		return nil, nil
	case in.HMACKey == "":
		return nil, fault.New(fault.Conflict, "profile %q has a credential %q already, whose HMAC key was shown once and cannot be asked for again", p.Name, known.Name).
			WithField("/credential").WithHint("give the key with --hmac-key-file, or take another name: a new credential is made")
	}
	subject.Credential = known
	key, err := s.config.Catalog.CredentialKey(ctx, known)
	if err != nil {
		return nil, err
	}
	if given, err := base64.RawURLEncoding.Strict().DecodeString(in.HMACKey); err != nil || subtle.ConstantTimeCompare(given, key) != 1 {
		return nil, fault.New(fault.Malformed, "this is not the HMAC key of credential %q of profile %q; it is 43 characters of unpadded base64url", known.Name, p.Name).
			WithField("/hmacKey")
	}
	return key, nil
}

// checkConnector refuses a name that is taken before a credential is made for it.
func (s *Server) checkConnector(ctx context.Context, c *pki.Connector) error {
	_, err := s.config.Store.Connector(ctx, c.Name)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	}
	return fault.New(fault.Conflict, "there is a connector for a cluster %q already", c.Name).WithField("/name").
		WithHint("delete it first: certloom connector delete %s --revoke", c.Name)
}

func checkServerCA(text string) error {
	rest := []byte(text)
	for len(bytes.TrimSpace(rest)) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return fault.New(fault.Malformed, "serverCa is not certificates in PEM").WithField("/serverCa")
		}
	}
	return nil
}

const (
	// downloadLife is how long a package's addresses are good: as long as somebody needs to paste a line.
	downloadLife = 15 * time.Minute
	secretBytes  = 32
)

// storeConnector stores a connector, and returns its package with the addresses that give it once more.
func (s *Server) storeConnector(ctx context.Context, c *pki.Connector, p *pki.Profile, key []byte, by audit.By) (*apiv1.NewConnector, error) {
	files, err := s.packageOf(c, p, key)
	if err != nil {
		return nil, err
	}
	var addresses [2]string
	downloads := make([]pki.Download, len(addresses))
	for i, suffix := range []string{".yaml", ".zip"} {
		secret := make([]byte, secretBytes)
		if _, err := io.ReadFull(s.config.Random, secret); err != nil {
			return nil, fmt.Errorf("read randomness: %w", err)
		}
		text := base64.RawURLEncoding.EncodeToString(secret)
		downloads[i] = pki.Download{Hash: sha256.Sum256([]byte(text)), Connector: c.Name, ExpiresAt: c.CreatedAt.Add(downloadLife)}
		addresses[i] = s.config.BaseURL + connectPrefix + text + suffix
	}
	event := s.connectorEvent(by, audit.ConnectorCreate, c)
	if err := s.config.Store.CreateConnector(ctx, c, downloads, event); err != nil {
		return nil, err
	}
	out := &apiv1.NewConnector{
		Connector: s.wireConnector(s.config.Catalog.Snapshot(), c), ApplyURL: addresses[0], ZIPURL: addresses[1],
		URLsExpire: utc(downloads[0].ExpiresAt), Steps: wireSteps(connector.Steps(c)),
	}
	for _, f := range files {
		wire := apiv1.ConnectorFile{Name: f.Name, Text: string(f.Data), Secret: f.Secret}
		if f.Binary {
			wire.Text, wire.Data = "", f.Data
		}
		out.Files = append(out.Files, wire)
	}
	out.ApplySteps = wireSteps(connector.ApplySteps(c, files, out.ApplyURL, s.serverCA(c) != ""))
	return out, nil
}

func wireSteps(steps []connector.Step) []apiv1.ConnectorStep {
	out := make([]apiv1.ConnectorStep, len(steps))
	for i, step := range steps {
		out[i] = apiv1.ConnectorStep{ID: step.ID, Title: step.Title, Commands: step.Commands, Checks: step.Checks, Note: step.Note}
		if out[i].Commands == nil {
			out[i].Commands = []string{}
		}
		if out[i].Checks == nil {
			out[i].Checks = []string{}
		}
	}
	return out
}

// serverCA is what this server's own certificate leads to.
func (s *Server) serverCA(c *pki.Connector) string {
	if c.Settings.ServerCA != "" || s.config.ServerCA == nil {
		return c.Settings.ServerCA
	}
	return s.config.ServerCA()
}

// packageOf makes a connector's files.
func (s *Server) packageOf(c *pki.Connector, p *pki.Profile, key []byte) ([]connector.File, error) {
	ders, _ := s.config.Catalog.Snapshot().Roots(c.Settings.TrustDomain)
	var roots bytes.Buffer
	for _, der := range ders {
		if err := pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return nil, fmt.Errorf("write root: %w", err)
		}
	}
	if roots.Len() == 0 {
		return nil, fault.New(fault.Conflict, "the root above profile %q is not known, so the mesh would trust nothing", p.Name).WithField("/profile")
	}
	return connector.Package(&connector.Input{
		Connector: c, Profile: p, BaseURL: s.config.BaseURL, Directory: s.directoryURL(), AgentURL: s.config.AgentURL,
		HMACKey: base64.RawURLEncoding.EncodeToString(key), Roots: roots.String(), ServerCA: s.serverCA(c), Chart: s.chart,
	})
}

func (s *Server) connectorEvent(by audit.By, action audit.Action, c *pki.Connector) audit.Event {
	return audit.Event{
		Time: s.config.Now().UTC(), Actor: by.Actor, Action: action, Target: c.Name, Client: by.Client, Request: by.Request,
		Replica: s.config.Replica, Outcome: audit.Done, Detail: audit.Detail{Profile: c.ProfileID, Credential: c.CredentialID},
	}
}

func (s *Server) deleteConnector(ctx context.Context, in *struct {
	ConnectorPath
	Revoke bool `query:"revoke" doc:"Revoke its credential as well: the cluster obtains nothing more."`
},
) (*struct{}, error) {
	c, err := s.config.Store.Connector(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	by := auth.PrincipalOf(ctx).By()
	if in.Revoke { // first: a connector that is gone would be no reminder of what could not be revoked
		if _, err := s.config.Catalog.RevokeCredential(ctx, c.CredentialID, by); err != nil {
			return nil, err
		}
	}
	return nil, s.config.Store.DeleteConnector(ctx, c.Name, s.connectorEvent(by, audit.ConnectorDelete, c))
}

// recordRefusal records that an address of a package was no good, as far as the limit of refusals allows.
func (s *Server) recordRefusal(ctx context.Context, client pki.Client, problem *fault.Error) {
	event := audit.Event{
		Time: s.config.Now().UTC(), Actor: audit.Actor{Kind: audit.Nobody}, Action: audit.ConnectorRefuse, Client: client,
		Replica: s.config.Replica, Outcome: audit.Refused, Detail: audit.Detail{Reason: problem.Public, Problem: problem.Kind.Meaning().ACME},
	}
	if !s.refusals.Allow(&event) {
		return
	}
	if err := s.config.Store.RecordEvent(ctx, event); err != nil {
		s.config.Logger.ErrorContext(ctx, "refusal not recorded", telemetry.KeyError, err)
	}
}
