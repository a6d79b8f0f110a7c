package testbed

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// finalError ends a poll.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

// Final marks an error of a poll's check as one that waiting does not mend.
func Final(err error) error { return finalError{err} }

// Poll calls check at once and then every interval, until it returns nil, ctx ends, or the error is Final.
func Poll(ctx context.Context, interval time.Duration, check func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := check(ctx)
		var final finalError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &final):
			return final.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
