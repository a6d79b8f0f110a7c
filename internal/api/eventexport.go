package api

import (
	"bufio"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// EventQuery selects audit events.
type EventQuery struct {
	Action  string    `query:"action" doc:"Such as profile.create; a prefix when it ends with *." maxLength:"100"`
	Target  string    `query:"target" doc:"Name, identifier or serial of what was acted upon." maxLength:"2048"`
	Actor   string    `query:"actor" doc:"Identifier of who acted." maxLength:"100"`
	Outcome string    `query:"outcome" doc:"What was done, or what was refused." enum:"done,refused"`
	Since   time.Time `query:"since" doc:"At this time or later."`
}

func (q *EventQuery) filter() pki.EventFilter {
	return pki.EventFilter{Action: q.Action, Target: q.Target, Actor: q.Actor, Outcome: q.Outcome, Since: q.Since}
}

func (s *Server) exportEvents(ctx context.Context, in *struct {
	EventQuery
	Format string `query:"format" doc:"json is an array, one event a line." default:"json" enum:"json,csv"`
},
) (*streamOutput, error) {
	filter := in.filter()
	filter.Limit = exportPage
	// As for certificates: what is wrong from the beginning becomes a problem document.
	first, err := s.config.Store.Events(ctx, filter)
	if err != nil {
		return nil, err
	}
	types := map[string]string{"json": "application/json", "csv": "text/csv; charset=utf-8; header=present"}
	return &streamOutput{
		ContentType: types[in.Format], Disposition: fmt.Sprintf("attachment; filename=\"audit.%s\"", in.Format),
		Body: func(hctx huma.Context) {
			_, w := humago.Unwrap(hctx)
			out := bufio.NewWriterSize(w, 64<<10)
			e := &eventExport{
				export: export{server: s, view: s.config.Catalog.Snapshot(), out: out, response: http.NewResponseController(w)},
				events: filter, format: jsonEvents(out),
			}
			if in.Format == "csv" {
				e.format = csvEvents(out)
			}
			w.Header().Set("Content-Type", types[in.Format])
			w.WriteHeader(http.StatusOK)
			if err := e.run(ctx, first); err != nil {
				s.config.Logger.WarnContext(ctx, "export broken off", telemetry.KeyRequest, auth.PrincipalOf(ctx).Request, telemetry.KeyError, err)
				panic(http.ErrAbortHandler) // as for certificates
			}
		},
	}, nil
}

// eventExport sends events page by page.
type eventExport struct {
	export

	events pki.EventFilter
	format eventFormat
}

// eventFormat writes events in one format. The writer below keeps its errors until it is flushed.
type eventFormat struct {
	begin, end func() error
	event      func(*apiv1.Event) error
}

func (e *eventExport) run(ctx context.Context, page []audit.Event) error {
	if err := e.format.begin(); err != nil {
		return err
	}
	for len(page) > 0 {
		if err := e.page(e.view, page); err != nil {
			return err
		}
		if len(page) < exportPage {
			break
		}
		e.events.Before = page[len(page)-1].ID
		var err error
		if page, err = e.server.config.Store.Events(ctx, e.events); err != nil {
			return err
		}
	}
	if err := e.format.end(); err != nil {
		return err
	}
	return e.flush()
}

func (e *eventExport) page(view *catalog.Snapshot, page []audit.Event) error {
	for i := range page {
		wire := wireEvent(view, &page[i])
		if err := e.format.event(&wire); err != nil {
			return err
		}
	}
	return e.flush()
}

// jsonEvents is an array with one event a line.
func jsonEvents(out *bufio.Writer) eventFormat {
	separator := "[\n"
	return eventFormat{
		begin: func() error { return nil },
		event: func(e *apiv1.Event) error {
			raw, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("write event: %w", err)
			}
			_, _ = out.WriteString(separator) // the writer keeps its error
			separator = ",\n"
			_, err = out.Write(raw)
			return err //nolint:wrapcheck // the writer sends its error again with Flush, which says what failed
		},
		end: func() error {
			if separator == "[\n" {
				_, _ = out.WriteString("[")
			}
			_, err := out.WriteString("\n]\n")
			return err //nolint:wrapcheck // as above
		},
	}
}

// csvEvents is a table for spreadsheets.
func csvEvents(out *bufio.Writer) eventFormat {
	rows := csv.NewWriter(out)
	return eventFormat{
		begin: func() error {
			return rows.Write([]string{
				"id", "time", "action", "outcome", "target", "actorKind", "actorId", "actorName", "address", "userAgent", "request", "replica",
				"reason", "profile", "serial", "account", "order", "keyId", "csrHash", "uris", "dns", "ips", "changes",
			})
		},
		event: func(e *apiv1.Event) error {
			changes := make([]string, 0, len(e.Changes))
			for _, c := range e.Changes {
				changes = append(changes, fmt.Sprintf("%s: %q -> %q", c.Field, c.Old, c.New))
			}
			var names apiv1.CertificateNames
			if e.Names != nil {
				names = *e.Names
			}
			row := []string{
				strconv.FormatInt(e.ID, 10), stamp(e.Time), e.Action, e.Outcome, e.Target, e.ActorKind, e.ActorID, e.ActorName, e.Address, e.UserAgent,
				e.Request, e.Replica, e.Reason, e.Profile, e.Serial, e.Account, e.Order, e.KeyID, e.CSRHash,
				strings.Join(names.URIs, " "), strings.Join(names.DNS, " "), strings.Join(names.IPs, " "), strings.Join(changes, "; "),
			}
			for i := range row {
				row[i] = inert(row[i])
			}
			return rows.Write(row)
		},
		end: func() error {
			rows.Flush()
			return rows.Error()
		},
	}
}

// inert keeps spreadsheets from taking a cell for a formula: strangers write targets and user agents.
func inert(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}
