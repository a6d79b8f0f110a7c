package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Searching ten million certificates must not become a walk through all of them, and sorting what an index finds
// must not either. So a search first finds candidates, newest first, from the narrowest thing that it is given: a
// fingerprint, identities (each knows its newest certificate, and each certificate its predecessor), revocation,
// clusters and Pods, sources (CA, profile, credential, account), or dates. Candidates are then read by their IDs with all conditions of
// the filter. Without anything narrow enough it walks through the certificates from the newest on, which finds soon
// what is frequent.

// searchLimits say what is many. They are fields so that tests of few certificates can take every path.
type searchLimits struct {
	chains             int   // identities whose certificates are merged; more of them are frequent
	sources            int   // sources whose certificates are merged
	window             int64 // newest certificates that are looked through before dates are
	candidates         int   // certificates that are sorted, because their dates match
	identityWindow     int   // identities that are looked through in order of their names before dates are
	identityCandidates int   // identities that are sorted, because their dates match
	orders             int   // newest orders of all accounts that are looked through before those of one are sought
}

func usualLimits() searchLimits {
	return searchLimits{
		chains: 5000, sources: 128, window: 1024, candidates: 8000, identityWindow: 2000, identityCandidates: 8000, orders: 2000,
	}
}

// readAhead is how many candidates are read with one query.
const readAhead = 256

// candidates returns the next n or fewer certificate IDs of a search, in descending order; none: the end.
type candidates func(ctx context.Context, n int) ([]int64, error)

// search is one search under way.
type search struct {
	store  *Store
	filter pki.CertificateFilter
	ranges []nameRange
	text   text
	now    time.Time
	limit  int
	where  *where // all of the filter but its cursor
	before int64  // candidates have smaller IDs
	floor  int64  // candidates have this ID or larger ones
	cursor cursor
	found  []pki.Certificate
}

// cursor is the certificate after which a page begins.
type cursor struct{ id, identity, previous int64 }

// Certificates returns certificates, newest first: in the opposite order of their recording.
func (s *Store) Certificates(ctx context.Context, filter pki.CertificateFilter, now time.Time) ([]pki.Certificate, error) {
	ranges, err := s.nameRanges(ctx, filter.Identity, filter.TrustDomain, filter.Namespace, filter.Sees)
	if err != nil {
		return nil, s.readError("read namespaces", err)
	}
	if len(ranges) == 0 {
		return nil, nil
	}
	q := &search{
		store: s, filter: filter, ranges: ranges, text: parseText(filter.Text), now: now, limit: bounded(filter.Limit),
		where: certificateConditions(filter, ranges, now), before: math.MaxInt64,
	}
	q.text.certificateConditions(q.where)
	if err := q.bound(ctx); err != nil {
		return nil, s.readError("read cursor", err)
	}
	if err := q.run(ctx); err != nil {
		return nil, s.readError("read certificates", err)
	}
	return q.found, nil
}

// bound finds the range of IDs that the cursor and the time of issuance leave.
func (q *search) bound(ctx context.Context) error {
	if q.filter.Before != "" {
		serial := blob(q.filter.Before.Bytes())
		err := q.store.queryRow(ctx, `SELECT id, identity_id, previous FROM certificate WHERE serial = $1`, serial).
			Scan(&q.cursor.id, &q.cursor.identity, &q.cursor.previous)
		if errors.Is(err, sql.ErrNoRows) { // it is gone; go on where it would be
			err = q.store.queryRow(ctx, `SELECT coalesce(
				(SELECT id + 1 FROM certificate WHERE serial < $1 ORDER BY serial DESC LIMIT 1), 0)`, serial).Scan(&q.cursor.id)
		}
		if err != nil {
			return err
		}
		q.before = q.cursor.id
	}
	if q.filter.IssuedAfter.IsZero() {
		return nil
	}
	// Serials begin with their time, and what was issued later was recorded later, but for the clocks of replicas and
	// the time between the two.
	const slack, clockSlack = 10 * time.Minute, 4096
	prefix := binary.BigEndian.AppendUint32(nil, uint32(q.filter.IssuedAfter.Add(-slack).Unix()>>1)&0x7fffffff)
	id, err := scanned[int64](q.store.queryRow(ctx,
		`SELECT id FROM certificate WHERE serial >= $1 ORDER BY serial LIMIT 1`, bytes.TrimLeft(prefix, "\x00")))
	if errors.Is(err, sql.ErrNoRows) {
		q.floor = math.MaxInt64
		return nil
	}
	q.floor = id - clockSlack // replicas may have recorded it between others
	return err
}

