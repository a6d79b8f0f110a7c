// Package figures takes the figures of dashboards: what is in the inventory, and what happens.
//
// Some of them take a walk through all identities. So they are taken by one task, one after the other, not again before
// a few seconds have passed nor before the database has had twenty times as long for other work; everybody who sees the
// same identities is shown the same. While nobody looks, those of the whole are taken once a minute: for the metrics, and
// so that the first who looks need not wait. It must never be asked by anything that issues.
package figures

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Counts are what is counted of everything together.
type Counts interface {
	Stats(ctx context.Context) (pki.Stats, error)
	LiveCertificates(ctx context.Context, ca pki.CAID, now time.Time) (int64, error)
	Issued(ctx context.Context, minutes int, now time.Time) ([]int64, error)
	ClustersIssued(ctx context.Context, now time.Time) (map[string]int64, error)
	Refusals(ctx context.Context, now time.Time) ([]pki.Refusals, error)
}

// Store counts. It is safe for concurrent use.
type Store interface {
	Counts
	// IdentityFigures walks through the identities that the patterns name; nil: all.
	IdentityFigures(ctx context.Context, sees []string, now time.Time) (*pki.IdentityFigures, error)
}

// Config is what a Keeper needs.
type Config struct {
	Store  Store            // required
	CAs    func() []*pki.CA // of which certificates are counted; required
	Now    func() time.Time // required
	Logger *slog.Logger     // nil: nothing is logged
	// Registerer gets the metrics of identities; nil: nobody does.
	Registerer prometheus.Registerer
}

const (
	every   = 3 * time.Second  // figures are not taken again before
	rest    = 20               // nor before this many times the time that it took
	idle    = time.Minute      // while nobody looks
	stale   = 2 * time.Minute  // those that could have been taken anew for so long are shown to nobody
	most    = 30 * time.Second // that taking them may take
	kept    = 64               // different sights
	minutes = 24 * 60          // of which the issued certificates are asked for
)

// Keeper takes figures and keeps them for a while. It is safe for concurrent use.
type Keeper struct {
	config Config
	ask    chan *sight
	gauge  *prometheus.GaugeVec // identities, by status

	mu     sync.Mutex                 // guards sights and what they hold
	sights *lru.Cache[string, *sight] // by what is seen
}

// sight is what somebody sees.
type sight struct {
	sees    []string
	figures *pki.Figures  // nil before the first
	err     error         // of the last attempt
	next    time.Time     // when they may be taken again
	until   time.Time     // when they are too old
	pending chan struct{} // closed when the attempt under way is over; nil: there is none
}

// New checks the configuration. Nothing is taken before Run.
func New(config Config) (*Keeper, error) {
	if config.Store == nil || config.CAs == nil || config.Now == nil {
		return nil, errors.New("figures: Store, CAs and Now are required")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	sights, err := lru.New[string, *sight](kept)
	if err != nil {
		return nil, fmt.Errorf("figures: %w", err)
	}
	k := &Keeper{config: config, ask: make(chan *sight, kept), sights: sights, gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "certloom_identities",
		Help: "Identities by status of their newest certificate: ok, renewal-due, lapsing, lapsed. Counted every minute, the same by every replica.",
	}, []string{"status"})}
	if config.Registerer != nil {
		if err := config.Registerer.Register(k.gauge); err != nil {
			return nil, fmt.Errorf("register metrics of identities: %w", err)
		}
	}
	return k, nil
}

// Figures returns the figures of what the patterns name, as they were a moment ago; nil: of everything. It waits where
// there are none yet. Unavailable when they cannot be taken now.
func (k *Keeper) Figures(ctx context.Context, sees []string) (*pki.Figures, error) {
	s, wait, err := k.look(sees)
	if wait == nil {
		return s, err
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return nil, fault.Wrap(ctx.Err(), fault.Unavailable, "the figures are being taken; try again in a moment")
	}
	if s, _, err = k.look(sees); s == nil && err == nil {
		err = fault.New(fault.Unavailable, "the figures are being taken; try again in a moment")
	}
	return s, err
}

// look returns what is there, and has it taken anew when that is due. With nothing to show it returns what to wait for.
func (k *Keeper) look(sees []string) (*pki.Figures, <-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := "*"
	if sees != nil {
		key = strings.Join(sees, "\n")
	}
	s, ok := k.sights.Get(key)
	if !ok {
		s = &sight{sees: sees}
		k.sights.Add(key, s)
	}
	now := k.config.Now()
	if s.pending == nil && !now.Before(s.next) {
		select {
		case k.ask <- s:
			s.pending = make(chan struct{})
		default: // too many others wait
		}
	}
	switch {
	case s.figures != nil && now.Before(s.until):
		return s.figures, nil, nil
	case s.pending != nil:
		return nil, s.pending, nil
	case s.err != nil:
		return nil, nil, s.err
	default:
		return nil, nil, fault.New(fault.Unavailable, "the figures cannot be taken now; try again in a moment")
	}
}

// Run takes figures that are asked for until ctx ends, and those of the whole every minute.
func (k *Keeper) Run(ctx context.Context) error {
	ticker := time.NewTicker(idle)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-k.ask:
			k.refresh(ctx, s)
		case <-ticker.C:
			// What it returns is for nobody; that it is asked for has it taken when that is due.
			_, _, _ = k.look(nil)
		}
	}
}

func (k *Keeper) refresh(ctx context.Context, s *sight) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	began := k.config.Now()
	taken, err := k.take(ctx, s.sees, began)
	if err != nil {
		k.config.Logger.WarnContext(ctx, "figures not taken", telemetry.KeyError, err)
	}
	ended := k.config.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	s.next = ended.Add(max(every, rest*ended.Sub(began)))
	if s.err = err; err == nil {
		s.figures, s.until = taken, s.next.Add(stale)
	}
	close(s.pending)
	s.pending = nil
}

func (k *Keeper) take(ctx context.Context, sees []string, now time.Time) (*pki.Figures, error) {
	identities, err := k.config.Store.IdentityFigures(ctx, sees, now)
	if err != nil {
		return nil, err
	}
	f := &pki.Figures{At: now, Identities: *identities}
	if sees == nil {
		for _, status := range []pki.IdentityStatus{pki.IdentityOK, pki.IdentityRenewalDue, pki.IdentityLapsing, pki.IdentityLapsed, pki.IdentityGone} {
			k.gauge.WithLabelValues(string(status)).Set(float64(identities.Statuses[status]))
		}
		f.Whole, err = k.whole(ctx, now)
	}
	return f, err
}

func (k *Keeper) whole(ctx context.Context, now time.Time) (*pki.WholeFigures, error) {
	w := &pki.WholeFigures{Alive: make(map[pki.CAID]int64)}
	var err error
	if w.Stats, err = k.config.Store.Stats(ctx); err != nil {
		return nil, err
	}
	for _, ca := range k.config.CAs() {
		if w.Alive[ca.ID], err = k.config.Store.LiveCertificates(ctx, ca.ID, now); err != nil {
			return nil, err
		}
	}
	if w.Issued, err = k.config.Store.Issued(ctx, minutes, now); err != nil {
		return nil, err
	}
	if w.Clusters, err = k.config.Store.ClustersIssued(ctx, now); err != nil {
		return nil, err
	}
	w.Refusals, err = k.config.Store.Refusals(ctx, now)
	return w, err
}
