-- People who sign in have a role, and may come from an identity provider. Those of before are administrators.
ALTER TABLE login ADD COLUMN role            TEXT    NOT NULL DEFAULT 'admin';
ALTER TABLE login ADD COLUMN sees            TEXT    NOT NULL DEFAULT ''; -- JSON, '' when everything
ALTER TABLE login ADD COLUMN state           TEXT    NOT NULL DEFAULT 'active';
ALTER TABLE login ADD COLUMN issuer          TEXT    NOT NULL DEFAULT ''; -- of the identity provider, '' for a local user
ALTER TABLE login ADD COLUMN subject         TEXT    NOT NULL DEFAULT '';
ALTER TABLE login ADD COLUMN display_name    TEXT    NOT NULL DEFAULT '';
ALTER TABLE login ADD COLUMN email           TEXT    NOT NULL DEFAULT '';
ALTER TABLE login ADD COLUMN failures        INTEGER NOT NULL DEFAULT 0; -- to sign in, since it last succeeded
ALTER TABLE login ADD COLUMN locked_until    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE login ADD COLUMN last_sign_in_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE login ADD COLUMN version         INTEGER NOT NULL DEFAULT 1; -- counts changes
CREATE UNIQUE INDEX login_subject ON login (issuer, subject) WHERE subject <> '';

ALTER TABLE token ADD COLUMN sees TEXT NOT NULL DEFAULT ''; -- JSON, '' when everything
UPDATE token SET role = 'auditor' WHERE role = 'viewer';

CREATE TABLE session (
    id           TEXT    NOT NULL PRIMARY KEY,
    hash         BLOB    NOT NULL UNIQUE,
    login        TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    user_agent   TEXT    NOT NULL,
    address      TEXT    NOT NULL
) STRICT;
CREATE INDEX session_login ON session (login);
