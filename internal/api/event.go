package api

import (
	"context"
	"net/http"
	"reflect"
	"strconv"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
)

func (s *Server) eventRoutes() {
	register(s, operation{
		id: "list-events", method: http.MethodGet, path: "/events", tag: "audit", access: auth.Read,
		summary: "List audit events, newest first",
	}, s.listEvents)
	register(s, operation{
		id: "export-events", method: http.MethodGet, path: "/events/export", tag: "audit", access: auth.Read,
		summary: "Export audit events as JSON or CSV, newest first", produces: []string{"application/json", "text/csv"}, items: reflect.TypeFor[apiv1.Event](),
	}, s.exportEvents)
}

func (s *Server) listEvents(ctx context.Context, in *struct {
	EventQuery
	PageQuery
},
) (*output[apiv1.Page[apiv1.Event]], error) {
	filter := in.filter()
	filter.Limit = in.Limit
	if in.After != "" {
		before, err := strconv.ParseInt(in.After, 10, 64)
		if err != nil || before < 1 {
			return nil, fault.New(fault.Malformed, "cursor %.40q is not the number of an event", in.After).WithField("after")
		}
		filter.Before = before
	}
	events, err := s.config.Store.Events(ctx, filter)
	if err != nil {
		return nil, err
	}
	view := s.config.Catalog.Snapshot()
	page := apiv1.Page[apiv1.Event]{Items: make([]apiv1.Event, 0, len(events))}
	for i := range events {
		page.Items = append(page.Items, wireEvent(view, &events[i]))
	}
	if len(events) == in.Limit {
		page.Next = strconv.FormatInt(events[len(events)-1].ID, 10)
	}
	return answer(page), nil
}

func wireEvent(view *catalog.Snapshot, e *audit.Event) apiv1.Event {
	out := apiv1.Event{
		ID: e.ID, Time: utc(e.Time), Action: string(e.Action), Outcome: string(e.Outcome), Target: e.Target,
		ActorKind: string(e.Actor.Kind), ActorID: e.Actor.ID, ActorName: e.Actor.Name,
		Address: e.Client.Address, UserAgent: e.Client.UserAgent, Request: e.Request, Replica: e.Replica,
		Reason: e.Detail.Reason, Serial: string(e.Detail.Serial), Account: string(e.Detail.Account),
		Order: string(e.Detail.Order), KeyID: string(e.Detail.Credential), CSRHash: e.Detail.CSRHash,
	}
	if e.Detail.Profile != "" {
		out.Profile = profileName(view, e.Detail.Profile)
	}
	if n := e.Detail.Names; n != nil {
		out.Names = &apiv1.CertificateNames{URIs: n.URIs, DNS: n.DNS, IPs: n.IPs}
	}
	if e.Detail.Workload != nil {
		out.Workload = new(wireWorkload(e.Detail.Workload))
	}
	for _, change := range e.Detail.Changes {
		out.Changes = append(out.Changes, apiv1.Change{Field: change.Field, Old: change.Old, New: change.New})
	}
	return out
}
