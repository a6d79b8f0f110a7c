package certloom

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/telemetry"
)

// lists is what the server has said last of revocation lists.
type lists struct {
	version  string
	crls     *issuer.CRLs // nil when it gave none
	withheld string       // why it gave none
}

func (l *lists) known() string {
	if l == nil {
		return ""
	}
	return l.version
}

// CRLs implements issuer.CRLSource.
func (i *Issuer) CRLs() *issuer.CRLs {
	l := i.lists.Load()
	if l == nil || l.crls == nil || !i.config.Now().Before(l.crls.NextUpdate) {
		return nil
	}
	return l.crls
}

// Withheld implements issuer.CRLSource.
func (i *Issuer) Withheld() string {
	if l := i.lists.Load(); l != nil {
		return l.withheld
	}
	return ""
}

// setLists notes what the server says of revocation lists; nil is nothing new. A set that is not good is not used, and is
// not asked for again: those that were good stay until there is a better one.
func (i *Issuer) setLists(ctx context.Context, sent *agentapi.RevocationLists) {
	before := i.lists.Load()
	switch {
	case sent == nil || sent.GetVersion() == before.known():
		return
	case sent.GetWithheld() != "":
		i.config.Logger.WarnContext(ctx, "the server sends no revocation lists", telemetry.KeyError, sent.GetWithheld())
		i.lists.Store(&lists{version: sent.GetVersion(), withheld: sent.GetWithheld()})
		return
	}
	crls, err := readLists(sent.GetCrls(), i.bundle.Load(), i.config.Now())
	if err != nil {
		i.config.Logger.ErrorContext(ctx, "revocation lists of the server are not used", telemetry.KeyError, err)
		i.lists.Store(&lists{version: sent.GetVersion(), crls: i.CRLs()})
		return
	}
	crls.Version = sent.GetVersion()
	i.lists.Store(&lists{version: sent.GetVersion(), crls: crls})
	i.config.Logger.InfoContext(ctx, "revocation lists obtained", "lists", len(sent.GetCrls()), "version", crls.Version, "next_update", crls.NextUpdate)
}

// readLists checks a set. One that a verifier refuses, or without a list of a root, would have all connections of the mesh
// refused. That there is one of each CA below the roots, only the server can know.
func readLists(sent [][]byte, bundle *issuer.Bundle, now time.Time) (*issuer.CRLs, error) {
	crls, err := issuer.NewCRLs(sent, now)
	if err != nil {
		return nil, err
	}
	return crls, crls.Cover(bundle, now)
}
