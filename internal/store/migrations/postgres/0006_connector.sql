-- Clusters that packages were made for.
CREATE TABLE connector (
    name          TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- of the cluster
    kind          TEXT COLLATE "C" NOT NULL,
    mode          TEXT COLLATE "C" NOT NULL,
    profile_id    TEXT COLLATE "C" NOT NULL REFERENCES profile (id),
    credential_id TEXT COLLATE "C" NOT NULL,
    settings      TEXT COLLATE "C" NOT NULL, -- JSON
    created_by    TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT           NOT NULL
);
CREATE INDEX connector_profile ON connector (profile_id);

-- One-time addresses of packages, by the hash of their secret.
CREATE TABLE connector_download (
    hash       BYTEA NOT NULL PRIMARY KEY,
    connector  TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL
);

-- How many identities have their newest certificate from a connector's credential.
CREATE INDEX identity_source ON identity (source_id);
