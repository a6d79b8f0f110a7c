package browser

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver that the server has

	"github.com/certloom/certloom/test/e2e/testbed"
)

// identities is how many workloads share the certificates of a large estate.
const identities = 10_000

// The tables of a large estate, as internal/store fills its own: the certificates are copies of one that was issued, with
// serials, names and times of their own. 240,000 were issued a day, the last one now; nineteen of twenty are mesh
// certificates of two hours, the others last a year; one in a thousand is revoked.
const (
	largeName = `CASE WHEN w % 20 = 0 THEN 'host-' || w || '.example.com'
		ELSE 'spiffe://cluster.local/ns/ns-' || (w % 100) || '/sa/w-' || w END`
	largeSources = `INSERT INTO source (ca_id, profile_id, credential_id, account_id)
		SELECT issuing_ca, id, '', 'account-of-' || name FROM profile WHERE name IN ('istio', 'server')`
	largeNamespaces = `INSERT INTO namespace (name, trust_domain)
		WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 99)
		SELECT 'ns-' || n, 'cluster.local' FROM g WHERE n % 20 <> 0`
	largeCertificates = `INSERT INTO certificate (id, serial, source_id, identity_id, previous, not_before, not_after, renew_at,
			issued_at, requested, granted, revoked_at, reason, order_id, key_algorithm, signature, names, user_agent, address,
			replaces, fingerprint, csr_hash, spki_hash, der, cluster)
		WITH RECURSIVE g (n) AS (SELECT FROM_N UNION ALL SELECT n + 1 FROM g WHERE n < TO_N - 1),
		r (n, w, t, life) AS (SELECT n, n % WORKLOADS, END_TIME - (TOTAL - n) * 36 / 100,
			CASE WHEN n % 20 = 0 THEN 31536000 ELSE 7200 END FROM g)
		SELECT FIRST_ID + n, unhex(printf('%08x', t >> 1) || hex(randomblob(16))), 
			(SELECT id FROM source WHERE account_id = CASE WHEN w % 20 = 0 THEN 'account-of-server' ELSE 'account-of-istio' END), FIRST_IDENTITY + w,
			CASE WHEN n < WORKLOADS THEN 0 ELSE FIRST_ID + n - WORKLOADS END, t, t + life, t + life / 2, t, 0, life,
			CASE WHEN n % 1000 = 7 THEN t + 60 ELSE 0 END, 0, printf('%011x', t) || hex(randomblob(12)), 'ecdsa-p256', 'ECDSA-SHA256',
			CASE WHEN w % 20 = 0 THEN '{"dns":["' ELSE '{"uris":["' END || (` + largeName + `) || '"]}', 'cert-manager/v1.21.2', '10.0.0.7', '',
			randomblob(32), randomblob(32), randomblob(32), (SELECT der FROM certificate WHERE id = 1),
			CASE WHEN w % 20 = 0 THEN '' ELSE 'cluster-' || (w % 7) END FROM r`
	largeIdentities = `INSERT INTO identity (id, name, newest, source_id, not_before, not_after, renew_at, lapsing_at, revoked_at,
			certificates, first_issued_at, last_issued_at, cluster)
		WITH i (w, newest) AS (SELECT identity_id - FIRST_IDENTITY, max(id) FROM certificate WHERE id >= FIRST_ID GROUP BY identity_id)
		SELECT FIRST_IDENTITY + w, ` + largeName + `, newest, source_id, not_before, not_after, renew_at,
			not_before + (not_after - not_before) * 3 / 4, revoked_at, TOTAL / WORKLOADS, not_before, not_before, c.cluster
		FROM i JOIN certificate c ON c.id = i.newest`
	largeCounters = `INSERT INTO counter (name, slot, value) VALUES ('certificates', 0, TOTAL), ('identities', 0, WORKLOADS)
		ON CONFLICT (name, slot) DO UPDATE SET value = value + excluded.value`
)

// Large fills the inventory of a server with that many certificates, while it is stopped. It returns the serial of one of
// a namespace's newest.
func Large(ctx context.Context, t testbed.T, server *testbed.Certloom, certificates int) (serial string) {
	t.Helper()
	server.Stop(t)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(filepath.Dir(server.CAFile), "certloom.db")+"?_pragma=synchronous(off)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	run := func(text string, from, to int) {
		t.Helper()
		text = strings.NewReplacer("FROM_N", strconv.Itoa(from), "TO_N", strconv.Itoa(to), "TOTAL", strconv.Itoa(certificates),
			"WORKLOADS", strconv.Itoa(identities), "END_TIME", strconv.FormatInt(time.Now().Unix(), 10),
			"FIRST_IDENTITY", "1001", "FIRST_ID", "1001").Replace(text)
		if _, err := db.ExecContext(ctx, text); err != nil {
			t.Fatalf("fill the inventory: %v", err)
		}
	}
	run(largeSources, 0, 0)
	run(largeNamespaces, 0, 0)
	const step = 20_000
	for from := 0; from < certificates; from += step {
		run(largeCertificates, from, min(certificates, from+step))
	}
	run(largeIdentities, 0, 0)
	run(largeCounters, 0, 0)
	var raw []byte
	row := db.QueryRowContext(ctx, `SELECT serial FROM certificate JOIN identity ON newest = certificate.id WHERE certificate.cluster <> '' ORDER BY identity.id LIMIT 1`)
	if err := row.Scan(&raw); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	server.Restart(ctx, t)
	return fmt.Sprintf("%x", raw)
}
