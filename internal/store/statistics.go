package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// What happens is counted by the minute, with a counter for each batch: how many certificates were issued, for which
// clusters, and what was refused. Names sort by time, so that a span of time is a range of the primary key, and the past
// is removed as one.
const (
	issuedPrefix  = "issued/"
	clusterPrefix = "cluster/"
	refusedPrefix = "refused/"

	issuedStep  = time.Minute
	clusterStep = 5 * time.Minute // there can be many clusters
	refusedStep = 5 * time.Minute

	// CountsKept is how long what happened is counted; a little longer, so that what is asked for is whole.
	CountsKept = 25 * time.Hour
	// clusterKept is how long the certificates of clusters are.
	clusterKept = 2 * time.Hour
)

func timeName(prefix string, at int64) string { return fmt.Sprintf("%s%010d", prefix, at) }

func stepName(prefix string, at time.Time, step time.Duration) string {
	return timeName(prefix, seconds(at.Truncate(step)))
}

func refusedName(ev *audit.Event) string {
	return stepName(refusedPrefix, ev.Time, refusedStep) + "/" + string(ev.Action) + "/" + ev.Detail.Problem
}

// happened adds a batch's certificates to what is counted by time. Names are made once for each counter, of which a batch
// has one or two.
func happened(counts map[string]int64, records []*record) {
	type place struct {
		step    int64
		cluster string
	}
	minutes, places := make(map[int64]int64, 1), make(map[place]int64, 1)
	for _, r := range records {
		c := r.certificate
		minutes[seconds(c.IssuedAt.Truncate(issuedStep))]++
		if c.Workload.Cluster != "" {
			places[place{seconds(c.IssuedAt.Truncate(clusterStep)), c.Workload.Cluster}]++
		}
	}
	for at, n := range minutes {
		counts[timeName(issuedPrefix, at)] = n
	}
	for p, n := range places {
		counts[timeName(clusterPrefix, p.step)+"/"+p.cluster] = n
	}
}

// countRefusals adds the refusals of a transaction's events.
func (t *tx) countRefusals(ctx context.Context) error {
	var counts map[string]int64
	for i := range t.events {
		if ev := &t.events[i]; ev.Outcome == audit.Refused {
			if counts == nil {
				counts = make(map[string]int64)
			}
			counts[refusedName(ev)]++
		}
	}
	return t.countAll(ctx, inOrder(counts))
}

// inOrder sorts counters, so that two writers that share a slot do not wait for each other.
func inOrder(counts map[string]int64) []counted {
	all := make([]counted, 0, len(counts))
	for name, n := range counts {
		all = append(all, counted{name, n})
	}
	slices.SortFunc(all, func(a, b counted) int { return cmp.Compare(a.name, b.name) })
	return all
}

// ForgetCounts removes the counters of what happened longer than CountsKept before now.
func (s *Store) ForgetCounts(ctx context.Context, now time.Time) error {
	return s.write(ctx, "remove old counters", func(ctx context.Context, t *tx) error {
		for prefix, kept := range map[string]time.Duration{issuedPrefix: CountsKept, refusedPrefix: CountsKept, clusterPrefix: clusterKept} {
			if _, err := t.change(ctx, `DELETE FROM counter WHERE name >= $1 AND name < $2`,
				prefix, stepName(prefix, now.Add(-kept), time.Second)); err != nil {
				return fmt.Errorf("delete: %w", err)
			}
		}
		return nil
	})
}

// timeCount is a counter of a span of time.
type timeCount struct {
	at   time.Time
	rest string // of its name, after the time
	n    int64
}

// timeCounts reads the counters of a prefix that count what happened from a moment on.
func (s *Store) timeCounts(ctx context.Context, prefix string, from time.Time, step time.Duration) ([]timeCount, error) {
	rows, err := s.queryOnce(ctx, `SELECT name, CAST(sum(value) AS BIGINT) FROM counter
		WHERE name >= $1 AND name < $2 GROUP BY name ORDER BY name`, stepName(prefix, from, step), after(prefix))
	return collect(rows, err, func(r row) (timeCount, error) {
		var c timeCount
		var name string
		if err := r.Scan(&name, &c.n); err != nil {
			return c, err
		}
		at, rest, _ := strings.Cut(strings.TrimPrefix(name, prefix), "/")
		unix, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return c, fmt.Errorf("counter %q has no time: %w", name, err)
		}
		c.at, c.rest = fromSeconds(unix), rest
		return c, nil
	})
}

// Issued returns how many certificates were issued in each of the minutes up to now, the one of now being the last.
func (s *Store) Issued(ctx context.Context, minutes int, now time.Time) ([]int64, error) {
	first := now.Truncate(issuedStep).Add(-time.Duration(minutes-1) * issuedStep)
	found, err := s.timeCounts(ctx, issuedPrefix, first, issuedStep)
	if err != nil {
		return nil, s.readError("read issued certificates", err)
	}
	counts := make([]int64, minutes)
	for _, c := range found {
		if i := int(c.at.Sub(first) / issuedStep); i >= 0 && i < minutes {
			counts[i] += c.n
		}
	}
	return counts, nil
}

// ClustersIssued returns how many certificates were issued for each cluster in the last hour, to five minutes.
func (s *Store) ClustersIssued(ctx context.Context, now time.Time) (map[string]int64, error) {
	found, err := s.timeCounts(ctx, clusterPrefix, now.Add(-time.Hour), clusterStep)
	counts := make(map[string]int64)
	for _, c := range found {
		counts[c.rest] += c.n
	}
	return counts, s.readError("read certificates of clusters", err)
}

