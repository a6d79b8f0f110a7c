package api

import (
	"context"
	"net/http"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
)

func (s *Server) denialRoutes() {
	const tag = "identities"
	register(s, operation{
		id: "list-denials", method: http.MethodGet, path: "/denials", tag: tag, access: auth.Read,
		summary: "List the deny list: identities and Pods that get no certificates",
	}, s.listDenials)
	register(s, operation{
		id: "create-denial", method: http.MethodPost, path: "/denials", tag: tag, access: auth.Operate,
		status: http.StatusCreated, summary: "Deny certificates to an identity or a Pod",
	}, s.createDenial)
	register(s, operation{
		id: "delete-denial", method: http.MethodDelete, path: "/denials/{denial}", tag: tag, access: auth.Operate,
		summary: "Lift a denial",
	}, s.deleteDenial)
}

func (s *Server) wireDenial(d *pki.Denial) apiv1.Denial {
	return apiv1.Denial{
		ID: string(d.ID), Identity: d.Identity, Cluster: d.Cluster, Namespace: d.Namespace, Pod: d.Pod, Note: d.Note,
		Until: utc(d.Until), Ended: d.Ended(s.config.Now()), CreatedBy: d.CreatedBy, CreatedAt: utc(d.CreatedAt),
	}
}

func (s *Server) listDenials(_ context.Context, in *struct{ PageQuery }) (*output[apiv1.Page[apiv1.Denial]], error) {
	return answer(pageOf(&in.PageQuery, s.config.Catalog.Snapshot().Denials(), (*pki.Denial).Target, s.wireDenial)), nil
}

func (s *Server) createDenial(ctx context.Context, in *struct{ body[apiv1.CreateDenial] }) (*output[apiv1.Denial], error) {
	created, err := s.config.Catalog.Deny(ctx, catalog.NewDenial{
		Identity: in.Body.Identity, Cluster: in.Body.Cluster, Namespace: in.Body.Namespace, Pod: in.Body.Pod,
		Note: in.Body.Note, Until: in.Body.Until,
	}, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return answer(s.wireDenial(created)), nil
}

func (s *Server) deleteDenial(ctx context.Context, in *struct {
	Denial string `path:"denial" doc:"Identifier of the entry." maxLength:"100"`
},
) (*struct{}, error) {
	return nil, s.config.Catalog.Allow(ctx, pki.DenialID(in.Denial), auth.PrincipalOf(ctx).By())
}
