-- The audit log as a chain: entries are numbered and chained soon after they were written, by one replica at a time.

ALTER TABLE audit ADD COLUMN sequence BIGINT;
ALTER TABLE audit ADD COLUMN hash BYTEA;
CREATE UNIQUE INDEX audit_sequence ON audit (sequence);
CREATE INDEX audit_unchained ON audit (at, id) WHERE sequence IS NULL;

-- One row: where the chain ends, where what was forgotten of it ended, and both sealed by a key that is not here.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    pruned_sequence BIGINT NOT NULL,
    pruned_hash BYTEA NOT NULL,
    sealed BYTEA
) /* STRICT */;

-- How far each sink was told.
CREATE TABLE audit_sinks (
    name TEXT PRIMARY KEY NOT NULL,
    sequence BIGINT NOT NULL
) /* STRICT */;
