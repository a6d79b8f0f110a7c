package certloom_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/agent/certloom"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/testca"
)

// CRLs are consumed by this interface.
var _ issuer.CRLSource = (*certloom.Issuer)(nil)

// transcript is a log that tests read while it is written.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *transcript) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *transcript) contains(text string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !strings.Contains(b.text.String(), text) {
		return errNotYet
	}
	return nil
}

// has returns nil when the issuer's lists are of the version.
func has(i *certloom.Issuer, version string) func() error {
	return func() error {
		if crls := i.CRLs(); crls == nil || crls.Version != version {
			return errNotYet
		}
		return nil
	}
}

func TestCRLs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	if i.CRLs() != nil {
		t.Error("there are lists before the server has sent any")
	}
	now := time.Now()
	s.announce(func() {
		s.lists = &agentapi.RevocationLists{Crls: s.CRLs(t, now, now.Add(time.Hour)), Version: "1"}
	})
	eventually(t, has(i, "1"))
	s.announce(func() {
		s.lists = &agentapi.RevocationLists{Crls: s.CRLs(t, now, now.Add(2*time.Hour), big.NewInt(17)), Version: "2"}
	})
	eventually(t, has(i, "2"))
	crls := i.CRLs()
	if !crls.NextUpdate.Equal(now.Add(2 * time.Hour).UTC().Truncate(time.Second)) {
		t.Errorf("next update is %s", crls.NextUpdate)
	}
	var serials []string
	rest, lists := []byte(crls.PEM), 0
	for block, after := pem.Decode(rest); block != nil; block, after = pem.Decode(after) {
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil || block.Type != "X509 CRL" {
			t.Fatalf("block %s: %v", block.Type, err)
		}
		lists++
		for _, entry := range list.RevokedCertificateEntries {
			serials = append(serials, entry.SerialNumber.String())
		}
	}
	if lists != 2 || strings.Join(serials, " ") != "17" {
		t.Errorf("%d lists with %v", lists, serials)
	}
}

// What would have verifiers refuse everybody is not handed on, and is not asked for again and again.
func TestBadCRLs(t *testing.T) {
	t.Parallel()
	s, stranger := newServer(t), testca.NewWith(t, testca.Options{Now: time.Now()})
	now := time.Now()
	good := s.CRLs(t, now, now.Add(time.Hour))
	for name, c := range map[string]struct {
		crls [][]byte
		want string
	}{
		"refuses/garbage":      {[][]byte{good[0], {1, 2, 3}}, "read a revocation list"},
		"refuses/expired":      {[][]byte{good[0], s.CRLs(t, now.Add(-time.Hour), now.Add(-time.Second))[1]}, "ended at"},
		"refuses/no-root":      {good[1:], "has no revocation list"},
		"refuses/other-root":   {append(stranger.CRLs(t, now, now.Add(time.Hour)), good[1]), "has no revocation list"},
		"refuses/nothing":      {nil, "has no revocation list"},
		"refuses/other-signer": {[][]byte{forge(t, s, stranger), good[1]}, "has no revocation list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &server{Hierarchy: s.Hierarchy, t: t, key: s.key, life: time.Hour, domains: s.domains, roots: s.roots, version: "1", changed: make(chan struct{})}
			s.start()
			t.Cleanup(s.stop)
			var log transcript
			i := s.newIssuer(func(c *certloom.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			s.announce(func() { s.lists = &agentapi.RevocationLists{Crls: good, Version: "1"} })
			eventually(t, has(i, "1"))
			s.announce(func() { s.lists = &agentapi.RevocationLists{Crls: c.crls, Version: "2"} })
			eventually(t, func() error { return log.contains(c.want) })
			if err := has(i, "1")(); err != nil || i.Ready() != nil {
				t.Errorf("the good lists are gone, or the agent is not ready: %v", i.Ready())
			}
			s.announce(func() { s.lists = &agentapi.RevocationLists{Crls: good, Version: "3"} })
			eventually(t, has(i, "3"))
		})
	}
}

// forge returns a CRL that says it is of the root and is not signed by it.
func forge(t *testing.T, s *server, signer *testca.Hierarchy) []byte {
	t.Helper()
	impostor := *signer
	named := *signer.RootCert
	named.RawSubject, named.Subject = s.RootCert.RawSubject, s.RootCert.Subject
	impostor.RootCert = &named
	return impostor.CRLs(t, time.Now(), time.Now().Add(time.Hour))[0]
}

// A server that has reasons to send none is believed, and is not asked again and again.
func TestCRLsWithheld(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	var log transcript
	i := s.newIssuer(func(c *certloom.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	now := time.Now()
	s.announce(func() { s.lists = &agentapi.RevocationLists{Crls: s.CRLs(t, now, now.Add(time.Hour)), Version: "1"} })
	eventually(t, has(i, "1"))
	s.announce(func() { s.lists = &agentapi.RevocationLists{Withheld: "a CA is not known here", Version: "2"} })
	eventually(t, func() error { return log.contains("a CA is not known here") })
	if i.CRLs() != nil || i.Withheld() != "a CA is not known here" {
		t.Errorf("there are lists, or they are withheld because %q", i.Withheld())
	}
	s.announce(func() { s.lists = &agentapi.RevocationLists{Crls: s.CRLs(t, now, now.Add(time.Hour)), Version: "3"} })
	eventually(t, has(i, "3"))
	if i.Withheld() != "" {
		t.Errorf("withheld because %q", i.Withheld())
	}
}

// Lists that have ended are none.
func TestCRLsEnd(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	s := newServer(t)
	i := s.newIssuer(func(c *certloom.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	now := time.Now()
	s.announce(func() {
		s.lists = &agentapi.RevocationLists{Crls: s.CRLs(t, now, now.Add(10*time.Minute)), Version: "1"}
	})
	eventually(t, has(i, "1"))
	ahead.Store(int64(11 * time.Minute))
	if i.CRLs() != nil {
		t.Error("there are lists")
	}
}
