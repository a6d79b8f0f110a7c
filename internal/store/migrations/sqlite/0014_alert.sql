-- What people are told of, and how.
CREATE TABLE alert_rule (
    name       TEXT NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL,
    enabled    INTEGER NOT NULL,
    severity   TEXT NOT NULL,
    settings   TEXT NOT NULL, -- JSON
    checked_at INTEGER NOT NULL, -- up to when it was evaluated
    turn       INTEGER NOT NULL, -- grows with each change of its alerts
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE alert (
    id          TEXT NOT NULL PRIMARY KEY, -- grows
    rule        TEXT NOT NULL,
    kind        TEXT NOT NULL,
    subject     TEXT NOT NULL,
    severity    TEXT NOT NULL,
    summary     TEXT NOT NULL,
    labels      TEXT NOT NULL, -- JSON
    fired_at    INTEGER NOT NULL,
    resolved_at INTEGER NOT NULL, -- 0: it goes on
    told_at     INTEGER NOT NULL, -- 0: not yet
    end_told_at INTEGER NOT NULL
) STRICT;
-- One rule says one thing of a subject at a time.
CREATE UNIQUE INDEX alert_open ON alert (rule, subject) WHERE resolved_at = 0;
CREATE INDEX alert_untold ON alert (rule, id) WHERE resolved_at > 0 AND told_at > 0 AND end_told_at = 0;
CREATE INDEX alert_resolved ON alert (resolved_at) WHERE resolved_at > 0;

CREATE TABLE channel (
    name       TEXT NOT NULL PRIMARY KEY,
    kind       TEXT NOT NULL,
    enabled    INTEGER NOT NULL,
    settings   TEXT NOT NULL, -- JSON
    sealed     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- One message to one channel, until it is there or given up.
CREATE TABLE delivery (
    id         TEXT NOT NULL PRIMARY KEY, -- grows
    channel    TEXT NOT NULL,
    rule       TEXT NOT NULL,
    state      TEXT NOT NULL,
    attempts   INTEGER NOT NULL,
    next_at    INTEGER NOT NULL,
    error      TEXT NOT NULL,
    message    TEXT NOT NULL, -- JSON
    created_at INTEGER NOT NULL,
    done_at    INTEGER NOT NULL -- 0: not yet
) STRICT;
CREATE INDEX delivery_due ON delivery (next_at) WHERE done_at = 0;
CREATE INDEX delivery_done ON delivery (done_at) WHERE done_at > 0;
