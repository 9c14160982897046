-- People, what they log in with, and what an administrator set.

CREATE TABLE users (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'tenant-admin', 'super-admin')),
    password_hash TEXT,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT
) /* STRICT */;

CREATE TABLE sessions (
    digest BYTEA PRIMARY KEY NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    address TEXT
) /* STRICT */;
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    label TEXT NOT NULL,
    digest BYTEA NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('viewer', 'operator', 'tenant-admin', 'super-admin')),
    tenant_id TEXT REFERENCES directories (tenant_id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT,
    revoked_at BIGINT
) /* STRICT */;
CREATE INDEX api_tokens_user ON api_tokens (user_id);

-- The one-time secret for the first administrator: at most one row, gone when it was used.
CREATE TABLE setup (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    digest BYTEA NOT NULL,
    created_at BIGINT NOT NULL
) /* STRICT */;

CREATE TABLE settings (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) /* STRICT */;
