-- Words to find identities by: for each place where a word of the name begins, the rest of the name from there (kind 0; in
-- lower case, 48 bytes at most), and the clusters that its certificates went to (kind 1). Made with the identity, so that
-- a renewal costs nothing. Identities of before have worded = 0 until a task has made theirs.
CREATE TABLE identity_word (
    word        TEXT    NOT NULL,
    kind        INTEGER NOT NULL,
    identity_id INTEGER NOT NULL,
    PRIMARY KEY (word, kind, identity_id)
) STRICT, WITHOUT ROWID;
ALTER TABLE identity ADD COLUMN worded INTEGER NOT NULL DEFAULT 0;
CREATE INDEX identity_unworded ON identity (id) WHERE worded = 0;
