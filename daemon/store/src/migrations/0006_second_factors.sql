-- People of one tenant, and second factors.

ALTER TABLE users ADD COLUMN tenant_id TEXT REFERENCES directories (tenant_id);

CREATE TABLE second_factors (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    sealed BYTEA NOT NULL,
    -- The last time step that a code was taken for: none is taken twice.
    last_step BIGINT NOT NULL,
    confirmed_at BIGINT
) /* STRICT */;

-- A row goes when its code was used.
CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL,
    PRIMARY KEY (user_id, digest)
) /* STRICT */;
