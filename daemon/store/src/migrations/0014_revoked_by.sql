-- Who took certificates back: what an administrator did may be undone. Nobody knows of what was taken back before.

ALTER TABLE revocations ADD COLUMN revoked_by TEXT;
