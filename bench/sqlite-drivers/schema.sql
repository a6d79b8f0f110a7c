CREATE TABLE identity (
    id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, newest INTEGER NOT NULL, source_id INTEGER NOT NULL,
    not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, renew_at INTEGER NOT NULL, lapsing_at INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL, certificates INTEGER NOT NULL, first_issued_at INTEGER NOT NULL, last_issued_at INTEGER NOT NULL
) STRICT;
CREATE INDEX identity_not_after ON identity (not_after >> 10);
CREATE INDEX identity_lapsing ON identity (lapsing_at >> 10);
CREATE TABLE certificate (
    id INTEGER NOT NULL PRIMARY KEY, serial BLOB NOT NULL UNIQUE, source_id INTEGER NOT NULL, identity_id INTEGER NOT NULL,
    previous INTEGER NOT NULL, not_before INTEGER NOT NULL, not_after INTEGER NOT NULL, renew_at INTEGER NOT NULL,
    issued_at INTEGER NOT NULL, requested INTEGER NOT NULL, granted INTEGER NOT NULL, revoked_at INTEGER NOT NULL,
    reason INTEGER NOT NULL, order_id TEXT NOT NULL, key_algorithm TEXT NOT NULL, signature TEXT NOT NULL,
    names TEXT NOT NULL, user_agent TEXT NOT NULL, address TEXT NOT NULL, replaces TEXT NOT NULL, fingerprint BLOB NOT NULL,
    csr_hash BLOB NOT NULL, spki_hash BLOB NOT NULL, der BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX certificate_order ON certificate (order_id) WHERE order_id <> '';
CREATE INDEX certificate_source ON certificate (source_id);
CREATE INDEX certificate_not_after ON certificate (not_after >> 10);
CREATE INDEX certificate_renew ON certificate (renew_at >> 10);
CREATE INDEX certificate_fingerprint ON certificate (id >> 12, substr(fingerprint, 1, 8));
CREATE INDEX certificate_spki ON certificate (id >> 12, substr(spki_hash, 1, 8));
CREATE TABLE event (
    id INTEGER NOT NULL PRIMARY KEY, time INTEGER NOT NULL, actor_kind TEXT NOT NULL, actor_id TEXT NOT NULL,
    actor_name TEXT NOT NULL, action TEXT NOT NULL, target TEXT NOT NULL, user_agent TEXT NOT NULL, address TEXT NOT NULL,
    request TEXT NOT NULL, replica TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL
) STRICT;
CREATE INDEX event_target ON event (target);
CREATE INDEX event_actor ON event (actor_id);
