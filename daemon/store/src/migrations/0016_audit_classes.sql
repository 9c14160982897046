-- Entries of the audit log have a class, and may be forgotten by class: what the chain needs of them stays.

ALTER TABLE audit ADD COLUMN class TEXT;
ALTER TABLE audit ADD COLUMN content BYTEA;

-- Links of the chain whose entry was forgotten before others that are older.
CREATE TABLE audit_forgotten (
    sequence BIGINT PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    class TEXT NOT NULL,
    content BYTEA NOT NULL,
    hash BYTEA NOT NULL
) /* STRICT */;

-- Until when entries of a class were forgotten, sealed by a key that is not here.
CREATE TABLE audit_classes (
    class TEXT PRIMARY KEY NOT NULL,
    forgotten_until BIGINT NOT NULL,
    sealed BYTEA NOT NULL
) /* STRICT */;
