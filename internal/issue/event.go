package issue

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// recordTimeout bounds how long a refusal waits for its event.
const recordTimeout = 5 * time.Second

// issueEvent tells of a certificate; it is stored with it.
func (i *Issuer) issueEvent(r *Request, c *pki.Certificate) audit.Event {
	ev := i.event(r, audit.CertificateIssue, audit.Done)
	ev.Target = string(c.Serial)
	ev.Time = c.IssuedAt
	ev.Detail.Serial = c.Serial
	ev.Detail.Names = &c.Names
	return ev
}

// recordRefusal stores the event of a refusal, also when the client has gone away meanwhile, unless there are too many
// of its source: whoever is refused again and again must not fill the database. All are counted.
func (i *Issuer) recordRefusal(ctx context.Context, r *Request, refusal error) error {
	ev := i.event(r, audit.CertificateRefuse, audit.Refused)
	ev.Target = string(r.Order)
	if ev.Target == "" {
		ev.Target = r.Profile.Name
	}
	why := fault.From(refusal)
	ev.Detail.Reason, ev.Detail.Problem = why.Public, why.Kind.Meaning().ACME
	ev.Detail.Names = &r.CSR.Names
	if !i.refusals.Allow(&ev) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return i.config.Store.RecordEvent(ctx, ev)
}

func (i *Issuer) event(r *Request, action audit.Action, outcome audit.Outcome) audit.Event {
	ev := audit.Event{
		Time:    i.config.Now(),
		Actor:   r.Actor,
		Action:  action,
		Client:  r.Client,
		Request: r.RequestID,
		Replica: i.config.Replica,
		Outcome: outcome,
		Detail: audit.Detail{
			Profile: r.Profile.ID,
			Order:   r.Order,
			CSRHash: hex.EncodeToString(r.CSR.Hash[:]),
		},
	}
	if r.Workload != (pki.Workload{}) {
		ev.Detail.Workload = &r.Workload
	}
	if r.Account != nil {
		ev.Detail.Account = r.Account.ID
	}
	if r.Credential != nil {
		ev.Detail.Credential = r.Credential.ID
	}
	return ev
}
