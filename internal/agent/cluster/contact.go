package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// contact knows whether an API server answers us, from every request to it.
type contact struct {
	now func() time.Time
	// changed is told when that changes; err is nil once the API server answers.
	changed func(ctx context.Context, err error)

	mu      sync.Mutex // guards what follows; not held while changed runs
	failure error      // of the last request
	since   time.Time  // when the first request failed that has not been followed by a good one
}

// state returns since when requests are not answered, and why; the error is nil if the last one was answered.
func (c *contact) state() (since time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.failure
}

func (c *contact) note(ctx context.Context, err error) {
	c.mu.Lock()
	turned := (c.failure == nil) != (err == nil)
	c.failure = err
	if turned {
		c.since = c.now()
	}
	c.mu.Unlock()
	if turned {
		c.changed(ctx, err)
	}
}

// wrap makes a transport that notes what becomes of requests.
func (c *contact) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		response, err := next.RoundTrip(request)
		ctx := request.Context()
		switch {
		case err != nil && errors.Is(ctx.Err(), context.Canceled):
			// Whoever asked does not want to know any more.
		case err != nil:
			c.note(ctx, err)
		case response.StatusCode == http.StatusUnauthorized || response.StatusCode >= http.StatusInternalServerError:
			c.note(ctx, fmt.Errorf("the API server answers %s", response.Status))
		default:
			c.note(ctx, nil)
		}
		return response, err //nolint:wrapcheck // a transport's error is its caller's to wrap
	})
}

// roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return f(request) }
