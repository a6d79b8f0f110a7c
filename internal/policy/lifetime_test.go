package policy_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

var (
	now   = time.Date(2026, time.October, 7, 12, 0, 0, 0, time.UTC)
	never = now.AddDate(20, 0, 0) // when the CA expires
)

// number is a source of randomness that says one number.
func number(n uint64) io.Reader { return bytes.NewReader(binary.BigEndian.AppendUint64(nil, n)) }

func TestLifetime(t *testing.T) {
	t.Parallel()
	// Default 24h, at most 7d, backdated 1m, jitter 10 percent: 8640 s of the default, 60480 s of the maximum.
	rules := validity(day, 7*day, time.Minute, 10)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	var none time.Time
	tests := map[string]struct {
		rules               pki.Validity
		notBefore, notAfter time.Time
		ca                  time.Time
		random              uint64
		from, to            time.Duration // of the certificate, from now
		requested, granted  time.Duration
	}{
		"default":              {rules, none, none, never, 0, -time.Minute, day, 0, day},
		"default/jitter":       {rules, none, none, never, 100, -time.Minute, day - 100*time.Second, 0, day - 100*time.Second},
		"default/most-jitter":  {rules, none, none, never, 8640, -time.Minute, day - 8640*time.Second, 0, day - 8640*time.Second},
		"default/jitter-wraps": {rules, none, none, never, 8641, -time.Minute, day, 0, day},
		"requested":            {rules, none, in(time.Hour), never, 7, -time.Minute, time.Hour, time.Hour, time.Hour},
		"requested/max":        {rules, none, in(7 * day), never, 7, -time.Minute, 7 * day, 7 * day, 7 * day},
		"requested/second":     {rules, none, in(time.Second), never, 7, -time.Minute, time.Second, time.Second, time.Second},
		"requested/cut":        {rules, none, in(365 * day), never, 0, -time.Minute, 7 * day, 365 * day, 7 * day},
		"requested/cut-jitter": {rules, none, in(365 * day), never, 60480, -time.Minute, 7*day - 60480*time.Second, 365 * day, 7*day - 60480*time.Second},
		"requested/fraction":   {rules, none, in(time.Hour + time.Second/2), never, 7, -time.Minute, time.Hour, time.Hour, time.Hour},
		"ca/cuts-default":      {rules, none, none, in(time.Hour), 0, -time.Minute, time.Hour, 0, time.Hour},
		"ca/cuts-requested":    {rules, none, in(2 * day), in(time.Hour), 0, -time.Minute, time.Hour, 2 * day, time.Hour},
		"ca/last-second":       {rules, none, none, in(time.Second), 0, -time.Minute, time.Second, 0, time.Second},
		"before/now":           {rules, now, none, never, 0, 0, day, 0, day},
		"before/past":          {rules, in(-time.Minute), none, never, 0, -time.Minute, day, 0, day},
		"before/past-second":   {rules, in(-time.Second), in(time.Hour), never, 0, -time.Second, time.Hour, time.Hour, time.Hour},
		"before/future":        {rules, in(time.Hour), none, never, 0, time.Hour, day + time.Hour, 0, day},
		"before/future-both":   {rules, in(time.Hour), in(3 * time.Hour), never, 7, time.Hour, 3 * time.Hour, 2 * time.Hour, 2 * time.Hour},
		"before/future-cut":    {rules, in(time.Hour), in(365 * day), never, 0, time.Hour, 7 * day, 365*day - time.Hour, 7*day - time.Hour},
		"before/near-the-end":  {rules, in(7*day - time.Hour), none, never, 0, 7*day - time.Hour, 7 * day, 0, time.Hour},
		"no-jitter":            {validity(day, 7*day, 0, 0), none, none, never, 7, 0, day, 0, day},
		"too-short-to-jitter":  {validity(10*time.Second, day, 0, 5), none, none, never, 7, 0, 10 * time.Second, 0, 10 * time.Second},
		"half-at-most":         {validity(100*time.Second, day, 0, 99), none, none, never, 50, 0, 50 * time.Second, 0, 50 * time.Second},
		"fraction/default":     {validity(90*time.Second+time.Millisecond, day, 0, 0), none, none, never, 0, 0, 90 * time.Second, 0, 90 * time.Second},
		"fraction/max":         {validity(day, day+time.Millisecond, 0, 0), none, in(30 * day), never, 0, 0, day, 30 * day, day},
		"fraction/backdate":    {validity(day, day, 1500*time.Millisecond, 0), none, none, never, 0, -2 * time.Second, day, 0, day},
		"fraction/ca":          {validity(day, day, 0, 0), none, none, in(time.Hour + time.Second/2), 0, 0, time.Hour, 0, time.Hour},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			span, err := policy.Lifetime(test.rules, now.Add(time.Second/3), test.notBefore, test.notAfter, test.ca, number(test.random))
			if err != nil {
				t.Fatal(err)
			}
			want := policy.Span{NotBefore: in(test.from), NotAfter: in(test.to), Requested: test.requested, Granted: test.granted}
			if span != want {
				t.Errorf("got  %+v\nwant %+v", span, want)
			}
		})
	}
}

