-- SSH authorities: how far their rotations are, their keys, and every certificate that they signed.

CREATE TABLE authorities (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    kind TEXT NOT NULL CHECK (kind IN ('user', 'host')),
    phase TEXT NOT NULL CHECK (phase IN ('standby', 'init', 'update_clients', 'update_servers', 'rollback')),
    active BIGINT NOT NULL,
    next BIGINT,
    -- Which key signs, as phase, active and next say.
    signs BIGINT NOT NULL,
    since BIGINT NOT NULL,
    exempt TEXT NOT NULL,
    keys_made BIGINT NOT NULL,
    -- Certificates that were recorded: counting one up is what a certificate and a rotation wait for each other by.
    recorded BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, kind)
) /* STRICT */;

CREATE TABLE authority_keys (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    kind TEXT NOT NULL,
    generation BIGINT NOT NULL,
    public_key TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    erased_at BIGINT,
    PRIMARY KEY (tenant_id, kind, generation)
) /* STRICT */;

-- Private halves, sealed. A row goes when its key is erased.
CREATE TABLE authority_secrets (
    tenant_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    generation BIGINT NOT NULL,
    sealed BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, kind, generation),
    FOREIGN KEY (tenant_id, kind, generation) REFERENCES authority_keys (tenant_id, kind, generation)
) /* STRICT */;

CREATE TABLE revocations (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    kind TEXT NOT NULL CHECK (kind IN ('user', 'host')),
    what TEXT NOT NULL,
    revoked_at BIGINT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, kind, what)
) /* STRICT */;

CREATE TABLE certificates (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    kind TEXT NOT NULL CHECK (kind IN ('user', 'host')),
    serial BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    certificate_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    principals TEXT NOT NULL,
    user_id TEXT REFERENCES users (id) ON DELETE SET NULL,
    device_id TEXT NOT NULL REFERENCES devices (id),
    issued_at BIGINT NOT NULL,
    valid_from BIGINT NOT NULL,
    valid_until BIGINT NOT NULL,
    revoked_at BIGINT,
    PRIMARY KEY (tenant_id, kind, serial)
) /* STRICT */;
CREATE INDEX certificates_until ON certificates (tenant_id, kind, valid_until);
CREATE INDEX certificates_id ON certificates (tenant_id, kind, certificate_id);
CREATE INDEX certificates_device ON certificates (device_id);
CREATE INDEX certificates_user ON certificates (user_id);

-- Serials that were handed out in blocks. Of all tenants, so that a block serves any.
CREATE TABLE serials (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    reserved BIGINT NOT NULL
) /* STRICT */;
INSERT INTO serials (id, reserved) VALUES (1, 0);
