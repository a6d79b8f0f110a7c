package group_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certloom/certloom/internal/group"
)

func TestStopsInReverseOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards order
		var order []string
		var g group.Group
		for _, name := range []string{"store", "acme", "listener"} {
			g.Add(name, func(ctx context.Context) error {
				<-ctx.Done()
				mu.Lock()
				defer mu.Unlock()
				order = append(order, name)
				return ctx.Err()
			})
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() { result <- g.Run(ctx, time.Second) }()
		synctest.Wait()
		cancel()
		if err := <-result; err != nil {
			t.Fatal(err)
		}
		if want := []string{"listener", "acme", "store"}; !slices.Equal(order, want) {
			t.Errorf("stopped in order %v, want %v", order, want)
		}
	})
}

func TestFirstEndStopsAll(t *testing.T) {
	t.Parallel()
	boom := errors.New("disk full")
	tests := map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"an error":         {func(context.Context) error { return boom }, "bad: disk full"},
		"a panic":          {func(context.Context) error { panic("nil map") }, "bad: panic: nil map"},
		"an early nil end": {func(context.Context) error { return nil }, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var g group.Group
			g.Add("good", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
			g.Add("bad", tt.run)
			err := g.Run(t.Context(), time.Minute)
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
				t.Errorf("got %v, want %q...", err, tt.want)
			}
		})
	}
}

func TestReportsTaskThatDoesNotStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var g group.Group
		g.Add("stuck", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := g.Run(ctx, 10*time.Second)
		if err == nil || err.Error() != "stuck: still running 10s after it was told to stop" {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}

// TestStartStopStress starts and stops many groups at once; the race detector and synctest's deadlock detection
// judge it.
func TestStartStopStress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				var g group.Group
				for range i % 7 {
					g.Add("task", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*time.Millisecond)
				defer cancel()
				if err := g.Run(ctx, time.Second); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}
