package auth

import "time"

// StepOf returns the step of time that a code is of.
func StepOf(secret []byte, code string, now time.Time) (int64, error) {
	return stepOf(secret, code, now)
}

// Occupy takes all places for hashing passwords until release is called.
func Occupy(a *Authenticator) (release func()) {
	for range maxHashing {
		a.hashing <- struct{}{}
	}
	return func() {
		for range maxHashing {
			<-a.hashing
		}
	}
}
