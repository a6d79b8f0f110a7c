package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
)

func (s *Server) statusRoutes() {
	register(s, operation{
		id: "get-status", method: http.MethodGet, path: "/status", tag: "status", access: auth.Read, asIs: true,
		summary: "Show how the server is",
	}, s.getStatus)
}

// statusPatience is how long the database may take to answer a question about itself.
const statusPatience = 5 * time.Second

// getStatus answers also when the database does not: that is when it is asked.
func (s *Server) getStatus(ctx context.Context, _ *struct{}) (*output[apiv1.Status], error) {
	out := apiv1.Status{
		Version: s.config.Version, Time: s.config.Now().UTC(), Problems: []string{}, CAs: []apiv1.StatusCA{},
		Database: apiv1.StatusDatabase{Kind: s.config.Store.Dialect()},
	}
	silent := s.databaseStatus(ctx, &out)
	if age, known := s.config.Catalog.Age(); known {
		out.Catalog.Age = age.Round(time.Millisecond).String()
	}
	if s.config.Ready != nil {
		out.Problems = append(out.Problems, s.config.Ready(ctx)...)
	} else if err := s.config.Catalog.Healthy(); err != nil {
		out.Problems = append(out.Problems, fault.From(err).Public)
	}
	if silent != "" && len(out.Problems) == 0 { // the checks above know more of it
		out.Problems = append(out.Problems, silent)
	}
	for _, ca := range s.config.Catalog.Snapshot().CAs() {
		wire := apiv1.StatusCA{Name: ca.Name, Kind: string(ca.Kind), State: string(ca.State)}
		if ca.Certificate != nil {
			certificate, err := x509.ParseCertificate(ca.Certificate)
			if err != nil {
				return nil, fmt.Errorf("parse certificate of CA %q: %w", ca.Name, err)
			}
			wire.NotAfter = certificate.NotAfter.UTC()
		}
		out.CAs = append(out.CAs, wire)
	}
	out.Ready = len(out.Problems) == 0
	return answer(out), nil
}

// databaseStatus fills in what the database says; what it returns is why it says nothing.
func (s *Server) databaseStatus(ctx context.Context, out *apiv1.Status) string {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	begin := s.config.Now()
	if err := s.config.Store.Ping(ctx); err != nil {
		return "database does not answer"
	}
	out.Database.Answer = s.config.Now().Sub(begin).Round(time.Microsecond).String()
	stats, err := s.config.Store.Stats(ctx)
	if err != nil {
		return "database does not answer in time"
	}
	space, err := s.config.Store.Space(ctx)
	if err != nil {
		return "database does not answer in time"
	}
	out.Database.Bytes, out.Database.Free = space.Bytes, space.Free
	out.Counts = apiv1.StatusCounts{
		Certificates: stats.Certificates, Identities: stats.Identities, Accounts: stats.Accounts, Orders: stats.Orders, Revoked: stats.Revoked,
	}
	return ""
}
