package policy

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Span is when a certificate is valid, in whole seconds.
type Span struct {
	NotBefore time.Time
	NotAfter  time.Time
	Requested time.Duration // the lifetime that the client asked for, from now on; 0 when it left it to the profile
	Granted   time.Duration // the lifetime that it gets, counted the same way: backdating adds nothing
}

// Lifetime decides when a certificate is valid that is issued now. The client's notBefore and notAfter are zero
// where it did not say.
//
//   - Without notAfter, the profile's default lifetime is granted.
//   - A notAfter up to the profile's maximum from now is honoured to the second. A later one is cut to the maximum,
//     which the certificate, Granted and the order show; it is not refused, because clients that ask for "a year" want
//     a certificate.
//   - Nothing outlives the issuing CA (caNotAfter).
//   - What the client did not get to the second (the default, and what was cut) is shortened by a random part of up to
//     the profile's jitter, never below half, so that a fleet that started together does not renew together.
//   - A notBefore between the profile's backdating and the end is honoured to the second; without one, notBefore lies
//     the profile's backdating in the past. The end does not move with it, except that the default lifetime begins at
//     a notBefore in the future.
//
// Dates that nobody could be granted (notAfter in the past, notBefore not before notAfter, notBefore too far in the
// past) are Malformed; an issuing CA that is about to expire is Unavailable, so that clients come again.
func Lifetime(
	v pki.Validity, now, notBefore, notAfter, caNotAfter time.Time, random io.Reader,
) (Span, error) {
	now = now.UTC().Truncate(time.Second)
	notBefore = notBefore.UTC().Truncate(time.Second)
	notAfter = notAfter.UTC().Truncate(time.Second)
	caNotAfter = caNotAfter.UTC().Truncate(time.Second)
	if err := checkDates(v, now, notBefore, notAfter); err != nil {
		return Span{}, err
	}
	start := later(now, notBefore)
	limit := earlier(now.Add(time.Duration(v.Max)).Truncate(time.Second), caNotAfter)
	switch {
	case !caNotAfter.After(now):
		return Span{}, fault.New(fault.Unavailable, "issuing CA expired at %s", stamp(caNotAfter)).
			WithHint("create a new issuing CA and give it to the profile")
	case !limit.After(start):
		return Span{}, fault.New(fault.Malformed, "notBefore %s leaves no lifetime: nothing is granted beyond %s",
			stamp(notBefore), stamp(limit))
	}
	span := Span{NotBefore: notBefore, NotAfter: earlier(notAfter, limit)}
	if notBefore.IsZero() {
		span.NotBefore = now.Add(-time.Duration(v.Backdate)).Truncate(time.Second)
	}
	if notAfter.IsZero() {
		span.NotAfter = earlier(start.Add(time.Duration(v.Default)).Truncate(time.Second), limit)
	} else {
		span.Requested = notAfter.Sub(start)
	}
	span.Granted = span.NotAfter.Sub(start)
	if span.Granted != span.Requested {
		shortened, err := jitter(span.Granted, v.JitterPercent, random)
		if err != nil {
			return Span{}, err
		}
		span.Granted, span.NotAfter = shortened, start.Add(shortened)
	}
	return span, nil
}

// checkDates refuses dates that make no sense under any policy (RFC 8555 section 7.4).
func checkDates(v pki.Validity, now, notBefore, notAfter time.Time) error {
	switch {
	case !notAfter.IsZero() && !notAfter.After(now):
		return fault.New(fault.Malformed, "notAfter %s is in the past; it is %s now", stamp(notAfter), stamp(now))
	case notBefore.IsZero():
		return nil
	case !notAfter.IsZero() && !notBefore.Before(notAfter):
		return fault.New(fault.Malformed, "notBefore %s is not before notAfter %s", stamp(notBefore), stamp(notAfter))
	case notBefore.Before(now.Add(-time.Duration(v.Backdate)).Truncate(time.Second)):
		return fault.New(fault.Malformed, "notBefore %s is more than %s, which the profile allows, in the past; it is %s now",
			stamp(notBefore), v.Backdate, stamp(now))
	}
	return nil
}

// jitter shortens a lifetime by a random number of seconds of up to percent of it.
func jitter(lifetime time.Duration, percent int, random io.Reader) (time.Duration, error) {
	most := lifetime / 100 * time.Duration(min(percent, maxJitterPercent)) / time.Second
	if most <= 0 {
		return lifetime, nil
	}
	var raw [8]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return 0, fmt.Errorf("read randomness: %w", err)
	}
	// 64 bits modulo a number of seconds: the bias is below one part in 2^35.
	cut := binary.BigEndian.Uint64(raw[:]) % (uint64(most) + 1)
	return lifetime - time.Duration(cut)*time.Second, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func stamp(t time.Time) string { return t.Format(time.RFC3339) }