// Refusals returns what was refused in the last day, and of that in the last hour, to five minutes; the most frequent
// first.
func (s *Store) Refusals(ctx context.Context, now time.Time) ([]pki.Refusals, error) {
	found, err := s.timeCounts(ctx, refusedPrefix, now.Add(-24*time.Hour), refusedStep)
	byReason := make(map[string]*pki.Refusals)
	hour := now.Add(-time.Hour).Truncate(refusedStep)
	for _, c := range found {
		r := byReason[c.rest]
		if r == nil {
			action, problem, _ := strings.Cut(c.rest, "/")
			r = &pki.Refusals{Action: action, Problem: problem}
			byReason[c.rest] = r
		}
		r.LastDay += c.n
		if !c.at.Before(hour) {
			r.LastHour += c.n
		}
	}
	all := make([]pki.Refusals, 0, len(byReason))
	for _, r := range byReason {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b pki.Refusals) int {
		return cmp.Or(cmp.Compare(b.LastDay, a.LastDay), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Problem, b.Problem))
	})
	return all, s.readError("read refusals", err)
}

// figuresSelect puts each identity into one class: a walk through the table, of which only sums leave the database. The
// class is one number, because sorting by one is faster: hundreds for pki.Identity.Status, tens for the lifetime that is
// left, ones for the time. Lapsed ones have no time left.
func figuresSelect(now time.Time) (string, []any) {
	text := `SELECT (CASE WHEN i.gone_at > 0 THEN 400 WHEN i.revoked_at > 0 OR i.not_after < $1 THEN 300 WHEN i.lapsing_at < $1 THEN 200
		WHEN i.renew_at < $1 THEN 100 ELSE 0 END) + (CASE`
	for class, most := range pki.LeftClasses() {
		text += fmt.Sprintf(` WHEN (i.not_after - $1) * 100 <= (i.not_after - i.not_before) * %d THEN %d0`, most, class)
	}
	// A certificate that begins later than now has more than all of its lifetime left.
	text += fmt.Sprintf(` ELSE %d0 END) + (CASE`, len(pki.LeftClasses())-1)
	for class, most := range pki.EndClasses() {
		text += fmt.Sprintf(` WHEN i.not_after - $1 <= %d THEN %d`, int64(most/time.Second), class)
	}
	text += fmt.Sprintf(` ELSE %d END), count(*) FROM identity i`, len(pki.EndClasses()))
	return text, []any{secondsUp(now)}
}

// clustersSelect counts the identities of clusters.
const clustersSelect = `SELECT i.cluster, count(*),
	sum(CASE WHEN i.gone_at = 0 AND i.revoked_at = 0 AND i.not_after >= $1 AND i.lapsing_at < $1 THEN 1 ELSE 0 END),
	sum(CASE WHEN i.gone_at = 0 AND (i.revoked_at > 0 OR i.not_after < $1) THEN 1 ELSE 0 END), max(i.last_issued_at) FROM identity i`

// IdentityFigures counts identities that the patterns name (pki.IdentityFilter). It walks through them all: ask it
// seldom.
func (s *Store) IdentityFigures(ctx context.Context, sees []string, now time.Time) (*pki.IdentityFigures, error) {
	head, args := figuresSelect(now)
	w := &where{args: args}
	w.add("i.newest > 0") // it has a certificate
	rangeConditions(w, visibleRanges(sees))
	conditions := ` WHERE ` + strings.Join(w.conditions, " AND ") + ` GROUP BY 1 ORDER BY 1`
	rows, err := s.queryOnce(ctx, head+conditions, w.args...)
	sums, err := collect(rows, err, scanFigure)
	if err != nil {
		return nil, s.readError("count identities", err)
	}
	figures := addFigures(sums)
	rows, err = s.queryOnce(ctx, clustersSelect+conditions, w.args...)
	if figures.Clusters, err = collect(rows, err, scanCluster); err != nil {
		return nil, s.readError("count identities of clusters", err)
	}
	lapsing := &where{conditions: []string{identityJoin}}
	rangeConditions(lapsing, visibleRanges(sees))
	identityStatus(lapsing, pki.IdentityLapsing, now)
	query, args := lapsing.build(identitySelect, "i.not_after, i.name", fewLapsing)
	rows, err = s.queryOnce(ctx, query, args...)
	figures.Lapsing, err = collect(rows, err, scanIdentity)
	return figures, s.readError("read identities that lapse", err)
}

// fewLapsing is how many of the identities that lapse are named.
const fewLapsing = 10

// figure is how many identities are in a class of figuresSelect.
type figure struct{ class, n int64 }

func scanFigure(r row) (figure, error) {
	var f figure
	err := r.Scan(&f.class, &f.n)
	return f, err
}

func scanCluster(r row) (pki.ClusterFigures, error) {
	var c pki.ClusterFigures
	var last int64
	err := r.Scan(&c.Name, &c.Identities, &c.Lapsing, &c.Lapsed, &last)
	c.LastIssued = fromSeconds(last)
	return c, err
}

// addFigures takes classes apart.
func addFigures(sums []figure) *pki.IdentityFigures {
	statuses := []pki.IdentityStatus{pki.IdentityOK, pki.IdentityRenewalDue, pki.IdentityLapsing, pki.IdentityLapsed, pki.IdentityGone}
	figures := &pki.IdentityFigures{
		Statuses: make(map[pki.IdentityStatus]int64, len(statuses)),
		Left:     make([]int64, len(pki.LeftClasses())), Ends: make([]int64, len(pki.EndClasses())+1),
	}
	const hundred, ten = 100, 10
	for _, f := range sums {
		status := statuses[f.class/hundred]
		figures.Statuses[status] += f.n
		if status != pki.IdentityLapsed && status != pki.IdentityGone {
			figures.Left[f.class%hundred/ten] += f.n
			figures.Ends[f.class%ten] += f.n
		}
	}
	return figures
}
