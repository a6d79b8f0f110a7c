package serving_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/serving"
	"github.com/certloom/certloom/internal/testca"
)

// source is a CA that can be broken.
type source struct {
	*testca.Hierarchy
	bundle *issuer.Bundle

	mu     sync.Mutex
	err    error
	issued int
}

func (s *source) Bundle() *issuer.Bundle { return s.bundle }

func (s *source) set(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *source) Issue(_ context.Context, r issuer.Request) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.issued++
	request, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(s.issued)), DNSNames: request.DNSNames, NotBefore: time.Now(), NotAfter: time.Now().Add(r.Lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, s.IssuingCert, request.PublicKey, s.IssuingKey)
	return [][]byte{der, s.IssuingCert.Raw}, err
}

// The certificate is there at once, renewed at half of its life, kept when the CA is gone, and renewed when it is back.
func TestCertificate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &source{Hierarchy: testca.NewWith(t, testca.Options{Now: time.Now()})}
		var err error
		if s.bundle, err = issuer.NewBundle([][]byte{s.RootCert.Raw}); err != nil {
			t.Fatal(err)
		}
		c, err := serving.New(serving.Config{
			Source: s, Order: issuer.Order{DNS: []string{"agent.svc"}, Lifetime: time.Hour}, Now: time.Now, Random: rand.Reader,
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(nil); err == nil || c.Ready() == nil {
			t.Error("there is a certificate before the start")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		serial := func() int64 {
			t.Helper()
			got, err := c.Get(nil)
			if err != nil {
				t.Fatal(err)
			}
			return got.Leaf.SerialNumber.Int64()
		}
		wait := func(d time.Duration) {
			timer := time.NewTimer(d)
			<-timer.C
			synctest.Wait()
		}
		wait(time.Second)
		if serial() != 1 || c.Ready() != nil {
			t.Errorf("certificate %d, %v", serial(), c.Ready())
		}
		wait(30 * time.Minute)
		if serial() != 2 {
			t.Errorf("certificate %d after half an hour", serial())
		}
		s.set(errors.New("gone"))
		wait(50 * time.Minute)
		if serial() != 2 || c.Ready() != nil {
			t.Errorf("certificate %d, %v, while the CA is gone", serial(), c.Ready())
		}
		wait(11 * time.Minute)
		if serial() != 2 || c.Ready() == nil {
			t.Error("an expired certificate is ready")
		}
		s.set(nil)
		wait(11 * time.Second)
		if serial() != 3 || c.Ready() != nil {
			t.Errorf("certificate %d, %v, after the CA came back", serial(), c.Ready())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if _, err := serving.New(serving.Config{}); err == nil {
		t.Error("an empty Config was accepted")
	}
	if _, err := serving.New(serving.Config{
		Source: &source{}, Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}); err == nil {
		t.Error("no DNS name was accepted")
	}
}