func (q *search) run(ctx context.Context) error {
	if len(q.filter.Fingerprint) > 0 {
		return q.byFingerprint(ctx)
	}
	if len(q.ranges) > 1 || q.ranges[0] != (nameRange{}) {
		// Many identities are frequent in whatever else narrows the search.
		if few, err := q.byIdentity(ctx); few || err != nil {
			return err
		}
	}
	if !q.text.empty() {
		if few, err := q.byText(ctx); few || err != nil {
			return err
		}
	}
	return q.byOthers(ctx)
}

// byOthers finds certificates by what is not their identity.
func (q *search) byOthers(ctx context.Context) error {
	switch {
	case q.filter.Status == pki.CertificateRevoked || q.filter.Status == pki.CertificateHeld:
		return q.drain(ctx, q.revoked())
	case q.filter.Pod != "" || q.filter.Cluster != "":
		found, err := q.workloads(ctx, q.filter)
		if err != nil {
			return err
		}
		return q.drain(ctx, found)
	case q.filter.ProfileID != "" || q.filter.CAID != "" || q.filter.CredentialID != "" || q.filter.AccountID != "":
		return q.bySource(ctx)
	case q.filter.Status != "" || !q.filter.ExpiresBefore.IsZero():
		return q.byDate(ctx)
	default:
		return q.walk(ctx, q.before, q.floor)
	}
}

// drain reads candidates until there are enough certificates or no more candidates.
func (q *search) drain(ctx context.Context, next candidates) error {
	for len(q.found) < q.limit {
		ids, err := next(ctx, batchLimit)
		if err != nil || len(ids) == 0 {
			return err
		}
		if err := q.read(ctx, ids); err != nil {
			return err
		}
	}
	return nil
}

// read reads those candidates that the filter selects. There are batchLimit of them at most.
func (q *search) read(ctx context.Context, ids []int64) error {
	w := q.where.clone()
	w.in("c.id", ids)
	return q.append(ctx, w)
}

// walk goes through the certificates with floor <= ID < before.
func (q *search) walk(ctx context.Context, before, floor int64) error {
	w := q.where.clone()
	w.add("c.id < ?", before)
	w.add("c.id >= ?", floor)
	return q.append(ctx, w)
}

func (q *search) append(ctx context.Context, w *where) error {
	query, args := w.build(certificateSelect, "c.id DESC", q.limit-len(q.found))
	rows, err := q.store.queryOnce(ctx, query, args...)
	more, err := collect(rows, err, scanCertificate)
	q.found = append(q.found, more...)
	return err
}

func (q *search) byFingerprint(ctx context.Context) error {
	if len(q.filter.Fingerprint) != 32 {
		return nil
	}
	id, err := q.store.certificateByHash(ctx, "fingerprint", q.filter.Fingerprint)
	if err != nil || id == 0 || id >= q.before {
		return err
	}
	return q.read(ctx, []int64{id})
}

// revoked finds all revoked certificates, those that are held among them.
func (q *search) revoked() candidates {
	before := q.before
	return func(ctx context.Context, n int) ([]int64, error) {
		rows, err := q.store.query(ctx, `SELECT id FROM certificate WHERE revoked_at > 0 AND id < $1 AND id >= $2
			ORDER BY id DESC LIMIT $3`, before, q.floor, int64(n))
		ids, err := collect(rows, err, scanned[int64])
		if len(ids) > 0 {
			before = ids[len(ids)-1]
		}
		return ids, err
	}
}

