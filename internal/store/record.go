package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// record is a certificate that waits to be stored, and what became of it.
type record struct {
	certificate *pki.Certificate
	spiffe      pki.SPIFFEID
	event       audit.Event
	serial      []byte

	stored *pki.Certificate
	won    bool
	source int64
	state  *identityState
	id     int64
}

// RecordCertificate stores a certificate, its identity and its audit event in one transaction. id is the identity's
// SPIFFE ID, zero when it is a DNS name or an address. When the order has a certificate already (or, without an
// order, when the serial is stored), nothing is stored and that certificate is returned with won false; so a call whose
// outcome was not known can be made again.
func (s *Store) RecordCertificate(ctx context.Context, c *pki.Certificate, id pki.SPIFFEID, ev audit.Event) (
	stored *pki.Certificate, won bool, err error,
) {
	serial := c.Serial.Bytes()
	if serial == nil || c.Identity == "" {
		return nil, false, fmt.Errorf("record certificate: serial %q, identity %q", c.Serial, c.Identity)
	}
	r := &record{certificate: asStored(c), spiffe: id, event: ev, serial: serial}
	if err := s.writer.do(ctx, &operation{name: "record certificate", record: r}); err != nil {
		return nil, false, err
	}
	return r.stored, r.won, nil
}

// asStored returns a copy with times as they will be read back.
func asStored(c *pki.Certificate) *pki.Certificate {
	kept := *c
	for _, t := range []*time.Time{&kept.NotBefore, &kept.NotAfter, &kept.RenewAt, &kept.IssuedAt, &kept.RevokedAt} {
		*t = fromSeconds(seconds(*t))
	}
	kept.Requested, kept.Granted = kept.Requested.Truncate(time.Second), kept.Granted.Truncate(time.Second)
	return &kept
}

// identityState is an identity as the transaction sees it: how it was, and what the certificates of the batch add.
type identityState struct {
	id     int64
	newest int64
	added  int64
	last   *record
	// cluster is that of the newest certificate before; fresh says that this transaction has made the identity.
	cluster string
	fresh   bool
	// What the identity was like with the certificate before.
	notBefore, notAfter int64
	renewal             pki.Renewal
}

// recordAll stores the certificates of a batch with a few statements for all of them. Where one of them turns out to
// be a loser the batch is run again one by one; finalize looks for a certificate first, so that is rare.
func (t *tx) recordAll(ctx context.Context, ops []*operation) error {
	records, followers := leaders(ops)
	if err := t.findSources(ctx, records); err != nil {
		return err
	}
	fresh, err := t.lockIdentities(ctx, records)
	if err != nil {
		return err
	}
	if err := t.assignIDs(ctx, records); err != nil {
		return err
	}
	n, err := t.insertCertificates(ctx, records)
	if err != nil {
		return err
	}
	if n != int64(len(records)) {
		if !t.alone {
			return errRerun
		}
		return t.lose(ctx, records[0])
	}
	if err := t.updateIdentities(ctx, records); err != nil {
		return err
	}
	if err := t.recordWords(ctx, records); err != nil {
		return err
	}
	if err := t.countAll(ctx, issuedCounts(records)); err != nil {
		return err
	}
	if fresh > 0 {
		if err := t.count(ctx, "identities", fresh); err != nil {
			return err
		}
	}
	for _, r := range records {
		r.stored, r.won = r.certificate, true
		t.event(r.event)
	}
	for follower, leader := range followers {
		follower.stored, follower.won = new(*leader.certificate), false
	}
	return nil
}

// leaders returns the certificates to be stored, sorted so that several writers take the same locks in the same order,
// and those that belong to an order that another one of the batch has won, with that one.
func leaders(ops []*operation) ([]*record, map[*record]*record) {
	records := make([]*record, 0, len(ops))
	for _, op := range ops {
		records = append(records, op.record)
	}
	// Stable: of several for an order, the one that came first wins.
	slices.SortStableFunc(records, func(a, b *record) int {
		return strings.Compare(string(a.certificate.OrderID), string(b.certificate.OrderID))
	})
	var followers map[*record]*record
	won := records[:0]
	for _, r := range records {
		last := len(won) - 1
		if last >= 0 && r.certificate.OrderID != "" && won[last].certificate.OrderID == r.certificate.OrderID {
			if followers == nil {
				followers = map[*record]*record{}
			}
			followers[r] = won[last]
			continue
		}
		won = append(won, r)
	}
	return won, followers
}

