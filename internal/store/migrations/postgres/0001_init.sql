-- Rules of this schema, the same in both dialects:
--   Identifiers and names have collation C, so that they sort and compare by bytes as they do in SQLite and in Go.
--   Times are integers: Unix seconds (UTC) in certificate, identity, acme_order, proof and nonce, whose times come from
--   protocols that have seconds; Unix microseconds everywhere else. 0 is "never".
--   Text is never NULL: '' is "none". So every column can be scanned without a wrapper.
--   Statuses that follow from dates are computed, not stored. Indexes on dates hold the date shifted right by 10
--   (steps of 17 minutes): rows of one step are appended at one place, which keeps inserts from touching a page each.

CREATE TABLE setting (
    name  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BYTEA            NOT NULL
);

CREATE TABLE seal_key (
    id         BIGINT NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    created_at BIGINT NOT NULL
);

-- Counts that are too expensive to take. Each writer adds to a slot of its own; the count is the sum of the slots.
CREATE TABLE counter (
    name  TEXT COLLATE "C" NOT NULL,
    slot  BIGINT           NOT NULL,
    value BIGINT           NOT NULL,
    PRIMARY KEY (name, slot)
);

CREATE TABLE ca (
    id                 TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name               TEXT COLLATE "C" NOT NULL UNIQUE,
    kind               TEXT             NOT NULL,
    state              TEXT             NOT NULL,
    parent_id          TEXT COLLATE "C" NOT NULL,
    key_id             TEXT COLLATE "C" NOT NULL,
    key_algorithm      TEXT             NOT NULL,
    certificate        BYTEA            NOT NULL,
    chain              TEXT             NOT NULL, -- JSON
    csr                BYTEA            NOT NULL,
    settings           TEXT             NOT NULL, -- JSON
    spki_hash          BYTEA            NOT NULL,
    crl_number         BIGINT           NOT NULL,
    revocation_version BIGINT           NOT NULL,
    created_at         BIGINT           NOT NULL,
    updated_at         BIGINT           NOT NULL
);

CREATE TABLE sealed_key (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    algorithm  TEXT             NOT NULL,
    sealed     BYTEA            NOT NULL,
    created_at BIGINT           NOT NULL
);

CREATE TABLE profile (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    template   TEXT             NOT NULL,
    issuing_ca TEXT COLLATE "C" NOT NULL REFERENCES ca (id),
    method     TEXT             NOT NULL,
    state      TEXT             NOT NULL,
    rules      TEXT             NOT NULL, -- JSON
    version    BIGINT           NOT NULL,
    created_at BIGINT           NOT NULL,
    updated_at BIGINT           NOT NULL
);

CREATE TABLE credential (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    profile_id   TEXT COLLATE "C" NOT NULL REFERENCES profile (id),
    name         TEXT COLLATE "C" NOT NULL,
    state        TEXT             NOT NULL,
    sealed_key   BYTEA            NOT NULL,
    expires_at   BIGINT           NOT NULL,
    max_accounts BIGINT           NOT NULL,
    name_limit   TEXT             NOT NULL, -- JSON, '' when the profile's rules are the limit
    created_at   BIGINT           NOT NULL,
    revoked_at   BIGINT           NOT NULL,
    last_used_at BIGINT           NOT NULL,
    UNIQUE (profile_id, name)
);

CREATE TABLE token (
    id           TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name         TEXT COLLATE "C" NOT NULL,
    hash         BYTEA            NOT NULL UNIQUE,
    role         TEXT             NOT NULL,
    profile_id   TEXT COLLATE "C" NOT NULL,
    state        TEXT             NOT NULL,
    created_at   BIGINT           NOT NULL,
    expires_at   BIGINT           NOT NULL,
    last_used_at BIGINT           NOT NULL
);

CREATE TABLE login (
    name          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    password_hash TEXT             NOT NULL,
    created_at    BIGINT           NOT NULL
);

