-- Where certificates went that agents asked for. cluster and pod are searched; the rest, with them, is in workload.
-- The indexes are of the kind that certificate_fingerprint is: within a run of 4,096 certificates, so that inserts stay
-- in few pages.
ALTER TABLE certificate ADD COLUMN cluster  TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE certificate ADD COLUMN pod      TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE certificate ADD COLUMN workload TEXT             NOT NULL DEFAULT ''; -- JSON, '' when nothing is known
CREATE INDEX certificate_cluster ON certificate ((id >> 12), cluster) WHERE cluster <> '';
CREATE INDEX certificate_pod ON certificate ((id >> 12), pod) WHERE pod <> '';
