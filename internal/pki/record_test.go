package pki_test

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// A certificate of 100 hours: renewal is due after 50, its identity is lapsing after 75.
const life = 100 * time.Hour

func TestCertificateStatus(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		age     time.Duration
		revoked bool
		want    pki.CertificateStatus
	}{
		"fresh":          {0, false, pki.CertificateValid},
		"before-renewal": {life/2 - time.Second, false, pki.CertificateValid},
		"renewal":        {life / 2, false, pki.CertificateRenewalDue},
		"last-second":    {life, false, pki.CertificateRenewalDue}, // notAfter is inclusive (RFC 5280 section 4.1.2.5)
		"expired":        {life + time.Second, false, pki.CertificateExpired},
		"revoked":        {0, true, pki.CertificateRevoked},
		"revoked-later":  {life + time.Second, true, pki.CertificateRevoked},
	}
	for name, test := range tests {
		c := pki.Certificate{NotBefore: now, NotAfter: now.Add(life), RenewAt: pki.RenewAt(now, now.Add(life))}
		if test.revoked {
			c.RevokedAt = now
		}
		if got := c.Status(now.Add(test.age)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// The same moments as of the certificate: an identity is due for renewal exactly when its certificate is.
func TestIdentityStatus(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		age     time.Duration
		revoked bool
		want    pki.IdentityStatus
	}{
		"fresh":          {0, false, pki.IdentityOK},
		"before-renewal": {life/2 - time.Second, false, pki.IdentityOK},
		"renewal":        {life / 2, false, pki.IdentityRenewalDue},
		"before-lapsing": {life/4*3 - time.Second, false, pki.IdentityRenewalDue},
		"lapsing":        {life / 4 * 3, false, pki.IdentityLapsing},
		"last-second":    {life, false, pki.IdentityLapsing},
		"expired":        {life + time.Second, false, pki.IdentityLapsed},
		"revoked":        {0, true, pki.IdentityLapsed},
	}
	for name, test := range tests {
		i := pki.Identity{NotBefore: now, NotAfter: now.Add(life)}
		i.RenewAt, i.LapsingAt = pki.Renewal(0).Expect(i.NotBefore, i.NotAfter, pki.DefaultLapsingShare)
		if test.revoked {
			i.RevokedAt = now
		}
		if got := i.Status(now.Add(test.age)); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
		i.GoneAt = now
		if got := i.Status(now.Add(test.age)); got != pki.IdentityGone {
			t.Errorf("%s, gone: %s", name, got)
		}
	}
}

func TestCredentialUsable(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		credential pki.Credential
		want       bool
	}{
		"active":        {pki.Credential{State: pki.Active}, true},
		"before-expiry": {pki.Credential{State: pki.Active, ExpiresAt: now.Add(time.Second)}, true},
		"at-expiry":     {pki.Credential{State: pki.Active, ExpiresAt: now}, false},
		"expired":       {pki.Credential{State: pki.Active, ExpiresAt: now.Add(-time.Second)}, false},
		"revoked":       {pki.Credential{State: pki.Revoked}, false},
		"no-state":      {pki.Credential{}, false},
		"suspended":     {pki.Credential{State: pki.Suspended}, false},
	}
	for name, test := range tests {
		if got := test.credential.Usable(now); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}
