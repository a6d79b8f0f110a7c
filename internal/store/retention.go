package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// Expired certificates are deleted some time after they have expired, and what they were is added up in rollup. They are
// found by the index on dates, a step of it (17 minutes) at a time, the oldest first; that is also about the order in
// which their rows and the entries of all indexes lie, so that a deletion touches few pages. The newest certificate of an
// identity stays for as long as the identity does.

// ExpiredCertificates returns some of the certificates that a query selects, the newest ones of identities not among them
// as far as that is known without looking. Steps without such certificates are passed over, some at a time: Records may be
// empty before the end.
func (s *Store) ExpiredCertificates(ctx context.Context, q pki.ExpiredQuery) (*pki.Expired, error) {
	found := &pki.Expired{Next: q.After}
	if len(q.Profiles) == 0 {
		found.Done = true
		return found, nil
	}
	last := span(q.Before) - 1 // a step that has ended
	step, err := scanned[sql.NullInt64](s.queryRow(ctx, `SELECT min(not_after >> 10) FROM certificate WHERE not_after >> 10 >= $1`, q.After.Step))
	if err != nil {
		return nil, s.readError("find expired certificates", err)
	}
	if !step.Valid || step.Int64 > last {
		found.Next, found.Done = pki.ExpiredPlace{Step: max(q.After.Step, last+1)}, true
		return found, nil
	}
	after := q.After
	if after.Step != step.Int64 {
		after = pki.ExpiredPlace{Step: step.Int64}
	}
	profiles := make([]string, len(q.Profiles))
	args := []any{after.Step, after.ID}
	for i, id := range q.Profiles {
		profiles[i] = "?"
		args = append(args, string(id))
	}
	w := &where{}
	w.add(`not_after >> 10 = ? AND id > ? AND source_id IN (SELECT id FROM source WHERE profile_id IN (`+strings.Join(profiles, ", ")+`))`, args...)
	query, args := w.build(`SELECT id FROM certificate`, "id", q.Limit)
	rows, err := s.queryOnce(ctx, query, args...)
	found.Records, err = collect(rows, err, scanned[int64])
	if err != nil {
		return nil, s.readError("read expired certificates", err)
	}
	found.Next = pki.ExpiredPlace{Step: after.Step + 1}
	if len(found.Records) == q.Limit {
		found.Next = pki.ExpiredPlace{Step: after.Step, ID: found.Records[len(found.Records)-1]}
	}
	return found, nil
}

// rolled is a certificate whose row was deleted.
type rolled struct {
	id, identity, previous, issuedAt int64
	algorithm                        pki.KeyAlgorithm
	order                            string
	revoked                          bool
}

// RollUp deletes certificates and adds them to what is left of their identities, in one transaction: all of them or none.
// Those that are the newest of their identity, or are gone already, are passed over. It returns how many it deleted.
// No more than a hundred or so at a time: issuing waits.
func (s *Store) RollUp(ctx context.Context, records []int64) (int, error) {
	deleted := 0
	err := s.write(ctx, "roll up certificates", func(ctx context.Context, t *tx) error {
		deleted = 0
		if err := t.holdRollUp(ctx); err != nil {
			return err
		}
		gone, err := t.deleteExpired(ctx, records)
		if err != nil || len(gone) == 0 {
			return err
		}
		if err := t.mendChains(ctx, gone); err != nil {
			return err
		}
		if err := t.addRollUps(ctx, gone); err != nil {
			return err
		}
		deleted = len(gone)
		return t.countGone(ctx, gone)
	})
	return deleted, err
}

// holdRollUp keeps other replicas from mending the same chains. SQLite has one writer.
func (t *tx) holdRollUp(ctx context.Context) error {
	if _, err := scanned[[]byte](t.queryRow(ctx, `SELECT value FROM setting WHERE name = 'rollup'`+t.forUpdate())); err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	return nil
}

// deleteExpired deletes rows, and the rows of their orders, which stay for as long as their certificates do.
func (t *tx) deleteExpired(ctx context.Context, ids []int64) ([]rolled, error) {
	var all []rolled
	for rest := ids; len(rest) > 0; {
		n := chunk(len(rest))
		rows, err := t.query(ctx, t.store().texts.deleteExpired[n], values(rest[:n])...)
		gone, err := collect(rows, err, func(r row) (rolled, error) {
			var c rolled
			err := r.Scan(&c.id, &c.identity, &c.previous, &c.issuedAt, &c.algorithm, &c.order, &c.revoked)
			return c, err
		})
		if err != nil {
			return nil, fmt.Errorf("delete certificates: %w", err)
		}
		t.wrote = t.wrote || len(gone) > 0
		all = append(all, gone...)
		rest = rest[n:]
	}
	var orders []any
	for _, c := range all {
		if c.order != "" {
			orders = append(orders, c.order)
		}
	}
	for rest := orders; len(rest) > 0; {
		n := chunk(len(rest))
		if _, err := t.change(ctx, t.store().texts.deleteOrders[n], rest[:n]...); err != nil {
			return nil, fmt.Errorf("delete orders: %w", err)
		}
		rest = rest[n:]
	}
	return all, nil
}

