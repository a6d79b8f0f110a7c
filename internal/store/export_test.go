package store

import "testing"

// Narrow makes the store take few certificates for many, so that its searches take the paths that a large estate needs.
func Narrow(s *Store) {
	s.limits = searchLimits{
		chains: 2, sources: 1, window: 4, candidates: 6, identityWindow: 2, identityCandidates: 3, orders: 2,
	}
}

// Migrations returns the numbers and names of a dialect's migrations.
func Migrations(t testing.TB, dialect string) []string {
	t.Helper()
	all, err := migrations(dialect)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, itoa(int(m.number))+" "+m.name)
	}
	return names
}
