package storetest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// Run runs the suite. fresh returns an empty database each time that it is called.
func Run(t *testing.T, fresh func(t testing.TB) Database) {
	t.Helper()
	tests := map[string]func(t *testing.T, s *store.Store){
		"alert rules":              testAlertRules,
		"alerts":                   testAlerts,
		"channels":                 testChannels,
		"deliveries":               testDeliveries,
		"lapsed between":           testLapsedBetween,
		"settings":                 testSettings,
		"seal keys":                testSealKeys,
		"CAs":                      testCAs,
		"profiles":                 testProfiles,
		"profile in use":           testProfileInUse,
		"credentials":              testCredentials,
		"tokens":                   testTokens,
		"tokens of sign-ins":       testSignInTokens,
		"session that stays":       testKeptSession,
		"second factor":            testSecondFactor,
		"saved views":              testViews,
		"last administrator":       testLastAdministrator,
		"sessions":                 testSessions,
		"users":                    testUsers,
		"catalog version":          testCatalogVersion,
		"accounts":                 testAccounts,
		"one account of a key":     testAccountRace,
		"limit of accounts":        testAccountLimit,
		"account key change":       testAccountKeyChange,
		"orders":                   testOrders,
		"proofs":                   testProofs,
		"failed proof":             testFailedProof,
		"deactivations":            testDeactivations,
		"proved names":             testProvedNames,
		"expired orders":           testExpiredOrders,
		"certificates":             testCertificates,
		"one certificate of order": testCertificateRace,
		"many certificates":        testManyCertificates,
		"certificate again":        testCertificateAgain,
		"finalize facts":           testFinalizeFacts,
		"many facts":               testManyFacts,
		"revocation":               testRevocation,
		"hold":                     testHold,
		"one revocation":           testRevocationRace,
		"deny list":                testDenials,
		"events":                   testEvents,
		"refused without a trace":  testRefusalLeavesNothing,
		"nonces":                   testNonces,
		"requests with keys":       testOnce,
		"stats":                    testStats,
		"live certificates":        testLive,
		"what happened":            testHappened,
		"figures of identities":    testFigures,
		"ended context":            testContext,
		"closed":                   testClosed,
		"connectors":               testConnectors,
		"one-time downloads":       testDownloads,
		"facts of connectors":      testConnectorFacts,
		"rolling up":               testRollUp,
		"chains rolled up":         testRollUpChains,
		"identities forgotten":     testForgetIdentities,
		"space":                    testSpace,
		"imported certificates":    testImported,
		"health":                   testHealth,
	}
	runAll(t, fresh, tests)
	RunSearch(t, fresh)
	t.Run("reopened", func(t *testing.T) {
		t.Parallel()
		testReopen(t, fresh(t))
	})
}

// RunSearch runs the part of the suite that searches.
func RunSearch(t *testing.T, fresh func(t testing.TB) Database) {
	t.Helper()
	runAll(t, fresh, map[string]func(t *testing.T, s *store.Store){
		"search":               testSearch,
		"search pages":         testSearchPages,
		"search by status":     testSearchStatus,
		"visible":              testVisible,
		"text":                 testText,
		"text of identities":   testIdentityText,
		"identities":           testIdentities,
		"identity status":      testIdentityStatus,
		"orders of an account": testAccountOrders,
	})
}

func runAll(t *testing.T, fresh func(t testing.TB) Database, tests map[string]func(t *testing.T, s *store.Store)) {
	t.Helper()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, fresh(t).Open(t))
		})
	}
}

// equal compares what was stored with what is read.
func equal(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", what, diff)
	}
}

// refused checks the kind of an error and that its sentence is one for clients.
func refused(t *testing.T, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("got error %v, want one of kind %q", err, kind)
		return
	}
	if fault.From(err).Public == "" {
		t.Errorf("error %v has no sentence for clients", err)
	}
}

// events returns the actions of all events, newest first.
func events(t *testing.T, s *store.Store, filter pki.EventFilter) []audit.Event {
	t.Helper()
	if filter.Limit == 0 {
		filter.Limit = 1000
	}
	all, err := s.Events(t.Context(), filter)
	check(t, err)
	return all
}

func countEvents(t *testing.T, s *store.Store, action audit.Action) int {
	t.Helper()
	return len(events(t, s, pki.EventFilter{Action: string(action)}))
}