func values[T any](list []T) []any {
	args := make([]any, len(list))
	for i, v := range list {
		args[i] = v
	}
	return args
}

// mendChains keeps older certificates of an identity reachable that outlive newer ones: the one that was issued after
// those that are gone now has the first that is left for its predecessor. Usually nothing older is left, and a chain may
// end with a predecessor that is gone.
func (t *tx) mendChains(ctx context.Context, gone []rolled) error {
	byID := make(map[int64]*rolled, len(gone))
	inner := make(map[int64]bool, len(gone)) // the successor is gone as well
	for i := range gone {
		byID[gone[i].id] = &gone[i]
		inner[gone[i].previous] = true
	}
	behind := make(map[*rolled]int64)
	var targets []any
	for i := range gone {
		c := &gone[i]
		if inner[c.id] {
			continue
		}
		target := c.previous
		for byID[target] != nil {
			target = byID[target].previous
		}
		if target != 0 {
			behind[c] = target
			targets = append(targets, target)
		}
	}
	left, err := t.existing(ctx, targets)
	if err != nil {
		return err
	}
	var heads []*rolled
	for c, target := range behind {
		if left[target] {
			heads = append(heads, c)
		}
	}
	// The newest first: a chain is followed from its beginning, over what is mended.
	slices.SortFunc(heads, func(a, b *rolled) int { return cmp.Compare(b.id, a.id) })
	for _, c := range heads {
		if err := t.mendChain(ctx, c, behind[c]); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) existing(ctx context.Context, ids []any) (map[int64]bool, error) {
	found := make(map[int64]bool, len(ids))
	for rest := ids; len(rest) > 0; {
		n := chunk(len(rest))
		rows, err := t.query(ctx, t.store().texts.existing[n], rest[:n]...)
		some, err := collect(rows, err, scanned[int64])
		if err != nil {
			return nil, fmt.Errorf("look for predecessors: %w", err)
		}
		for _, id := range some {
			found[id] = true
		}
		rest = rest[n:]
	}
	return found, nil
}

// mendChain finds the certificate that was issued after one that is gone, which takes a walk through those that are newer.
func (t *tx) mendChain(ctx context.Context, gone *rolled, target int64) error {
	_, err := t.change(ctx, `UPDATE certificate SET previous = $1 WHERE id = (
		WITH RECURSIVE newer (id, previous) AS (
			SELECT c.id, c.previous FROM identity i CROSS JOIN certificate c WHERE i.id = $2 AND c.id = i.newest
			UNION ALL
			SELECT c.id, c.previous FROM newer CROSS JOIN certificate c WHERE c.id = newer.previous)
		SELECT id FROM newer WHERE previous = $3)`, target, gone.identity, gone.id)
	if err != nil {
		return fmt.Errorf("mend chain: %w", err)
	}
	return nil
}

const rollUpWidth = 5

// addRollUps adds to what is left of identities.
func (t *tx) addRollUps(ctx context.Context, gone []rolled) error {
	sums := make(map[int64]*pki.RollUp)
	for _, c := range gone {
		sum := sums[c.identity]
		if sum == nil {
			sum = &pki.RollUp{Algorithms: map[pki.KeyAlgorithm]int64{}}
			sums[c.identity] = sum
		}
		at := fromSeconds(c.issuedAt)
		add(sum, &pki.RollUp{Certificates: 1, FirstIssuedAt: at, LastIssuedAt: at, Algorithms: map[pki.KeyAlgorithm]int64{c.algorithm: 1}})
	}
	identities := make([]int64, 0, len(sums))
	for id := range sums {
		identities = append(identities, id)
	}
	slices.Sort(identities)
	for rest := identities; len(rest) > 0; {
		n := chunk(len(rest))
		if err := t.storeRollUps(ctx, rest[:n], sums); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func (t *tx) storeRollUps(ctx context.Context, identities []int64, sums map[int64]*pki.RollUp) error {
	rows, err := t.query(ctx, t.store().texts.rollUps[len(identities)], values(identities)...)
	_, err = collect(rows, err, func(r row) (struct{}, error) {
		var id int64
		before, err := scanRollUp(r, &id)
		if err == nil {
			add(sums[id], before)
		}
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("read roll-ups: %w", err)
	}
	args := make([]any, 0, len(identities)*rollUpWidth)
	for _, id := range identities {
		sum := sums[id]
		algorithms, err := encode(sum.Algorithms)
		if err != nil {
			return err
		}
		args = append(args, id, sum.Certificates, seconds(sum.FirstIssuedAt), seconds(sum.LastIssuedAt), algorithms)
	}
	if _, err := t.change(ctx, t.store().texts.storeRollUps[len(identities)], args...); err != nil {
		return fmt.Errorf("store roll-ups: %w", err)
	}
	return nil
}

// add adds to a sum.
func add(sum, more *pki.RollUp) {
	sum.Certificates += more.Certificates
	if sum.FirstIssuedAt.IsZero() || more.FirstIssuedAt.Before(sum.FirstIssuedAt) {
		sum.FirstIssuedAt = more.FirstIssuedAt
	}
	if more.LastIssuedAt.After(sum.LastIssuedAt) {
		sum.LastIssuedAt = more.LastIssuedAt
	}
	for algorithm, n := range more.Algorithms {
		sum.Algorithms[algorithm] += n
	}
}

func scanRollUp(r row, before ...any) (*pki.RollUp, error) {
	var sum pki.RollUp
	var first, last int64
	var algorithms string
	if err := r.Scan(append(before, &sum.Certificates, &first, &last, &algorithms)...); err != nil {
		return nil, err
	}
	sum.FirstIssuedAt, sum.LastIssuedAt = fromSeconds(first), fromSeconds(last)
	return &sum, decode("algorithms", algorithms, &sum.Algorithms)
}

func (t *tx) countGone(ctx context.Context, gone []rolled) error {
	revoked := int64(0)
	for _, c := range gone {
		if c.revoked {
			revoked++
		}
	}
	counts := []counted{{"certificates", -int64(len(gone))}, {"rolled up", int64(len(gone))}}
	if revoked > 0 {
		counts = append(counts, counted{"revoked", -revoked})
	}
	return t.countAll(ctx, counts)
}

// RolledUp returns what is left of an identity's deleted certificates, nil when none was deleted.
func (s *Store) RolledUp(ctx context.Context, identity string) (*pki.RollUp, error) {
	sum, err := scanRollUp(s.queryRow(ctx, `SELECT r.certificates, r.first_issued_at, r.last_issued_at, r.algorithms
		FROM identity i CROSS JOIN rollup r WHERE r.identity_id = i.id AND i.name = $1`, identity))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return sum, s.readError("read roll-up", err)
}

// ForgetIdentities deletes up to limit identities whose newest certificate expired before the given time and is the only
// one that is left, with that certificate and with what is left of earlier ones. It returns how many.
func (s *Store) ForgetIdentities(ctx context.Context, before time.Time, limit int, ev audit.Event) (int, error) {
	n := 0
	err := s.write(ctx, "forget identities", func(ctx context.Context, t *tx) error {
		n = 0
		if err := t.holdRollUp(ctx); err != nil {
			return err
		}
		rows, err := t.query(ctx, `SELECT i.id, i.newest, i.name, i.cluster FROM identity i WHERE i.not_after >> 10 < $1 AND NOT EXISTS (
				SELECT 1 FROM certificate c CROSS JOIN certificate p WHERE c.id = i.newest AND p.id = c.previous)
			ORDER BY i.not_after >> 10 LIMIT $2`+t.forUpdate(), span(before), int64(limit))
		all, err := collect(rows, err, func(r row) (lapsed, error) {
			var l lapsed
			err := r.Scan(&l.id, &l.newest, &l.name, &l.cluster)
			return l, err
		})
		if err != nil {
			return fmt.Errorf("find: %w", err)
		}
		for _, l := range all {
			if err := t.forgetIdentity(ctx, l); err != nil {
				return err
			}
		}
		if n = len(all); n == 0 {
			return nil
		}
		ev.Detail.Changes = []audit.Change{{Field: "identities", Old: itoa(n), New: "0"}}
		t.event(ev)
		return t.countAll(ctx, []counted{{"certificates", -int64(n)}, {"identities", -int64(n)}, {"rolled up", int64(n)}})
	})
	return n, err
}

// lapsed is an identity to be deleted.
type lapsed struct {
	id, newest    int64
	name, cluster string
}

// forgetIdentity deletes an identity. Words of clusters that it was in before the last one stay; whoever finds them
// compares them with the identity.
func (t *tx) forgetIdentity(ctx context.Context, l lapsed) error {
	words := []word{{l.cluster, wordOfCluster, l.id}}
	for _, text := range nameWords(l.name) {
		words = append(words, word{text, wordOfName, l.id})
	}
	for _, w := range words {
		_, err := t.change(ctx, `DELETE FROM identity_word WHERE word = $1 AND kind = $2 AND identity_id = $3`, w.text, w.kind, w.identity)
		if err != nil {
			return fmt.Errorf("delete words: %w", err)
		}
	}
	for _, step := range []struct {
		text string
		id   int64
	}{
		{`DELETE FROM certificate WHERE id = $1`, l.newest},
		{`DELETE FROM rollup WHERE identity_id = $1`, l.id},
		{`DELETE FROM identity WHERE id = $1`, l.id},
	} {
		if _, err := t.change(ctx, step.text, step.id); err != nil {
			return fmt.Errorf("delete identity: %w", err)
		}
	}
	return nil
}
