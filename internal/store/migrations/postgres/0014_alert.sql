-- What people are told of, and how.
CREATE TABLE alert_rule (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind       TEXT COLLATE "C" NOT NULL,
    enabled    BIGINT NOT NULL,
    severity   TEXT COLLATE "C" NOT NULL,
    settings   TEXT COLLATE "C" NOT NULL, -- JSON
    checked_at BIGINT NOT NULL, -- up to when it was evaluated
    turn       BIGINT NOT NULL, -- grows with each change of its alerts
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE alert (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- grows
    rule        TEXT COLLATE "C" NOT NULL,
    kind        TEXT COLLATE "C" NOT NULL,
    subject     TEXT COLLATE "C" NOT NULL,
    severity    TEXT COLLATE "C" NOT NULL,
    summary     TEXT COLLATE "C" NOT NULL,
    labels      TEXT COLLATE "C" NOT NULL, -- JSON
    fired_at    BIGINT NOT NULL,
    resolved_at BIGINT NOT NULL, -- 0: it goes on
    told_at     BIGINT NOT NULL, -- 0: not yet
    end_told_at BIGINT NOT NULL
);
-- One rule says one thing of a subject at a time.
CREATE UNIQUE INDEX alert_open ON alert (rule, subject) WHERE resolved_at = 0;
CREATE INDEX alert_untold ON alert (rule, id) WHERE resolved_at > 0 AND told_at > 0 AND end_told_at = 0;
CREATE INDEX alert_resolved ON alert (resolved_at) WHERE resolved_at > 0;

CREATE TABLE channel (
    name       TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind       TEXT COLLATE "C" NOT NULL,
    enabled    BIGINT NOT NULL,
    settings   TEXT COLLATE "C" NOT NULL, -- JSON
    sealed     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

-- One message to one channel, until it is there or given up.
CREATE TABLE delivery (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY, -- grows
    channel    TEXT COLLATE "C" NOT NULL,
    rule       TEXT COLLATE "C" NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    attempts   BIGINT NOT NULL,
    next_at    BIGINT NOT NULL,
    error      TEXT COLLATE "C" NOT NULL,
    message    TEXT COLLATE "C" NOT NULL, -- JSON
    created_at BIGINT NOT NULL,
    done_at    BIGINT NOT NULL -- 0: not yet
);
CREATE INDEX delivery_due ON delivery (next_at) WHERE done_at = 0;
CREATE INDEX delivery_done ON delivery (done_at) WHERE done_at > 0;
