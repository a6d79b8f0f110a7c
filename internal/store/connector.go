package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// CreateConnector stores a cluster's connector with the one-time addresses of its package. A name that is taken is a
// Conflict. Addresses that have expired are removed meanwhile.
func (s *Store) CreateConnector(ctx context.Context, c *pki.Connector, downloads []pki.Download, ev audit.Event) error {
	settings, err := encode(c.Settings)
	if err != nil {
		return fmt.Errorf("create connector: %w", err)
	}
	return s.write(ctx, "create connector", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO connector (name, kind, mode, profile_id, credential_id, settings, created_by, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
			c.Name, c.Kind, string(c.Mode), string(c.ProfileID), string(c.CredentialID), settings, c.CreatedBy, micros(c.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "there is a connector for a cluster %q already", c.Name).WithField("/name")
		}
		if _, err := t.change(ctx, `DELETE FROM connector_download WHERE expires_at < $1`, micros(c.CreatedAt)); err != nil {
			return fmt.Errorf("delete old downloads: %w", err)
		}
		for _, d := range downloads {
			if _, err := t.change(ctx, `INSERT INTO connector_download (hash, connector, expires_at) VALUES ($1, $2, $3)`,
				d.Hash[:], d.Connector, micros(d.ExpiresAt)); err != nil {
				return fmt.Errorf("insert download: %w", err)
			}
		}
		t.event(ev)
		return nil
	})
}

// DeleteConnector removes a connector and the addresses of its package, or answers NotFound. What was issued stays.
func (s *Store) DeleteConnector(ctx context.Context, name string, ev audit.Event) error {
	return s.write(ctx, "delete connector", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM connector WHERE name = $1`, name)
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n == 0 {
			return notFound("connector", name)
		}
		if _, err := t.change(ctx, `DELETE FROM connector_download WHERE connector = $1`, name); err != nil {
			return fmt.Errorf("delete downloads: %w", err)
		}
		t.event(ev)
		return nil
	})
}

// TakeDownload uses up a one-time address: of all that ask for it at once, on whatever replica, one gets the name of the
// connector. The others, and who comes later or with a secret that nobody made, get NotFound. The event's target is set.
func (s *Store) TakeDownload(ctx context.Context, hash [32]byte, now time.Time, ev audit.Event) (connector string, err error) {
	err = s.write(ctx, "take download", func(ctx context.Context, t *tx) error {
		connector = ""
		none := fault.New(fault.NotFound, "this address was used already, has expired, or never was")
		err := t.queryRow(ctx, `SELECT connector FROM connector_download WHERE hash = $1 AND expires_at >= $2`+t.forUpdate(),
			hash[:], micros(now)).Scan(&connector)
		if errors.Is(err, sql.ErrNoRows) {
			return none
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		n, err := t.change(ctx, `DELETE FROM connector_download WHERE hash = $1`, hash[:])
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n == 0 {
			return none
		}
		ev.Target = connector
		t.event(ev)
		return nil
	})
	if err != nil {
		return "", err
	}
	return connector, nil
}

const connectorColumns = `SELECT name, kind, mode, profile_id, credential_id, settings, created_by, created_at FROM connector `

func scanConnector(r row) (pki.Connector, error) {
	var c pki.Connector
	var settings string
	var created int64
	if err := r.Scan(&c.Name, &c.Kind, &c.Mode, &c.ProfileID, &c.CredentialID, &settings, &c.CreatedBy, &created); err != nil {
		return c, err
	}
	c.CreatedAt = fromMicros(created)
	return c, decode("settings", settings, &c.Settings)
}

// Connectors returns all connectors by name.
func (s *Store) Connectors(ctx context.Context) ([]pki.Connector, error) {
	rows, err := s.query(ctx, connectorColumns+`ORDER BY name`)
	all, err := collect(rows, err, scanConnector)
	return all, s.readError("read connectors", err)
}

// Connector returns a connector by name, or NotFound.
func (s *Store) Connector(ctx context.Context, name string) (*pki.Connector, error) {
	c, err := scanConnector(s.queryRow(ctx, connectorColumns+`WHERE name = $1`, name))
	return found(s, &c, err, "connector", name)
}

// ConnectorFacts tells what has happened with a credential: when the first ACME account was registered, and which
// identities have their newest certificate by it. Those whose names begin with workloads count, except for the one that
// is named.
func (s *Store) ConnectorFacts(ctx context.Context, credential pki.CredentialID, workloads, except string) (*pki.ConnectorFacts, error) {
	facts := &pki.ConnectorFacts{}
	var registered, first, newest, firstWorkload, newestWorkload int64
	err := s.queryRow(ctx, `SELECT coalesce(min(created_at), 0) FROM account WHERE credential_id = $1`, string(credential)).Scan(&registered)
	if err != nil {
		return nil, s.readError("read accounts of a credential", err)
	}
	// One walk through the identities of the credential's sources, which have an index.
	const workload = `name >= $2 AND name < $3 AND name <> $4`
	err = s.queryRow(ctx, `SELECT coalesce(min(first_issued_at), 0), coalesce(max(last_issued_at), 0), CAST(coalesce(sum(certificates), 0) AS BIGINT),
			CAST(coalesce(sum(CASE WHEN `+workload+` THEN 1 ELSE 0 END), 0) AS BIGINT),
			coalesce(min(CASE WHEN `+workload+` THEN first_issued_at END), 0), coalesce(max(CASE WHEN `+workload+` THEN last_issued_at END), 0)
		FROM identity WHERE source_id IN (SELECT id FROM source WHERE credential_id = $1)`,
		string(credential), workloads, after(workloads), except).
		Scan(&first, &newest, &facts.Certificates, &facts.Workloads, &firstWorkload, &newestWorkload)
	if err != nil {
		return nil, s.readError("read certificates of a credential", err)
	}
	facts.RegisteredAt, facts.FirstAt, facts.NewestAt = fromMicros(registered), fromSeconds(first), fromSeconds(newest)
	facts.FirstWorkloadAt, facts.NewestWorkloadAt = fromSeconds(firstWorkload), fromSeconds(newestWorkload)
	if facts.RegisteredAt.IsZero() { // agents have no account; their own certificate is their first
		facts.RegisteredAt = facts.FirstAt
	}
	return facts, nil
}
