package auth

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
