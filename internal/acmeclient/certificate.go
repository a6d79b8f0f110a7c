package acmeclient

import (
	"context"
	"crypto"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Certificate downloads a chain in PEM, the certificate first (RFC 8555 section 7.4.2).
func (c *Client) Certificate(ctx context.Context, url string) ([]byte, error) {
	got, err := c.read(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("download certificate: %w", err)
	}
	if block, _ := pem.Decode(got.body); block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("download certificate: CA's answer is no PEM chain")
	}
	return got.body, nil
}

// Revoke revokes a certificate (DER) of the account's (section 7.6).
func (c *Client) Revoke(ctx context.Context, certificate []byte, reason pki.RevocationReason) error {
	id, err := c.registered()
	if err != nil {
		return err
	}
	return c.revoke(ctx, certificate, reason, id, false)
}

// RevokeWithKey revokes a certificate (DER) with its own key, for which no account is needed.
func (c *Client) RevokeWithKey(ctx context.Context, certificate []byte, reason pki.RevocationReason, key crypto.Signer) error {
	id, err := newIdentity(key, "")
	if err != nil {
		return err
	}
	return c.revoke(ctx, certificate, reason, id, true)
}

func (c *Client) revoke(ctx context.Context, certificate []byte, reason pki.RevocationReason, id *identity, withJWK bool) error {
	directory, err := c.Directory(ctx)
	if err != nil {
		return err
	}
	payload := []byte(`{"certificate":"` + encode(certificate) + `","reason":` + strconv.Itoa(int(reason)) + `}`)
	if _, err := c.post(ctx, call{url: directory.RevokeCert, payload: payload, signer: id, withJWK: withJWK}); err != nil {
		return fmt.Errorf("revoke certificate: %w", err)
	}
	return nil
}

// RenewalInfo says when a certificate should be renewed (RFC 9773 section 4.2).
type RenewalInfo struct {
	Start, End     time.Time // the suggested window
	ExplanationURL string
	RetryAfter     time.Duration // when to ask again
}

// RenewalInfo asks when a certificate should be renewed; id is its pki.ARICertID.
func (c *Client) RenewalInfo(ctx context.Context, id string) (*RenewalInfo, error) {
	directory, err := c.Directory(ctx)
	if err != nil {
		return nil, err
	}
	if directory.RenewalInfo == "" {
		return nil, errors.New("CA has no renewal information")
	}
	got, err := c.get(ctx, directory.RenewalInfo+"/"+id)
	if err != nil {
		return nil, fmt.Errorf("get renewal information: %w", err)
	}
	var wire struct {
		SuggestedWindow struct{ Start, End time.Time } `json:"suggestedWindow"`
		ExplanationURL  string                         `json:"explanationURL"`
	}
	if err := json.Unmarshal(got.body, &wire); err != nil {
		return nil, fmt.Errorf("read renewal information: %w", err)
	}
	info := &RenewalInfo{
		Start: wire.SuggestedWindow.Start, End: wire.SuggestedWindow.End,
		ExplanationURL: wire.ExplanationURL, RetryAfter: got.retryAfter(),
	}
	if !info.Start.Before(info.End) {
		return nil, errors.New("CA suggests a renewal window that ends before it begins (RFC 9773 section 4.2)")
	}
	return info, nil
}