// bySource merges the certificates of the sources that the filter selects.
func (q *search) bySource(ctx context.Context) error {
	var w where
	w.equal("ca_id", string(q.filter.CAID))
	w.equal("profile_id", string(q.filter.ProfileID))
	w.equal("credential_id", string(q.filter.CredentialID))
	w.equal("account_id", string(q.filter.AccountID))
	query, args := w.build(`SELECT id FROM source`, "id", q.store.limits.sources+1)
	rows, err := q.store.queryOnce(ctx, query, args...)
	sources, err := collect(rows, err, scanned[int64])
	switch {
	case err != nil:
		return err
	case len(sources) > q.store.limits.sources:
		return q.walk(ctx, q.before, q.floor)
	}
	streams := make([]*stream, len(sources))
	for i, id := range sources {
		streams[i] = &stream{source: id, before: q.before}
	}
	return q.drain(ctx, func(ctx context.Context, n int) ([]int64, error) { return q.merge(ctx, streams, n) })
}

// stream is the certificates of one source, read some at a time.
type stream struct {
	source int64
	before int64
	ids    []int64
	ended  bool
}

func (q *search) merge(ctx context.Context, streams []*stream, n int) ([]int64, error) {
	ahead := max(8, readAhead/max(1, len(streams)))
	var ids []int64
	for len(ids) < n {
		var newest *stream
		for _, s := range streams {
			if err := q.fill(ctx, s, ahead); err != nil {
				return nil, err
			}
			if len(s.ids) > 0 && (newest == nil || s.ids[0] > newest.ids[0]) {
				newest = s
			}
		}
		if newest == nil {
			break
		}
		ids = append(ids, newest.ids[0])
		newest.ids = newest.ids[1:]
	}
	return ids, nil
}

func (q *search) fill(ctx context.Context, s *stream, ahead int) error {
	if len(s.ids) > 0 || s.ended {
		return nil
	}
	rows, err := q.store.query(ctx, `SELECT id FROM certificate WHERE source_id = $1 AND id < $2 AND id >= $3
		ORDER BY id DESC LIMIT $4`, s.source, s.before, q.floor, int64(ahead))
	if s.ids, err = collect(rows, err, scanned[int64]); err != nil {
		return err
	}
	if s.ended = len(s.ids) < ahead; len(s.ids) > 0 {
		s.before = s.ids[len(s.ids)-1]
	}
	return nil
}

