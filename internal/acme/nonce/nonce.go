// Package nonce makes the anti-replay nonces of ACME (RFC 8555 section 6.5) and sees to it that each is used once.
//
// It must never write anything to make a nonce: clients ask for them without being known, and every answer has one.
// It trusts nothing of a nonce that comes back but what the ring opens.
//
// There are two modes. In the local one, for an installation of one process, a nonce is the process's epoch and a
// number, and a bit for each number says whether it was used; nothing is stored, and a restart makes the nonces
// of before invalid, which costs each client one more round trip. In the shared one, for several replicas with one database, a
// nonce is a random name and its expiry, valid on every replica, and the use of it is a row.
package nonce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/seal"
)

// Ring seals and opens; see seal.Ring.
type Ring interface {
	Seal(kind string, aad, plain []byte) string
	Open(kind string, aad []byte, token string) ([]byte, error)
}

var _ Ring = (*seal.Ring)(nil)

// Redeemer remembers used nonces for all replicas. RedeemNonce reports whether the caller is the first with this id;
// of callers at the same time exactly one is, on whichever replica. It may forget the id once expires is past.
type Redeemer interface {
	RedeemNonce(ctx context.Context, id [16]byte, expires time.Time) (bool, error)
}

// Config is what New needs. Fields without a note that they are optional must be set.
type Config struct {
	Ring       Ring
	Shared     Redeemer         // nil: local mode
	Now        func() time.Time // needed in shared mode
	Random     io.Reader        // safe for concurrent use, as crypto/rand.Reader is
	Registerer prometheus.Registerer
	// Window is how many of the newest nonces are good in local mode, a bit of memory each; optional. Clients keep
	// nonces in a pool and reach for old ones last, so that they should live for an hour at least: the default is good
	// for two hours at 9,000 requests a second.
	Window int
}

const (
	defaultWindow = 1 << 26 // 8 MiB, of which the part is resident that was in use
	minWindow     = 64
	// life is how long a nonce is good in shared mode.
	life = 24 * time.Hour
	// skew is how far the clocks of replicas may be apart: the use of a nonce is remembered that much longer than the
	// nonce is good.
	skew = time.Hour
)

// Nonces issues and redeems. It is safe for concurrent use.
type Nonces struct {
	mode mode

	issued, redeemed, unknown, reused, failed prometheus.Counter
}

// mode is what differs between local and shared nonces.
type mode interface {
	issue() string
	redeem(ctx context.Context, nonce string) (outcome, error)
}

type outcome uint8

const (
	unknown outcome = iota // not made by this installation, altered, of an earlier epoch, or expired
	reused
	redeemed
)

// New checks the configuration. It reads randomness in local mode and starts nothing.
func New(c Config) (*Nonces, error) {
	if c.Ring == nil || c.Random == nil || c.Registerer == nil {
		return nil, errors.New("nonce: Ring, Random and Registerer must be set")
	}
	n := &Nonces{}
	if c.Shared != nil {
		if c.Now == nil {
			return nil, errors.New("nonce: Now must be set in shared mode")
		}
		n.mode = &shared{ring: c.Ring, redeemer: c.Shared, now: c.Now, random: c.Random}
	} else {
		local, err := newLocal(c)
		if err != nil {
			return nil, err
		}
		n.mode = local
	}
	return n, n.register(c.Registerer)
}

func (n *Nonces) register(registerer prometheus.Registerer) error {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certloom_acme_nonces_total",
		Help: "ACME nonces, by what became of them: issued, redeemed, unknown, reused, or failed when the database did not answer.",
	}, []string{"result"})
	if err := registerer.Register(total); err != nil {
		return fmt.Errorf("register nonce metrics: %w", err)
	}
	n.issued = total.WithLabelValues("issued")
	n.redeemed = total.WithLabelValues("redeemed")
	n.unknown = total.WithLabelValues("unknown")
	n.reused = total.WithLabelValues("reused")
	n.failed = total.WithLabelValues("failed")
	return nil
}

// Issue returns a fresh nonce: base64url, with more than 128 bits that nobody can guess. It writes nothing and does
// not wait.
func (n *Nonces) Issue() string {
	n.issued.Inc()
	return n.mode.issue()
}

// Redeem uses a nonce up. It returns nil for exactly one of the calls with one nonce, and a BadNonce *fault.Error for
// all others and for what is no nonce; in shared mode also the database's error, and then the nonce may be used
// up or not. Call it after the signature has been checked, so that nobody can use up a nonce that he only saw.
func (n *Nonces) Redeem(ctx context.Context, nonce string) error {
	got, err := n.mode.redeem(ctx, nonce)
	switch {
	case err != nil:
		n.failed.Inc()
		return fmt.Errorf("redeem nonce: %w", err)
	case got == redeemed:
		n.redeemed.Inc()
		return nil
	case got == reused:
		n.reused.Inc()
	default:
		n.unknown.Inc()
	}
	// acme.sh recognizes the problem by these words, not by its type. They do not say which of the two it was.
	return fault.New(fault.BadNonce, "JWS has an invalid anti-replay nonce; use the one of this answer")
}
