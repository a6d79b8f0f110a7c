package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Views keeps saved views. Update and Delete answer NotFound for what is not the owner's.
type Views interface {
	Views(ctx context.Context, owner string) ([]pki.SavedView, error)
	CreateView(ctx context.Context, view *pki.SavedView, event audit.Event) error
	UpdateView(ctx context.Context, view *pki.SavedView, event audit.Event) error
	DeleteView(ctx context.Context, id pki.ViewID, owner string, event audit.Event) error
}

func (s *Server) viewRoutes() {
	const tag = "views"
	register(s, operation{
		id: "list-views", method: http.MethodGet, path: "/views", tag: tag, access: auth.Self, asIs: true,
		summary: "List saved views of the inventory: the caller's, shared ones, and those that come with the product",
	}, s.listViews)
	register(s, operation{
		id: "create-view", method: http.MethodPost, path: "/views", tag: tag, access: auth.Self, asIs: true,
		status: http.StatusCreated, summary: "Save a view",
	}, s.createView)
	register(s, operation{
		id: "update-view", method: http.MethodPut, path: "/views/{view}", tag: tag, access: auth.Self, asIs: true,
		summary: "Replace a view of the caller's",
	}, s.updateView)
	register(s, operation{
		id: "delete-view", method: http.MethodDelete, path: "/views/{view}", tag: tag, access: auth.Self, asIs: true,
		summary: "Delete a view of the caller's",
	}, s.deleteView)
}

// Lists that have views.
const (
	listOfIdentities   = "identities"
	listOfCertificates = "certificates"
)

// viewFilters are the parameters that a view of a list may have.
func viewFilters(list string) []string {
	common := []string{"q", "trustDomain", "namespace", "profile", "cluster", "status"}
	switch list {
	case listOfIdentities:
		return append(common, "name")
	case listOfCertificates:
		return append(common, "identity", "issuingCa", "credential", "account", "pod", "issuedWithin")
	default:
		return nil
	}
}

// systemViews come with the product.
func systemViews() []apiv1.View {
	var views []apiv1.View
	for _, v := range []struct{ id, list, name, filter, value string }{
		{"renewal-due", listOfIdentities, "Renewal due", "status", "renewal-due"},
		{"lapsing", listOfIdentities, "Lapsing", "status", "lapsing"},
		{"lapsed", listOfIdentities, "Lapsed", "status", "lapsed"},
		{"last-hour", listOfCertificates, "Issued in the last hour", "issuedWithin", "1h"},
		{"expired", listOfCertificates, "Expired", "status", "expired"},
		{"revoked", listOfCertificates, "Revoked", "status", "revoked"},
	} {
		views = append(views, apiv1.View{
			ID: "system-" + v.id, List: v.list, Name: v.name, Filters: map[string]string{v.filter: v.value}, Columns: []string{},
			Shared: true, System: true,
		})
	}
	return views
}

// viewOwner is who a caller's views belong to.
func viewOwner(p *auth.Principal) string {
	actor := p.By().Actor
	return string(actor.Kind) + "/" + actor.ID
}

func wireView(view *pki.SavedView, owner string) apiv1.View {
	out := apiv1.View{
		ID: string(view.ID), List: view.List, Name: view.Name, Filters: view.Filters, Columns: view.Columns, Shared: view.Shared,
		Mine: view.Owner == owner, CreatedAt: utc(view.CreatedAt), UpdatedAt: utc(view.UpdatedAt),
	}
	if out.Columns == nil {
		out.Columns = []string{}
	}
	if out.Filters == nil {
		out.Filters = map[string]string{}
	}
	return out
}

func (s *Server) listViews(ctx context.Context, in *PageQuery) (*output[apiv1.Page[apiv1.View]], error) {
	owner := viewOwner(auth.PrincipalOf(ctx))
	views, err := s.config.Store.Views(ctx, owner)
	if err != nil {
		return nil, err
	}
	all := systemViews() // they come first, as they are
	places := map[string]string{}
	for i := range all {
		places[all[i].ID] = fmt.Sprintf("0%06d", i)
	}
	for i := range views {
		wired := wireView(&views[i], owner)
		places[wired.ID] = "1" + wired.List + "\x00" + wired.Name + "\x00" + wired.ID
		all = append(all, wired)
	}
	place := func(v apiv1.View) string { return places[v.ID] }
	return answer(pageOf(in, sortedBy(all, place), place, func(v apiv1.View) apiv1.View { return v })), nil
}

