package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of the writers.
const (
	// queueLimit bounds how many operations wait. At 1,500 a second it is about a second of work: whoever came after
	// that would wait longer than asking again takes.
	queueLimit = 2048
	// batchLimit bounds a transaction, so that the first operation in it does not wait for too many others.
	batchLimit = 128
	// statementTimeout bounds a whole transaction on a database that is reached over a network.
	statementTimeout = 15 * time.Second
)

// operation is one write that waits for its transaction.
type operation struct {
	name     string
	run      func(ctx context.Context, t *tx) error // nil for a certificate, which the writer records itself
	record   *record
	enqueued time.Time
	state    atomic.Int32
	done     chan struct{}
	err      error // set before done is closed
}

// States of an operation. Whoever changes it from waiting owns it: the writer to run it, the caller to give it up.
const (
	waiting int32 = iota
	taken
	abandoned
)

// writer runs the operations of a queue in transactions that they share. It never waits for more of them when there
// is only one: while a transaction commits, others gather by themselves.
type writer struct {
	store   *Store
	connect func(context.Context) (*sql.Conn, error)
	queue   chan *operation
	wg      sync.WaitGroup

	mu     sync.RWMutex // guards closed and sending to queue against its closing
	closed bool
}

func startWriter(s *Store, set settings) *writer {
	w := &writer{store: s, connect: set.connect, queue: make(chan *operation, queueLimit)}
	for i := range set.writers {
		w.wg.Go(func() { w.loop(&session{writer: w, slot: set.slots + int64(i)}) })
	}
	return w
}

// stop lets the queue run dry and ends the writers.
func (w *writer) stop() {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
	w.mu.Unlock()
	w.wg.Wait()
}

// write runs a function in a transaction that it may share with others, and returns when that is durable. The
// function must be prepared to run a second time after a rollback. Refusals (*fault.Error) should come before
// its first write; one that comes later makes the others of the transaction run again.
func (s *Store) write(ctx context.Context, name string, run func(ctx context.Context, t *tx) error) error {
	return s.writer.do(ctx, &operation{name: name, run: run})
}

func (w *writer) do(ctx context.Context, op *operation) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", op.name, err)
	}
	op.done = make(chan struct{})
	op.enqueued = w.store.now()
	if err := w.enqueue(op); err != nil {
		return err
	}
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
	}
	if op.state.CompareAndSwap(waiting, abandoned) {
		return fmt.Errorf("%s: %w", op.name, ctx.Err())
	}
	// It is being written: to say that it was not would be a lie in one of two cases.
	<-op.done
	return op.err
}

func (w *writer) enqueue(op *operation) error {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.closed {
		return unavailable(fmt.Errorf("%s: %w", op.name, errClosed))
	}
	select {
	case w.queue <- op:
		return nil
	default:
		w.store.metrics.queueFull.Inc()
		return unavailable(fmt.Errorf("%s: %w", op.name, errQueueFull))
	}
}

func (w *writer) loop(s *session) {
	defer s.drop()
	batch := make([]*operation, 0, batchLimit)
	for op := range w.queue {
		batch = w.gather(batch[:0], op)
		if len(batch) == 0 {
			continue
		}
		w.store.metrics.batch.Observe(float64(len(batch)))
		w.store.metrics.wait.Observe(elapsed(batch[0].enqueued, w.store.now()))
		s.run(batch)
		for _, op := range batch {
			close(op.done)
		}
		clear(batch)
	}
}

// gather takes what waits. Goroutines that could run but do not, on a machine with few cores, are let go first: they
// may be about to add to the queue.
func (w *writer) gather(batch []*operation, first *operation) []*operation {
	batch = take(batch, first)
	for range 2 {
		for len(batch) < batchLimit {
			select {
			case op, ok := <-w.queue:
				if !ok {
					return batch
				}
				batch = take(batch, op)
				continue
			default:
			}
			break
		}
		runtime.Gosched()
	}
	return batch
}

func take(batch []*operation, op *operation) []*operation {
	if op.state.CompareAndSwap(waiting, taken) {
		return append(batch, op)
	}
	return batch
}

// session is one writer's connection. Its goroutine owns it.
type session struct {
	writer *writer
	slot   int64
	conn   *sql.Conn // nil until needed and after it broke
	stmts  map[string]*sql.Stmt
}

// run executes the operations of a batch in one transaction. When that fails for a reason that lies in one of
// them, each gets a transaction of its own, so that one cannot spoil the others. Before a COMMIT nothing has
// happened; a failed COMMIT is not repeated, because it may have happened.
func (s *session) run(batch []*operation) {
	err := s.attempt(batch)
	if err == nil {
		s.writer.store.failing.Store(false)
		return
	}
	if s.final(err) || len(batch) == 1 && !s.writer.store.dialect.conflict(err) {
		s.fail(batch, err)
		return
	}
	s.writer.store.metrics.rerun.Inc()
	for i, op := range batch {
		alone := []*operation{op}
		err := s.runAlone(alone)
		switch {
		case err == nil:
		case s.final(err):
			// The rest would find out the same, one timeout after the other.
			s.fail(batch[i:], err)
			return
		default:
			s.fail(alone, err)
		}
	}
}

