package acme_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

func TestCheckContact(t *testing.T) {
	t.Parallel()
	many := make([]string, 11)
	for i := range many {
		many[i] = "mailto:a@example.com"
	}
	tests := map[string]struct {
		contact []string
		want    fault.Kind
	}{
		"none":                   {nil, 0},
		"one":                    {[]string{"mailto:mesh-owner@example.com"}, 0},
		"scheme in upper case":   {[]string{"MAILTO:a+b@Example.com"}, 0},
		"refuses/two addresses":  {[]string{"mailto:a@example.com,b@example.com"}, fault.InvalidContact},
		"refuses/header fields":  {[]string{"mailto:a@example.com?subject=x"}, fault.InvalidContact},
		"refuses/telephone":      {[]string{"mailto:a@example.com", "tel:+15551234"}, fault.UnsupportedContact},
		"refuses/no scheme":      {[]string{"a@example.com"}, fault.UnsupportedContact},
		"refuses/no domain":      {[]string{"mailto:a"}, fault.InvalidContact},
		"refuses/no name":        {[]string{"mailto:@example.com"}, fault.InvalidContact},
		"refuses/two ats":        {[]string{"mailto:a@b@example.com"}, fault.InvalidContact},
		"refuses/control":        {[]string{"mailto:a\r\nBcc: b@example.com"}, fault.InvalidContact},
		"refuses/percent":        {[]string{"mailto:a%0d@example.com"}, fault.InvalidContact},
		"refuses/not ASCII":      {[]string{"mailto:ä@example.com"}, fault.InvalidContact},
		"refuses/too many":       {many, fault.InvalidContact},
		"refuses/empty":          {[]string{""}, fault.UnsupportedContact},
		"refuses/mailto nothing": {[]string{"mailto:"}, fault.InvalidContact},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := acme.CheckContact(tt.contact)
			if (err != nil) != (tt.want != 0) || err != nil && !fault.Is(err, tt.want) {
				t.Errorf("CheckContact(%q) = %v, want %s", tt.contact, err, tt.want)
			}
		})
	}
}

func TestRenewalWindow(t *testing.T) {
	t.Parallel()
	begin := time.Unix(1_800_000_000, 0).UTC()
	starts := make(map[time.Time]bool)
	for i := range 50 {
		for _, life := range []time.Duration{10 * time.Second, time.Hour, 90 * 24 * time.Hour} {
			c := &pki.Certificate{Serial: pki.Serial(string(rune('a' + i))), NotBefore: begin, NotAfter: begin.Add(life)}
			start, end := acme.RenewalWindow(c)
			if !start.Before(end) || start.Before(begin.Add(life/2).Truncate(time.Second)) || end.After(c.NotAfter) {
				t.Errorf("window of %s: %s to %s, from %s", life, start, end, begin)
			}
			if again, _ := acme.RenewalWindow(c); !again.Equal(start) {
				t.Errorf("window of one certificate begins at %s and at %s", start, again)
			}
			if life > time.Hour {
				starts[start] = true
			}
		}
	}
	if len(starts) < 45 {
		t.Errorf("windows of 50 certificates begin at %d times: a fleet would renew at once", len(starts))
	}
	revoked := &pki.Certificate{NotBefore: begin, NotAfter: begin.Add(time.Hour), RevokedAt: begin.Add(time.Minute)}
	if start, end := acme.RenewalWindow(revoked); !start.Before(end) || end.After(revoked.RevokedAt) {
		t.Errorf("window of a revoked certificate: %s to %s, not in the past", start, end)
	}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := acme.NewAdmission(1, time.Second)
		leave, err := a.Enter(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := a.Enter(t.Context()); !fault.Is(err, fault.Unavailable) || time.Since(began) != time.Second {
			t.Errorf("Enter while full = %v after %s, want Unavailable after a second", err, time.Since(began))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := a.Enter(ended); !fault.Is(err, fault.Unavailable) {
			t.Errorf("Enter while full of a client that has gone = %v, want Unavailable", err)
		}
		entered := make(chan error)
		go func() {
			_, err := a.Enter(t.Context())
			entered <- err
		}()
		synctest.Wait()
		leave()
		if err := <-entered; err != nil {
			t.Errorf("Enter when a place becomes free = %v", err)
		}
	})
}

func TestQuota(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_800_000_000, 0)
	q, err := acme.NewQuota(2, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	take := func() (func(), error) { return q.Take("a") }
	for range 2 {
		if _, err := take(); err != nil {
			t.Fatal(err)
		}
	}
	_, err = take()
	refused, ok := errors.AsType[*fault.Error](err)
	if !ok || refused.Kind != fault.RateLimited {
		t.Fatalf("third order in a minute: %v, want RateLimited", err)
	}
	if _, err := q.Take("b"); err != nil {
		t.Errorf("order of another account: %v", err)
	}
	// Retry-After is true: at that time, and not before, an order passes.
	now = now.Add(refused.RetryAfter - time.Second)
	if _, err := take(); err == nil {
		t.Error("an order passed before the time that was told")
	}
	now = now.Add(time.Second)
	refund, err := take()
	if err != nil {
		t.Fatalf("order at the time that was told: %v", err)
	}
	refund()
	if _, err := take(); err != nil {
		t.Errorf("order after one that was refused: %v; a refused one must not count", err)
	}
	unlimited, err := acme.NewQuota(0, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := unlimited.Take("a"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEncodeChain(t *testing.T) {
	t.Parallel()
	der := make([]byte, 200)
	for i := range der {
		der[i] = byte(3 * i)
	}
	for length := range der {
		want := bytes.Repeat(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[:length]}), 2)
		if got := acme.EncodeChain([][]byte{der[:length], der[:length]}); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes became\n%swant\n%s", length, got, want)
		}
	}
}

func TestDetached(t *testing.T) {
	t.Parallel()
	var panics atomic.Int32
	d := acme.NewDetached(2, func(context.Context, any) { panics.Add(1) })
	release := make(chan struct{})
	var worked atomic.Int32
	work := func(ctx context.Context) {
		<-release
		if ctx.Err() != nil {
			t.Error("work was cancelled with its request")
		}
		worked.Add(1)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if started, err := d.Start(ctx, "a", work); !started || err != nil {
		t.Fatalf("Start = %t, %v", started, err)
	}
	cancel()
	if started, err := d.Start(t.Context(), "a", work); started || err != nil {
		t.Errorf("Start of what runs already = %t, %v", started, err)
	}
	if started, err := d.Start(t.Context(), "b", work); !started || err != nil {
		t.Fatalf("Start of another = %t, %v", started, err)
	}
	if _, err := d.Start(t.Context(), "c", work); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Start while full = %v, want Unavailable", err)
	}
	close(release)
	d.Drain()
	if worked.Load() != 2 {
		t.Errorf("%d pieces of work were done when all had ended, want 2", worked.Load())
	}
	if panics.Load() != 0 {
		t.Error("a panic was reported")
	}
	if _, err := d.Start(t.Context(), "c", work); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Start after the end = %v, want Unavailable", err)
	}
}

// A panic ends its work, not the process, and gives the place back.
func TestDetachedPanic(t *testing.T) {
	t.Parallel()
	panicked := make(chan any, 1)
	d := acme.NewDetached(1, func(_ context.Context, p any) { panicked <- p })
	if started, err := d.Start(t.Context(), "a", func(context.Context) { panic("oh") }); !started || err != nil {
		t.Fatalf("Start = %t, %v", started, err)
	}
	if p := <-panicked; p != "oh" {
		t.Errorf("reported panic %v", p)
	}
	d.Drain()
}
