package store

import (
	"context"
	"fmt"

	"github.com/certloom/certloom/internal/pki"
)

// Space returns how much room the database takes.
func (s *Store) Space(ctx context.Context) (pki.Space, error) {
	var space pki.Space
	err := s.queryRow(ctx, s.dialect.space).Scan(&space.Bytes, &space.Free)
	return space, s.readError("read size", err)
}

// Pages of a SQLite file are given back when a quarter of it is free, and more than new certificates fill soon.
const (
	freeShare    = 4
	freeFloor    = 16 << 20 // bytes
	giveBackStep = 256      // pages in one operation: each may have to be moved, and issuing waits
)

// GiveBack returns some of the room that deleted records have left to the file system, and tells whether to call it again.
// PostgreSQL's own vacuum keeps the room for new records. So does a SQLite file of a version that knew no way to give it
// back, until somebody rewrites it: VACUUM.
func (s *Store) GiveBack(ctx context.Context) (more bool, err error) {
	if s.dialect.giveBack == "" {
		return false, nil
	}
	space, err := s.Space(ctx)
	if err != nil || space.Free < freeFloor || space.Free < space.Bytes/freeShare {
		return false, err
	}
	err = s.write(ctx, "give back space", func(ctx context.Context, t *tx) error {
		rows, err := t.query(ctx, s.dialect.giveBack+`(`+itoa(giveBackStep)+`)`)
		if _, err = collect(rows, err, func(row) (struct{}, error) { return struct{}{}, nil }); err != nil {
			return fmt.Errorf("vacuum: %w", err)
		}
		t.wrote = true
		return nil
	})
	if err != nil {
		return false, err
	}
	left, err := s.Space(ctx)
	return left.Free < space.Free, err
}
