-- What both engines understand. For SQLite the types of PostgreSQL are replaced, see dialect.rs.

-- One row: what the database knows of itself.
CREATE TABLE server (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,
    probes BIGINT NOT NULL
) /* STRICT */;
INSERT INTO server (id, epoch, probes) VALUES (1, 1, 0);

-- Where each tenant's directory stands. Every row of a tenant hangs from here.
CREATE TABLE directories (
    tenant_id TEXT PRIMARY KEY NOT NULL,
    generation BIGINT NOT NULL CHECK (generation > 0),
    devices_count BIGINT NOT NULL CHECK (devices_count >= 0),
    sealed_anchor BYTEA NOT NULL
) /* STRICT */;

CREATE TABLE tenants (
    id TEXT PRIMARY KEY NOT NULL REFERENCES directories (tenant_id),
    name TEXT NOT NULL,
    suffix TEXT NOT NULL,
    block_v4 TEXT NOT NULL,
    block_v6 TEXT NOT NULL,
    anchor TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
) /* STRICT */;
CREATE UNIQUE INDEX tenants_name ON tenants (name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX tenants_block ON tenants (block_v4) WHERE deleted_at IS NULL;

CREATE TABLE devices (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    name TEXT NOT NULL,
    identity TEXT NOT NULL,
    wireguard TEXT NOT NULL,
    number BIGINT NOT NULL,
    standing TEXT NOT NULL CHECK (standing IN ('pending', 'active', 'revoked')),
    tags TEXT NOT NULL,
    os TEXT NOT NULL,
    enrolled_at BIGINT NOT NULL,
    enrolled_by TEXT NOT NULL,
    approved_at BIGINT,
    revoked_at BIGINT
) /* STRICT */;
CREATE UNIQUE INDEX devices_identity ON devices (tenant_id, identity);
CREATE UNIQUE INDEX devices_name ON devices (tenant_id, name) WHERE standing <> 'revoked';
CREATE UNIQUE INDEX devices_wireguard ON devices (tenant_id, wireguard) WHERE standing <> 'revoked';
CREATE UNIQUE INDEX devices_number ON devices (tenant_id, number) WHERE standing <> 'revoked';

CREATE TABLE tokens (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    uses_max BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    needs_approval BOOLEAN NOT NULL,
    tags TEXT NOT NULL,
    revoked_at BIGINT,
    CHECK (uses BETWEEN 0 AND uses_max)
) /* STRICT */;
CREATE INDEX tokens_tenant ON tokens (tenant_id);

CREATE TABLE records (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    ttl BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, name, kind, value)
) /* STRICT */;

CREATE TABLE hubs (
    tenant_id TEXT PRIMARY KEY NOT NULL REFERENCES directories (tenant_id),
    wireguard TEXT NOT NULL,
    serial BIGINT NOT NULL,
    endpoint TEXT NOT NULL,
    next TEXT,
    retiring TEXT
) /* STRICT */;

-- The change log: every fact of the latest generations, for the other replicas.
CREATE TABLE changes (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    generation BIGINT NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    fact TEXT NOT NULL,
    PRIMARY KEY (tenant_id, generation, position)
) /* STRICT */;

CREATE TABLE presence (
    device_id TEXT PRIMARY KEY NOT NULL REFERENCES devices (id),
    last_seen BIGINT NOT NULL,
    held_epoch BIGINT,
    held_generation BIGINT,
    held_digest TEXT,
    settled BOOLEAN NOT NULL,
    software TEXT NOT NULL,
    address TEXT
) /* STRICT */;

CREATE TABLE audit (
    id TEXT PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    tenant_id TEXT,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    refused TEXT,
    detail TEXT NOT NULL
) /* STRICT */;
CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_tenant ON audit (tenant_id, at, id);
