package store

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// FinalizeFacts gathers what finalize must know before a certificate is made. thumbprint and spkiHash are those of the
// CSR's key. Those who ask at the same moment share a query, which begins after all of them have asked. Another one reads
// the order's certificate when it has one, which is rare.
func (s *Store) FinalizeFacts(ctx context.Context, order pki.OrderID, account pki.AccountID, credential pki.CredentialID,
	profile pki.ProfileID, thumbprint string, spkiHash [32]byte, now time.Time,
) (*pki.FinalizeFacts, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read facts: %w", err)
	}
	q := &question{
		args: [questionWidth]any{
			string(order), thumbprint, spkiHash[:], string(account), string(credential), micros(now), string(profile),
		},
		done: make(chan struct{}),
	}
	if s.questions.add(q) {
		s.answer(ctx, s.questions.take())
	}
	select {
	case <-q.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("read facts: %w", ctx.Err())
	}
	if q.err != nil {
		return nil, s.readError("read facts", q.err)
	}
	if err := readProofs(q.proofs, &q.facts); err != nil {
		return nil, err
	}
	if q.certificate == 0 {
		return &q.facts, nil
	}
	var err error
	q.facts.Certificate, err = s.CertificateOfOrder(ctx, order)
	return &q.facts, err
}

// question is what one finalize asks.
type question struct {
	args [questionWidth]any

	// Set before done is closed.
	facts       pki.FinalizeFacts
	proofs      string
	certificate int64
	err         error
	done        chan struct{}
}

// questions are those that wait to be asked together. In SQLite a reader begins with an empty cache after each commit, and
// over a network each query is a round trip.
type questions struct {
	mu      sync.Mutex // guards what follows; held for assignments only
	waiting []*question
	led     bool // somebody is about to take those that wait
}

// add tells whether the caller has to take and answer.
func (q *questions) add(one *question) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, one)
	lead := !q.led
	q.led = true
	return lead
}

// take lets goroutines go first that could run but do not, on a machine with few cores: they may be about to add.
func (q *questions) take() []*question {
	runtime.Gosched()
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.waiting
	q.waiting, q.led = nil, false
	return all
}

// answer asks, also when whoever does it for the others is not interested any more.
func (s *Store) answer(ctx context.Context, all []*question) {
	for _, q := range all {
		q.err = errNotAsked
		defer close(q.done)
	}
	ctx = context.WithoutCancel(ctx)
	if !s.dialect.prepare {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, statementTimeout)
		defer cancel()
	}
	for rest := all; len(rest) > 0; {
		n := chunk(len(rest))
		s.ask(ctx, rest[:n])
		rest = rest[n:]
	}
}

// errNotAsked is what is known of a question before it was answered.
var errNotAsked = errors.New("question was not answered")

func (s *Store) ask(ctx context.Context, some []*question) {
	args := make([]any, 0, len(some)*(1+questionWidth))
	for i, q := range some {
		args = append(append(args, int64(i)), q.args[:]...)
	}
	rows, err := s.query(ctx, s.texts.questions[len(some)], args...)
	_, err = collect(rows, err, func(r row) (struct{}, error) {
		var i int
		var one question
		f := &one.facts
		err := r.Scan(&i, &one.certificate, &f.AccountKey, &f.BlockedKey, &f.CAKey, &one.proofs, &f.AccountState,
			&f.CredentialUsable, &f.ProfileActive)
		if err != nil {
			return struct{}{}, err
		}
		q := some[i]
		q.facts, q.proofs, q.certificate, q.err = one.facts, one.proofs, one.certificate, nil
		return struct{}{}, nil
	})
	if err == nil {
		return
	}
	for _, q := range some {
		q.err = err
	}
}

// The text of questions: a table of those who ask, and what each is told. Types are those of PostgreSQL, which takes
// placeholders in such a table for text.
const (
	questionHead = `WITH asked (n, for_order, thumb, spki, for_account, for_credential, moment, for_profile) AS (VALUES `
	questionTail = `) SELECT n,
		coalesce((SELECT id FROM certificate WHERE order_id = asked.for_order AND order_id <> ''), 0),
		EXISTS (SELECT 1 FROM account WHERE thumbprint = asked.thumb),
		EXISTS (SELECT 1 FROM blocked_key WHERE spki_hash = asked.spki),
		EXISTS (SELECT 1 FROM ca WHERE spki_hash = asked.spki),
		coalesce((SELECT string_agg(CASE WHEN deactivated = 1 THEN 'd' ELSE substr(status, 1, 1) END || CAST(position AS TEXT), ',')
			FROM proof WHERE order_id = asked.for_order), ''),
		coalesce((SELECT status FROM account WHERE id = asked.for_account), ''),
		asked.for_credential = '' OR EXISTS (SELECT 1 FROM credential WHERE id = asked.for_credential AND state = 'active'
			AND (expires_at = 0 OR expires_at > asked.moment)),
		EXISTS (SELECT 1 FROM profile WHERE id = asked.for_profile AND state = 'active')
		FROM asked`
	questionWidth = 7
)

func questionTypes() []string {
	return []string{"bigint", "text", "text", "bytea", "text", "text", "bigint", "text"}
}

// readProofs reads "v2,d0": the authorizations of an order with the first letters of their states.
func readProofs(list string, facts *pki.FinalizeFacts) error {
	if list == "" {
		return nil
	}
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			return fmt.Errorf("stored proofs %q have a gap", list)
		}
		n, err := strconv.Atoi(text[1:])
		if err != nil {
			return fmt.Errorf("stored position %q: %w", text, err)
		}
		switch text[0] {
		case 'd':
			facts.Deactivated = append(facts.Deactivated, n)
		case 'v':
			facts.Proved = append(facts.Proved, n)
		}
	}
	slices.Sort(facts.Deactivated)
	slices.Sort(facts.Proved)
	return nil
}
