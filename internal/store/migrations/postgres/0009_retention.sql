-- What is left of an identity's certificates whose rows were deleted: expired ones are kept for a time only.
CREATE TABLE rollup (
    identity_id     BIGINT NOT NULL PRIMARY KEY,
    certificates    BIGINT NOT NULL,
    first_issued_at BIGINT NOT NULL,
    last_issued_at  BIGINT NOT NULL,
    algorithms      TEXT   NOT NULL -- JSON: how many certificates had a key of each algorithm
);
-- Whoever rolls up holds this row.
INSERT INTO setting (name, value) VALUES ('rollup', '');
-- Room of deleted certificates is to be used again before a fifth of a large table is waste.
ALTER TABLE certificate SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
