-- Issuing CAs whose certificate was revoked (0: it was not), which is then on the CRL of the CA above.
ALTER TABLE ca ADD COLUMN revoked_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ca ADD COLUMN reason INTEGER NOT NULL DEFAULT 0;
