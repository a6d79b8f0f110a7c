// Package retention deletes the records of certificates that expired long ago, after adding them up in their identities, so
// that the database grows with what is alive and not with time.
//
// It never deletes the newest certificate of an identity before the identity itself, nor anything of the audit log.
package retention

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Store is the storage that retention needs. Implementations are safe for concurrent use; its methods are those of the
// package store.
type Store interface {
	ExpiredCertificates(ctx context.Context, q pki.ExpiredQuery) (*pki.Expired, error)
	RollUp(ctx context.Context, records []int64) (int, error)
	ForgetIdentities(ctx context.Context, before time.Time, limit int, ev audit.Event) (int, error)
	GiveBack(ctx context.Context) (more bool, err error)
	Space(ctx context.Context) (pki.Space, error)
	RecordEvent(ctx context.Context, ev audit.Event) error
}

// Config is what a Keeper needs. Store, Profiles, Now and the two times are required.
type Config struct {
	Store    Store
	Profiles func() []*pki.Profile // all of them
	Now      func() time.Time

	Certificates time.Duration // how long expired certificates of profiles that say nothing are kept
	Identities   time.Duration // how long identities are kept after their last certificate has expired; 0: for good
	Floor        time.Duration // no certificate is deleted sooner after it expired: CRLs and orders need it that long
	PerSecond    int           // certificates that are deleted in a second at most; 0: no limit

	Registerer prometheus.Registerer // default: none
	Logger     *slog.Logger          // default: none
	Replica    string                // names this process in audit events
}

const (
	// pageSize is how many records are looked up at a time. PostgreSQL reads a whole step of the index for each page.
	pageSize = 16384
	// chunkSize is how many certificates are deleted in one operation, which issuing may have to wait for.
	chunkSize = 64
	// sweepEvery is how often the walk begins at the beginning again, for the few certificates that it had to leave: those
	// that were the newest of their identity.
	sweepEvery = 7 * 24 * time.Hour
)

// Keeper deletes what need not be kept. Run must not be called twice at a time.
type Keeper struct {
	config  Config
	limiter *rate.Limiter
	metrics *metrics

	places  map[time.Duration]pki.ExpiredPlace // where the walk of each retention time goes on
	walked  string                             // the profiles and their times, when the walks began
	sweptAt time.Time
}

