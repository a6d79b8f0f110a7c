-- Tokens that a person has signed in for have that person's rights, as they are at each use.
ALTER TABLE token ADD COLUMN login TEXT NOT NULL DEFAULT ''; -- whose it is, '' when it was made by an administrator
UPDATE token SET login = substr(name, 7) WHERE substr(name, 1, 6) = 'login-' AND expires_at > 0 AND expires_at - created_at <= 43200000000 -- twelve hours
    AND EXISTS (SELECT 1 FROM login WHERE login.name = substr(token.name, 7));
CREATE INDEX token_login ON token (login) WHERE login <> '';

-- A second factor of local users (RFC 6238).
ALTER TABLE login ADD COLUMN totp      BLOB    NOT NULL DEFAULT x''; -- sealed secret, empty when there is none
ALTER TABLE login ADD COLUMN totp_step INTEGER NOT NULL DEFAULT 0;   -- the last one that was used
CREATE TABLE recovery_code (
    login TEXT NOT NULL,
    hash  BLOB NOT NULL,
    PRIMARY KEY (login, hash)
) STRICT, WITHOUT ROWID;

-- Networks that a person has signed in from. Failures from there are counted here, those from elsewhere in login: nobody
-- can lock a person out from elsewhere.
CREATE TABLE login_network (
    login        TEXT NOT NULL,
    network      TEXT NOT NULL,
    failures     INTEGER NOT NULL,
    locked_until INTEGER NOT NULL,
    seen_at      INTEGER NOT NULL,
    PRIMARY KEY (login, network)
) STRICT, WITHOUT ROWID;

-- Failures to sign in from a network, whoever was tried; all replicas count here.
CREATE TABLE sign_in_failure (
    network  TEXT NOT NULL PRIMARY KEY,
    failures INTEGER NOT NULL,
    until    INTEGER NOT NULL -- when they are forgotten
) STRICT, WITHOUT ROWID;
CREATE INDEX sign_in_failure_until ON sign_in_failure (until);