// savedView checks what is to be saved; all that is wrong with it comes at once.
func (s *Server) savedView(ctx context.Context, in *apiv1.SaveView) (*pki.SavedView, error) {
	var found findings
	known := viewFilters(in.List)
	if known == nil {
		found.add("/list", "list %.40q is not one of identities, certificates", in.List)
	}
	const maxName, maxValue, maxColumns, maxColumn = 80, 2048, 40, 40
	if n := utf8.RuneCountInString(in.Name); n == 0 || n > maxName || strings.TrimSpace(in.Name) != in.Name || strings.ContainsFunc(in.Name, unicode.IsControl) {
		found.add("/name", "name %.100q is not 1 to %d printable characters without white space around them", in.Name, maxName)
	}
	for _, name := range slices.Sorted(maps.Keys(in.Filters)) {
		switch {
		case known != nil && !slices.Contains(known, name):
			found.add("/filters", "filter %.40q is not one of %s", name, strings.Join(known, ", "))
		case len(in.Filters[name]) > maxValue:
			found.add("/filters", "filter %.40q has more than %d bytes", name, maxValue)
		}
	}
	if len(in.Columns) > maxColumns || slices.ContainsFunc(in.Columns, func(c string) bool { return c == "" || len(c) > maxColumn }) {
		found.add("/columns", "columns are not up to %d names of up to %d bytes", maxColumns, maxColumn)
	}
	caller := auth.PrincipalOf(ctx)
	if in.Shared && !auth.Allows(caller.Role, auth.Operate) {
		found = append(found, fault.New(fault.Unauthorized, "%q has role %s, which does not share views", caller.Name, caller.Role).WithField("/shared"))
	}
	now := s.config.Now()
	return &pki.SavedView{
		Owner: viewOwner(caller), List: in.List, Name: in.Name, Filters: in.Filters, Columns: in.Columns, Shared: in.Shared,
		CreatedAt: now, UpdatedAt: now,
	}, found.err()
}

func (s *Server) viewEvent(ctx context.Context, action audit.Action, target string) audit.Event {
	by := auth.PrincipalOf(ctx).By()
	return audit.Event{
		Time: s.config.Now().UTC(), Actor: by.Actor, Action: action, Target: target, Client: by.Client, Request: by.Request, Outcome: audit.Done,
	}
}

func (s *Server) createView(ctx context.Context, in *struct{ body[apiv1.SaveView] }) (*output[apiv1.View], error) {
	view, err := s.savedView(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	if view.ID, err = pki.NewID[pki.ViewID](s.config.Now(), s.config.Random); err != nil {
		return nil, err
	}
	if err := s.config.Store.CreateView(ctx, view, s.viewEvent(ctx, audit.ViewCreate, view.Name)); err != nil {
		return nil, err
	}
	return answer(wireView(view, view.Owner)), nil
}

// ViewPath is the parameter of operations on one view.
type ViewPath struct {
	View string `path:"view" doc:"Identifier of the view." maxLength:"100"`
}

func (s *Server) updateView(ctx context.Context, in *struct {
	ViewPath
	body[apiv1.SaveView]
},
) (*output[apiv1.View], error) {
	view, err := s.savedView(ctx, &in.Body)
	if err != nil {
		return nil, err
	}
	view.ID = pki.ViewID(in.View)
	if err := s.config.Store.UpdateView(ctx, view, s.viewEvent(ctx, audit.ViewUpdate, view.Name)); err != nil {
		return nil, err
	}
	all, err := s.config.Store.Views(ctx, view.Owner)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].ID == view.ID {
			view = &all[i]
		}
	}
	return answer(wireView(view, view.Owner)), nil
}

func (s *Server) deleteView(ctx context.Context, in *ViewPath) (*struct{}, error) {
	caller := auth.PrincipalOf(ctx)
	owner := viewOwner(caller)
	if caller.Role == pki.RoleAdmin {
		owner = "" // somebody must be able to remove what others share
	}
	return nil, s.config.Store.DeleteView(ctx, pki.ViewID(in.View), owner, s.viewEvent(ctx, audit.ViewDelete, in.View))
}
