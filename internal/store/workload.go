package store

import (
	"context"
	"fmt"

	"github.com/certloom/certloom/internal/pki"
)

// encodeWorkload writes "" for what most certificates have.
func encodeWorkload(w pki.Workload) (string, error) {
	if w == (pki.Workload{}) {
		return "", nil
	}
	return encode(w)
}

func decodeWorkload(raw string, into *pki.Workload) error {
	if raw == "" {
		return nil
	}
	return decode("workload", raw, into)
}

// workloadConditions are those of a filter by cluster and Pod. That the columns are not empty is said for the indexes.
func workloadConditions(w *where, filter pki.CertificateFilter) {
	if filter.Cluster != "" {
		w.prefix("c.cluster", filter.Cluster)
		w.add("c.cluster <> ''")
	}
	if filter.Pod != "" {
		w.prefix("c.pod", filter.Pod)
		w.add("c.pod <> ''")
	}
}

// runShift says how long the runs of the indexes on cluster and Pod are; see the migrations.
const runShift = 12

// maxRuns is how many runs one query looks into. What they hold is sorted, so they must not be too many.
const maxRuns = 16

// workloads finds the certificates of a filter's cluster or Pod, looking into more and more runs at a time: what is frequent is
// found in the newest ones, and for what is rare there is little to sort.
func (q *search) workloads(ctx context.Context, filter pki.CertificateFilter) (candidates, error) {
	newest, err := scanned[int64](q.store.queryRow(ctx, `SELECT coalesce(max(id), 0) FROM certificate`))
	if err != nil {
		return nil, err
	}
	before, runs := min(q.before, newest+1), int64(1)
	return func(ctx context.Context, n int) ([]int64, error) {
		for before > max(q.floor, 1) {
			top := (before - 1) >> runShift
			bottom := max(top-runs+1, q.floor>>runShift)
			ids, err := q.inRuns(ctx, filter, top, bottom, before, n)
			if err != nil {
				return nil, err
			}
			if len(ids) == n {
				before = ids[n-1]
				return ids, nil
			}
			before, runs = bottom<<runShift, min(runs*2, maxRuns)
			if len(ids) > 0 {
				return ids, nil
			}
		}
		return nil, nil
	}, nil
}

// inRuns returns the newest certificates of the filter's cluster and Pod in some runs.
func (q *search) inRuns(ctx context.Context, filter pki.CertificateFilter, top, bottom, before int64, n int) ([]int64, error) {
	w := new(where)
	// The pluses are for SQLite. Without the first, the column's affinity is applied to the index's expression, and each run walks
	// through the whole index (https://www.sqlite.org/datatype3.html section 4.2); without the others, each takes all IDs
	// between the two for cheaper than the index.
	w.add("c.id >> " + itoa(runShift) + " = +run.n")
	workloadConditions(w, filter)
	w.add("+c.id < ?", before)
	w.add("+c.id >= ?", q.floor)
	query, args := w.build(fmt.Sprintf(`WITH RECURSIVE run (n) AS (
		SELECT CAST(%d AS BIGINT) UNION ALL SELECT n - 1 FROM run WHERE n > %d)
		SELECT c.id FROM run CROSS JOIN certificate c`, top, bottom), "c.id DESC", n)
	rows, err := q.store.queryOnce(ctx, query, args...)
	return collect(rows, err, scanned[int64])
}
