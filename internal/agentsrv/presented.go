package agentsrv

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// maxAncestors is how many certificates back a chain of renewals is followed. A workload renews at half of a
// certificate's life, so there are two or three that have not expired, and more where it is started again and again.
const maxAncestors = 256

// presented judges the client certificate by which the agent knows the workload, and returns its serial, also when it
// does not count; "" when the workload had a token. The agent has verified the certificate's path, and that the workload has its key. What the agent
// cannot know is asked here, of the inventory and each time anew: the certificate must be one of ours byte for byte,
// for the very identity that is asked for, and neither expired nor revoked.
//
// Nor may a certificate that it was renewed from be revoked: whoever stole one could otherwise renew it in time and
// keep the identity.
func (s *Server) presented(ctx context.Context, caller *agentapi.Caller, r *csr.Request, now time.Time) (pki.Serial, error) {
	raw, fingerprint := caller.GetCertificateSerial(), caller.GetCertificateFingerprint()
	if len(raw) == 0 && len(fingerprint) == 0 {
		return "", nil
	}
	if err := wellShown(caller); err != nil {
		return "", err
	}
	serial := pki.Serial(fmt.Sprintf("%x", raw))
	row, err := s.config.Store.Certificate(ctx, serial)
	switch {
	case fault.Is(err, fault.NotFound):
		return serial, notOurs(serial)
	case err != nil:
		return serial, fmt.Errorf("look up the caller's certificate: %w", err)
	case row.Fingerprint != [sha256.Size]byte(fingerprint):
		return serial, notOurs(serial)
	case len(row.Names.URIs) != 1 || !slices.Equal(row.Names.URIs, r.Names.URIs):
		return serial, fault.New(fault.Unauthenticated, "caller's certificate %s is for %.300q, not for the %.300q of the CSR", serial, row.Names.URIs, r.Names.URIs)
	case now.After(row.NotAfter):
		return serial, fault.New(fault.Unauthenticated, "caller's certificate %s expired at %s", serial, row.NotAfter.UTC().Format(time.RFC3339))
	case !row.RevokedAt.IsZero():
		return serial, fault.New(fault.Unauthenticated, "caller's certificate %s was revoked at %s (%s)", serial, row.RevokedAt.UTC().Format(time.RFC3339), row.Reason)
	}
	if err := s.deniedPod(row, now); err != nil {
		return serial, err
	}
	return serial, s.ancestors(ctx, row, now)
}

// wellShown refuses what cannot be told of a certificate.
func wellShown(caller *agentapi.Caller) error {
	raw, fingerprint := caller.GetCertificateSerial(), caller.GetCertificateFingerprint()
	switch {
	case len(raw) == 0 || len(raw) > pki.SerialLen || raw[0] == 0 || len(fingerprint) != sha256.Size:
		return fault.New(fault.Malformed, "caller's certificate has a serial of %d bytes and a fingerprint of %d, not 1 to %d without leading zeros and %d",
			len(raw), len(fingerprint), pki.SerialLen, sha256.Size)
	case caller.GetImpersonatedBy() != "":
		return fault.New(fault.Malformed, "caller is known by a certificate and impersonated by %.300q; only a token can tell who impersonates",
			caller.GetImpersonatedBy())
	}
	return nil
}

// deniedPod refuses what a Pod got that is on the deny list by now: with a certificate instead of its token it does not
// say which Pod it is.
func (s *Server) deniedPod(row *pki.Certificate, now time.Time) error {
	current, err := s.config.Catalog.Current()
	if err != nil {
		return err
	}
	if found := current.DeniedPod(&row.Workload, now); found != nil {
		return catalog.Refusal(found)
	}
	return nil
}

func notOurs(serial pki.Serial) error {
	return fault.New(fault.Unauthenticated, "caller's certificate %s is not in the inventory of this server", serial).
		WithHint("another CA below the same root issued it, or its row was removed after the retention period")
}

// ancestors refuses a certificate that was renewed, by showing it, from one that has been revoked since. One that was
// revoked because another took its place is no reason. An ancestor that expired without having been revoked ends the
// search: it cannot be revoked any more.
func (s *Server) ancestors(ctx context.Context, of *pki.Certificate, now time.Time) error {
	row := of
	for range maxAncestors {
		serial := row.Workload.Presented
		if serial == "" {
			return nil
		}
		var err error
		row, err = s.config.Store.Certificate(ctx, serial)
		switch {
		case fault.Is(err, fault.NotFound):
			return nil // removed long after it had expired
		case err != nil:
			return fmt.Errorf("look up what the caller's certificate was renewed from: %w", err)
		case !row.RevokedAt.IsZero() && row.Reason != pki.Superseded:
			return fault.New(fault.Unauthenticated, "caller's certificate %s was renewed from %s, which was revoked at %s (%s)",
				of.Serial, serial, row.RevokedAt.UTC().Format(time.RFC3339), row.Reason)
		}
		if err := s.deniedPod(row, now); err != nil {
			return err
		}
		if row.RevokedAt.IsZero() && now.After(row.NotAfter) {
			return nil
		}
	}
	return fault.New(fault.Unauthenticated, "caller's certificate %s has more than %d renewals behind it that have not expired; it needs a token", of.Serial, maxAncestors)
}
