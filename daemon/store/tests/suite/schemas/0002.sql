-- A database of schema 2 with rows as its program wrote them. Never changed: it is what there is out there.

CREATE TABLE migrations (version BIGINT PRIMARY KEY NOT NULL, name TEXT NOT NULL, needs BIGINT NOT NULL, applied_at BIGINT NOT NULL) /* STRICT */;

-- 0001_directory.sql
CREATE TABLE server (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    epoch BIGINT NOT NULL,
    probes BIGINT NOT NULL
) /* STRICT */;
INSERT INTO server (id, epoch, probes) VALUES (1, 1, 0);

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
INSERT INTO migrations (version, name, needs, applied_at) VALUES (1, 'directory', 1, 1790000000000000);

-- 0002_people.sql
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

CREATE TABLE setup (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    digest BYTEA NOT NULL,
    created_at BIGINT NOT NULL
) /* STRICT */;

CREATE TABLE settings (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) /* STRICT */;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (2, 'people', 1, 1790000000000001);

-- Rows.
INSERT INTO directories (tenant_id, generation, devices_count, sealed_anchor) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 9, 2, X'6bd329de19274ba2399da5574a61d59c57c4dac31d9d4bd0a3486cda9692825c7d2985f6e9a637738f4372d0a72aa527');
INSERT INTO directories (tenant_id, generation, devices_count, sealed_anchor) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000002', 4, 0, X'f8a406a88c9beb20c6cdade9b3366159e4ee23eebe4f4d7b24d3a5461729ae8bb3d0db16fa3f3fb1f53e88a8bebea90f');
INSERT INTO tenants (id, name, suffix, block_v4, block_v6, anchor, created_at, deleted_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'home', 'internal', '100.64.0.0/16', 'fd00:1:2::/48', '2GcqWVgI9+U72WtVkZeyfq8dAC0cud7tcrUC7eGpJcM=', 1790000000000000, NULL);
INSERT INTO tenants (id, name, suffix, block_v4, block_v6, anchor, created_at, deleted_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000002', 'lab', 'internal', '100.65.0.0/16', 'fd00:1:3::/48', 'jBMuLPDXYmLIMJ8KZ9uSTLVVLszUmLRm/EiVtrmaSxM=', 1790000000000001, 1790000000000099);
INSERT INTO users (id, name, role, password_hash, created_at, disabled_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000031', 'alice', 'super-admin', '$argon2id$v=19$m=65536,t=3,p=1$V0oDau/smAYkG4cC35f2DA$/vVJ7QZuZOSpHF3CE1V4mBK55GMgsi9MeXLjRXIMnSM', 1790000000000000, NULL);
INSERT INTO users (id, name, role, password_hash, created_at, disabled_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000032', 'bob', 'operator', NULL, 1790000000000000, 1790000000000005);
INSERT INTO sessions (digest, user_id, created_at, used_at, expires_at, address) VALUES (X'067fef731059c14072a92e09fef2d6a42104b7a11225bbb8ff88cb8d2923aaf6', '0190a0b1-c2d3-7e4f-8a5b-000000000031', 1790000000000000, 1790000000000001, 1790000000000002, '192.0.2.7');
INSERT INTO api_tokens (id, user_id, label, digest, role, tenant_id, created_at, expires_at, used_at, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000041', '0190a0b1-c2d3-7e4f-8a5b-000000000031', 'alice''s script', X'2e5af91b6812cc6db33178496ddec8fa7564760635d8fb459c4db5c88a5a3fc2', 'viewer', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 1790000000000000, 1791000000000000, NULL, NULL);
INSERT INTO setup (id, digest, created_at) VALUES (1, X'16b01d97999c7a5ac99350fab742d320cdd684f73ec58b2106ea9fb3fcc4050f', 1790000000000000);
INSERT INTO settings (name, value) VALUES ('colour', '{"a": 1}');
INSERT INTO devices (id, tenant_id, name, identity, wireguard, number, standing, tags, os, enrolled_at, enrolled_by, approved_at, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000011', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'laptop', '1DF3HCje3Gbf5prghOd6RSpa0NRe3j+EcC1G1dKeTI0=', 'KW5BJ4j3++tkmoa/q/hZoZxCEIlXyK/7q7lM1Se3OKk=', 2, 'active', '["web"]', 'Debian 12 ✓ o''clock', 1790000000000001, '0190a0b1-c2d3-7e4f-8a5b-000000000021', 1790000000000002, NULL);
INSERT INTO devices (id, tenant_id, name, identity, wireguard, number, standing, tags, os, enrolled_at, enrolled_by, approved_at, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000012', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'desk', 'xUkq3dfdfyWdx2e6dBl0EZ1CWPbq2e06KDZiir1CRWg=', 'l9Tfo//62gKZv/5cepmB4/TTqOhp17pDq4tiKMA1yPs=', 3, 'pending', '[]', '', 1790000000000001, '0190a0b1-c2d3-7e4f-8a5b-000000000021', NULL, NULL);
INSERT INTO devices (id, tenant_id, name, identity, wireguard, number, standing, tags, os, enrolled_at, enrolled_by, approved_at, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000013', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'laptop', 'hvVUlZ8G9llUzB4whhMp3F75b+2sTp9cteKlDeQ1lDo=', 'KW5BJ4j3++tkmoa/q/hZoZxCEIlXyK/7q7lM1Se3OKk=', 2, 'revoked', '[]', '', 1790000000000000, '0190a0b1-c2d3-7e4f-8a5b-000000000021', 1790000000000000, 1790000000000001);
INSERT INTO tokens (id, tenant_id, public_key, created_at, created_by, expires_at, uses_max, uses, needs_approval, tags, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000021', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'm7fqE9fgd3HpWAIUY/YfOCtC2sddpqjmhwmMKSaaJSI=', 1790000000000000, 'user:alice', 1791000000000000, 5, 3, TRUE, '["new"]', NULL);
INSERT INTO tokens (id, tenant_id, public_key, created_at, created_by, expires_at, uses_max, uses, needs_approval, tags, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000022', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'BrAE6naMaQlB4QtHVfOLPFwnZVUoho/8qfUz3ZjQ2rw=', 1790000000000000, 'local:root', 1790000000000001, 1, 0, FALSE, '[]', 1790000000000000);
INSERT INTO records (tenant_id, name, kind, value, ttl) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'www.home.internal', 'A', '192.0.2.1', 30);
INSERT INTO records (tenant_id, name, kind, value, ttl) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'alias.home.internal', 'CNAME', 'www.home.internal', 30);
INSERT INTO records (tenant_id, name, kind, value, ttl) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'txt.home.internal', 'TXT', 'it''s text', 30);
INSERT INTO hubs (tenant_id, wireguard, serial, endpoint, next, retiring) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'MICjtdfBIIbrJkz9MSMnIWe9yFJ4nDYZoV6vas2aGAA=', 3, 'vpn.example.org:51820', NULL, '2PcyN7LUOWFCd5LDBdWMXe+BmP/9OG7r88+1E2tuhUY=');
INSERT INTO changes (tenant_id, generation, position, kind, fact) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 9, 0, 'record-gone', '{"kind":"A","name":"old.home.internal","value":"192.0.2.9"}');
INSERT INTO presence (device_id, last_seen, held_epoch, held_generation, held_digest, settled, software, address) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000011', 1790000000000007, 1, 9, 'ba54d102a5db8fc0f7c13b9be073400dafb0d7ddf1d41f6589599267a7790dab', TRUE, 'warren-agent 0.1.0', '192.0.2.8');
INSERT INTO audit (id, at, tenant_id, actor, action, target, refused, detail) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000051', 1790000000000000, '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user:alice', 'device.approve', 'laptop', NULL, '');
INSERT INTO audit (id, at, tenant_id, actor, action, target, refused, detail) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000052', 1790000000000001, NULL, 'network:192.0.2.9', 'device.enrol', 'x', 'token-expired', 'it''s over');
