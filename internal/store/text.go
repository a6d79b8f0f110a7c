package store

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// cursorMark begins the cursor of a page that the index on words has found. No name begins with it.
const cursorMark = "~"

// cursorOf is where a search goes on behind a word.
func cursorOf(w word) string {
	return cursorMark + strconv.FormatInt(w.kind, 10) + cursorMark + strconv.FormatInt(w.identity, 10) + cursorMark + w.text
}

func parseCursor(cursor string) (word, error) {
	parts := strings.SplitN(cursor, cursorMark, 4)
	if len(parts) == 4 && parts[0] == "" {
		kind, errKind := strconv.ParseInt(parts[1], 10, 64)
		id, errID := strconv.ParseInt(parts[2], 10, 64)
		if errKind == nil && errID == nil {
			return word{parts[3], kind, id}, nil
		}
	}
	return word{}, fault.New(fault.Malformed, "cursor %.60q is not one that this list has given", cursor).WithField("after")
}

// byText finds the identities of a text. Few are compared one by one, in the order of their names; of many, those that
// begin a word with the longest term, in the order of what follows.
func (q *identitySearch) byText(ctx context.Context) error {
	if q.text.never {
		return nil
	}
	if q.text.hex != "" {
		var err error
		if q.ids, err = q.byHex(ctx); err != nil {
			return err
		}
		if len(q.ids) > 0 {
			return q.walkAll(ctx)
		}
	}
	switch {
	case strings.HasPrefix(q.filter.After, cursorMark):
		return q.byWords(ctx)
	case q.filter.After == "" && q.text.driver != "":
		few, err := q.few(ctx)
		if err != nil {
			return err
		}
		if !few && q.filter.Status != "" {
			dates, err := q.dates(ctx)
			if err != nil {
				return err
			}
			few = dates != nil // run finds that as well
		}
		if !few {
			return q.byWords(ctx)
		}
	}
	return q.byName(ctx, q.ranges)
}

// walkAll finds identities whose IDs are known.
func (q *identitySearch) walkAll(ctx context.Context) error {
	for _, within := range q.ranges {
		if q.filter.After >= within.low {
			within.low = q.filter.After + " "
		}
		if err := q.walk(ctx, within); err != nil || len(q.found) >= q.limit {
			return err
		}
	}
	return nil
}

// few reports whether the ranges hold so few identities that each can be looked at.
func (q *identitySearch) few(ctx context.Context) (bool, error) {
	var w where
	rangeConditions(&w, q.ranges)
	query, args := w.build(`SELECT i.id FROM identity i`, "", q.store.limits.chains+1)
	rows, err := q.store.queryOnce(ctx, `SELECT count(*) FROM (`+query+`) few`, args...)
	counts, err := collect(rows, err, scanned[int64])
	if err != nil {
		return false, err
	}
	return counts[0] <= int64(q.store.limits.chains), nil
}

func (q *identitySearch) byWords(ctx context.Context) error {
	at := word{kind: -1}
	if q.filter.After != "" {
		var err error
		if at, err = parseCursor(q.filter.After); err != nil {
			return err
		}
	}
	for len(q.found) < q.limit {
		words, err := q.words(ctx, at)
		if err != nil || len(words) == 0 {
			return err
		}
		if err := q.readWords(ctx, words); err != nil {
			return err
		}
		at = words[len(words)-1]
	}
	return nil
}

// words returns the next rows of the index.
func (q *identitySearch) words(ctx context.Context, at word) ([]word, error) {
	low := max(q.text.driver, at.text)
	rows, err := q.store.query(ctx, `SELECT word, kind, identity_id FROM identity_word
		WHERE word >= $1 AND word < $2 AND (word, kind, identity_id) > ($3, $4, $5)
		ORDER BY word, kind, identity_id LIMIT $6`,
		low, after(q.text.driver), at.text, at.kind, at.identity, int64(batchLimit))
	return collect(rows, err, func(r row) (word, error) {
		var w word
		err := r.Scan(&w.text, &w.kind, &w.identity)
		return w, err
	})
}

// readWords adds those identities that the filter selects, in the order of the words.
func (q *identitySearch) readWords(ctx context.Context, words []word) error {
	ids := make([]int64, len(words))
	for i, w := range words {
		ids[i] = w.identity
	}
	slices.Sort(ids)
	w := q.conditions(q.ranges)
	w.in("i.id", slices.Compact(ids))
	query, args := w.build(`SELECT i.id, `+strings.TrimPrefix(identitySelect, "SELECT "), "", len(ids))
	rows, err := q.store.queryOnce(ctx, query, args...)
	byID := make(map[int64]pki.Identity, len(ids))
	_, err = collect(rows, err, func(r row) (struct{}, error) {
		id, identity, err := scanIdentityWithID(r)
		byID[id] = identity
		return struct{}{}, err
	})
	if err != nil {
		return err
	}
	for _, w := range words {
		identity, ok := byID[w.identity]
		if !ok || !q.text.firstWord(&identity, w) {
			continue
		}
		identity.Cursor = cursorOf(w)
		if q.found = append(q.found, identity); len(q.found) == q.limit {
			break
		}
	}
	return nil
}

