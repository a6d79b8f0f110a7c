package pki

import "time"

// Renewal is after which part of a certificate's life an identity has lately been renewed at the latest, in thousandths; 0
// while it never was. Several clients may share an identity, a service account with ten Pods, say; then renewals come sooner
// one after the other, which says nothing of when each renews: so nobody is expected before half of the life, when Istio's
// agents do (security/pkg/nodeagent/cache).
type Renewal int64

// Bounds of what is learnt. However late an identity was renewed in the past, it is not expected later than the second: a
// history of trouble must not hide the next one.
const (
	earliestRenewal Renewal = 500
	latestRenewal   Renewal = 850
	// forgetRenewal is the part of a late renewal that each earlier one makes forgotten.
	forgetRenewal = 4
	// marginRenewal is how long after the latest renewal nobody worries.
	marginRenewal Renewal = 100
	latestLapsing Renewal = 950
	wholeLife     Renewal = 1000
)

// DefaultLapsingShare is after which part of a certificate's life, in percent, its identity lapses, unless it has been
// renewed later than that before.
const DefaultLapsingShare = 75

// Learn returns what is known after another certificate was issued, when the one before had these dates. A later renewal
// counts at once, an earlier one little by little.
func (r Renewal) Learn(notBefore, notAfter, issued time.Time) Renewal {
	life := notAfter.Sub(notBefore)
	if life <= 0 || issued.Before(notBefore) {
		return r
	}
	seen := wholeLife
	if age := issued.Sub(notBefore); age < life {
		seen = Renewal(int64(wholeLife) * int64(age/time.Second) / max(1, int64(life/time.Second)))
	}
	seen = min(max(seen, earliestRenewal), latestRenewal)
	if seen >= r {
		return seen
	}
	return r - (r-seen)/forgetRenewal
}

// Expect returns when an identity whose newest certificate has these dates is expected to be renewed, and when it lapses.
// The share is in percent.
func (r Renewal) Expect(notBefore, notAfter time.Time, lapsingShare int) (renewAt, lapsingAt time.Time) {
	due := max(r, earliestRenewal)
	lapsing := Renewal(lapsingShare) * 10
	if r > earliestRenewal {
		lapsing = max(lapsing, min(r+marginRenewal, latestLapsing))
	}
	life := notAfter.Sub(notBefore)
	at := func(part Renewal) time.Time {
		return notBefore.Add(life / time.Duration(wholeLife) * time.Duration(part))
	}
	return at(due), at(lapsing)
}
