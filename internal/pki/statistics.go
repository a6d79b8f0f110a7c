package pki

import "time"

// IdentityFigures counts identities by what their newest certificates have left.
type IdentityFigures struct {
	Statuses map[IdentityStatus]int64
	// Left has, for each class of LeftClasses, the identities that are not lapsed and have at most so much of their
	// certificate's lifetime left, and more than the class before.
	Left []int64
	// Ends has the same for the times of EndClasses; one more at its end is for those that have longer.
	Ends     []int64
	Clusters []ClusterFigures // by name; "" is what is in no cluster that is known
	Lapsing  []Identity       // those that lapse, the first to expire first; a few
}

// Total counts all identities.
func (f *IdentityFigures) Total() int64 {
	sum := int64(0)
	for _, n := range f.Statuses {
		sum += n
	}
	return sum
}

// ClusterFigures counts the identities of which the newest certificate went into a cluster.
type ClusterFigures struct {
	Name       string
	Identities int64
	Lapsing    int64
	Lapsed     int64
	LastIssued time.Time
}

// LeftClasses are the classes of a lifetime that is left, in percent. Clients renew with half of it left or somewhat
// less, so that one that works has more than a quarter.
func LeftClasses() []int64 { return []int64{10, 25, 50, 75, 100} }

// EndClasses are the classes of time until a certificate expires.
func EndClasses() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{time.Hour, 6 * time.Hour, day, 7 * day, 30 * day, 90 * day}
}

// Refusals counts what was refused for one reason.
type Refusals struct {
	Action   string // the audit event's
	Problem  string // type of the problem, "" when it was not recorded
	LastHour int64
	LastDay  int64
}

// Figures is how the whole is, or the part of it that somebody sees.
type Figures struct {
	At         time.Time // when they were taken
	Identities IdentityFigures
	Whole      *WholeFigures // nil for who sees a part
}

// WholeFigures are what is counted of everything together.
type WholeFigures struct {
	Stats    Stats
	Alive    map[CAID]int64 // certificates that have not expired, by CA
	Issued   []int64        // in each minute of the last day, the one of At being the last
	Clusters map[string]int64
	Refusals []Refusals
}
