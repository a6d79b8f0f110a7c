-- Identities and Pods that get no certificates. One that has ended (until, 0: never) counts no more.
CREATE TABLE denial (
    id         TEXT    NOT NULL PRIMARY KEY,
    identity   TEXT    NOT NULL, -- or a prefix with *; '' for a Pod
    cluster    TEXT    NOT NULL,
    namespace  TEXT    NOT NULL,
    pod        TEXT    NOT NULL,
    note       TEXT    NOT NULL,
    until      INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (identity, cluster, namespace, pod)
) STRICT;
