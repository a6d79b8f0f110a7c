package acmeclient

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
)

// Account is an ACME account (RFC 8555 section 7.1.2).
type Account struct {
	URL                    string          `json:"-"`
	Created                bool            `json:"-"` // by the request that this answers
	Status                 string          `json:"status"`
	Contact                []string        `json:"contact"`
	Orders                 string          `json:"orders"`
	ExternalAccountBinding json.RawMessage `json:"externalAccountBinding"`
}

// Binding is an EAB credential: what the CA hands out for registering accounts.
type Binding struct {
	KeyID   string
	HMACKey []byte
	Hash    crypto.Hash // SHA256 (also when 0), SHA384 or SHA512
}

// Registration is a newAccount request (section 7.3).
type Registration struct {
	Contact            []string
	TermsAgreed        bool
	Binding            *Binding // nil: none
	OnlyReturnExisting bool     // refused with accountDoesNotExist rather than made
}

// Register makes an account for the client's key, or finds it, and uses it from then on.
func (c *Client) Register(ctx context.Context, r Registration) (*Account, error) {
	directory, err := c.Directory(ctx)
	if err != nil {
		return nil, err
	}
	id := c.account.Load()
	payload := struct {
		Contact            []string        `json:"contact,omitempty"`
		TermsAgreed        bool            `json:"termsOfServiceAgreed,omitempty"`
		OnlyReturnExisting bool            `json:"onlyReturnExisting,omitempty"`
		Binding            json.RawMessage `json:"externalAccountBinding,omitempty"`
	}{Contact: r.Contact, TermsAgreed: r.TermsAgreed, OnlyReturnExisting: r.OnlyReturnExisting}
	if r.Binding != nil {
		if payload.Binding, err = id.binding(r.Binding, directory.NewAccount); err != nil {
			return nil, err
		}
	}
	raw, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	got, err := c.post(ctx, call{url: directory.NewAccount, payload: raw, signer: id, withJWK: true, safe: true})
	if err != nil {
		return nil, fmt.Errorf("register ACME account: %w", err)
	}
	account, err := readAccount(got)
	if err != nil {
		return nil, err
	}
	account.URL = got.header.Get("Location")
	account.Created = got.status == 201
	if account.URL == "" {
		return nil, errors.New("CA answers newAccount without the account's URL")
	}
	return account, c.UseAccount(account.URL)
}

// Account returns the account as the CA has it.
func (c *Client) Account(ctx context.Context) (*Account, error) {
	return c.updateAccount(ctx, "read ACME account", nil)
}

// UpdateContact replaces the contacts; an empty list removes them.
func (c *Client) UpdateContact(ctx context.Context, contact []string) (*Account, error) {
	if contact == nil {
		contact = []string{}
	}
	raw, err := json.Marshal(map[string][]string{"contact": contact})
	if err != nil {
		return nil, err
	}
	return c.updateAccount(ctx, "update ACME account", raw)
}

// Deactivate deactivates the account for good (section 7.3.6).
func (c *Client) Deactivate(ctx context.Context) (*Account, error) {
	return c.updateAccount(ctx, "deactivate ACME account", []byte(`{"status":"deactivated"}`))
}

func (c *Client) updateAccount(ctx context.Context, doing string, payload []byte) (*Account, error) {
	id, err := c.registered()
	if err != nil {
		return nil, err
	}
	got, err := c.post(ctx, call{url: id.kid, payload: payload, signer: id, safe: true})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	account, err := readAccount(got)
	if err != nil {
		return nil, err
	}
	account.URL = id.kid
	return account, nil
}

// ChangeKey replaces the account's key (section 7.3.5), and the client uses it from then on. When the answer is lost,
// it is not known which key the account has: Register with OnlyReturnExisting tells.
func (c *Client) ChangeKey(ctx context.Context, key crypto.Signer) error {
	id, err := c.registered()
	if err != nil {
		return err
	}
	fresh, err := newIdentity(key, id.kid)
	if err != nil {
		return err
	}
	directory, err := c.Directory(ctx)
	if err != nil {
		return err
	}
	inner, err := fresh.request(c.config.Random, true, "", directory.KeyChange, []byte(`{"account":"`+id.kid+`","oldKey":`+id.jwk+`}`))
	if err != nil {
		return err
	}
	if _, err := c.post(ctx, call{url: directory.KeyChange, payload: inner, signer: id}); err != nil {
		return fmt.Errorf("change ACME account key: %w", err)
	}
	c.account.Store(fresh)
	return nil
}

// registered returns the identity, which must have an account.
func (c *Client) registered() (*identity, error) {
	id := c.account.Load()
	if id.kid == "" {
		return nil, errors.New("acmeclient: no account yet; call Register or UseAccount first")
	}
	return id, nil
}

func readAccount(got *answer) (*Account, error) {
	var account Account
	if err := json.Unmarshal(got.body, &account); err != nil {
		return nil, fmt.Errorf("read ACME account: %w", err)
	}
	return &account, nil
}