CREATE TABLE account (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    scope         TEXT COLLATE "C" NOT NULL,
    thumbprint    TEXT COLLATE "C" NOT NULL,
    jwk           BYTEA            NOT NULL,
    credential_id TEXT COLLATE "C" NOT NULL,
    profile_id    TEXT COLLATE "C" NOT NULL REFERENCES profile (id),
    status        TEXT             NOT NULL,
    contact       TEXT             NOT NULL, -- JSON
    binding       BYTEA            NOT NULL,
    created_at    BIGINT           NOT NULL,
    UNIQUE (thumbprint, scope)
);
CREATE INDEX account_credential ON account (credential_id);
CREATE INDEX account_profile ON account (profile_id);

-- Orders that are too large for a URL. All others exist as sealed tokens only.
CREATE TABLE acme_order (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    account_id    TEXT COLLATE "C" NOT NULL,
    credential_id TEXT COLLATE "C" NOT NULL,
    profile_id    TEXT COLLATE "C" NOT NULL,
    identifiers   TEXT             NOT NULL, -- JSON
    challenges    TEXT             NOT NULL, -- JSON
    not_before    BIGINT           NOT NULL,
    not_after     BIGINT           NOT NULL,
    replaces      TEXT COLLATE "C" NOT NULL,
    expires_at    BIGINT           NOT NULL,
    created_at    BIGINT           NOT NULL,
    settled       BIGINT           NOT NULL  -- 1: expired and has a certificate; deleting expired orders need not look again
);
CREATE INDEX acme_order_account ON acme_order (account_id, id);
CREATE INDEX acme_order_expires ON acme_order ((expires_at >> 10)) WHERE settled = 0;

-- What has become of an order's authorizations, for orders with and without a row. Orders' identifiers begin with the
-- time, so the table grows at its end and the oldest rows are at its beginning.
CREATE TABLE proof (
    order_id    TEXT COLLATE "C" NOT NULL,
    position    BIGINT           NOT NULL, -- in the order
    account_id  TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    type        TEXT             NOT NULL, -- of the challenge, '' when none was tried
    status      TEXT             NOT NULL, -- of the challenge: 'processing', 'valid', 'invalid', '' when none was tried
    at          BIGINT           NOT NULL, -- since when it has that status
    error       TEXT             NOT NULL, -- JSON, '' when there is none
    deactivated BIGINT           NOT NULL, -- by the client
    expires_at  BIGINT           NOT NULL, -- when the order is of no use any more
    PRIMARY KEY (order_id, position)
);
CREATE INDEX proof_account ON proof (account_id, order_id) WHERE status = 'valid';

-- Where certificates come from, once for each combination, so that a certificate's row and its index have one small
-- number instead of four identifiers.
CREATE TABLE source (
    id            BIGINT           NOT NULL GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    ca_id         TEXT COLLATE "C" NOT NULL REFERENCES ca (id),
    profile_id    TEXT COLLATE "C" NOT NULL REFERENCES profile (id),
    credential_id TEXT COLLATE "C" NOT NULL,
    account_id    TEXT COLLATE "C" NOT NULL,
    UNIQUE (account_id, credential_id, profile_id, ca_id)
);
CREATE INDEX source_ca ON source (ca_id);
CREATE INDEX source_profile ON source (profile_id);
CREATE INDEX source_credential ON source (credential_id);

-- What certificates are for. newest is the identity's newest certificate, whose previous is the one before, and so
-- on: the certificates of an identity are found without an index, which would cost each insert a page of its own.
CREATE TABLE identity (
    id              BIGINT           NOT NULL GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    name            TEXT COLLATE "C" NOT NULL UNIQUE,
    newest          BIGINT           NOT NULL,
    source_id       BIGINT           NOT NULL,
    not_before      BIGINT           NOT NULL, -- this and the next four are those of the newest certificate
    not_after       BIGINT           NOT NULL,
    renew_at        BIGINT           NOT NULL,
    lapsing_at      BIGINT           NOT NULL,
    revoked_at      BIGINT           NOT NULL,
    certificates    BIGINT           NOT NULL,
    first_issued_at BIGINT           NOT NULL,
    last_issued_at  BIGINT           NOT NULL
);
CREATE INDEX identity_not_after ON identity ((not_after >> 10));
CREATE INDEX identity_lapsing ON identity ((lapsing_at >> 10));
CREATE INDEX identity_revoked ON identity (id) WHERE revoked_at > 0;

