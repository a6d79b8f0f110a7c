package store

import (
	"container/heap"
	"context"
	"strings"
)

// byIdentity merges the certificates of the identities that the filter selects, each from its newest one back. With too
// many identities it finds nothing and returns false.
func (q *search) byIdentity(ctx context.Context) (few bool, err error) {
	var chains chainHeap
	for _, within := range q.ranges {
		var w where
		within.conditions(&w)
		query, args := w.build(`SELECT i.id, i.newest FROM identity i`, "i.name", q.store.limits.chains+1-len(chains))
		rows, err := q.store.queryOnce(ctx, query, args...)
		more, err := collect(rows, err, q.scanHead)
		if err != nil {
			return false, err
		}
		if chains = append(chains, more...); len(chains) > q.store.limits.chains {
			return false, nil
		}
	}
	heap.Init(&chains)
	previous := map[int64]int64{}
	return true, q.drain(ctx, func(ctx context.Context, n int) ([]int64, error) { return q.follow(ctx, &chains, previous, n) })
}

// scanHead reads where the chain of an identity begins: at its newest certificate or, for the one that the last page
// ended with, behind that.
func (q *search) scanHead(r row) (int64, error) {
	var identity, newest int64
	err := r.Scan(&identity, &newest)
	if identity == q.cursor.identity {
		newest = q.cursor.previous
	}
	return newest, err
}

// follow returns the next certificates of the chains, the newest of all first.
func (q *search) follow(ctx context.Context, chains *chainHeap, previous map[int64]int64, n int) ([]int64, error) {
	var ids []int64
	for len(ids) < n && chains.Len() > 0 && (*chains)[0] >= max(1, q.floor) {
		id := (*chains)[0]
		next, known := previous[id]
		if !known {
			if err := q.loadPrevious(ctx, *chains, previous); err != nil {
				return nil, err
			}
			next = previous[id] // 0 when the certificate is gone: older ones are gone too
		}
		delete(previous, id)
		(*chains)[0] = next
		heap.Fix(chains, 0)
		if id < q.before {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// loadPrevious reads predecessors: of some of the newest certificates, some steps back. One chain is followed far,
// many are followed a few steps.
func (q *search) loadPrevious(ctx context.Context, chains chainHeap, previous map[int64]int64) error {
	n := chunk(min(len(chains), readAhead/8))
	args := make([]any, n)
	for i := range args {
		args[i] = chains[i]
	}
	type link struct{ id, previous int64 }
	rows, err := q.store.query(ctx, q.store.texts.chains[n], args...)
	links, err := collect(rows, err, func(r row) (link, error) {
		var l link
		err := r.Scan(&l.id, &l.previous)
		return l, err
	})
	for _, l := range links {
		previous[l.id] = l.previous
	}
	return err
}

// chainTexts makes the statements of loadPrevious. The number of steps is part of the text: there is one for each
// number of chains.
func (d *dialect) chainTexts() texts {
	all := texts{}
	for n, list := range d.listText("", "") {
		steps := max(8, readAhead/n)
		all[n] = strings.NewReplacer("LIST", list, "STEPS", itoa(steps)).Replace(
			`WITH RECURSIVE chain (id, previous, step) AS (
				SELECT id, previous, 1 FROM certificate WHERE id IN LIST
				UNION ALL
				SELECT c.id, c.previous, chain.step + 1 FROM chain CROSS JOIN certificate c
				WHERE c.id = chain.previous AND chain.step < STEPS)
			SELECT id, previous FROM chain`)
	}
	return all
}

// chainHeap is a heap of certificate IDs, the largest on top; 0 is the end of a chain.
type chainHeap []int64

func (h chainHeap) Len() int           { return len(h) }
func (h chainHeap) Less(i, j int) bool { return h[i] > h[j] }
func (h chainHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is never called: chains become shorter, not more.
func (h *chainHeap) Push(any) {}

// Pop is never called either.
func (h *chainHeap) Pop() any { return nil }
