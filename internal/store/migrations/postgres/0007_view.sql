-- What people have chosen in lists of the inventory, to choose it again.
CREATE TABLE saved_view (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner      TEXT COLLATE "C" NOT NULL, -- actor kind, a slash, and its ID
    list       TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    filters    TEXT             NOT NULL, -- JSON
    columns    TEXT             NOT NULL, -- JSON
    shared     BIGINT           NOT NULL,
    created_at BIGINT           NOT NULL,
    updated_at BIGINT           NOT NULL,
    UNIQUE (owner, list, name)
);
CREATE INDEX saved_view_shared ON saved_view (name) WHERE shared = 1;
