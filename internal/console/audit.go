package console

import (
	"cmp"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

func (c *Console) auditRoutes() []route {
	return []route{
		{"GET /audit", auth.Read, c.audit},
		{"GET /audit/export", auth.Read, c.exportAudit},
	}
}

// auditPage is how many events a page has.
const auditPage = 50

// auditView is the audit log, newest first.
type auditView struct {
	Fields      []field // filters
	Rows        []eventRow
	Filtered    bool
	Next, First string // addresses of other pages, "" where there is none
	CSV, JSON   string // addresses of the same events as files
}

// eventRow is an event: what everybody wants to know, and the rest below it.
type eventRow struct {
	When     stamp
	Action   string // in words
	Code     string // as the API has it
	Status   string // of the outcome
	Outcome  string
	Target   string
	Actor    string
	Address  string
	Reason   string // of a refusal
	Facts    []fact
	Changes  []apiv1.Change
	Same     []actionLink // lists with more of the kind
	Resource string       // address of the page of what was acted upon, "" when there is none
}

// actionLink is something to go on with.
type actionLink struct{ Title, Path string }

// auditPeriods are how far back people look, newest first.
func auditPeriods() []string { return []string{"1h", "24h", "168h", "720h"} }

// auditKinds are what actions are about.
func auditKinds() []string {
	return []string{
		"certificate", "profile", "credential", "ca", "connector", "user", "session", "login", "token", "account", "order", "authorization", "agent",
	}
}

// eventQuery reads what the address selects. What cannot be a filter selects nothing less: the API says what is wrong.
func (v *visit) eventQuery() apiv1.EventQuery {
	q := apiv1.EventQuery{
		Action: strings.TrimSpace(v.query("action")), Target: strings.TrimSpace(v.query("target")), Actor: strings.TrimSpace(v.query("actor")),
		Outcome: v.query("outcome"), After: v.query("after"), Limit: auditPage,
	}
	if period := v.query("period"); slices.Contains(auditPeriods(), period) {
		if back, err := time.ParseDuration(period); err == nil {
			q.Since = v.now.Add(-back)
		}
	}
	return q
}

func (c *Console) audit(v *visit) error {
	q := v.eventQuery()
	list, err := v.api.Events(v.ctx(), q)
	if err != nil {
		return err
	}
	view := auditView{Filtered: q.Action != "" || q.Target != "" || q.Actor != "" || q.Outcome != "" || !q.Since.IsZero()}
	for i := range list.Items {
		view.Rows = append(view.Rows, v.eventRow(&list.Items[i]))
	}
	view.First, view.Next = v.pages(list.Next)
	export := func(format string) string {
		query := v.r.URL.Query()
		query.Del("after")
		query.Set("format", format)
		return "/audit/export?" + query.Encode()
	}
	view.CSV, view.JSON = export("csv"), export("json")
	if v.htmx() {
		return v.fragment("audit", "rows", view)
	}
	view.Fields = v.auditFilters(q.Action)
	return v.render("audit", view)
}

// auditFilters are the fields above the list.
func (v *visit) auditFilters(action string) []field {
	f := v.newForm(v.r.URL.Query())
	all := option{Value: "", Label: v.text("common.all")}
	actions, known := []option{all}, action == ""
	for _, kind := range auditKinds() {
		actions = append(actions, option{Value: kind + ".*", Label: v.text("audit.kind." + kind)})
		known = known || action == kind+".*"
	}
	if !known { // one that a link or a person has put into the address
		actions = append(actions, option{Value: action, Label: v.actionText(action)})
	}
	periods := []option{all}
	for _, period := range auditPeriods() {
		periods = append(periods, option{Value: period, Label: v.text("audit.period." + period)})
	}
	fields := []field{
		f.choice("select", "action", "audit.action", actions),
		f.choice("select", "outcome", "audit.outcome", append([]option{all}, v.options("audit.outcome.", "done", "refused")...)),
		f.choice("select", "period", "audit.period", periods),
		f.field("search", "actor", "audit.actor"),
		f.field("search", "target", "audit.target"),
	}
	for i := range fields {
		fields[i].Help = ""
	}
	return fields
}

// actionText is an action in words; one that has none is shown as it is.
func (v *visit) actionText(action string) string {
	if key := "audit.action." + action; v.has(key) {
		return v.text(key)
	}
	return action
}

func (v *visit) eventRow(e *apiv1.Event) eventRow {
	row := eventRow{
		When: v.stamp(e.Time), Action: v.actionText(e.Action), Code: e.Action, Target: e.Target, Address: e.Address,
		Status: "ok", Outcome: v.text("audit.outcome.done"), Reason: e.Reason, Changes: e.Changes, Actor: v.text("audit.by." + e.ActorKind),
		Resource: resourcePath(e),
	}
	if e.Outcome == "refused" {
		row.Status, row.Outcome = "lapsed", v.text("audit.outcome.refused")
	}
	if name := cmp.Or(e.ActorName, e.ActorID); name != "" {
		row.Actor += " " + name
	}
	for _, f := range []fact{
		{v.text("audit.actorId"), e.ActorID},
		{v.text("audit.address"), e.Address},
		{v.text("audit.userAgent"), e.UserAgent},
		{v.text("audit.profile"), e.Profile},
		{v.text("audit.serial"), e.Serial},
		{v.text("audit.names"), eventNames(e)},
		{v.text("audit.account"), e.Account},
		{v.text("audit.order"), e.Order},
		{v.text("audit.keyId"), e.KeyID},
		{v.text("audit.csr"), e.CSRHash},
		{v.text("audit.workload"), eventWorkload(e)},
		{v.text("audit.request"), e.Request},
		{v.text("audit.replica"), e.Replica},
	} {
		if f.Value != "" {
			row.Facts = append(row.Facts, f)
		}
	}
	row.Same = append(row.Same, actionLink{v.text("audit.same.action"), "/audit?action=" + url.QueryEscape(e.Action)})
	if e.Target != "" {
		row.Same = append(row.Same, actionLink{v.text("audit.same.target"), "/audit?target=" + url.QueryEscape(e.Target)})
	}
	if actor := cmp.Or(e.ActorID, e.ActorName); actor != "" {
		row.Same = append(row.Same, actionLink{v.text("audit.same.actor"), "/audit?actor=" + url.QueryEscape(actor)})
	}
	return row
}

// resourcePath is the page of what an event is about, as far as it can still be there.
func resourcePath(e *apiv1.Event) string {
	kind, verb, _ := strings.Cut(e.Action, ".")
	switch {
	case e.Serial != "":
		return "/inventory/certificates/" + url.PathEscape(e.Serial)
	case e.Target == "" || e.Outcome != "done" || verb == "delete":
		return ""
	case kind == "profile":
		return "/policies/profiles/" + url.PathEscape(e.Target)
	case kind == "ca":
		return "/authorities/" + url.PathEscape(e.Target)
	default:
		return ""
	}
}

func eventNames(e *apiv1.Event) string {
	if e.Names == nil {
		return ""
	}
	return strings.Join(slices.Concat(e.Names.URIs, e.Names.DNS, e.Names.IPs), ", ")
}

func eventWorkload(e *apiv1.Event) string {
	if e.Workload == nil {
		return ""
	}
	var parts []string
	for _, part := range []string{e.Workload.Cluster, e.Workload.Namespace, e.Workload.Pod, e.Workload.Node} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, " / ")
}

// exportAudit hands on the API's export of what the list selects.
func (c *Console) exportAudit(v *visit) error {
	q, format := v.eventQuery(), v.query("format")
	query := url.Values{"format": {format}}
	for name, value := range map[string]string{"action": q.Action, "target": q.Target, "actor": q.Actor, "outcome": q.Outcome} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !q.Since.IsZero() {
		query.Set("since", q.Since.Format(time.RFC3339))
	}
	return v.pass("/events/export?"+query.Encode(), "audit."+format)
}
