package fault_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/fault"
)

// registered are the types of the IANA registry "ACME Error Types" that we may use: RFC 8555 section 6.7, RFC 9773
// section 7.4, and invalidProfile of draft-ietf-acme-profiles.
var registered = []string{
	"accountDoesNotExist", "alreadyReplaced", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badRevocationReason",
	"badSignatureAlgorithm", "caa", "compound", "connection", "dns", "externalAccountRequired", "incorrectResponse",
	"invalidContact", "invalidProfile", "malformed", "orderNotReady", "rateLimited", "rejectedIdentifier", "serverInternal",
	"tls", "unauthorized", "unsupportedContact", "unsupportedIdentifier", "userActionRequired",
}

// TestTable walks every kind: a row that is forgotten has zeroes.
func TestTable(t *testing.T) {
	t.Parallel()
	titles := map[string]fault.Kind{}
	used := map[string]bool{}
	for _, kind := range fault.Kinds() {
		row := kind.Meaning()
		if !slices.Contains(registered, row.ACME) {
			t.Errorf("kind %d: type %q is not registered", kind, row.ACME)
		}
		used[row.ACME] = true
		if row.Status < 400 || row.Status > 599 || http.StatusText(row.Status) == "" {
			t.Errorf("kind %d: status %d", kind, row.Status)
		}
		if row.Code == 0 || row.Code > 16 {
			t.Errorf("kind %d: gRPC code %d", kind, row.Code)
		}
		// Whoever may come again is told so in both protocols: RESOURCE_EXHAUSTED and UNAVAILABLE.
		if again := row.Status == 429 || row.Status == 503; again != (row.Code == 8 || row.Code == 14) {
			t.Errorf("kind %d: status %d, gRPC code %d", kind, row.Status, row.Code)
		}
		if row.Title == "" || row.Title != strings.TrimSpace(row.Title) || row.Title != kind.String() {
			t.Errorf("kind %d: title %q, string %q", kind, row.Title, kind)
		}
		if other, twice := titles[row.Title]; twice {
			t.Errorf("kinds %d and %d are both %q", other, kind, row.Title)
		}
		titles[row.Title] = kind
		// What is our fault is seen in the log, and what is a client's does not fill it.
		if internal := row.Status >= 500; internal != (row.ACME == "serverInternal") || internal && row.Level < slog.LevelWarn {
			t.Errorf("kind %d: status %d, type %s, level %s", kind, row.Status, row.ACME, row.Level)
		}
	}
	for _, name := range registered {
		if !used[name] {
			t.Errorf("type %s has no kind", name)
		}
	}
}

// Statuses that RFC 8555 and RFC 9773 demand.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for kind, status := range map[fault.Kind]int{
		fault.UnsupportedMediaType:  415, // section 6.2
		fault.BadSignatureAlgorithm: 400, // section 6.2
		fault.Unauthenticated:       401,
		fault.Unauthorized:          403, // sections 6.4, 7.4.1
		fault.MethodNotAllowed:      405, // section 6.3
		fault.Conflict:              409, // section 7.3.5
		fault.AccountDeactivated:    401, // section 7.3.6
		fault.AccountDoesNotExist:   400, // section 7.3.1
		fault.OrderNotReady:         403, // section 7.4
		fault.UserActionRequired:    403, // section 7.3.3
		fault.RateLimited:           429,
		fault.AlreadyReplaced:       409, // RFC 9773 section 5
		fault.Internal:              500,
		fault.Unavailable:           503,
	} {
		if got := kind.Meaning().Status; got != status {
			t.Errorf("%v has status %d, want %d", kind, got, status)
		}
	}
}

func TestUnknownKindIsInternal(t *testing.T) {
	t.Parallel()
	var zero fault.Kind
	for _, kind := range []fault.Kind{zero, 255, fault.Kind(len(fault.Kinds()))} {
		if got := kind.Meaning(); got != fault.Internal.Meaning() {
			t.Errorf("kind %d means %+v", kind, got)
		}
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial tcp 10.0.0.1:5432: password authentication failed")
	known := fault.Wrap(secret, fault.Conflict, "name %q is taken", "istio").WithHint("choose another, not %s", "it").WithField("/name")
	wrapped := fmt.Errorf("create profile: %w", known)
	if got := fault.From(wrapped); got != known {
		t.Errorf("From found %v", got)
	}
	if !fault.Is(wrapped, fault.Conflict) || fault.Is(wrapped, fault.Internal) || !errors.Is(wrapped, secret) {
		t.Error("kind or cause is lost")
	}
	if known.Public != `name "istio" is taken` || known.Hint != "choose another, not it" || known.Field != "/name" {
		t.Errorf("error is %+v", known)
	}
	if want := known.Public + ": " + secret.Error(); known.Error() != want || !strings.Contains(wrapped.Error(), want) {
		t.Errorf("text is %q", wrapped)
	}
	joined := errors.Join(io.EOF, fault.New(fault.Malformed, "a"), fault.New(fault.NotFound, "b"))
	if got := fault.From(joined); got.Public != "a" {
		t.Errorf("From a join found %v", got)
	}
}

// Whatever nobody foresaw says nothing to clients, and everything to the log.
func TestFromHidesTheUnknown(t *testing.T) {
	t.Parallel()
	secret := errors.New("open /var/lib/certloom/key: permission denied")
	for _, err := range []error{secret, fmt.Errorf("wrap: %w", secret)} {
		got := fault.From(err)
		if got.Kind != fault.Internal || strings.Contains(got.Public, "certloom/key") || !errors.Is(got, secret) {
			t.Errorf("From made %+v", got)
		}
		if fault.Is(err, fault.Internal) {
			t.Error("an error that is no fault.Error has a kind")
		}
	}
	if got := fault.From(nil); got.Kind != fault.Internal || got.Error() == "" {
		t.Errorf("From(nil) made %+v", got)
	}
	if fault.Is(nil, fault.Internal) {
		t.Error("nil has a kind")
	}
}

// A sentence of our own may hold a percent sign that came from outside.
func TestNewKeepsArguments(t *testing.T) {
	t.Parallel()
	if got := fault.New(fault.Malformed, "name %q", "100%d").Public; got != `name "100%d"` {
		t.Errorf("sentence is %s", got)
	}
}
