package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// identitySelect selects whole identities; scanIdentity reads them. CROSS JOIN as in certificateSelect.
const (
	identitySelect = `SELECT i.name, s.profile_id, c.serial, i.not_before, i.not_after, i.revoked_at, i.certificates,
	i.first_issued_at, i.last_issued_at, i.cluster, i.renew_at, i.lapsing_at, i.gone_at
	FROM identity i CROSS JOIN source s CROSS JOIN certificate c`
	identityJoin = `s.id = i.source_id AND c.id = i.newest`
)

func scanIdentity(r row) (pki.Identity, error) { return scanIdentityBehind(r) }

// scanIdentityWithID reads an identity whose ID was selected before it.
func scanIdentityWithID(r row) (id int64, i pki.Identity, err error) {
	i, err = scanIdentityBehind(r, &id)
	return id, i, err
}

func scanIdentityBehind(r row, before ...any) (pki.Identity, error) {
	var i pki.Identity
	var serial []byte
	var notBefore, notAfter, revoked, first, last, renew, lapsing, gone int64
	err := r.Scan(append(before, &i.Name, &i.ProfileID, &serial, &notBefore, &notAfter, &revoked, &i.Certificates, &first, &last,
		&i.Cluster, &renew, &lapsing, &gone)...)
	if err != nil {
		return pki.Identity{}, err
	}
	i.Newest = pki.Serial(hex.EncodeToString(serial))
	i.NotBefore, i.NotAfter, i.RevokedAt = fromSeconds(notBefore), fromSeconds(notAfter), fromSeconds(revoked)
	i.FirstIssuedAt, i.LastIssuedAt = fromSeconds(first), fromSeconds(last)
	i.RenewAt, i.LapsingAt, i.GoneAt = fromSeconds(renew), fromSeconds(lapsing), fromSeconds(gone)
	if strings.HasPrefix(i.Name, "spiffe://") {
		if id, err := pki.ParseSPIFFEID(i.Name); err == nil {
			i.TrustDomain, i.Namespace, i.ServiceAccount = id.TrustDomain, id.Namespace, id.ServiceAccount
		}
	}
	return i, nil
}

// Identity returns an identity by its name, or NotFound.
func (s *Store) Identity(ctx context.Context, name string) (*pki.Identity, error) {
	return s.VisibleIdentity(ctx, name, nil)
}

// VisibleIdentity is Identity for somebody who sees what the patterns name (pki.CertificateFilter): what is there but
// not seen is NotFound as well.
func (s *Store) VisibleIdentity(ctx context.Context, name string, sees []string) (*pki.Identity, error) {
	w := &where{conditions: []string{identityJoin}}
	w.add("i.name = ?", name)
	rangeConditions(w, visibleRanges(sees))
	query, args := w.build(identitySelect, "", 1)
	i, err := scanIdentity(s.queryRow(ctx, query, args...))
	return found(s, &i, err, "identity", name)
}

// scanListed reads an identity of a list in the order of names.
func scanListed(r row) (pki.Identity, error) {
	i, err := scanIdentity(r)
	i.Cursor = i.Name
	return i, err
}

// identitySearch is one search under way.
type identitySearch struct {
	store  *Store
	filter pki.IdentityFilter
	ranges []nameRange
	text   text
	ids    []int64 // identities that a serial or fingerprint has led to; empty: the text is not one
	now    time.Time
	limit  int
	found  []pki.Identity
}

// Identities returns identities, ordered by name; those that a text finds, by what it has found.
func (s *Store) Identities(ctx context.Context, filter pki.IdentityFilter, now time.Time) ([]pki.Identity, error) {
	ranges, err := s.nameRanges(ctx, filter.Name, filter.TrustDomain, filter.Namespace, filter.Sees)
	if err != nil {
		return nil, s.readError("read namespaces", err)
	}
	if len(ranges) == 0 {
		return nil, nil
	}
	q := &identitySearch{
		store: s, filter: filter, ranges: ranges, text: parseText(filter.Text), now: now, limit: bounded(filter.Limit),
	}
	if q.text.empty() {
		err = q.byName(ctx, ranges)
	} else {
		err = q.byText(ctx)
	}
	if _, refused := errors.AsType[*fault.Error](err); refused {
		return nil, err
	}
	return q.found, s.readError("read identities", err)
}

