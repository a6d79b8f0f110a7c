package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
)

var errBadConn = driver.ErrBadConn

// tx is a writer's transaction, shared by the operations of a batch.
type tx struct {
	session *session
	alone   bool // one operation only: a refusal may roll everything back
	wrote   bool
	events  []audit.Event // written together at the end
	after   []func()      // run when the commit is durable
}

func (t *tx) store() *Store { return t.session.writer.store }

// panicError is a panic of an operation. The writer's goroutine is everybody's, so it must not end for one of them.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// runAll runs the operations, then records the certificates of the batch together, then writes the events.
func (t *tx) runAll(ctx context.Context, batch []*operation) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	var records []*operation
	for _, op := range batch {
		op.err = nil
		if op.run == nil {
			records = append(records, op)
			continue
		}
		if err := t.runOne(ctx, op); err != nil {
			return err
		}
	}
	if len(records) > 0 {
		if err := t.recordAll(ctx, records); err != nil {
			return err
		}
	}
	if err := t.flushEvents(ctx); err != nil {
		return err
	}
	if t.store().dialect.aborted(t.session.conn) {
		return errHidden
	}
	return nil
}

// errHidden ends a transaction that could only be rolled back, though no operation said so.
var errHidden = errors.New("a statement failed, and its operation went on")

func (t *tx) runOne(ctx context.Context, op *operation) error {
	before := *t
	t.wrote = false
	err := op.run(ctx, t)
	if err == nil {
		t.wrote = t.wrote || before.wrote
		return nil
	}
	if _, refused := errors.AsType[*fault.Error](err); !refused {
		return err
	}
	if t.wrote && !t.alone {
		return errRerun
	}
	op.err = err
	t.wrote, t.events, t.after = before.wrote, before.events, before.after
	return nil
}

// exec runs a statement that is no change by itself (BEGIN, COMMIT).
func (t *tx) exec(ctx context.Context, query string) error {
	_, err := t.run(ctx, query)
	return err
}

// change runs a statement that writes and returns how many rows it changed.
func (t *tx) change(ctx context.Context, query string, args ...any) (int64, error) {
	result, err := t.run(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("rows affected: %w", err)
	}
	if n > 0 {
		t.wrote = true
	}
	return n, nil
}

func (t *tx) run(ctx context.Context, query string, args ...any) (sql.Result, error) {
	if !t.store().dialect.prepare {
		return t.session.conn.ExecContext(ctx, query, t.store().dialect.arguments(args)...)
	}
	stmt, err := t.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// query runs a reading statement. The caller closes the rows before the next statement.
func (t *tx) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if !t.store().dialect.prepare {
		return t.session.conn.QueryContext(ctx, query, t.store().dialect.arguments(args)...)
	}
	stmt, err := t.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (t *tx) queryRow(ctx context.Context, query string, args ...any) row {
	if !t.store().dialect.prepare {
		return t.session.conn.QueryRowContext(ctx, query, t.store().dialect.arguments(args)...)
	}
	stmt, err := t.statement(ctx, query)
	if err != nil {
		return failedRow{err}
	}
	return stmt.QueryRowContext(ctx, args...)
}

func (t *tx) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if stmt, ok := t.session.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := t.session.conn.PrepareContext(ctx, t.store().dialect.numbered(query))
	if err != nil {
		return nil, err
	}
	t.session.stmts[query] = stmt
	return stmt, nil
}

// forUpdate are the words that lock selected rows.
func (t *tx) forUpdate() string { return t.store().dialect.forUpdate }

// event adds an audit event to the transaction.
func (t *tx) event(ev audit.Event) {
	t.events = append(t.events, ev)
	t.wrote = true
}

// count adds to a counter, in the slot of this writer.
func (t *tx) count(ctx context.Context, name string, delta int64) error {
	return t.countAll(ctx, []counted{{name, delta}})
}
