package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// How many certificates of a CA have not expired is not counted but added up: each batch adds to one counter for each CA
// and each step of notAfter, and what has not passed yet is what lives. The sum is of as many rows as there are steps
// with an end, which for a mesh are hundreds, however many certificates there are.

// liveShift makes steps of 512 seconds, so that a sum is no more than that behind.
const liveShift = 9

// Names of these counters sort by CA and time.
func liveName(ca pki.CAID, step int64) string { return fmt.Sprintf("live/%s/%010d", ca, step) }

// counted is what to add to a counter.
type counted struct {
	name  string
	delta int64
}

// issuedCounts are the counters of a batch that was stored.
func issuedCounts(records []*record) []counted {
	type step struct {
		ca pki.CAID
		at int64
	}
	steps := make(map[step]int64, 4)
	for _, r := range records {
		steps[step{r.certificate.CAID, seconds(r.certificate.NotAfter) >> liveShift}]++
	}
	counts := append(make([]counted, 0, len(steps)+1), counted{"certificates", int64(len(records))})
	for s, n := range steps {
		counts = append(counts, counted{liveName(s.ca, s.at), n})
	}
	// In one order, so that two writers that share a slot do not wait for each other.
	slices.SortFunc(counts, func(a, b counted) int { return cmp.Compare(a.name, b.name) })
	return counts
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

// LiveCertificates returns how many certificates of a CA have not expired, revoked ones among them. Those that expired
// in the last 512 seconds may be counted too.
func (s *Store) LiveCertificates(ctx context.Context, ca pki.CAID, now time.Time) (int64, error) {
	first, last := liveName(ca, seconds(now)>>liveShift), liveName(ca, lastStep)
	n, err := scanned[int64](s.queryRow(ctx,
		`SELECT CAST(coalesce(sum(value), 0) AS BIGINT) FROM counter WHERE name >= $1 AND name <= $2`, first, last))
	return n, s.readError("count live certificates", err)
}

// lastStep is the largest that names of counters have room for.
const lastStep = 9_999_999_999

// ForgetExpired removes the counters of a CA's certificates that expired at least a day before now.
func (s *Store) ForgetExpired(ctx context.Context, ca pki.CAID, now time.Time) error {
	return s.write(ctx, "remove counters of expired certificates", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `DELETE FROM counter WHERE name >= $1 AND name < $2`,
			liveName(ca, 0), liveName(ca, seconds(now.Add(-24*time.Hour))>>liveShift))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		return nil
	})
}
