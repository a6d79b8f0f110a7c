package acmeclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// maxNonces bounds the pool.
const maxNonces = 256

// pool keeps nonces of answers for the next requests. The newest is used first, since old ones may have expired.
type pool struct {
	mu     sync.Mutex // guards nonces
	nonces []string
}

func (p *pool) put(nonce string) {
	if nonce == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.nonces) == maxNonces {
		p.nonces = append(p.nonces[:0], p.nonces[1:]...)
	}
	p.nonces = append(p.nonces, nonce)
}

func (p *pool) take() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.nonces) == 0 {
		return ""
	}
	nonce := p.nonces[len(p.nonces)-1]
	p.nonces = p.nonces[:len(p.nonces)-1]
	return nonce
}

// clear drops all: after one bad nonce the others are likely to be bad as well.
func (p *pool) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nonces = p.nonces[:0]
}

// nonce returns a nonce of the pool, or a new one.
func (c *Client) nonce(ctx context.Context) (string, error) {
	if nonce := c.nonces.take(); nonce != "" {
		return nonce, nil
	}
	return c.newNonce(ctx)
}

// newNonce asks for a nonce (RFC 8555 section 7.2).
func (c *Client) newNonce(ctx context.Context) (string, error) {
	directory, err := c.Directory(ctx)
	if err != nil {
		return "", err
	}
	answer, err := c.send(ctx, http.MethodHead, directory.NewNonce, nil)
	if err != nil {
		return "", err
	}
	if answer.status >= http.StatusBadRequest {
		return "", problem(answer)
	}
	if nonce := answer.header.Get("Replay-Nonce"); nonce != "" {
		return nonce, nil
	}
	return "", errors.New("CA's newNonce answers without a nonce")
}

// Ping asks for a nonce, once, and keeps it for the next request: the cheapest sign of life that a CA gives.
func (c *Client) Ping(ctx context.Context) error {
	nonce, err := c.newNonce(ctx)
	if err != nil {
		return fmt.Errorf("ask for a nonce: %w", err)
	}
	c.nonces.put(nonce)
	return nil
}
