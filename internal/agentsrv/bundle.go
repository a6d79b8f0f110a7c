package agentsrv

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const (
	// maxWait is how long an agent may wait for a new bundle.
	maxWait = time.Minute
	// bundlePoll is how often a call that waits looks; the catalog is no newer than that.
	bundlePoll = time.Second
	// versionBytes of a hash are enough to tell bundles apart.
	versionBytes = 16
)

// bundle answers with the current roots and CRLs, at once if the agent has others.
func (s *Server) bundle(ctx context.Context, c *call, in *agentapi.BundleRequest) (*agentapi.BundleResponse, error) {
	wait := time.Duration(in.GetWaitSeconds()) * time.Second
	if in.GetWaitSeconds() < 0 || in.GetWaitSeconds() > int64(maxWait/time.Second) {
		return nil, fault.New(fault.Malformed, "wait of %d seconds is not within 0 and %d", in.GetWaitSeconds(), int64(maxWait/time.Second))
	}
	end := time.NewTimer(wait)
	defer end.Stop()
	look := time.NewTicker(bundlePoll)
	defer look.Stop()
	last := wait == 0
	for {
		snapshot, err := s.config.Catalog.Current()
		if err != nil {
			return nil, err
		}
		p, ok := snapshot.Profile(c.agent.profile.ID)
		if !ok {
			return nil, fault.New(fault.Unauthorized, "certificate profile %q was deleted", c.agent.profile.Name)
		}
		out := &agentapi.BundleResponse{Bundle: bundleOf(snapshot, p)}
		if in.GetWithCrls() {
			out.Crls = s.news(ctx, c, snapshot, out.Bundle, in.GetCrlsVersion())
		}
		if last || out.Bundle.GetVersion() != in.GetVersion() || out.Crls != nil {
			s.metrics.answeredLists(out.Crls)
			return out, nil
		}
		select {
		case <-look.C:
		case <-end.C:
			last = true
		case <-s.stopping:
			last = true
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a bundle: %w", ctx.Err())
		}
	}
}

// bundleOf returns the roots of a profile's trust domains.
func bundleOf(snapshot *catalog.Snapshot, p *pki.Profile) *agentapi.TrustBundle {
	var roots [][]byte
	for _, domain := range p.Rules.Names.SPIFFE.TrustDomains {
		found, _ := snapshot.Roots(domain)
		for _, root := range found {
			if !slices.ContainsFunc(roots, func(known []byte) bool { return string(known) == string(root) }) {
				roots = append(roots, root)
			}
		}
	}
	slices.SortFunc(roots, slices.Compare)
	hash := sha256.New()
	for _, root := range roots {
		_, _ = hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(root)))) // a hash never fails
		_, _ = hash.Write(root)
	}
	return &agentapi.TrustBundle{Roots: roots, Version: hex.EncodeToString(hash.Sum(nil)[:versionBytes])}
}
