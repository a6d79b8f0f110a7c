package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/pki"
)

// Figures are how the whole is, or the part of it that patterns name, a moment ago. They are safe for concurrent use.
type Figures interface {
	Figures(ctx context.Context, sees []string) (*pki.Figures, error)
}

func (s *Server) statisticsRoutes() {
	register(s, operation{
		id: "get-statistics", method: http.MethodGet, path: "/statistics", tag: "status", access: auth.Inventory, asIs: true,
		summary: "Show what there is and what happens, in figures",
	}, s.getStatistics)
}

func (s *Server) getStatistics(ctx context.Context, _ *struct{}) (*output[apiv1.Statistics], error) {
	figures, err := s.config.Figures.Figures(ctx, auth.PrincipalOf(ctx).Sees)
	if err != nil {
		return nil, err
	}
	ids := &figures.Identities
	out := apiv1.Statistics{
		At: figures.At.UTC(),
		Identities: apiv1.IdentityStatistics{
			Total: ids.Total(), OK: ids.Statuses[pki.IdentityOK], RenewalDue: ids.Statuses[pki.IdentityRenewalDue],
			Lapsing: ids.Statuses[pki.IdentityLapsing], Lapsed: ids.Statuses[pki.IdentityLapsed], Gone: ids.Statuses[pki.IdentityGone],
		},
		LifetimeLeft: []apiv1.LifetimeClass{}, ExpiresIn: []apiv1.ExpiryClass{}, Lapsing: []apiv1.Identity{},
		Clusters: wireClusters(figures),
	}
	for i, percent := range pki.LeftClasses() {
		out.LifetimeLeft = append(out.LifetimeLeft, apiv1.LifetimeClass{Percent: percent, Count: ids.Left[i]})
	}
	for i, n := range ids.Ends {
		class := apiv1.ExpiryClass{Count: n}
		if i < len(pki.EndClasses()) {
			class.Within = pki.EndClasses()[i].String()
		}
		out.ExpiresIn = append(out.ExpiresIn, class)
	}
	view, now := s.config.Catalog.Snapshot(), s.config.Now()
	for i := range ids.Lapsing {
		out.Lapsing = append(out.Lapsing, wireIdentity(view, &ids.Lapsing[i], now))
	}
	if figures.Whole == nil {
		return answer(out), nil
	}
	wireWhole(&out, figures)
	out.CAs, err = wireCAStatistics(view.CAs(), figures.Whole.Alive)
	return answer(out), err
}

// wireClusters leaves out identities of which no cluster is known.
func wireClusters(figures *pki.Figures) []apiv1.ClusterStatistic {
	clusters := []apiv1.ClusterStatistic{}
	for _, c := range figures.Identities.Clusters {
		if c.Name == "" {
			continue
		}
		wire := apiv1.ClusterStatistic{
			Name: c.Name, Identities: c.Identities, Lapsing: c.Lapsing, Lapsed: c.Lapsed, LastIssuedAt: utc(c.LastIssued),
		}
		if figures.Whole != nil {
			wire.IssuedLastHour = new(figures.Whole.Clusters[c.Name])
		}
		clusters = append(clusters, wire)
	}
	return clusters
}

// wireWhole adds what is counted of everything together.
func wireWhole(out *apiv1.Statistics, figures *pki.Figures) {
	whole := figures.Whole
	out.Certificates = &apiv1.CertificateCounts{Issued: whole.Stats.Certificates, Revoked: whole.Stats.Revoked}
	for _, n := range whole.Alive {
		out.Certificates.Alive += n
	}
	const minutes, hours = 60, 24
	last := figures.At.UTC().Truncate(time.Minute)
	perMinute := whole.Issued[max(0, len(whole.Issued)-minutes):]
	out.Issued = &apiv1.Issued{PerMinute: apiv1.Series{
		Start: last.Add(-time.Duration(len(perMinute)-1) * time.Minute), Step: time.Minute.String(), Counts: perMinute,
	}}
	for _, n := range perMinute {
		out.Issued.LastHour += n
	}
	perHour := apiv1.Series{
		Start: last.Truncate(time.Hour).Add(-(hours - 1) * time.Hour), Step: time.Hour.String(), Counts: make([]int64, hours),
	}
	for i, n := range whole.Issued {
		at := last.Add(-time.Duration(len(whole.Issued)-1-i) * time.Minute)
		if hour := int(at.Sub(perHour.Start) / time.Hour); !at.Before(perHour.Start) && hour < hours {
			perHour.Counts[hour] += n
		}
	}
	out.Issued.PerHour = perHour
	out.Refused = &apiv1.Refused{ByReason: []apiv1.RefusedReason{}}
	for _, r := range whole.Refusals {
		out.Refused.LastHour += r.LastHour
		out.Refused.LastDay += r.LastDay
		out.Refused.ByReason = append(out.Refused.ByReason, apiv1.RefusedReason(r))
	}
}

func wireCAStatistics(cas []*pki.CA, alive map[pki.CAID]int64) ([]apiv1.CAStatistics, error) {
	all := make([]apiv1.CAStatistics, 0, len(cas))
	for _, ca := range cas {
		wire := apiv1.CAStatistics{Name: ca.Name, Kind: string(ca.Kind), State: string(ca.State), Alive: alive[ca.ID]}
		if ca.Certificate != nil {
			certificate, err := x509.ParseCertificate(ca.Certificate)
			if err != nil {
				return nil, fmt.Errorf("parse certificate of CA %q: %w", ca.Name, err)
			}
			wire.NotBefore, wire.NotAfter = certificate.NotBefore.UTC(), certificate.NotAfter.UTC()
		}
		all = append(all, wire)
	}
	return all, nil
}
