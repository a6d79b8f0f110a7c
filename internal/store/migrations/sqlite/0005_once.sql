-- Requests that their clients gave a key, with the sealed answers to repeat; an answer is empty while it is made.
CREATE TABLE once (
    id         BLOB    NOT NULL PRIMARY KEY,
    request    BLOB    NOT NULL,
    claim      BLOB    NOT NULL,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    answer     BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX once_expires ON once (expires_at);