// lose ends the transaction of a single certificate without storing anything, and finds the winner.
func (t *tx) lose(ctx context.Context, r *record) error {
	t.wrote, t.events, t.after = false, nil, nil
	condition, arg := `c.serial = $1`, any(r.serial)
	if r.certificate.OrderID != "" {
		condition, arg = `c.order_id = $1 AND c.order_id <> ''`, string(r.certificate.OrderID)
	}
	winner, err := scanCertificate(t.queryRow(ctx, certificateSelect+` WHERE `+certificateJoin+` AND `+condition, arg))
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("serial %s is stored for another order", r.certificate.Serial)
	}
	if err != nil {
		return fmt.Errorf("read winner: %w", err)
	}
	if r.certificate.OrderID == "" && winner.Fingerprint != r.certificate.Fingerprint {
		return fmt.Errorf("serial %s is stored for another certificate", r.certificate.Serial)
	}
	r.stored, r.won = &winner, false
	return nil
}

// source is where certificates come from.
type source struct {
	ca         pki.CAID
	profile    pki.ProfileID
	credential pki.CredentialID
	account    pki.AccountID
}

// findSources sets the records' sources, from the cache where possible. A new one is put into the cache when it is
// durable.
func (t *tx) findSources(ctx context.Context, records []*record) error {
	for _, r := range records {
		c := r.certificate
		key := source{ca: c.CAID, profile: c.ProfileID, credential: c.CredentialID, account: c.AccountID}
		if id, ok := t.store().sources.Get(key); ok {
			r.source = id
			continue
		}
		id, err := t.findSource(ctx, key)
		if err != nil {
			return err
		}
		r.source = id
		t.after = append(t.after, func() { t.store().sources.Add(key, id) })
	}
	return nil
}

func (t *tx) findSource(ctx context.Context, key source) (int64, error) {
	args := []any{string(key.account), string(key.credential), string(key.profile), string(key.ca)}
	const find = `SELECT id FROM source WHERE account_id = $1 AND credential_id = $2 AND profile_id = $3 AND ca_id = $4`
	id, err := scanned[int64](t.queryRow(ctx, find, args...))
	if !errors.Is(err, sql.ErrNoRows) {
		return id, err
	}
	_, err = t.change(ctx, `INSERT INTO source (account_id, credential_id, profile_id, ca_id) VALUES ($1, $2, $3, $4)
		ON CONFLICT (account_id, credential_id, profile_id, ca_id) DO NOTHING`, args...)
	if err != nil {
		return 0, fmt.Errorf("insert source of CA %q, profile %q: %w", key.ca, key.profile, err)
	}
	if id, err = scanned[int64](t.queryRow(ctx, find, args...)); err != nil {
		return 0, fmt.Errorf("read source back: %w", err)
	}
	return id, nil
}

// lockIdentities finds the records' identities, makes those that do not exist, and tells how many those are.
func (t *tx) lockIdentities(ctx context.Context, records []*record) (fresh int64, err error) {
	states := make(map[string]*identityState, len(records))
	for _, r := range records {
		states[r.certificate.Identity] = nil
	}
	if err := t.selectIdentities(ctx, states); err != nil {
		return 0, err
	}
	var missing []*record
	for _, r := range records {
		if states[r.certificate.Identity] == nil && !slices.ContainsFunc(missing, func(m *record) bool {
			return m.certificate.Identity == r.certificate.Identity
		}) {
			missing = append(missing, r)
		}
	}
	if len(missing) > 0 {
		if fresh, err = t.claimIdentities(ctx, missing, states); err != nil {
			return 0, err
		}
	}
	for _, r := range records {
		if r.state = states[r.certificate.Identity]; r.state == nil {
			return 0, fmt.Errorf("identity %.100q was not stored", r.certificate.Identity)
		}
	}
	return fresh, nil
}

