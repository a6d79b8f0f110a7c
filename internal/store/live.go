package store

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// How many certificates of a CA have not expired is not counted but added up: each batch adds to one counter for each CA
// and each time of expiry, rounded up, and those whose time has not passed are what lives. Times are rounded by a part of
// the lifetime, so that certificates that were issued together, with a tenth of jitter, are in a handful of counters, and
// there are some dozens to sum however many certificates there are.

// livePart is by which part of a lifetime, at most, a certificate is counted too long.
const livePart = 32

// liveEnd rounds a certificate's expiry up to a power of two, in seconds, that is no more than that part.
func liveEnd(c *pki.Certificate) int64 {
	shift := max(bits.Len64(uint64(max(c.NotAfter.Sub(c.NotBefore)/time.Second, 0)/livePart))-1, 0)
	return (seconds(c.NotAfter)>>shift + 1) << shift
}

// Names of these counters sort by CA and time.
func liveName(ca pki.CAID, end int64) string { return fmt.Sprintf("live/%s/%010d", ca, end) }

// counted is what to add to a counter.
type counted struct {
	name  string
	delta int64
}

// issuedCounts are the counters of a batch that was stored.
func issuedCounts(records []*record) []counted {
	type end struct {
		ca pki.CAID
		at int64
	}
	ends := make(map[end]int64, 8)
	for _, r := range records {
		ends[end{r.certificate.CAID, liveEnd(r.certificate)}]++
	}
	counts := map[string]int64{"certificates": int64(len(records))}
	for e, n := range ends {
		counts[liveName(e.ca, e.at)] = n
	}
	happened(counts, records)
	return inOrder(counts)
}

const (
	counterWidth = 3
	addCounter   = `INSERT INTO counter (name, slot, value)`
	// A counter is in a statement once.
	addCounterConflict = ` ON CONFLICT (name, slot) DO UPDATE SET value = counter.value + excluded.value`
)

// countAll adds to several counters, in the slot of this writer.
func (t *tx) countAll(ctx context.Context, counts []counted) error {
	for rest := counts; len(rest) > 0; {
		n := chunk(len(rest))
		args := make([]any, 0, n*counterWidth)
		for _, c := range rest[:n] {
			args = append(args, c.name, t.session.slot, c.delta)
		}
		if _, err := t.change(ctx, t.store().texts.counters[n], args...); err != nil {
			return fmt.Errorf("count: %w", err)
		}
		rest = rest[n:]
	}
	return nil
}

// LiveCertificates returns how many certificates of a CA have not expired, revoked ones among them. Each may be counted
// for a thirty-second part of its lifetime too long.
func (s *Store) LiveCertificates(ctx context.Context, ca pki.CAID, now time.Time) (int64, error) {
	first, last := liveName(ca, seconds(now)), liveName(ca, lastEnd)
	n, err := scanned[int64](s.queryRow(ctx,
		`SELECT CAST(coalesce(sum(value), 0) AS BIGINT) FROM counter WHERE name >= $1 AND name <= $2`, first, last))
	return n, s.readError("count live certificates", err)
}

// lastEnd is the largest that names of counters have room for.
const lastEnd = 9_999_999_999

// ForgetExpired removes the counters of a CA's certificates that expired at least a day before now.
func (s *Store) ForgetExpired(ctx context.Context, ca pki.CAID, now time.Time) error {
	return s.write(ctx, "remove counters of expired certificates", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `DELETE FROM counter WHERE name >= $1 AND name < $2`,
			liveName(ca, 0), liveName(ca, seconds(now.Add(-24*time.Hour))))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		return nil
	})
}
