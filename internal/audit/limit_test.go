package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

func refusal(at time.Time, actor audit.Actor, credential pki.CredentialID, address string) *audit.Event {
	return &audit.Event{
		Time: at, Actor: actor, Action: audit.CertificateRefuse, Outcome: audit.Refused,
		Client: pki.Client{Address: address}, Detail: audit.Detail{Credential: credential},
	}
}

// TestLimiterKeepsSourcesApart: one that is refused all the time must not hide another's refusals.
func TestLimiterKeepsSourcesApart(t *testing.T) {
	t.Parallel()
	account := audit.Actor{Kind: audit.Account, ID: "account"}
	now := time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		noisy  func(n int) *audit.Event
		others []*audit.Event
	}{
		"credential, by many accounts and addresses": {
			func(n int) *audit.Event {
				return refusal(now, audit.Actor{Kind: audit.Account, ID: fmt.Sprint(n)}, "noisy", fmt.Sprintf("10.0.%d.%d", n/250, n%250))
			},
			[]*audit.Event{refusal(now, account, "quiet", "10.0.0.1"), refusal(now, account, "", "10.0.0.1")},
		},
		"address, by many accounts without a credential": {
			func(n int) *audit.Event {
				return refusal(now, audit.Actor{Kind: audit.Account, ID: fmt.Sprint(n)}, "", "10.0.0.1")
			},
			[]*audit.Event{refusal(now, account, "", "10.0.0.2"), refusal(now, account, "quiet", "10.0.0.1")},
		},
		"stranger who knows a KID": {
			func(int) *audit.Event { return refusal(now, audit.Actor{Kind: audit.Nobody}, "victim", "10.0.0.1") },
			[]*audit.Event{refusal(now, account, "victim", "10.0.0.1"), refusal(now, audit.Actor{Kind: audit.Nobody}, "victim", "10.0.0.2")},
		},
		"token": {
			func(int) *audit.Event {
				return refusal(now, audit.Actor{Kind: audit.Token, ID: "noisy"}, "", "10.0.0.1")
			},
			[]*audit.Event{refusal(now, audit.Actor{Kind: audit.Token, ID: "quiet"}, "", "10.0.0.1")},
		},
		"addresses of one IPv6 network": {
			func(n int) *audit.Event { return refusal(now, audit.Actor{}, "", fmt.Sprintf("2001:db8::%x", n)) },
			[]*audit.Event{refusal(now, audit.Actor{}, "", "2001:db8:0:1::1")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limiter, err := audit.NewLimiter()
			if err != nil {
				t.Fatal(err)
			}
			const refusals, most = 1000, 100
			allowed := 0
			for n := range refusals {
				if limiter.Allow(test.noisy(n)) {
					allowed++
				}
			}
			if allowed == 0 || allowed > most {
				t.Errorf("%d of %d refusals recorded, want 1 to %d", allowed, refusals, most)
			}
			for _, other := range test.others {
				if !limiter.Allow(other) {
					t.Errorf("the refusal of %+v at %s is not recorded", other.Actor, other.Client.Address)
				}
			}
			later := test.noisy(0)
			later.Time = now.Add(time.Second)
			if !limiter.Allow(later) {
				t.Error("nothing is recorded a second later")
			}
		})
	}
}

// TestLimiterBoundsAll: many sources together must not fill the database either.
func TestLimiterBoundsAll(t *testing.T) {
	t.Parallel()
	limiter, err := audit.NewLimiter()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 8, 20, 12, 0, 0, 0, time.UTC)
	const refusals, most = 100_000, 1000
	allowed := 0
	for n := range refusals {
		if limiter.Allow(refusal(now, audit.Actor{}, "", fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&0xff, n&0xff))) {
			allowed++
		}
	}
	if allowed == 0 || allowed > most {
		t.Errorf("%d of %d refusals recorded, want 1 to %d", allowed, refusals, most)
	}
}