// selectIdentities fills in those of the states that are nil and exist.
func (t *tx) selectIdentities(ctx context.Context, states map[string]*identityState) error {
	names := make([]string, 0, len(states))
	for name, state := range states {
		if state == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for len(names) > 0 {
		n := chunk(len(names))
		args := make([]any, n)
		for i, name := range names[:n] {
			args[i] = name
		}
		rows, err := t.query(ctx, t.store().texts.identities[n], args...)
		if err := scanIdentityStates(rows, err, states, false); err != nil {
			return fmt.Errorf("read identities: %w", err)
		}
		names = names[n:]
	}
	return nil
}

func scanIdentityStates(rows *sql.Rows, err error, states map[string]*identityState, fresh bool) error {
	_, err = collect(rows, err, func(r row) (struct{}, error) {
		var name string
		state := identityState{fresh: fresh}
		if err := r.Scan(&state.id, &name, &state.newest, &state.cluster, &state.notBefore, &state.notAfter, &state.renewal); err != nil {
			return struct{}{}, err
		}
		states[name] = &state
		return struct{}{}, nil
	})
	return err
}

// claimIdentity inserts an identity without certificates, which this transaction will add.
const (
	claimIdentity = `INSERT INTO identity (name, newest, source_id, not_before, not_after, renew_at, lapsing_at, revoked_at,
		certificates, first_issued_at, last_issued_at, worded)`
	claimWidth = 12
)

func (t *tx) claimIdentities(ctx context.Context, missing []*record, states map[string]*identityState) (int64, error) {
	slices.SortFunc(missing, func(a, b *record) int {
		return strings.Compare(a.certificate.Identity, b.certificate.Identity)
	})
	claimed := int64(0)
	for rest := missing; len(rest) > 0; {
		n := chunk(len(rest))
		args := make([]any, 0, n*claimWidth)
		for _, r := range rest[:n] {
			args = append(args, r.certificate.Identity, int64(0), int64(0), int64(0), int64(0), int64(0), int64(0), int64(0),
				int64(0), seconds(r.certificate.IssuedAt), int64(0), int64(1))
		}
		before := len(states) - countNil(states)
		rows, err := t.query(ctx, t.store().texts.claimIdentities[n], args...)
		if err := scanIdentityStates(rows, err, states, true); err != nil {
			return 0, fmt.Errorf("insert identities: %w", err)
		}
		t.wrote = true
		claimed += int64(len(states) - countNil(states) - before)
		rest = rest[n:]
	}
	for _, r := range missing {
		if r.spiffe == (pki.SPIFFEID{}) {
			continue
		}
		_, err := t.change(ctx, `INSERT INTO namespace (name, trust_domain) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
			r.spiffe.Namespace, r.spiffe.TrustDomain)
		if err != nil {
			return 0, fmt.Errorf("insert namespace: %w", err)
		}
	}
	if countNil(states) > 0 { // other writers were faster with some
		return claimed, t.selectIdentities(ctx, states)
	}
	return claimed, nil
}

func countNil(states map[string]*identityState) int {
	n := 0
	for _, state := range states {
		if state == nil {
			n++
		}
	}
	return n
}

// assignIDs gives the records their IDs.
func (t *tx) assignIDs(ctx context.Context, records []*record) error {
	rows, err := t.query(ctx, t.store().dialect.certificateIDs, int64(len(records)))
	ids, err := collect(rows, err, scanned[int64])
	if err != nil {
		return fmt.Errorf("reserve IDs: %w", err)
	}
	if len(ids) != len(records) {
		return fmt.Errorf("reserve IDs: got %d, want %d", len(ids), len(records))
	}
	for i, r := range records {
		r.id = ids[i]
	}
	return nil
}

const (
	certificateColumns = `id, serial, source_id, identity_id, previous, not_before, not_after, renew_at, issued_at, requested,
	granted, revoked_at, reason, order_id, key_algorithm, signature, names, user_agent, address, replaces, fingerprint,
	csr_hash, spki_hash, der, cluster, pod, workload`
	certificateWidth = 27
)

// insertCertificates stores the rows and chains them to the earlier ones of their identities. It returns how many were
// stored; the others have an order or a serial that is stored already.
func (t *tx) insertCertificates(ctx context.Context, records []*record) (int64, error) {
	stored := int64(0)
	for rest := records; len(rest) > 0; {
		n := chunk(len(rest))
		args := make([]any, 0, n*certificateWidth)
		for _, r := range rest[:n] {
			var err error
			if args, err = r.arguments(args); err != nil {
				return 0, err
			}
		}
		inserted, err := t.change(ctx, t.store().texts.certificates[n], args...)
		if err != nil {
			return 0, fmt.Errorf("insert certificates: %w", err)
		}
		stored += inserted
		rest = rest[n:]
	}
	return stored, nil
}

func (r *record) arguments(args []any) ([]any, error) {
	c := r.certificate
	names, err := encode(c.Names)
	if err != nil {
		return nil, err
	}
	workload, err := encodeWorkload(c.Workload)
	if err != nil {
		return nil, err
	}
	previous := r.state.newest
	if previous != 0 {
		r.state.renewal = r.state.renewal.Learn(fromSeconds(r.state.notBefore), fromSeconds(r.state.notAfter), c.IssuedAt)
	}
	r.state.notBefore, r.state.notAfter = seconds(c.NotBefore), seconds(c.NotAfter)
	r.state.newest, r.state.last = r.id, r
	r.state.added++
	return append(args, r.id, r.serial, r.source, r.state.id, previous, seconds(c.NotBefore), seconds(c.NotAfter),
		seconds(c.RenewAt), seconds(c.IssuedAt), int64(c.Requested.Seconds()), int64(c.Granted.Seconds()),
		seconds(c.RevokedAt), int64(c.Reason), string(c.OrderID), string(c.KeyAlgorithm), c.Signature, names,
		c.Client.UserAgent, c.Client.Address, c.Replaces, c.Fingerprint[:], c.CSRHash[:], c.SPKIHash[:], blob(c.DER),
		c.Workload.Cluster, c.Workload.Pod, workload), nil
}

// updateIdentity updates by inserting what exists: one statement for many rows, which both databases know.
const (
	updateIdentity = `INSERT INTO identity (id, name, newest, source_id, not_before, not_after, renew_at, lapsing_at,
		revoked_at, certificates, first_issued_at, last_issued_at, cluster, renewal, gone_at)`
	updateIdentityConflict = ` ON CONFLICT (id) DO UPDATE SET newest = excluded.newest, source_id = excluded.source_id,
		not_before = excluded.not_before, not_after = excluded.not_after, renew_at = excluded.renew_at,
		lapsing_at = excluded.lapsing_at, revoked_at = excluded.revoked_at,
		certificates = identity.certificates + excluded.certificates, last_issued_at = excluded.last_issued_at,
		cluster = excluded.cluster, renewal = excluded.renewal, gone_at = excluded.gone_at`
	identityWidth = 15
)

// updateIdentities makes the last certificate of the batch the newest of its identity.
func (t *tx) updateIdentities(ctx context.Context, records []*record) error {
	changed := make([]*record, 0, len(records))
	for _, r := range records {
		if r.state.last == r {
			changed = append(changed, r)
		}
	}
	for rest := changed; len(rest) > 0; {
		n := chunk(len(rest))
		args := make([]any, 0, n*identityWidth)
		for _, r := range rest[:n] {
			c := r.certificate
			renewAt, lapsingAt := r.state.renewal.Expect(c.NotBefore, c.NotAfter, t.store().lapsingShare)
			args = append(args, r.state.id, c.Identity, r.id, r.source, seconds(c.NotBefore), seconds(c.NotAfter),
				seconds(renewAt), seconds(lapsingAt), seconds(c.RevokedAt), r.state.added,
				seconds(c.IssuedAt), seconds(c.IssuedAt), c.Workload.Cluster, int64(r.state.renewal), int64(0))
		}
		if _, err := t.change(ctx, t.store().texts.updateIdentities[n], args...); err != nil {
			return fmt.Errorf("update identities: %w", err)
		}
		rest = rest[n:]
	}
	return nil
}
