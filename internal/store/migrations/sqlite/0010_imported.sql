-- Certificates of other CAs, that somebody has uploaded or a scan has found.
CREATE TABLE imported (
    id            INTEGER NOT NULL PRIMARY KEY,
    fingerprint   BLOB    NOT NULL UNIQUE,
    name          TEXT    NOT NULL,
    subject       TEXT    NOT NULL,
    issuer        TEXT    NOT NULL,
    serial        TEXT    NOT NULL,
    names         TEXT    NOT NULL, -- JSON
    is_ca         INTEGER NOT NULL,
    not_before    INTEGER NOT NULL,
    not_after     INTEGER NOT NULL,
    key_algorithm TEXT    NOT NULL,
    signature     TEXT    NOT NULL,
    level         TEXT    NOT NULL,
    findings      TEXT    NOT NULL, -- JSON
    der           BLOB    NOT NULL,
    uploaded      INTEGER NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX imported_name ON imported (name, id);
CREATE INDEX imported_not_after ON imported (not_after);

-- Where a certificate was seen last: a server's address, a Secret of a cluster. Another certificate takes the place over.
CREATE TABLE endpoint (
    kind          TEXT    NOT NULL,
    place         TEXT    NOT NULL,
    imported_id   INTEGER NOT NULL,
    first_seen_at INTEGER NOT NULL,
    last_seen_at  INTEGER NOT NULL,
    PRIMARY KEY (kind, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoint_imported ON endpoint (imported_id);