// byText finds the certificates of a text: those of identities that the index on words finds, those of Pods and
// clusters whose names begin with it, and those with such a serial or fingerprint, the newest of all first. With too many
// identities it finds nothing and returns false: then the text is frequent.
func (q *search) byText(ctx context.Context) (few bool, err error) {
	if q.text.never {
		return true, nil
	}
	if q.text.driver == "" {
		return false, nil
	}
	w := new(where)
	w.add("w.word >= ? AND w.word < ?", q.text.driver, after(q.text.driver))
	w.add("w.kind = 0 AND i.id = w.identity_id")
	rangeConditions(w, q.ranges)
	query, args := w.build(`SELECT i.id, i.newest FROM identity_word w CROSS JOIN identity i`, "", q.store.limits.chains+1)
	rows, err := q.store.queryOnce(ctx, query, args...)
	chains, err := collect(rows, err, q.scanHead)
	if err != nil || len(chains) > q.store.limits.chains {
		return false, err
	}
	slices.Sort(chains)
	heads := chainHeap(slices.Compact(chains)) // an identity may have several words that begin so
	heap.Init(&heads)
	previous := map[int64]int64{}
	streams := []candidates{
		func(ctx context.Context, n int) ([]int64, error) { return q.follow(ctx, &heads, previous, n) },
	}
	if len(q.text.terms) == 1 {
		more, err := q.textStreams(ctx, q.text.terms[0])
		if err != nil {
			return false, err
		}
		streams = append(streams, more...)
	}
	return true, q.drain(ctx, union(streams))
}

// textStreams are the certificates that one term finds other than by the identity's name.
func (q *search) textStreams(ctx context.Context, term string) ([]candidates, error) {
	pods, err := q.workloads(ctx, pki.CertificateFilter{Pod: term + "*"})
	if err != nil {
		return nil, err
	}
	clusters, err := q.workloads(ctx, pki.CertificateFilter{Cluster: term + "*"})
	if err != nil || q.text.hex == "" {
		return []candidates{pods, clusters}, err
	}
	low, high := serialRange(q.text.hex)
	rows, err := q.store.query(ctx, `SELECT id FROM certificate WHERE serial >= $1 AND serial < $2 AND id < $3 LIMIT $4`,
		low, high, q.before, int64(q.store.limits.candidates))
	ids, err := collect(rows, err, scanned[int64])
	if err != nil {
		return nil, err
	}
	if fingerprint := fingerprintOf(q.text.hex); len(fingerprint) > 0 {
		id, err := q.store.certificateByHash(ctx, "fingerprint", fingerprint)
		if err != nil {
			return nil, err
		}
		if id > 0 && id < q.before {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b int64) int { return -compareInt(a, b) })
	return []candidates{pods, clusters, listed(ids)}, nil
}

// listed are candidates that are known.
func listed(ids []int64) candidates {
	return func(_ context.Context, n int) ([]int64, error) {
		part := ids[:min(n, len(ids))]
		ids = ids[len(part):]
		return part, nil
	}
}

// union merges candidates; what several have comes once.
func union(streams []candidates) candidates {
	ahead := make([][]int64, len(streams))
	ended := make([]bool, len(streams))
	return func(ctx context.Context, n int) ([]int64, error) {
		var ids []int64
		for len(ids) < n {
			newest := int64(0)
			for i, next := range streams {
				if len(ahead[i]) == 0 && !ended[i] {
					var err error
					if ahead[i], err = next(ctx, readAhead/2); err != nil {
						return nil, err
					}
					ended[i] = len(ahead[i]) == 0
				}
				if len(ahead[i]) > 0 {
					newest = max(newest, ahead[i][0])
				}
			}
			if newest == 0 {
				break
			}
			for i := range ahead {
				if len(ahead[i]) > 0 && ahead[i][0] == newest {
					ahead[i] = ahead[i][1:]
				}
			}
			ids = append(ids, newest)
		}
		return ids, nil
	}
}

// serialRange is the range of serials that begin with some hexadecimal digits.
func serialRange(digits string) (low, high []byte) {
	first, last := digits, digits
	if len(digits)%2 == 1 {
		first, last = digits+"0", digits+"f"
	}
	low, _ = hex.DecodeString(first) // they are digits
	high, _ = hex.DecodeString(last)
	high = bytes.TrimRight(high, "\xff")
	if len(high) == 0 {
		return low, bytes.Repeat([]byte{0xff}, pki.SerialLen+1)
	}
	high[len(high)-1]++
	return low, high
}

// fingerprintOf is the fingerprint that the digits are, if they are one.
func fingerprintOf(digits string) []byte {
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) != 32 {
		return []byte{}
	}
	return raw
}

// byHex finds the identities of certificates with a serial or fingerprint.
func (q *identitySearch) byHex(ctx context.Context) ([]int64, error) {
	low, high := serialRange(q.text.hex)
	rows, err := q.store.query(ctx, `SELECT identity_id FROM certificate WHERE serial >= $1 AND serial < $2 LIMIT $3`,
		low, high, int64(batchLimit))
	ids, err := collect(rows, err, scanned[int64])
	if err != nil {
		return nil, err
	}
	if fingerprint := fingerprintOf(q.text.hex); len(fingerprint) > 0 {
		id, err := q.store.certificateByHash(ctx, "fingerprint", fingerprint)
		if err != nil || id == 0 {
			return ids, err
		}
		identity, err := scanned[int64](q.store.queryRow(ctx, `SELECT identity_id FROM certificate WHERE id = $1`, id))
		if err != nil {
			return nil, fmt.Errorf("read identity of certificate: %w", err)
		}
		ids = append(ids, identity)
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
