-- Tokens that a person has signed in for have that person's rights, as they are at each use.
ALTER TABLE token ADD COLUMN login TEXT COLLATE "C" NOT NULL DEFAULT ''; -- whose it is, '' when it was made by an administrator
UPDATE token SET login = substr(name, 7) WHERE substr(name, 1, 6) = 'login-' AND expires_at > 0 AND expires_at - created_at <= 43200000000 -- twelve hours
    AND EXISTS (SELECT 1 FROM login WHERE login.name = substr(token.name, 7));
CREATE INDEX token_login ON token (login) WHERE login <> '';

-- A second factor of local users (RFC 6238).
ALTER TABLE login ADD COLUMN totp      BYTEA    NOT NULL DEFAULT ''; -- sealed secret, empty when there is none
ALTER TABLE login ADD COLUMN totp_step BIGINT NOT NULL DEFAULT 0;   -- the last one that was used
CREATE TABLE recovery_code (
    login TEXT COLLATE "C" NOT NULL,
    hash  BYTEA NOT NULL,
    PRIMARY KEY (login, hash)
);

-- Networks that a person has signed in from. Failures from there are counted here, those from elsewhere in login: nobody
-- can lock a person out from elsewhere.
CREATE TABLE login_network (
    login        TEXT COLLATE "C" NOT NULL,
    network      TEXT COLLATE "C" NOT NULL,
    failures     BIGINT NOT NULL,
    locked_until BIGINT NOT NULL,
    seen_at      BIGINT NOT NULL,
    PRIMARY KEY (login, network)
);

-- Failures to sign in from a network, whoever was tried; all replicas count here.
CREATE TABLE sign_in_failure (
    network  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    failures BIGINT NOT NULL,
    until    BIGINT NOT NULL -- when they are forgotten
);
CREATE INDEX sign_in_failure_until ON sign_in_failure (until);
