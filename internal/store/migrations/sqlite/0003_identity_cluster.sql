-- The cluster that an identity's newest certificate went into: the figures of clusters are sums over identities.
ALTER TABLE identity ADD COLUMN cluster TEXT NOT NULL DEFAULT '';
UPDATE identity SET cluster = (SELECT c.cluster FROM certificate c WHERE c.id = identity.newest)
    WHERE newest IN (SELECT id FROM certificate WHERE cluster <> '');
