package pki

import "time"

// SignInPlace is what is known of a person's attempts to sign in from a network.
type SignInPlace struct {
	Known       bool      // the person has signed in from there before
	LockedUntil time.Time // for the person: from there if it is known, else from everywhere that is not
	Failures    int       // from the network, whoever was tried
	Until       time.Time // when those are forgotten
}

// FailedSignIn is an attempt to be counted.
type FailedSignIn struct {
	User    string // "" when there is none of the name
	Network string
	At      time.Time
	Until   time.Time // when the network's failures are forgotten, unless others come
}

// UserEffects is what else happens to a person together with a change of the record.
type UserEffects struct {
	SignOut     bool      // sessions, and tokens that the person has signed in for, end,
	KeepSession SessionID // but for this one
	KeepToken   TokenID   // and this one
	Unlock      bool      // failures to sign in are forgotten
	EvenLast    bool      // although nobody is left who can administer the server
}

// SecondFactor is a person's secret of RFC 6238.
type SecondFactor struct {
	Sealed   []byte     // nil: none
	Step     int64      // of time, the last that a code was taken of
	Recovery [][32]byte // SHA-256 of the codes that may be used instead, each once
}
