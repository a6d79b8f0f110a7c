-- Requests that their clients gave a key, with the sealed answers to repeat; an answer is empty while it is made.
CREATE TABLE once (
    id         BYTEA  NOT NULL PRIMARY KEY,
    request    BYTEA  NOT NULL,
    claim      BYTEA  NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    answer     BYTEA  NOT NULL
);
CREATE INDEX once_expires ON once (expires_at);
