package agentsrv

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

const (
	// maxLists bounds a set of CRLs. It has room for about 180,000 revoked certificates that have not expired.
	maxLists = 8 << 20
	// maxSets is how many sets are remembered: one for each set of roots that profiles have.
	maxSets = 64
	// complainEvery is how often the log is told that CRLs could not be made.
	complainEvery = time.Minute
)

// What became of a set, as the metrics name it.
const (
	listsSent     = "sent"
	listsWithheld = "withheld"
	listsFailed   = "failed"
)

// lists remembers sets of CRLs, so that an agent that waits costs no more than asking for the CRL of each CA: these are
// kept by whoever makes them.
type lists struct {
	mu         sync.Mutex // guards everything; never held while a CRL is made
	sets       map[string]*listSet
	complained time.Time
}

// listSet is the set for a bundle of roots. Its fields are replaced, never changed.
type listSet struct {
	snapshot *catalog.Snapshot // what the next two were read from
	cas      []authority
	missing  string

	crls    [][]byte
	message *agentapi.RevocationLists // of crls
}

// authority is a CA that needs a CRL until it expires.
type authority struct {
	id       pki.CAID
	notAfter time.Time
}

// news returns the CRLs of all CAs below the roots of a bundle if they are others than the agent has. While they cannot
// be made, an agent keeps those that it has.
func (s *Server) news(ctx context.Context, c *call, snapshot *catalog.Snapshot, bundle *agentapi.TrustBundle, known string) *agentapi.RevocationLists {
	message, err := s.revocations(ctx, snapshot, bundle)
	if err != nil {
		s.metrics.lists.WithLabelValues(listsFailed).Inc()
		if ctx.Err() == nil && s.lists.complain(s.config.Now()) {
			s.config.Logger.WarnContext(ctx, "CRLs for agents not made", telemetry.KeyRequest, c.id, telemetry.KeyError, err)
		}
		return nil
	}
	if message.GetVersion() == known {
		return nil
	}
	return message
}

func (s *Server) revocations(ctx context.Context, snapshot *catalog.Snapshot, bundle *agentapi.TrustBundle) (*agentapi.RevocationLists, error) {
	cas, missing, err := s.lists.authorities(snapshot, bundle)
	if err != nil {
		return nil, err
	}
	if missing != "" {
		return withheld(missing), nil
	}
	now := s.config.Now()
	var crls [][]byte
	for _, ca := range cas {
		if now.After(ca.notAfter) {
			continue // no chain with it is good
		}
		der, _, err := s.config.CRL(ctx, ca.id)
		if err != nil {
			return nil, err
		}
		crls = append(crls, der)
	}
	message, made := s.lists.pack(bundle.GetVersion(), crls)
	if made {
		s.metrics.bytes.Set(float64(size(crls)))
	}
	return message, nil
}

// authorities returns the CAs that need a CRL, or why there would be some missing.
func (l *lists) authorities(snapshot *catalog.Snapshot, bundle *agentapi.TrustBundle) (cas []authority, missing string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := l.sets[bundle.GetVersion()]
	if set != nil && set.snapshot == snapshot {
		return set.cas, set.missing, nil
	}
	found, missing := snapshot.Below(bundle.GetRoots())
	for _, ca := range found {
		parsed, err := x509.ParseCertificate(ca.Certificate)
		if err != nil {
			return nil, "", fmt.Errorf("parse certificate of CA %q: %w", ca.Name, err)
		}
		cas = append(cas, authority{ca.ID, parsed.NotAfter})
	}
	if set == nil {
		if len(l.sets) >= maxSets {
			clear(l.sets)
		}
		set = &listSet{}
		l.sets[bundle.GetVersion()] = set
	}
	set.snapshot, set.cas, set.missing = snapshot, cas, missing
	return cas, missing, nil
}

// pack makes the message for CRLs, or returns the one that was made of the same; made tells which.
func (l *lists) pack(key string, crls [][]byte) (message *agentapi.RevocationLists, made bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set := l.sets[key]
	if set == nil { // forgotten meanwhile
		set = &listSet{}
	}
	if set.message != nil && identical(set.crls, crls) {
		return set.message, false
	}
	set.crls = crls
	if total := size(crls); total > maxLists {
		set.message = withheld(fmt.Sprintf("the CRLs have %d bytes, more than the %d that are sent to agents", total, maxLists))
		return set.message, true
	}
	hash := sha256.New()
	for _, der := range crls {
		_, _ = hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(der)))) // a hash never fails
		_, _ = hash.Write(der)
	}
	set.message = &agentapi.RevocationLists{Crls: crls, Version: hex.EncodeToString(hash.Sum(nil)[:versionBytes])}
	return set.message, true
}

// withheld is the message of a set that agents do not get.
func withheld(why string) *agentapi.RevocationLists {
	sum := sha256.Sum256([]byte(why))
	return &agentapi.RevocationLists{Version: "withheld-" + hex.EncodeToString(sum[:versionBytes]), Withheld: why}
}

// identical reports whether two sets are the same bytes in memory: CRLs never change, so that need not be looked at.
func identical(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if len(a[i]) != len(b[i]) || len(a[i]) > 0 && &a[i][0] != &b[i][0] {
			return false
		}
	}
	return true
}

func size(crls [][]byte) int {
	total := 0
	for _, der := range crls {
		total += len(der)
	}
	return total
}

// complain reports whether the log should be told now, and counts it if so.
func (l *lists) complain(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.complained) < complainEvery {
		return false
	}
	l.complained = now
	return true
}

// answeredLists counts what an agent was sent, nil if nothing new.
func (m *metrics) answeredLists(message *agentapi.RevocationLists) {
	switch {
	case message == nil:
	case message.GetWithheld() != "":
		m.lists.WithLabelValues(listsWithheld).Inc()
	default:
		m.lists.WithLabelValues(listsSent).Inc()
	}
}