// byName finds identities in the order of their names.
func (q *identitySearch) byName(ctx context.Context, ranges []nameRange) error {
	for _, within := range ranges {
		if q.filter.After >= within.low {
			within.low = q.filter.After + " " // no name ends with a space, nor sorts between the two
		}
		if err := q.run(ctx, within); err != nil {
			return err
		}
		if len(q.found) >= q.limit {
			break
		}
	}
	return nil
}

// run finds the filter's identities of one range of names. It walks through them in order; when a status is rare among
// the first ones and few identities have the right dates, it looks at those only.
func (q *identitySearch) run(ctx context.Context, within nameRange) error {
	if q.filter.Status == "" {
		return q.walk(ctx, within)
	}
	var w where
	within.conditions(&w)
	query, args := w.build(`SELECT i.name FROM identity i`, "i.name", 1)
	edge, err := scanned[string](q.store.reader.QueryRowContext(ctx,
		q.store.dialect.numbered(query+` OFFSET `+itoa(q.store.limits.identityWindow)), q.store.dialect.arguments(args)...))
	if errors.Is(err, sql.ErrNoRows) {
		return q.walk(ctx, within)
	}
	if err != nil {
		return err
	}
	rest := within
	within.high, rest.low = edge, edge
	if err := q.walk(ctx, within); err != nil || len(q.found) >= q.limit {
		return err
	}
	dates, err := q.dates(ctx)
	if err != nil {
		return err
	}
	if dates == nil {
		return q.walk(ctx, rest)
	}
	return q.sort(ctx, rest, dates)
}

func (q *identitySearch) conditions(within []nameRange) *where {
	w := &where{conditions: []string{identityJoin}}
	rangeConditions(w, within)
	w.equal("i.cluster", q.filter.Cluster)
	switch {
	case len(q.ids) > 0:
		w.in("i.id", q.ids)
	case !q.text.empty():
		q.text.identityConditions(w)
	}
	if q.filter.ProfileID != "" {
		w.add("s.profile_id = ?", string(q.filter.ProfileID))
	}
	identityStatus(w, q.filter.Status, q.now)
	return w
}

func (q *identitySearch) walk(ctx context.Context, within nameRange) error {
	query, args := q.conditions([]nameRange{within}).build(identitySelect, "i.name", q.limit-len(q.found))
	rows, err := q.store.queryOnce(ctx, query, args...)
	more, err := collect(rows, err, scanListed)
	q.found = append(q.found, more...)
	return err
}

// sort finds identities by dates. The empty string makes SQLite sort what the index on dates finds, instead of walking
// through the names.
func (q *identitySearch) sort(ctx context.Context, within nameRange, dates *datesCondition) error {
	w := q.conditions([]nameRange{within})
	w.add(dates.text, dates.span)
	query, args := w.build(identitySelect, "i.name || ''", q.limit-len(q.found))
	rows, err := q.store.queryOnce(ctx, query, args...)
	more, err := collect(rows, err, scanListed)
	q.found = append(q.found, more...)
	return err
}

// datesCondition is a condition on an index of dates, with one value.
type datesCondition struct {
	text string
	span int64
}

// dates returns a condition that selects few identities, among them all of the status; nil when there is none.
func (q *identitySearch) dates(ctx context.Context) (*datesCondition, error) {
	var texts []string
	switch q.filter.Status {
	case pki.IdentityOK, pki.IdentityRenewalDue:
		texts = []string{"i.lapsing_at >> 10 >= ?"}
	case pki.IdentityLapsing:
		texts = []string{"i.lapsing_at >> 10 <= ?", "i.not_after >> 10 >= ?"}
	case pki.IdentityGone:
		texts = []string{"i.gone_at > ? * 0"}
	case pki.IdentityLapsed:
		texts = []string{`i.id IN (SELECT id FROM identity WHERE not_after >> 10 <= ?
			UNION SELECT id FROM identity WHERE revoked_at > 0)`}
	}
	for _, text := range texts {
		var w where
		w.add(text, span(q.now))
		query, args := w.build(`SELECT i.id FROM identity i`, "", q.store.limits.identityCandidates+1)
		rows, err := q.store.queryOnce(ctx, `SELECT count(*) FROM (`+query+`) few`, args...)
		counts, err := collect(rows, err, scanned[int64])
		if err != nil {
			return nil, err
		}
		if counts[0] <= int64(q.store.limits.identityCandidates) {
			return &datesCondition{text, span(q.now)}, nil
		}
	}
	return nil, nil //nolint:nilnil // absent is an answer here
}
