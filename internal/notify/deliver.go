package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// How deliveries are tried.
const (
	atOnce      = 8  // attempts under way in one process; a channel that hangs holds up an eighth
	claimed     = 32 // deliveries taken at a time
	maxAttempts = 12 // about four hours
	firstWait   = 10 * time.Second
	longestWait = time.Hour
	// grace is what a lease has more than an attempt may take.
	grace = 15 * time.Second
)

// Deliver makes an attempt for each delivery that is due. It is a job: replicas share the deliveries by claiming them.
func (n *Notifier) Deliver(ctx context.Context) error {
	for ctx.Err() == nil {
		now := n.Now()
		// All that are taken must be done before the lease ends, however slow each is.
		lease := now.Add(n.Timeout*claimed/atOnce + grace)
		due, err := n.Store.ClaimDeliveries(ctx, now, lease, claimed)
		if err != nil {
			return fmt.Errorf("claim deliveries: %w", err)
		}
		if len(due) == 0 {
			return nil
		}
		var g errgroup.Group
		g.SetLimit(atOnce)
		for i := range due {
			g.Go(func() error { return n.Attempt(ctx, &due[i]) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// Attempt tries one delivery, which the caller has claimed, and stores what became of it. An attempt that the server's end has interrupted is due again.
func (n *Notifier) Attempt(ctx context.Context, d *pki.Delivery) error {
	c, err := n.Store.Channel(ctx, d.Channel)
	switch {
	case fault.Is(err, fault.NotFound):
		err = failed(true, "there is no channel %q any more", d.Channel)
	case err != nil:
		return fmt.Errorf("read channel: %w", err)
	case !c.Enabled && d.Message.State != pki.MessageTest:
		err = failed(true, "the channel is switched off")
	default:
		err = n.Send(ctx, c, &d.Message)
	}
	kind := "unknown"
	if c != nil {
		kind = string(c.Kind)
	}
	n.conclude(ctx, d, err)
	n.metrics.attempts.WithLabelValues(kind, string(d.State)).Inc()
	if err != nil {
		n.Logger.WarnContext(ctx, "alert not delivered", telemetry.KeyError, err, "channel", d.Channel, "delivery", string(d.ID),
			"attempts", d.Attempts, "state", string(d.State))
	}
	apart, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := n.Store.FinishDelivery(apart, d); err != nil {
		return fmt.Errorf("store delivery: %w", err)
	}
	return nil
}

// conclude sets what an attempt has led to.
func (n *Notifier) conclude(ctx context.Context, d *pki.Delivery, err error) {
	now := n.Now()
	if err == nil {
		d.State, d.Error, d.DoneAt, d.NextAt = pki.DeliveryDelivered, "", now, now
		return
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{text: "this server could not make the message"}
	}
	d.Error = f.Error()
	if ctx.Err() != nil {
		d.State, d.NextAt, d.Error = pki.DeliveryRetrying, now, "the server stopped during the attempt"
		return
	}
	if f.final || d.Attempts >= maxAttempts {
		d.State, d.DoneAt, d.NextAt = pki.DeliveryFailed, now, now
		return
	}
	d.State, d.NextAt = pki.DeliveryRetrying, now.Add(max(f.wait, n.backOff(d.Attempts)))
}

// backOff doubles with each attempt. Up to half of it is chance, so that what failed together is not tried together.
func (n *Notifier) backOff(attempts int) time.Duration {
	const most = 16 // doublings beyond the longest wait
	wait := min(firstWait<<min(max(attempts-1, 0), most), longestWait)
	return wait - time.Duration(n.Jitter()*float64(wait)/2)
}
