package acmetest

import (
	"sync/atomic"
	"time"
)

// Clock runs like the real one, ahead of it by what a test has added. It is safe for concurrent use.
type Clock struct {
	ahead atomic.Int64
}

// Now returns the time.
func (c *Clock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// Add moves the clock forward.
func (c *Clock) Add(d time.Duration) { c.ahead.Add(int64(d)) }
