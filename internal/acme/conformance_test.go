package acme_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// The conformance table: every row of the checklist of an ACME server (RFC 8555, RFC 8737, RFC 8738, RFC 9773, ACME
// profiles, and our rules for interoperation and safety) by its identifier, as raw JWS over TLS, against one server.
// A row that travels in time, or that needs a server which fails, has a server of its own. conformance_kit_test.go has
// what the rows have in common.

// row is one row of the checklist.
type row struct {
	id  string
	run func(t *testing.T, s *suite)
}

func rows() []row {
	return slices.Concat(
		directoryRows(), nonceRows(), jwsRows(), jwsFormRows(), bindingRows(), accountRows(), keyChangeRows(), orderRows(),
		authorizationRows(), validationRows(), finalizeRows(), csrRows(), certificateRows(), revocationRows(),
		problemRows(), renewalRows(), preAuthorizedRows(),
	)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	s := newSuite(t)
	for _, r := range rows() {
		t.Run(r.id, func(t *testing.T) {
			t.Parallel()
			r.run(t, s)
		})
	}
}

// notApplicable says why a row has no test here.
func notApplicable() map[string]string {
	return map[string]string{
		"DIR-7":  "a demand on clients: they must ignore members that they do not know; ours has none beyond the RFCs",
		"JWS-40": "the checklist has no row of this number",
		"DAC-1":  "dns-account-01 is not offered; the account URL that it would depend on is stable (DIR-17)",
		"DPS-1":  "dns-persist-01 is not offered",
		"DEV-1":  "device-attest-01 is not offered, so there is no attestation to parse",
		"ALP-2":  "says what other servers do; ours checks that the certificate is self-signed (ALP-1)",
		"RAT-5":  "the limiter is memory of the process, so it cannot be down",
	}
}

// section is a part of the checklist: identifiers PREFIX-1 to PREFIX-last.
type section struct {
	prefix string
	last   int
}

func sections() []section {
	return []section{
		{"DIR", 18},
		{"NON", 13},
		{"JWS", 42},
		{"EAB", 18},
		{"ACC", 17},
		{"KEY", 15},
		{"ORD", 18},
		{"AUZ", 5},
		{"CHA", 7},
		{"H01", 4},
		{"D01", 1},
		{"ALP", 2},
		{"DAC", 1},
		{"DPS", 1},
		{"DEV", 1},
		{"FIN", 24},
		{"CRT", 13},
		{"REV", 14},
		{"PRB", 5},
		{"ARI", 13},
		{"RAT", 7},
		{"PRE", 16},
	}
}

// Every row of the checklist has exactly one test, or one reason why it has none.
func TestConformanceIsComplete(t *testing.T) {
	t.Parallel()
	found := maps.Clone(notApplicable())
	for _, r := range rows() {
		if _, twice := found[r.id]; twice {
			t.Errorf("row %s is there twice", r.id)
		}
		found[r.id] = "tested"
	}
	for _, s := range sections() {
		for n := 1; n <= s.last; n++ {
			id := fmt.Sprintf("%s-%d", s.prefix, n)
			if found[id] == "" {
				t.Errorf("row %s has neither a test nor a reason", id)
			}
			delete(found, id)
		}
	}
	for id := range found {
		t.Errorf("row %s is not in the checklist", id)
	}
}