// byDate finds certificates of a status. Among the newest ones first; then, if few certificates have the right dates, in
// all of those; otherwise from the newest one on that can have the status.
func (q *search) byDate(ctx context.Context) error {
	newest, err := scanned[int64](q.store.queryRow(ctx, `SELECT coalesce(max(id), 0) FROM certificate`))
	if err != nil {
		return err
	}
	top := min(q.before, newest+1)
	bottom := max(q.floor, top-q.store.limits.window)
	if err := q.walk(ctx, top, bottom); err != nil || len(q.found) >= q.limit || bottom <= q.floor {
		return err
	}
	low, high := q.spans()
	rows, err := q.store.query(ctx, `SELECT id FROM certificate WHERE not_after >> 10 >= $1 AND not_after >> 10 <= $2
		AND id < $3 LIMIT $4`, low, high, bottom, int64(q.store.limits.candidates+1))
	ids, err := collect(rows, err, scanned[int64])
	if err != nil {
		return err
	}
	if len(ids) > q.store.limits.candidates {
		return q.walkFromNewest(ctx, bottom, high)
	}
	slices.SortFunc(ids, func(a, b int64) int { return -compareInt(a, b) })
	return q.drain(ctx, listed(ids))
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// spans is the range in which notAfter of the filter's certificates lies, in steps of the index.
func (q *search) spans() (low, high int64) {
	low, high = 0, math.MaxInt64
	switch q.filter.Status {
	case pki.CertificateExpired:
		high = span(q.now)
	case pki.CertificateValid, pki.CertificateRenewalDue:
		low = span(q.now)
	case pki.CertificateRevoked, pki.CertificateHeld:
	}
	if !q.filter.ExpiresBefore.IsZero() {
		high = min(high, span(q.filter.ExpiresBefore))
	}
	return low, high
}

// walkFromNewest walks from the newest certificate on that can be expired or due, since before it there may be many
// that cannot.
func (q *search) walkFromNewest(ctx context.Context, before, high int64) error {
	column := "not_after"
	if q.filter.Status == pki.CertificateRenewalDue {
		column, high = "renew_at", span(q.now)
	}
	if high < math.MaxInt64 {
		newest, err := q.store.newestUntil(ctx, column, high)
		if err != nil {
			return err
		}
		before = min(before, newest+1)
	}
	return q.walk(ctx, before, q.floor)
}

// newestUntil finds the newest certificate of which the date in a column is in a step not after high. The newest
// of each step is found at once; from step to step it goes back until older steps can only have older certificates:
// those were issued before their dates.
func (s *Store) newestUntil(ctx context.Context, column string, high int64) (int64, error) {
	const slack = 24 * 60 * 60 // for clocks, and for certificates that begin before they are issued
	query := fmt.Sprintf(`SELECT %[1]s >> 10, id, issued_at FROM certificate WHERE %[1]s >> 10 <= $1
		ORDER BY %[1]s >> 10 DESC, id DESC LIMIT 1`, column)
	var newest, newestIssued int64
	for high<<10+slack >= newestIssued {
		var step, id, issued int64
		err := s.queryRow(ctx, query, high).Scan(&step, &id, &issued)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err != nil {
			return 0, err
		}
		if id > newest {
			newest, newestIssued = id, issued
		}
		high = step - 1
	}
	return newest, nil
}

// certificateConditions are all conditions of a filter but its cursor.
func certificateConditions(filter pki.CertificateFilter, ranges []nameRange, now time.Time) *where {
	w := new(where)
	w.conditions = append(w.conditions, certificateJoin)
	rangeConditions(w, ranges)
	w.equal("s.profile_id", string(filter.ProfileID))
	w.equal("s.ca_id", string(filter.CAID))
	w.equal("s.credential_id", string(filter.CredentialID))
	w.equal("s.account_id", string(filter.AccountID))
	workloadConditions(w, filter)
	if len(filter.Fingerprint) > 0 {
		w.add("c.fingerprint = ?", filter.Fingerprint)
	}
	if !filter.IssuedAfter.IsZero() {
		w.add("c.issued_at > ?", seconds(filter.IssuedAfter))
	}
	if !filter.ExpiresBefore.IsZero() {
		w.add("c.not_after < ?", secondsUp(filter.ExpiresBefore))
	}
	certificateStatus(w, filter.Status, now)
	return w
}

// certificateStatus adds the conditions of pki.Certificate.Status.
func certificateStatus(w *where, status pki.CertificateStatus, now time.Time) {
	switch status {
	case pki.CertificateRevoked:
		w.add("c.revoked_at > 0 AND c.reason <> ?", int64(pki.CertificateHold))
	case pki.CertificateHeld:
		w.add("c.revoked_at > 0 AND c.reason = ?", int64(pki.CertificateHold))
	case pki.CertificateExpired:
		w.add("c.revoked_at = 0 AND c.not_after < ?", secondsUp(now))
	case pki.CertificateRenewalDue:
		w.add("c.revoked_at = 0 AND c.not_after >= ? AND c.renew_at <= ?", secondsUp(now), seconds(now))
	case pki.CertificateValid:
		w.add("c.revoked_at = 0 AND c.not_after >= ? AND c.renew_at > ?", secondsUp(now), seconds(now))
	}
}
