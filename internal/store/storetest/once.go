package storetest

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// once is a request that is claimed at a time.
func once(claim byte, at time.Time) pki.Once {
	return pki.Once{
		ID: [32]byte{1}, Request: [32]byte{2}, Claim: [16]byte{claim}, StartedAt: at, ExpiresAt: at.Add(24 * time.Hour),
	}
}

func testOnce(t *testing.T, s *store.Store) {
	at := Now()
	long := at.Add(-time.Minute)
	// One of many gets it; all see the same claim.
	claimed := parallel(16, func(i int) bool {
		got, err := s.ClaimOnce(t.Context(), once(byte(i), at), long)
		return err == nil && got.Claim == [16]byte{byte(i)}
	})
	equal(t, "claims", 1, claimed)

	// Nobody else can answer or release it.
	foreign := once(99, at)
	foreign.Answer = []byte("foreign")
	check(t, s.AnswerOnce(t.Context(), foreign))
	check(t, s.ReleaseOnce(t.Context(), foreign))
	held, err := s.ClaimOnce(t.Context(), foreign, long)
	check(t, err)
	equal(t, "answer of the held one", []byte(nil), held.Answer)

	// Its owner is gone: the same request may be taken over, another one may not.
	later := at.Add(time.Hour)
	other := once(50, later)
	other.Request = [32]byte{3}
	got, err := s.ClaimOnce(t.Context(), other, later.Add(-time.Minute))
	check(t, err)
	equal(t, "another request gets", *held, *got)
	taken := once(51, later)
	got, err = s.ClaimOnce(t.Context(), taken, later.Add(-time.Minute))
	check(t, err)
	equal(t, "the same request gets", taken, *got)

	// The answer is for everybody who asks again, until it expires.
	taken.Answer = []byte("answer")
	check(t, s.AnswerOnce(t.Context(), taken))
	got, err = s.ClaimOnce(t.Context(), once(52, later.Add(time.Hour)), later.Add(time.Hour))
	check(t, err)
	equal(t, "repeated", taken, *got)
	next := once(53, taken.ExpiresAt)
	got, err = s.ClaimOnce(t.Context(), next, at)
	check(t, err)
	equal(t, "after its time", next, *got)

	check(t, s.ReleaseOnce(t.Context(), next))
	again := once(54, next.StartedAt)
	got, err = s.ClaimOnce(t.Context(), again, at)
	check(t, err)
	equal(t, "after its release", again, *got)
	n, err := s.DeleteExpiredOnce(t.Context(), again.ExpiresAt.Add(-time.Second))
	check(t, err)
	equal(t, "deleted too early", 0, n)
	n, err = s.DeleteExpiredOnce(t.Context(), again.ExpiresAt)
	check(t, err)
	equal(t, "deleted", 1, n)
}
