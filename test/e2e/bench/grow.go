package main

import (
	"context"
	"fmt"
	"time"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// grow fills the inventory and tells the server's memory with it, and how long a start takes.
func grow(ctx context.Context, s *session, server *testbed.Certloom, l *line, want int) {
	have := len(server.Inventory(ctx, s))
	started, first := time.Now(), have
	for have < want {
		const step = 10 * time.Second
		done, err := l.load(ctx, step)
		must(s, err)
		have += len(done)
	}
	took := time.Since(started)
	busy, err := server.Process().Resident()
	must(s, err)
	server.Stop(s)
	started = time.Now()
	server.Restart(ctx, s)
	ready := time.Since(started)
	fresh, err := server.Process().Resident()
	must(s, err)
	fmt.Printf("\n%d certificates in the inventory (the last %d at %.0f/s): %d MiB resident under load, ready %s after a start, %d MiB then\n",
		have, have-first, float64(have-first)/took.Seconds(), busy>>20, ready.Round(10*time.Millisecond), fresh>>20)
	started = time.Now()
	listed := len(server.Inventory(ctx, s))
	fmt.Printf("certloom certificate list --limit 0 prints all %d in %s\n", listed, time.Since(started).Round(10*time.Millisecond))
	if listed < have {
		s.Errorf("the inventory has %d certificates; clients got %d", listed, have)
	}
}