// conflictRuns is how often an operation runs that loses against others. On its own it holds few locks, so that it
// hardly loses once.
const conflictRuns = 5

func (s *session) runAlone(alone []*operation) (err error) {
	for range conflictRuns {
		if err = s.attempt(alone); err == nil || !s.writer.store.dialect.conflict(err) {
			return err
		}
	}
	return &contendedError{err}
}

// contendedError is an operation that lost every time.
type contendedError struct{ cause error }

func (e *contendedError) Error() string { return "contended: " + e.cause.Error() }
func (e *contendedError) Unwrap() error { return e.cause }

// commitError is a COMMIT whose outcome is not known.
type commitError struct{ cause error }

func (e *commitError) Error() string { return "commit: " + e.cause.Error() }
func (e *commitError) Unwrap() error { return e.cause }

// final tells that running the operations one by one would not help.
func (s *session) final(err error) bool {
	_, commit := errors.AsType[*commitError](err)
	return commit || s.writer.store.down(err)
}

func (s *Store) down(err error) bool {
	return s.dialect.down(err) && !errors.Is(err, errRerun)
}

// errRerun ends a shared transaction whose operations must run one by one. It is no failure.
var errRerun = errors.New("operation needs a transaction of its own")

func (s *session) fail(batch []*operation, err error) {
	store := s.writer.store
	_, commit := errors.AsType[*commitError](err)
	_, contended := errors.AsType[*contendedError](err)
	switch {
	case contended:
		store.metrics.failed.WithLabelValues(reasonUnavailable).Inc()
		err = unavailable(err)
	case commit || store.down(err):
		store.failing.Store(true)
		store.metrics.failed.WithLabelValues(reasonUnavailable).Inc()
		err = unavailable(err)
	default:
		store.metrics.failed.WithLabelValues(reasonStatement).Inc()
	}
	for _, op := range batch {
		op.err = fmt.Errorf("%s: %w", op.name, err)
	}
}

// attempt runs the batch in one transaction. Refusals end up in the operations that were refused; an error means
// that nothing of the batch is stored, or, as a commitError, that this is not known.
func (s *session) attempt(batch []*operation) error {
	ctx, cancel := s.context()
	defer cancel()
	began := s.writer.store.now()
	t := &tx{session: s, alone: len(batch) == 1}
	if err := s.begin(ctx, t); err != nil {
		return err
	}
	if err := t.runAll(ctx, batch); err != nil {
		s.rollback(ctx, err)
		return err
	}
	if !t.wrote {
		s.rollback(ctx, nil)
		return nil
	}
	if err := t.exec(ctx, "COMMIT"); err != nil {
		s.rollback(ctx, err)
		return &commitError{err}
	}
	s.writer.store.metrics.commit.Observe(elapsed(began, s.writer.store.now()))
	for _, f := range t.after {
		f()
	}
	return nil
}

// context bounds a transaction where statements travel over a network. SQLite's do not, and a context that can end
// would make its driver start a goroutine for each of them.
func (s *session) context() (context.Context, context.CancelFunc) {
	if s.writer.store.dialect.prepare {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), statementTimeout)
}

// begin starts the transaction, on another connection when the one that we had is broken: nothing has been asked of it
// yet that could have happened.
func (s *session) begin(ctx context.Context, t *tx) error {
	fresh := s.conn == nil
	if err := s.open(ctx); err != nil {
		return err
	}
	err := t.exec(ctx, s.writer.store.dialect.begin)
	if err == nil {
		return nil
	}
	s.drop()
	if fresh || ctx.Err() != nil {
		return fmt.Errorf("begin: %w", err)
	}
	return s.begin(ctx, t)
}

func (s *session) open(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	conn, err := s.writer.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s.conn, s.stmts = conn, map[string]*sql.Stmt{}
	return nil
}

// rollback ends a transaction that is not to be. A connection that cannot do that is dropped, and so is one that is of
// no use: to a server that has become a standby, say. SQLite's leads to the same file whenever it is made.
func (s *session) rollback(ctx context.Context, cause error) {
	network := !s.writer.store.dialect.prepare
	if _, panicked := errors.AsType[*panicError](cause); panicked || ctx.Err() != nil || network && s.writer.store.down(cause) {
		s.drop()
		return
	}
	if _, err := s.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		s.drop()
	}
}

// drop gives up the connection for good: what state it is in is not known.
func (s *session) drop() {
	if s.conn == nil {
		return
	}
	for _, stmt := range s.stmts {
		_ = stmt.Close()
	}
	// ErrBadConn makes the pool close the connection instead of keeping it.
	_ = s.conn.Raw(func(any) error { return errBadConn })
	_ = s.conn.Close()
	s.conn, s.stmts = nil, nil
}
