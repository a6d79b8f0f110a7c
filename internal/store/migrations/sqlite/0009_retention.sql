-- What is left of an identity's certificates whose rows were deleted: expired ones are kept for a time only.
CREATE TABLE rollup (
    identity_id     INTEGER NOT NULL PRIMARY KEY,
    certificates    INTEGER NOT NULL,
    first_issued_at INTEGER NOT NULL,
    last_issued_at  INTEGER NOT NULL,
    algorithms      TEXT    NOT NULL -- JSON: how many certificates had a key of each algorithm
) STRICT;
-- Whoever rolls up holds this row.
INSERT INTO setting (name, value) VALUES ('rollup', x'');
