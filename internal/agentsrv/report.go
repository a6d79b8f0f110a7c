package agentsrv

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Bounds of a report.
const (
	maxReported = 50_000
	reportPage  = 500 // identities that are looked at, and marked, at a time
)

// report marks identities of the agent's cluster as gone, or takes the mark away. An agent speaks for the cluster that it has
// enrolled with, and for trust domains that its profile allows.
func (s *Server) report(ctx context.Context, c *call, in *agentapi.ReportRequest) error {
	domain := in.GetTrustDomain()
	if !slices.Contains(c.agent.profile.Rules.Names.SPIFFE.TrustDomains, domain) {
		return fault.New(fault.Unauthorized, "profile %q does not allow trust domain %.100q", c.agent.profile.Name, domain)
	}
	if n := len(in.GetRunning()) + len(in.GetStopped()); n > maxReported {
		return fault.New(fault.Malformed, "report has %d ServiceAccounts, more than %d", n, maxReported)
	}
	running, err := identitiesOf(domain, in.GetRunning())
	if err != nil {
		return err
	}
	stopped, err := identitiesOf(domain, in.GetStopped())
	if err != nil {
		return err
	}
	if in.GetComplete() {
		return s.reportAll(ctx, c, domain, running)
	}
	if err := s.retire(ctx, c, stopped); err != nil {
		return err
	}
	return s.restore(ctx, c, running)
}

// reportAll looks at all identities of the cluster that a complete report can change: those that are overdue, and those that
// are gone.
func (s *Server) reportAll(ctx context.Context, c *call, domain string, running []string) error {
	runs := make(map[string]bool, len(running))
	for _, name := range running {
		runs[name] = true
	}
	behind := ""
	for {
		page, err := s.config.Store.Overdue(ctx, c.agent.cluster, domain, c.now, behind, reportPage)
		if err != nil {
			return fmt.Errorf("find overdue identities: %w", err)
		}
		var gone, back []string
		for _, i := range page {
			switch {
			case runs[i.Name] && !i.GoneAt.IsZero():
				back = append(back, i.Name)
			case !runs[i.Name] && i.GoneAt.IsZero():
				gone = append(gone, i.Name)
			}
			behind = i.Name
		}
		if err := s.retire(ctx, c, gone); err != nil {
			return err
		}
		if err := s.restore(ctx, c, back); err != nil {
			return err
		}
		if len(page) < reportPage {
			return nil
		}
	}
}

func (s *Server) retire(ctx context.Context, c *call, names []string) error {
	for chunk := range slices.Chunk(names, reportPage) {
		if _, err := s.config.Store.Retire(ctx, c.agent.cluster, chunk, c.now, s.reported(c, audit.IdentityRetire)); err != nil {
			return fmt.Errorf("retire identities: %w", err)
		}
	}
	return nil
}

func (s *Server) restore(ctx context.Context, c *call, names []string) error {
	for chunk := range slices.Chunk(names, reportPage) {
		if _, err := s.config.Store.Restore(ctx, c.agent.cluster, chunk, s.reported(c, audit.IdentityRestore)); err != nil {
			return fmt.Errorf("restore identities: %w", err)
		}
	}
	return nil
}

// reported makes the events of what an agent has reported.
func (s *Server) reported(c *call, action audit.Action) func(string) audit.Event {
	return func(name string) audit.Event {
		return audit.Event{
			Time: c.now, Actor: c.actor(), Action: action, Target: name, Client: c.client, Request: c.id, Replica: s.config.Replica, Outcome: audit.Done,
		}
	}
}

func identitiesOf(domain string, accounts []string) ([]string, error) {
	names := make([]string, 0, len(accounts))
	for _, account := range accounts {
		namespace, name, ok := strings.Cut(account, "/")
		id := pki.SPIFFEID{TrustDomain: domain, Namespace: namespace, ServiceAccount: name}.String()
		if _, err := pki.ParseSPIFFEID(id); !ok || err != nil {
			return nil, fault.New(fault.Malformed, "%.120q is not NAMESPACE/SERVICE_ACCOUNT", account)
		}
		names = append(names, id)
	}
	return names, nil
}
