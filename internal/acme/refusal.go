package acme

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/telemetry"
)

// auditTimeout bounds the recording of a refusal.
const auditTimeout = 2 * time.Second

// auditRefusal records a refusal. What is the server's own trouble is none, and a flood of refusals is cut off, by its
// source: whoever makes one must not be able to fill the disk. The log has the others.
func (s *Server) auditRefusal(ctx context.Context, r *request, event audit.Event, err error) {
	told := trouble(ctx, err)
	if told.Kind.Meaning().Status >= http.StatusInternalServerError || !s.refusals.Allow(&event) {
		return
	}
	event.Outcome, event.Detail.Reason = audit.Refused, printable(told.Public)
	event.Detail.Problem = told.Kind.Meaning().ACME
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := s.Store.RecordEvent(ctx, event); err != nil {
		s.Logger.WarnContext(ctx, "refusal not recorded", telemetry.KeyRequest, r.id, telemetry.KeyError, fmt.Errorf("record event: %w", err))
	}
}
