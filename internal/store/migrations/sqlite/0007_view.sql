-- What people have chosen in lists of the inventory, to choose it again.
CREATE TABLE saved_view (
    id         TEXT    NOT NULL PRIMARY KEY,
    owner      TEXT    NOT NULL, -- actor kind, a slash, and its ID
    list       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    filters    TEXT    NOT NULL, -- JSON
    columns    TEXT    NOT NULL, -- JSON
    shared     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (owner, list, name)
) STRICT;
CREATE INDEX saved_view_shared ON saved_view (name) WHERE shared = 1;