-- Namespaces of SPIFFE identities, to find the trust domains in which one occurs.
CREATE TABLE namespace (
    name         TEXT COLLATE "C" NOT NULL,
    trust_domain TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (name, trust_domain)
);

CREATE SEQUENCE certificate_id;

CREATE TABLE certificate (
    id            BIGINT           NOT NULL PRIMARY KEY, -- from certificate_id, grows in the order of recording
    serial        BYTEA            NOT NULL UNIQUE,
    source_id     BIGINT           NOT NULL,
    identity_id   BIGINT           NOT NULL,
    previous      BIGINT           NOT NULL, -- of the same identity, 0: none
    not_before    BIGINT           NOT NULL,
    not_after     BIGINT           NOT NULL,
    renew_at      BIGINT           NOT NULL,
    issued_at     BIGINT           NOT NULL,
    requested     BIGINT           NOT NULL, -- seconds
    granted       BIGINT           NOT NULL, -- seconds
    revoked_at    BIGINT           NOT NULL,
    reason        BIGINT           NOT NULL,
    order_id      TEXT COLLATE "C" NOT NULL,
    key_algorithm TEXT             NOT NULL,
    signature     TEXT             NOT NULL,
    names         TEXT             NOT NULL, -- JSON
    user_agent    TEXT             NOT NULL,
    address       TEXT             NOT NULL,
    replaces      TEXT COLLATE "C" NOT NULL,
    fingerprint   BYTEA            NOT NULL,
    csr_hash      BYTEA            NOT NULL,
    spki_hash     BYTEA            NOT NULL,
    der           BYTEA            NOT NULL
);
CREATE UNIQUE INDEX certificate_order ON certificate (order_id) WHERE order_id <> '';
-- SQLite's indexes end with the row's ID by themselves; here it is named, so that they give the newest first.
CREATE INDEX certificate_source ON certificate (source_id, id);
CREATE INDEX certificate_not_after ON certificate ((not_after >> 10), id);
CREATE INDEX certificate_renew ON certificate ((renew_at >> 10), id);
CREATE INDEX certificate_replaces ON certificate (replaces) WHERE replaces <> '';
CREATE INDEX certificate_revoked ON certificate (id) WHERE revoked_at > 0;
CREATE INDEX certificate_revoked_not_after ON certificate (not_after) WHERE revoked_at > 0;
-- Hashes are random: an index on the hash alone would make each insert read and write a page of its own once the
-- index is larger than the cache. Within a run of 4,096 certificates it stays in few pages; a search asks each run.
CREATE INDEX certificate_fingerprint ON certificate ((id >> 12), substr(fingerprint, 1, 8));
CREATE INDEX certificate_spki ON certificate ((id >> 12), substr(spki_hash, 1, 8));

-- Keys that no certificate may have again: one of theirs was revoked for keyCompromise.
CREATE TABLE blocked_key (
    spki_hash BYTEA NOT NULL PRIMARY KEY
);

CREATE TABLE event (
    id         BIGINT           NOT NULL GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, -- grows
    time       BIGINT           NOT NULL,
    actor_kind TEXT             NOT NULL,
    actor_id   TEXT COLLATE "C" NOT NULL,
    actor_name TEXT             NOT NULL,
    action     TEXT COLLATE "C" NOT NULL,
    target     TEXT COLLATE "C" NOT NULL,
    user_agent TEXT             NOT NULL,
    address    TEXT             NOT NULL,
    request    TEXT             NOT NULL,
    replica    TEXT             NOT NULL,
    outcome    TEXT             NOT NULL,
    detail     TEXT             NOT NULL -- JSON
);
CREATE INDEX event_target ON event (target);
CREATE INDEX event_actor ON event (actor_id);
-- Issuing is nearly all of the log; everything else is found by its action.
CREATE INDEX event_action ON event (action) WHERE action <> 'certificate.issue';

CREATE TABLE nonce (
    id         BYTEA  NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX nonce_expires ON nonce ((expires_at >> 10));
