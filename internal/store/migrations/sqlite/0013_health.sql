-- After which part of its certificate's life, in thousandths, an identity has lately been renewed at the latest; 0: it never was.
ALTER TABLE identity ADD COLUMN renewal INTEGER NOT NULL DEFAULT 0;
-- Since when nothing runs that needs the identity, as its agent or somebody says; 0: something does, or nobody knows.
ALTER TABLE identity ADD COLUMN gone_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX identity_gone ON identity (id) WHERE gone_at > 0;
