package store

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// nameRange is a range of identity names: low <= name < high, high "" being open.
type nameRange struct{ low, high string }

func (r nameRange) conditions(w *where) {
	if r.low != "" {
		w.add("i.name >= ?", r.low)
	}
	if r.high != "" {
		w.add("i.name < ?", r.high)
	}
}

// rangeConditions adds "name is in one of the ranges". All names need no condition; no range has no name.
func rangeConditions(w *where, ranges []nameRange) {
	switch len(ranges) {
	case 0:
		w.add("1 = 0")
		return
	case 1:
		ranges[0].conditions(w)
		return
	}
	var texts []string
	var args []any
	for _, r := range ranges {
		texts = append(texts, "i.name >= ? AND i.name < ?")
		args = append(args, r.low, r.high)
	}
	w.add("("+strings.Join(texts, " OR ")+")", args...)
}

func (r nameRange) intersect(o nameRange) nameRange {
	both := nameRange{low: max(r.low, o.low), high: r.high}
	if both.high == "" || o.high != "" && o.high < both.high {
		both.high = o.high
	}
	return both
}

func (r nameRange) empty() bool { return r.high != "" && r.low >= r.high }

// nameRanges turns a filter by name, trust domain and namespace into ranges of names, in order and apart from each
// other: the name of a SPIFFE identity begins with its trust domain and namespace, so the index on names serves all
// three, and what somebody may see. Without any of them it is one range of all names.
func (s *Store) nameRanges(ctx context.Context, name, trustDomain, namespace string, sees []string) ([]nameRange, error) {
	wanted := []nameRange{{}}
	switch {
	case namespace != "":
		domains, err := s.trustDomains(ctx, namespace, trustDomain)
		if err != nil {
			return nil, err
		}
		wanted = wanted[:0]
		for _, domain := range domains {
			head := "spiffe://" + domain + "/ns/" + namespace + "/"
			wanted = append(wanted, nameRange{low: head, high: after(head)})
		}
	case trustDomain != "":
		head := "spiffe://" + trustDomain + "/"
		wanted[0] = nameRange{low: head, high: after(head)}
	}
	return intersection(intersection(wanted, []nameRange{namedRange(name)}), visibleRanges(sees)), nil
}

// visibleRanges turns what somebody may see (pki.CertificateFilter) into ranges of names, in order and apart from each
// other.
func visibleRanges(sees []string) []nameRange {
	if sees == nil {
		return []nameRange{{}}
	}
	all := make([]nameRange, 0, len(sees))
	for _, pattern := range sees {
		if pattern != "" { // for namedRange that would be every name
			all = append(all, namedRange(pattern))
		}
	}
	slices.SortFunc(all, func(a, b nameRange) int { return strings.Compare(a.low, b.low) })
	apart := all[:0]
	for _, r := range all {
		last := len(apart) - 1
		switch {
		case last < 0 || apart[last].high != "" && apart[last].high < r.low:
			apart = append(apart, r)
		case apart[last].high != "" && (r.high == "" || r.high > apart[last].high):
			apart[last].high = r.high
		}
	}
	return apart
}

// intersection returns what both lists have in common, in order. The ranges of each are apart from each other.
func intersection(a, b []nameRange) []nameRange {
	var common []nameRange
	for _, r := range a {
		for _, o := range b {
			if both := r.intersect(o); !both.empty() {
				common = append(common, both)
			}
		}
	}
	slices.SortFunc(common, func(a, b nameRange) int { return strings.Compare(a.low, b.low) })
	return common
}

func namedRange(name string) nameRange {
	head, found := strings.CutSuffix(name, "*")
	switch {
	case name == "", found && head == "":
		return nameRange{}
	case found:
		return nameRange{low: head, high: after(head)}
	default:
		return nameRange{low: name, high: name + "\x01"} // no name has a character below the space
	}
}

// trustDomains returns the trust domains in which a namespace has an identity, or the given one if it has.
func (s *Store) trustDomains(ctx context.Context, namespace, trustDomain string) ([]string, error) {
	rows, err := s.query(ctx, `SELECT trust_domain FROM namespace WHERE name = $1 AND ($2 = '' OR trust_domain = $2)`,
		namespace, trustDomain)
	return collect(rows, err, scanned[string])
}

// identityStatus adds the conditions of pki.Identity.Status.
func identityStatus(w *where, status pki.IdentityStatus, now time.Time) {
	at := secondsUp(now)
	if status != "" && status != pki.IdentityGone {
		w.add("i.gone_at = 0")
	}
	switch status {
	case pki.IdentityGone:
		w.add("i.gone_at > 0")
	case pki.IdentityLapsed:
		w.add("(i.revoked_at > 0 OR i.not_after < ?)", at)
	case pki.IdentityLapsing:
		w.add("i.revoked_at = 0 AND i.not_after >= ? AND i.lapsing_at < ?", at, at)
	case pki.IdentityRenewalDue:
		w.add("i.revoked_at = 0 AND i.lapsing_at >= ? AND i.renew_at < ?", at, at)
	case pki.IdentityOK:
		w.add("i.revoked_at = 0 AND i.renew_at >= ?", at)
	}
}

// Stats counts what is stored.
func (s *Store) Stats(ctx context.Context) (pki.Stats, error) {
	var stats pki.Stats
	err := s.queryRow(ctx, `SELECT
		CAST(coalesce((SELECT sum(value) FROM counter WHERE name = 'certificates'), 0) AS BIGINT),
		CAST(coalesce((SELECT sum(value) FROM counter WHERE name = 'identities'), 0) AS BIGINT),
		CAST(coalesce((SELECT sum(value) FROM counter WHERE name = 'revoked'), 0) AS BIGINT),
		(SELECT count(*) FROM account), (SELECT count(*) FROM acme_order)`).
		Scan(&stats.Certificates, &stats.Identities, &stats.Revoked, &stats.Accounts, &stats.Orders)
	return stats, s.readError("count", err)
}
