package api

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

func (s *Server) identityRoutes() {
	const tag = "identities"
	register(s, operation{
		id: "list-identities", method: http.MethodGet, path: "/identities", tag: tag, access: auth.Inventory,
		summary: "List what certificates are for, each with its newest certificate",
	}, s.listIdentities)
	register(s, operation{
		id: "export-identities", method: http.MethodGet, path: "/identities/export", tag: tag, access: auth.Inventory,
		summary: "Export identities as JSON or CSV", produces: []string{"application/json", "text/csv"}, items: reflect.TypeFor[apiv1.Identity](),
	}, s.exportIdentities)
	register(s, operation{
		id: "get-identity", method: http.MethodGet, path: "/identities/{identity}", tag: tag, access: auth.Inventory,
		summary: "Show an identity",
	}, s.getIdentity)
	register(s, operation{
		id: "retire-identities", method: http.MethodPost, path: "/identities/retire", tag: tag, access: auth.Operate, asIs: true,
		summary: "Mark identities as gone: nothing runs that needs them, and nobody is alarmed when they lapse, until they get a certificate again",
	}, s.retireIdentities)
	register(s, operation{
		id: "restore-identities", method: http.MethodPost, path: "/identities/restore", tag: tag, access: auth.Operate, asIs: true,
		summary: "Take the mark of being gone away from identities",
	}, s.restoreIdentities)
}

// IdentityQuery are the parameters that select identities.
type IdentityQuery struct {
	Text        string `query:"q" doc:"What a person types: parts of the name, the beginning of the cluster's name, or the serial or SHA-256 fingerprint of one of its certificates in hexadecimal." maxLength:"200"`
	Name        string `query:"name" doc:"SPIFFE ID, DNS name or address; a prefix when it ends with *." maxLength:"2048"`
	TrustDomain string `query:"trustDomain" doc:"Trust domain of the SPIFFE ID." maxLength:"255"`
	Namespace   string `query:"namespace" doc:"Namespace of the SPIFFE ID." maxLength:"253"`
	Profile     string `query:"profile" doc:"Name or identifier of the profile." maxLength:"100"`
	Cluster     string `query:"cluster" doc:"Cluster that the newest certificate went to." maxLength:"63"`
	Status      string `query:"status" doc:"What they are now, by their newest certificates." enum:"ok,renewal-due,lapsing,lapsed,gone"`
}

func (q *IdentityQuery) filter(ctx context.Context, view *catalog.Snapshot) (pki.IdentityFilter, error) {
	filter := pki.IdentityFilter{
		Sees: auth.PrincipalOf(ctx).Sees, Text: q.Text, Cluster: q.Cluster, Name: q.Name, TrustDomain: q.TrustDomain,
		Namespace: q.Namespace, Status: pki.IdentityStatus(q.Status),
	}
	if q.Profile != "" {
		p, err := namedProfile(view, q.Profile, "profile")
		if err != nil {
			return filter, err
		}
		filter.ProfileID = p.ID
	}
	return filter, nil
}

func (s *Server) listIdentities(ctx context.Context, in *struct {
	IdentityQuery
	PageQuery
},
) (*output[apiv1.Page[apiv1.Identity]], error) {
	view := s.config.Catalog.Snapshot()
	filter, err := in.filter(ctx, view)
	if err != nil {
		return nil, err
	}
	filter.After, filter.Limit = in.After, in.Limit
	now := s.config.Now()
	identities, err := s.config.Store.Identities(ctx, filter, now)
	if err != nil {
		return nil, err
	}
	page := apiv1.Page[apiv1.Identity]{Items: make([]apiv1.Identity, 0, len(identities))}
	for i := range identities {
		page.Items = append(page.Items, wireIdentity(view, &identities[i], now))
	}
	if len(identities) == in.Limit {
		page.Next = identities[len(identities)-1].Cursor
	}
	return answer(page), nil
}

func wireIdentity(view *catalog.Snapshot, i *pki.Identity, now time.Time) apiv1.Identity {
	return apiv1.Identity{
		Name: i.Name, Status: string(i.Status(now)), TrustDomain: i.TrustDomain, Namespace: i.Namespace,
		ServiceAccount: i.ServiceAccount, Cluster: i.Cluster, Profile: profileName(view, i.ProfileID), NewestSerial: string(i.Newest),
		NotBefore: utc(i.NotBefore), NotAfter: utc(i.NotAfter), RevokedAt: utc(i.RevokedAt), Certificates: i.Certificates,
		FirstIssuedAt: utc(i.FirstIssuedAt), LastIssuedAt: utc(i.LastIssuedAt), RenewAt: utc(i.RenewAt), LapsingAt: utc(i.LapsingAt), GoneAt: utc(i.GoneAt),
	}
}

func (s *Server) getIdentity(ctx context.Context, in *struct {
	Identity string `path:"identity" doc:"SPIFFE ID, DNS name or address, percent-encoded." maxLength:"2048"`
},
) (*output[apiv1.Identity], error) {
	identity, err := s.config.Store.VisibleIdentity(ctx, in.Identity, auth.PrincipalOf(ctx).Sees)
	if err != nil {
		return nil, err
	}
	out := wireIdentity(s.config.Catalog.Snapshot(), identity, s.config.Now())
	sum, err := s.config.Store.RolledUp(ctx, identity.Name)
	if err != nil {
		return nil, err
	}
	if sum != nil {
		out.RolledUp = &apiv1.RollUp{
			Certificates: sum.Certificates, FirstIssuedAt: utc(sum.FirstIssuedAt), LastIssuedAt: utc(sum.LastIssuedAt), Algorithms: map[string]int64{},
		}
		for algorithm, n := range sum.Algorithms {
			out.RolledUp.Algorithms[string(algorithm)] = n
		}
	}
	return answer(out), nil
}

func (s *Server) retireIdentities(ctx context.Context, in *struct{ body[apiv1.IdentityNames] }) (*output[apiv1.IdentityNames], error) {
	return s.markIdentities(ctx, &in.Body, audit.IdentityRetire)
}

func (s *Server) restoreIdentities(ctx context.Context, in *struct{ body[apiv1.IdentityNames] }) (*output[apiv1.IdentityNames], error) {
	return s.markIdentities(ctx, &in.Body, audit.IdentityRestore)
}

// markIdentities marks all of the identities or, when one of them is not there, none.
func (s *Server) markIdentities(ctx context.Context, in *apiv1.IdentityNames, action audit.Action) (*output[apiv1.IdentityNames], error) {
	var found findings
	const most = 1000
	if len(in.Names) == 0 || len(in.Names) > most {
		found.add("/names", "%d names are not 1 to %d", len(in.Names), most)
		return nil, found.err()
	}
	for i, name := range in.Names {
		_, err := s.config.Store.VisibleIdentity(ctx, name, auth.PrincipalOf(ctx).Sees)
		switch {
		case fault.Is(err, fault.NotFound):
			found.add(fmt.Sprintf("/names/%d", i), "there is no identity %.100q", name)
		case err != nil:
			return nil, err
		}
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	event := func(name string) audit.Event { return s.viewEvent(ctx, action, name) }
	var marked []string
	var err error
	if action == audit.IdentityRetire {
		marked, err = s.config.Store.Retire(ctx, "", in.Names, s.config.Now(), event)
	} else {
		marked, err = s.config.Store.Restore(ctx, "", in.Names, event)
	}
	if err != nil {
		return nil, err
	}
	return answer(apiv1.IdentityNames{Names: append([]string{}, marked...)}), nil
}
