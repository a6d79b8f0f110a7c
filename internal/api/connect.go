package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/certloom/certloom/deploy/charts"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/connector"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// connectPrefix is where packages are had once, without a token: what follows it is as good as one.
const connectPrefix = "/connect/"

// prepareConnectors packs what packages have in common.
func (s *Server) prepareConnectors() error {
	chart, err := charts.Agent()
	if err != nil {
		return fmt.Errorf("api: chart of the agent: %w", err)
	}
	if s.chart, err = connector.PackChart(chart, "certloom-agent"); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	if s.refusals, err = audit.NewLimiter(); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	return nil
}

// Connect answers everything under /connect/.
func (s *Server) Connect() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		err := s.connect(w, r)
		if err == nil {
			return
		}
		problem := fault.From(err)
		meaning := problem.Kind.Meaning()
		client := s.config.Client(r)
		s.config.Logger.Log(r.Context(), meaning.Level, "download refused", telemetry.KeyStatus, meaning.Status,
			telemetry.KeyError, err, telemetry.KeyAddress, client.Address)
		if problem.Kind == fault.NotFound {
			s.recordRefusal(r.Context(), client, problem)
		}
		http.Error(w, problem.Public, meaning.Status)
	})
}

// connect serves a package: manifests for kubectl as .yaml or without an ending, all files as .zip.
func (s *Server) connect(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet { // a HEAD of somebody's link preview must not use it up
		w.Header().Set("Allow", http.MethodGet)
		return fault.New(fault.MethodNotAllowed, "method %.20q is not GET", r.Method)
	}
	secret := strings.TrimPrefix(r.URL.Path, connectPrefix)
	secret, zipped := strings.CutSuffix(secret, ".zip")
	secret = strings.TrimSuffix(secret, ".yaml")
	if err := s.config.Catalog.Poll(r.Context()); err != nil { // the connector may have been made through another replica
		return err
	}
	event := s.connectorEvent(audit.By{Actor: audit.Actor{Kind: audit.Nobody}, Client: s.config.Client(r)}, audit.ConnectorDownload, &pki.Connector{})
	name, err := s.config.Store.TakeDownload(r.Context(), sha256.Sum256([]byte(secret)), s.config.Now(), event)
	if err != nil {
		return err
	}
	c, files, err := s.storedPackage(r.Context(), name)
	if err != nil {
		return err
	}
	if !zipped {
		w.Header().Set("Content-Type", "application/yaml")
		w.Write(connector.Manifests(c, files))
		return nil
	}
	archive, err := connector.Zip(c, files, c.CreatedAt)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="`+connector.Folder(c)+`.zip"`)
	w.Write(archive)
	return nil
}

// storedPackage makes the package of a connector once more. It was good when it was made; only its credential may have
// ended since.
func (s *Server) storedPackage(ctx context.Context, name string) (*pki.Connector, []connector.File, error) {
	c, err := s.config.Store.Connector(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	view := s.config.Catalog.Snapshot()
	p, ok := view.Profile(c.ProfileID)
	credential, known := view.Credential(c.CredentialID)
	if !ok || !known {
		return nil, nil, errors.New("the connector's profile or credential is gone")
	}
	if !credential.Usable(s.config.Now()) {
		return nil, nil, fault.New(fault.Conflict, "the credential of this package was revoked or has expired")
	}
	key, err := s.config.Catalog.CredentialKey(ctx, credential)
	if err != nil {
		return nil, nil, err
	}
	files, err := s.packageOf(c, p, key)
	return c, files, err
}