// New returns a Keeper.
func New(c Config) (*Keeper, error) {
	if c.Store == nil || c.Profiles == nil || c.Now == nil || c.Certificates <= 0 || c.Floor <= 0 {
		return nil, errors.New("retention: store, profiles, now, certificates and floor are required")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	limit := rate.Inf
	if c.PerSecond > 0 {
		limit = rate.Limit(c.PerSecond)
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	return &Keeper{config: c, limiter: rate.NewLimiter(limit, chunkSize), metrics: m}, nil
}

// Run deletes what is due now, and returns when that is done.
func (k *Keeper) Run(ctx context.Context) error {
	now := k.config.Now()
	groups := k.groups()
	k.restart(groups, now)
	total := 0
	for _, keep := range slices.Sorted(maps.Keys(groups)) {
		n, err := k.walk(ctx, keep, groups[keep], now)
		total += n
		if err != nil {
			return k.finish(ctx, total, fmt.Errorf("delete certificates that expired %s ago: %w", keep, err))
		}
	}
	if err := k.forget(ctx, now); err != nil {
		return k.finish(ctx, total, err)
	}
	return k.finish(ctx, total, k.giveBack(ctx))
}

// groups returns the profiles by how long their certificates are kept.
func (k *Keeper) groups() map[time.Duration][]pki.ProfileID {
	groups := make(map[time.Duration][]pki.ProfileID)
	for _, p := range k.config.Profiles() {
		keep := time.Duration(p.Rules.Retention)
		if keep == 0 {
			keep = k.config.Certificates
		}
		keep = max(keep, k.config.Floor)
		groups[keep] = append(groups[keep], p.ID)
	}
	for _, ids := range groups {
		slices.Sort(ids)
	}
	return groups
}

// restart begins all walks anew when profiles or their times have changed, and now and then.
func (k *Keeper) restart(groups map[time.Duration][]pki.ProfileID, now time.Time) {
	walked := ""
	for _, keep := range slices.Sorted(maps.Keys(groups)) {
		walked += fmt.Sprintf("%d %v\n", keep, groups[keep])
	}
	if walked == k.walked && now.Sub(k.sweptAt) < sweepEvery {
		return
	}
	k.places, k.walked, k.sweptAt = make(map[time.Duration]pki.ExpiredPlace), walked, now
}

func (k *Keeper) walk(ctx context.Context, keep time.Duration, profiles []pki.ProfileID, now time.Time) (int, error) {
	total := 0
	q := pki.ExpiredQuery{Profiles: profiles, Before: now.Add(-keep), After: k.places[keep], Limit: pageSize}
	for {
		found, err := k.config.Store.ExpiredCertificates(ctx, q)
		if err != nil {
			return total, fmt.Errorf("look for them: %w", err)
		}
		for chunk := range slices.Chunk(found.Records, chunkSize) {
			if err := k.limiter.WaitN(ctx, len(chunk)); err != nil {
				return total, fmt.Errorf("wait: %w", err)
			}
			n, err := k.config.Store.RollUp(ctx, chunk)
			if err != nil {
				return total, err
			}
			total += n
			k.metrics.rolledUp.Add(float64(n))
		}
		q.After = found.Next
		k.places[keep] = found.Next
		if found.Done {
			return total, nil
		}
	}
}

// forget deletes identities, some at a time.
func (k *Keeper) forget(ctx context.Context, now time.Time) error {
	if k.config.Identities == 0 {
		return nil
	}
	for {
		n, err := k.config.Store.ForgetIdentities(ctx, now.Add(-k.config.Identities), chunkSize, k.event(audit.InventoryForget))
		if err != nil {
			return fmt.Errorf("delete identities that lapsed %s ago: %w", k.config.Identities, err)
		}
		k.metrics.forgotten.Add(float64(n))
		if n == 0 {
			return nil
		}
		if err := k.limiter.WaitN(ctx, n); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
	}
}

func (k *Keeper) giveBack(ctx context.Context) error {
	for {
		more, err := k.config.Store.GiveBack(ctx)
		if err != nil {
			return fmt.Errorf("give back space: %w", err)
		}
		if !more {
			break
		}
		if err := k.limiter.WaitN(ctx, chunkSize); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
	}
	space, err := k.config.Store.Space(ctx)
	if err != nil {
		return err
	}
	k.metrics.bytes.Set(float64(space.Bytes))
	k.metrics.free.Set(float64(space.Free))
	return nil
}

// finish records what was deleted, also of a run that was broken off.
func (k *Keeper) finish(ctx context.Context, total int, err error) error {
	if total == 0 {
		return err
	}
	k.config.Logger.InfoContext(ctx, "expired certificates rolled up", telemetry.KeyCount, total)
	ev := k.event(audit.InventoryRollUp)
	ev.Detail.Changes = []audit.Change{{Field: "certificates", Old: strconv.Itoa(total), New: "0"}}
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return errors.Join(err, k.config.Store.RecordEvent(recording, ev))
}

// recordTimeout bounds how long a run that was broken off waits for its event.
const recordTimeout = 5 * time.Second

func (k *Keeper) event(action audit.Action) audit.Event {
	return audit.Event{
		Time: k.config.Now(), Actor: audit.Actor{Kind: audit.System, ID: "retention"}, Action: action, Target: "inventory",
		Replica: k.config.Replica, Outcome: audit.Done,
	}
}

type metrics struct {
	rolledUp, forgotten prometheus.Counter
	bytes, free         prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		rolledUp: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certloom_certificates_rolled_up_total", Help: "Records of expired certificates that were added up in their identity and deleted.",
		}),
		forgotten: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certloom_identities_forgotten_total", Help: "Identities that were deleted because their last certificate expired long ago.",
		}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "certloom_database_bytes", Help: "Size of the database with its indexes, looked at with each run of retention.",
		}),
		free: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "certloom_database_free_bytes", Help: "Part of certloom_database_bytes that deleted records have left for new ones (SQLite).",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.rolledUp, m.forgotten, m.bytes, m.free} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of retention: %w", err)
		}
	}
	return m, nil
}
