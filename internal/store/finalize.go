package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// FinalizeFacts gathers what finalize must know before a certificate is made, in one query. thumbprint and spkiHash
// are those of the CSR's key. A second query reads the order's certificate when it has one, which is rare.
func (s *Store) FinalizeFacts(ctx context.Context, order pki.OrderID, account pki.AccountID, credential pki.CredentialID,
	profile pki.ProfileID, thumbprint string, spkiHash [32]byte, now time.Time,
) (*pki.FinalizeFacts, error) {
	var facts pki.FinalizeFacts
	var proofs string
	var certificate int64
	err := s.queryRow(ctx, `SELECT
		coalesce((SELECT id FROM certificate WHERE order_id = $1 AND order_id <> ''), 0),
		EXISTS (SELECT 1 FROM account WHERE thumbprint = $2),
		EXISTS (SELECT 1 FROM blocked_key WHERE spki_hash = $3),
		EXISTS (SELECT 1 FROM ca WHERE spki_hash = $3),
		coalesce((SELECT string_agg(CASE WHEN deactivated = 1 THEN 'd' ELSE substr(status, 1, 1) END || CAST(position AS TEXT), ',')
			FROM proof WHERE order_id = $1), ''),
		coalesce((SELECT status FROM account WHERE id = $4), ''),
		$5 = '' OR EXISTS (SELECT 1 FROM credential WHERE id = $5 AND state = 'active'
			AND (expires_at = 0 OR expires_at > $6)),
		EXISTS (SELECT 1 FROM profile WHERE id = $7 AND state = 'active')`,
		string(order), thumbprint, spkiHash[:], string(account), string(credential), micros(now), string(profile)).
		Scan(&certificate, &facts.AccountKey, &facts.BlockedKey, &facts.CAKey, &proofs, &facts.AccountState,
			&facts.CredentialUsable, &facts.ProfileActive)
	if err != nil {
		return nil, s.readError("read facts", err)
	}
	if err := readProofs(proofs, &facts); err != nil {
		return nil, err
	}
	if certificate == 0 {
		return &facts, nil
	}
	facts.Certificate, err = s.CertificateOfOrder(ctx, order)
	return &facts, err
}

// readProofs reads "v2,d0": the authorizations of an order with the first letters of their states.
func readProofs(list string, facts *pki.FinalizeFacts) error {
	if list == "" {
		return nil
	}
	for text := range strings.SplitSeq(list, ",") {
		if text == "" {
			return fmt.Errorf("stored proofs %q have a gap", list)
		}
		n, err := strconv.Atoi(text[1:])
		if err != nil {
			return fmt.Errorf("stored position %q: %w", text, err)
		}
		switch text[0] {
		case 'd':
			facts.Deactivated = append(facts.Deactivated, n)
		case 'v':
			facts.Proved = append(facts.Proved, n)
		}
	}
	slices.Sort(facts.Deactivated)
	slices.Sort(facts.Proved)
	return nil
}
