package challenge_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// timeoutFor makes the tests short that wait for a deadline, and no other.
func timeoutFor(name string) time.Duration {
	if strings.HasPrefix(name, "slow/") {
		return 300 * time.Millisecond
	}
	return 10 * time.Second
}

func TestNew(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		config challenge.Config
		says   []string
	}{
		"zero":                     {challenge.Config{}, nil},
		"resolver":                 {challenge.Config{Resolver: "192.0.2.1:5353"}, nil},
		"resolver-without-port":    {challenge.Config{Resolver: "2001:db8::1"}, nil},
		"resolver-6":               {challenge.Config{Resolver: "[2001:db8::1]:53"}, nil},
		"refuses/resolver-name":    {challenge.Config{Resolver: "dns.example:53"}, []string{`"dns.example:53"`}},
		"refuses/resolver-port-0":  {challenge.Config{Resolver: "192.0.2.1:0"}, []string{"192.0.2.1:0"}},
		"refuses/several-at-once":  {challenge.Config{HTTPPort: -1, TLSPort: 65536, Timeout: -1}, []string{"http-01 port -1", "tls-alpn-01 port 65536", "timeout -1ns"}},
		"refuses/resolver-and-etc": {challenge.Config{Resolver: "x", HTTPPort: 70000}, []string{`"x"`, "70000"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := challenge.New(test.config)
			if (err == nil) != (test.says == nil) {
				t.Fatalf("error is %v", err)
			}
			for _, text := range test.says {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("error %q does not contain %q", err, text)
				}
			}
		})
	}
}

// Requests that no network could answer: nothing is asked and nothing connected to.
func TestValidateRefusesRequests(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*challenge.Request)
		says   string
	}{
		"unknown-type":        {func(r *challenge.Request) { r.Type = "email-reply-00" }, "email-reply-00"},
		"no-type":             {func(r *challenge.Request) { r.Type = "" }, "not one of"},
		"wildcard-http":       {func(r *challenge.Request) { r.Wildcard = true }, `"*.web.example"`},
		"wildcard-tls":        {func(r *challenge.Request) { r.Type, r.Wildcard = challenge.TLSALPN01, true }, `"*.web.example"`},
		"no-token":            {func(r *challenge.Request) { r.Token = "" }, "no token"},
		"no-authorization":    {func(r *challenge.Request) { r.KeyAuthorization = "" }, "no token or no key authorization"},
		"token-with-slash":    {func(r *challenge.Request) { r.Token = "../x" }, "base64url"},
		"token-with-percent":  {func(r *challenge.Request) { r.Token = "%2e" }, "base64url"},
		"token-with-newline":  {func(r *challenge.Request) { r.Token = "a\r\nb" }, "base64url"},
		"dns-of-address":      {func(r *challenge.Request) { r.Type, r.Identifier = challenge.DNS01, ip("127.0.0.1") }, "RFC 8738"},
		"dns-of-bad-name":     {func(r *challenge.Request) { r.Type, r.Identifier.Value = challenge.DNS01, "a..b" }, "empty label"},
		"http-of-bad-address": {func(r *challenge.Request) { r.Identifier = ip("::ffff:127.0.0.1") }, "mapped"},
		"tls-of-bad-address":  {func(r *challenge.Request) { r.Type, r.Identifier = challenge.TLSALPN01, ip("x") }, `"x"`},
		"unknown-identifier":  {func(r *challenge.Request) { r.Identifier.Type = "permanent-identifier" }, "permanent-identifier"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			r := request(challenge.HTTP01, "web.example")
			test.change(&r)
			wantFault(t, l.validator(t).Validate(t.Context(), r), fault.Unauthorized, test.says)
			if len(l.dials.list) > 0 {
				t.Errorf("connected to %v", l.dials.list)
			}
		})
	}
}

func ip(value string) pki.Identifier { return pki.Identifier{Type: pki.IP, Value: value} }
