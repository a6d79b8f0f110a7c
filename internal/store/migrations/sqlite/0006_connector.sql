-- Clusters that packages were made for.
CREATE TABLE connector (
    name          TEXT    NOT NULL PRIMARY KEY, -- of the cluster
    kind          TEXT    NOT NULL,
    mode          TEXT    NOT NULL,
    profile_id    TEXT    NOT NULL REFERENCES profile (id),
    credential_id TEXT    NOT NULL,
    settings      TEXT    NOT NULL, -- JSON
    created_by    TEXT    NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX connector_profile ON connector (profile_id);

-- One-time addresses of packages, by the hash of their secret.
CREATE TABLE connector_download (
    hash       BLOB NOT NULL PRIMARY KEY,
    connector  TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

-- How many identities have their newest certificate from a connector's credential.
CREATE INDEX identity_source ON identity (source_id);