func TestLifetimeRefuses(t *testing.T) {
	t.Parallel()
	rules := validity(day, 7*day, time.Minute, 10)
	in := func(d time.Duration) time.Time { return now.Add(d) }
	var none time.Time
	tests := map[string]struct {
		notBefore, notAfter, ca time.Time
		kind                    fault.Kind
		says                    string
	}{
		"after-past":       {none, in(-time.Second), never, fault.Malformed, "notAfter 2026-10-07T11:59:59Z is in the past"},
		"after-now":        {none, now, never, fault.Malformed, "in the past"},
		"after-epoch":      {none, time.Unix(0, 0), never, fault.Malformed, "1970-01-01T00:00:00Z"},
		"before-past":      {in(-61 * time.Second), none, never, fault.Malformed, "more than 1m, which the profile allows"},
		"before-epoch":     {time.Unix(0, 0), in(day), never, fault.Malformed, "1970"},
		"before-is-after":  {in(2 * day), in(day), never, fault.Malformed, "not before notAfter"},
		"before-equals":    {in(day), in(day), never, fault.Malformed, "not before notAfter"},
		"before-beyond":    {in(7 * day), none, never, fault.Malformed, "leaves no lifetime"},
		"before-beyond-ca": {in(2 * day), in(3 * day), in(day), fault.Malformed, "nothing is granted beyond 2026-10-08T12:00:00Z"},
		"ca-expired":       {none, none, in(-time.Second), fault.Unavailable, "issuing CA expired at 2026-10-07T11:59:59Z"},
		"ca-expires-now":   {none, in(day), now, fault.Unavailable, "issuing CA expired"},
		"ca-none":          {none, none, none, fault.Unavailable, "issuing CA expired"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			span, err := policy.Lifetime(rules, now, test.notBefore, test.notAfter, test.ca, number(0))
			wantFault(t, err, test.kind, test.says)
			if span != (policy.Span{}) {
				t.Errorf("returned %+v with an error", span)
			}
		})
	}
	broken := errors.New("no randomness")
	if _, err := policy.Lifetime(rules, now, none, none, never, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("without randomness: %v", err)
	}
	if _, err := policy.Lifetime(rules, now, none, in(time.Hour), never, iotest.ErrReader(broken)); err != nil {
		t.Errorf("what is granted to the second needs no randomness: %v", err)
	}
}

// Whatever is asked for: nothing beyond the CA or the profile's maximum, nothing in the past, whole seconds, and what
// is said of the lifetime is true.
func TestLifetimeProperties(t *testing.T) {
	t.Parallel()
	source := mathrand.New(mathrand.NewPCG(1, 2))
	span := func(most time.Duration) time.Duration { return time.Duration(source.Int64N(int64(most))) }
	for range 20_000 {
		rules := validity(10*time.Second+span(day), 0, span(time.Minute), source.IntN(51))
		rules.Max = rules.Default + pki.Duration(span(day))
		var notBefore, notAfter time.Time
		if source.IntN(2) == 0 {
			notBefore = now.Add(span(2*day) - time.Minute)
		}
		if source.IntN(2) == 0 {
			notAfter = now.Add(span(3*day) + time.Second)
		}
		ca := now.Add(span(3*day) + time.Second)
		got, err := policy.Lifetime(rules, now, notBefore, notAfter, ca, rand.Reader)
		if err != nil {
			continue
		}
		start := now
		if got.NotBefore.After(now) {
			start = got.NotBefore
		}
		switch {
		case got.NotAfter.After(ca), got.NotAfter.After(now.Add(time.Duration(rules.Max))), !got.NotAfter.After(start):
			t.Fatalf("%+v, CA until %s: notAfter is wrong in %+v", rules, ca, got)
		case got.NotBefore.Before(now.Add(-time.Duration(rules.Backdate) - time.Second)), !got.NotBefore.Before(got.NotAfter):
			t.Fatalf("%+v: notBefore is wrong in %+v", rules, got)
		case got.NotAfter.Nanosecond() != 0 || got.NotBefore.Nanosecond() != 0:
			t.Fatalf("%+v: not in whole seconds: %+v", rules, got)
		case got.Granted != got.NotAfter.Sub(start):
			t.Fatalf("%+v: granted is wrong in %+v", rules, got)
		case !notAfter.IsZero() && got.NotAfter.After(notAfter):
			t.Fatalf("%+v: more than asked for (%s) in %+v", rules, notAfter, got)
		case !notBefore.IsZero() && !got.NotBefore.Equal(notBefore.Truncate(time.Second)):
			t.Fatalf("%+v: notBefore %s became %+v", rules, notBefore, got)
		}
	}
}

// The jitter spreads over all of its range.
func TestLifetimeSpreads(t *testing.T) {
	t.Parallel()
	rules := validity(1000*time.Second, day, 0, 10)
	seen := map[time.Duration]int{}
	for range 20_000 {
		span, err := policy.Lifetime(rules, now, time.Time{}, time.Time{}, never, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		seen[span.Granted]++
	}
	if len(seen) != 101 {
		t.Errorf("%d different lifetimes, want 101", len(seen))
	}
	for lifetime, count := range seen {
		if lifetime > 1000*time.Second || lifetime < 900*time.Second || count < 100 || count > 320 {
			t.Errorf("lifetime %s %d times, want about 198 times", lifetime, count)
		}
	}
}
