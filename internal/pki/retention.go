package pki

import "time"

// RollUp is what is left of an identity's expired certificates whose records were deleted.
type RollUp struct {
	Certificates  int64
	FirstIssuedAt time.Time
	LastIssuedAt  time.Time
	Algorithms    map[KeyAlgorithm]int64 // how many certificates had a key of each
}

// ExpiredQuery selects certificates whose records may be deleted.
type ExpiredQuery struct {
	Profiles []ProfileID
	Before   time.Time // they expired before this, by some minutes: dates are looked up in steps
	After    ExpiredPlace
	Limit    int
}

// ExpiredPlace is a place in the walk through expired certificates; the zero value is its beginning. It is good for as
// long as the process lives.
type ExpiredPlace struct {
	Step int64
	ID   int64
}

// Expired is a part of what an ExpiredQuery selects.
type Expired struct {
	Records []int64 // for RollUp
	Next    ExpiredPlace
	Done    bool // there is no more
}

// Space is how much room the database takes.
type Space struct {
	Bytes int64 // of the file, or of the database with its indexes
	Free  int64 // of those, what deleted records have left and new ones will fill; 0 where it is not known
}
