package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// identitySelect selects whole identities; scanIdentity reads them.
const identitySelect = `SELECT i.name, s.profile_id, c.serial, i.not_before, i.not_after, i.revoked_at, i.certificates,
	i.first_issued_at, i.last_issued_at
	FROM identity i JOIN source s ON s.id = i.source_id JOIN certificate c ON c.id = i.newest`

func scanIdentity(r row) (pki.Identity, error) {
	var i pki.Identity
	var serial []byte
	var notBefore, notAfter, revoked, first, last int64
	err := r.Scan(&i.Name, &i.ProfileID, &serial, &notBefore, &notAfter, &revoked, &i.Certificates, &first, &last)
	if err != nil {
		return pki.Identity{}, err
	}
	i.Newest = pki.Serial(hex.EncodeToString(serial))
	i.NotBefore, i.NotAfter, i.RevokedAt = fromSeconds(notBefore), fromSeconds(notAfter), fromSeconds(revoked)
	i.FirstIssuedAt, i.LastIssuedAt = fromSeconds(first), fromSeconds(last)
	if strings.HasPrefix(i.Name, "spiffe://") {
		if id, err := pki.ParseSPIFFEID(i.Name); err == nil {
			i.TrustDomain, i.Namespace, i.ServiceAccount = id.TrustDomain, id.Namespace, id.ServiceAccount
		}
	}
	return i, nil
}

// Identity returns an identity by its name, or NotFound.
func (s *Store) Identity(ctx context.Context, name string) (*pki.Identity, error) {
	i, err := scanIdentity(s.queryRow(ctx, identitySelect+` WHERE i.name = $1`, name))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("identity", name)
	}
	if err != nil {
		return nil, s.readError("read identity", err)
	}
	return &i, nil
}

// Identities returns identities, ordered by name.
func (s *Store) Identities(ctx context.Context, filter pki.IdentityFilter, now time.Time) ([]pki.Identity, error) {
	ranges, err := s.nameRanges(ctx, filter.Name, filter.TrustDomain, filter.Namespace)
	if err != nil {
		return nil, s.readError("read namespaces", err)
	}
	limit := bounded(filter.Limit)
	var all []pki.Identity
	for _, within := range ranges {
		part, err := s.identitiesWithin(ctx, within, filter, now, limit-len(all))
		if err != nil {
			return nil, s.readError("read identities", err)
		}
		if all = append(all, part...); len(all) >= limit {
			break
		}
	}
	return all, nil
}
