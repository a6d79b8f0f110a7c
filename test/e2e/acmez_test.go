package e2e_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// acmezClient is mholt/acmez, the library of Caddy.
type acmezClient struct {
	client  *acmez.Client
	account acme.Account
}

func newAcmez(t *testing.T, g *grounds, p proof) acmeClient {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client := &acmez.Client{
		Client:           &acme.Client{Directory: p.directory, HTTPClient: g.server.HTTPClient(t), UserAgent: "acmez-e2e"},
		ChallengeSolvers: acmezSolvers(t, g, p),
	}
	account := acme.Account{Contact: []string{"mailto:owner@example.com"}, TermsOfServiceAgreed: true, PrivateKey: key}
	if p.binding != nil {
		eab := acme.EAB{KeyID: p.binding.KeyID, MACKey: p.binding.HMACKey}
		if err := account.SetExternalAccountBinding(t.Context(), client.Client, eab); err != nil {
			t.Fatal(err)
		}
	}
	if account, err = client.NewAccount(t.Context(), account); err != nil {
		t.Fatal(err)
	}
	return &acmezClient{client: client, account: account}
}

func acmezSolvers(t *testing.T, g *grounds, p proof) map[string]acmez.Solver {
	t.Helper()
	switch p.name {
	case "http-01":
		return map[string]acmez.Solver{acme.ChallengeTypeHTTP01: acmezHTTP{testbed.StartResponder(t, g.httpPort)}}
	case "tls-alpn-01":
		return map[string]acmez.Solver{acme.ChallengeTypeTLSALPN01: acmezTLS{testbed.StartProver(t, g.tlsPort)}}
	case "dns-01":
		return map[string]acmez.Solver{acme.ChallengeTypeDNS01: acmezDNS{g.zone}}
	default:
		return nil
	}
}

type acmezHTTP struct{ responder *testbed.Responder }

func (s acmezHTTP) Present(_ context.Context, c acme.Challenge) error {
	s.responder.Set(c.Token, c.KeyAuthorization)
	return nil
}

func (s acmezHTTP) CleanUp(_ context.Context, c acme.Challenge) error {
	s.responder.Clear(c.Token)
	return nil
}

type acmezTLS struct{ prover *testbed.Prover }

func (s acmezTLS) Present(_ context.Context, c acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(c)
	if err != nil {
		return err
	}
	s.prover.Set(c.Identifier.Value, cert)
	return nil
}

func (s acmezTLS) CleanUp(_ context.Context, c acme.Challenge) error {
	s.prover.Set(c.Identifier.Value, nil)
	return nil
}

type acmezDNS struct{ zone *testbed.Zone }

func (s acmezDNS) Present(_ context.Context, c acme.Challenge) error {
	s.zone.Add(c.DNS01TXTRecordName(), c.DNS01KeyAuthorization())
	return nil
}

func (s acmezDNS) CleanUp(_ context.Context, c acme.Challenge) error {
	s.zone.Clear(c.DNS01TXTRecordName())
	return nil
}

func (c *acmezClient) obtain(ctx context.Context, names []string) (*held, error) {
	return c.order(ctx, names, nil)
}

func (c *acmezClient) renew(ctx context.Context, h *held) (*held, error) {
	return c.order(ctx, h.leaf.DNSNames, h)
}

func (c *acmezClient) order(ctx context.Context, names []string, replaces *held) (*held, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	csr, err := acmez.NewCSR(key, names)
	if err != nil {
		return nil, err
	}
	parameters, err := acmez.OrderParametersFromCSR(c.account, csr)
	if err != nil {
		return nil, err
	}
	if replaces != nil {
		parameters.Replaces = replaces.leaf
	}
	chains, err := c.client.ObtainCertificate(ctx, parameters)
	if err != nil {
		return nil, err
	}
	if len(chains) != 1 {
		return nil, errors.New("want exactly one chain")
	}
	return newHeld(chains[0].ChainPEM, key)
}

func (c *acmezClient) renewalWindow(ctx context.Context, h *held) (start, end time.Time, err error) {
	info, err := c.client.GetRenewalInfo(ctx, h.leaf)
	return info.SuggestedWindow.Start, info.SuggestedWindow.End, err
}

// revoke signs with the certificate's own key; lego signs with the account's.
func (c *acmezClient) revoke(ctx context.Context, h *held) error {
	const superseded = 4
	return c.client.RevokeCertificate(ctx, c.account, h.leaf, h.own.(crypto.Signer), superseded)
}
