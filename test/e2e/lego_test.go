package e2e_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strconv"
	"testing"
	"time"

	legoacme "github.com/go-acme/lego/v5/acme"
	"github.com/go-acme/lego/v5/certcrypto"
	"github.com/go-acme/lego/v5/certificate"
	"github.com/go-acme/lego/v5/challenge/dns01"
	"github.com/go-acme/lego/v5/challenge/http01"
	"github.com/go-acme/lego/v5/challenge/tlsalpn01"
	"github.com/go-acme/lego/v5/lego"
	"github.com/go-acme/lego/v5/registration"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// legoClient is go-acme/lego.
type legoClient struct{ *lego.Client }

// legoUser is lego's idea of an account.
type legoUser struct {
	key     crypto.Signer
	account *legoacme.ExtendedAccount
}

func (u *legoUser) GetEmail() string                           { return "owner@example.com" }
func (u *legoUser) GetRegistration() *legoacme.ExtendedAccount { return u.account }
func (u *legoUser) GetPrivateKey() crypto.Signer               { return u.key }

func newLego(t *testing.T, g *grounds, p proof) acmeClient {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	user := &legoUser{key: key}
	config := lego.NewConfig(user)
	config.CADirURL, config.HTTPClient = p.directory, g.server.HTTPClient(t)
	client, err := lego.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := legoSolver(client, g, p); err != nil {
		t.Fatal(err)
	}
	if p.binding != nil {
		user.account, err = client.Registration.RegisterWithExternalAccountBinding(t.Context(), registration.RegisterEABOptions{
			TermsOfServiceAgreed: true, Kid: p.binding.KeyID, HmacEncoded: p.binding.HMACKey,
		})
	} else {
		user.account, err = client.Registration.Register(t.Context(), registration.RegisterOptions{TermsOfServiceAgreed: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	return legoClient{client}
}

// legoSolver sets lego's own solver for http-01 and tls-alpn-01, and one that writes to the test's DNS for dns-01.
func legoSolver(client *lego.Client, g *grounds, p proof) error {
	switch p.name {
	case "http-01":
		return client.Challenge.SetHTTP01Provider(http01.NewProviderServer("127.0.0.1", strconv.Itoa(g.httpPort)))
	case "tls-alpn-01":
		return client.Challenge.SetTLSALPN01Provider(tlsalpn01.NewProviderServer("127.0.0.1", strconv.Itoa(g.tlsPort)))
	case "dns-01":
		// lego looks whether the name is an alias before it tells where the record belongs.
		dns01.SetDefaultClient(dns01.NewClient(&dns01.Options{RecursiveNameservers: []string{g.zone.Addr()}}))
		return client.Challenge.SetDNS01Provider(legoZone{g.zone}, dns01.WrapPreCheck(
			func(context.Context, string, string, string, dns01.PreCheckFunc) (bool, error) { return true, nil },
		))
	default:
		return nil
	}
}

// legoZone is lego's dns-01 provider for the test's DNS.
type legoZone struct{ zone *testbed.Zone }

func (z legoZone) Present(ctx context.Context, domain, _, keyAuth string) error {
	info := dns01.GetChallengeInfo(ctx, domain, keyAuth)
	z.zone.Add(info.EffectiveFQDN, info.Value)
	return nil
}

func (z legoZone) CleanUp(ctx context.Context, domain, _, keyAuth string) error {
	z.zone.Clear(dns01.GetChallengeInfo(ctx, domain, keyAuth).EffectiveFQDN)
	return nil
}

// Timeout bounds how long lego waits before it looks for the record, which is there at once.
func (z legoZone) Timeout() (timeout, interval time.Duration) { return time.Minute, time.Millisecond }

func (c legoClient) obtain(ctx context.Context, names []string) (*held, error) {
	return legoHeld(c.Certificate.Obtain(ctx, certificate.ObtainRequest{Domains: names, Bundle: true, KeyType: certcrypto.EC256}))
}

func (c legoClient) renew(ctx context.Context, h *held) (*held, error) {
	return legoHeld(c.Certificate.Renew(ctx, *h.own.(*certificate.Resource), &certificate.RenewOptions{Bundle: true, UseARICertID: true}))
}

func legoHeld(resource *certificate.Resource, err error) (*held, error) {
	if err != nil {
		return nil, err
	}
	return newHeld(resource.Certificate, resource)
}

func (c legoClient) renewalWindow(ctx context.Context, h *held) (start, end time.Time, err error) {
	info, err := c.Certificate.GetRenewalInfo(ctx, h.leaf)
	if err != nil {
		return start, end, err
	}
	return info.SuggestedWindow.Start, info.SuggestedWindow.End, nil
}

func (c legoClient) revoke(ctx context.Context, h *held) error {
	return c.Certificate.Revoke(ctx, h.chain)
}
