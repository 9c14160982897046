-- A database of schema 16 with rows as its program wrote them. Never changed: it is what there is out there.

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

-- 0003_authorities.sql
CREATE TABLE authorities (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    kind TEXT NOT NULL CHECK (kind IN ('user', 'host')),
    phase TEXT NOT NULL CHECK (phase IN ('standby', 'init', 'update_clients', 'update_servers', 'rollback')),
    active BIGINT NOT NULL,
    next BIGINT,
    signs BIGINT NOT NULL,
    since BIGINT NOT NULL,
    exempt TEXT NOT NULL,
    keys_made BIGINT NOT NULL,
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

CREATE TABLE serials (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    reserved BIGINT NOT NULL
) /* STRICT */;
INSERT INTO serials (id, reserved) VALUES (1, 0);
INSERT INTO migrations (version, name, needs, applied_at) VALUES (3, 'authorities', 3, 1790000000000002);

-- 0004_abilities.sql
ALTER TABLE devices ADD COLUMN abilities BIGINT NOT NULL DEFAULT 0;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (4, 'abilities', 4, 1790000000000003);

-- 0005_lease.sql
CREATE TABLE lease (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder TEXT NOT NULL,
    term BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) /* STRICT */;
INSERT INTO lease (id, holder, term, expires_at) VALUES (1, '', 0, 0);
INSERT INTO migrations (version, name, needs, applied_at) VALUES (5, 'lease', 4, 1790000000000004);

-- 0006_second_factors.sql
ALTER TABLE users ADD COLUMN tenant_id TEXT REFERENCES directories (tenant_id);

CREATE TABLE second_factors (
    user_id TEXT PRIMARY KEY NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    sealed BYTEA NOT NULL,
    last_step BIGINT NOT NULL,
    confirmed_at BIGINT
) /* STRICT */;

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    digest BYTEA NOT NULL,
    PRIMARY KEY (user_id, digest)
) /* STRICT */;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (6, 'second-factors', 4, 1790000000000005);

-- 0007_audit_chain.sql
ALTER TABLE audit ADD COLUMN sequence BIGINT;
ALTER TABLE audit ADD COLUMN hash BYTEA;
CREATE UNIQUE INDEX audit_sequence ON audit (sequence);
CREATE INDEX audit_unchained ON audit (at, id) WHERE sequence IS NULL;

CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    pruned_sequence BIGINT NOT NULL,
    pruned_hash BYTEA NOT NULL,
    sealed BYTEA
) /* STRICT */;

CREATE TABLE audit_sinks (
    name TEXT PRIMARY KEY NOT NULL,
    sequence BIGINT NOT NULL
) /* STRICT */;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (7, 'audit-chain', 4, 1790000000000006);

-- 0008_hosts.sql
CREATE TABLE ssh_roles (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    name TEXT NOT NULL,
    administrators BOOLEAN NOT NULL,
    identities TEXT NOT NULL,
    own_login BOOLEAN NOT NULL,
    logins TEXT NOT NULL,
    tags TEXT NOT NULL,
    session_seconds BIGINT NOT NULL,
    permits TEXT NOT NULL,
    PRIMARY KEY (tenant_id, name)
) /* STRICT */;

CREATE TABLE ssh_administrators (
    tenant_id TEXT PRIMARY KEY REFERENCES directories (tenant_id),
    names TEXT NOT NULL
) /* STRICT */;

CREATE TABLE ssh_host_keys (
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    device_id TEXT NOT NULL REFERENCES devices (id),
    public_key TEXT NOT NULL,
    PRIMARY KEY (tenant_id, device_id)
) /* STRICT */;

CREATE TABLE ssh_installed (
    device_id TEXT PRIMARY KEY REFERENCES devices (id),
    tenant_id TEXT NOT NULL,
    people TEXT,
    hosts TEXT NOT NULL,
    presents TEXT,
    said_at BIGINT NOT NULL
) /* STRICT */;
CREATE INDEX ssh_installed_tenant ON ssh_installed (tenant_id);
INSERT INTO migrations (version, name, needs, applied_at) VALUES (8, 'hosts', 8, 1790000000000007);

-- 0009_plain_peers.sql
ALTER TABLE devices ADD COLUMN kind TEXT NOT NULL DEFAULT 'agent' CHECK (kind IN ('agent', 'plain'));
INSERT INTO migrations (version, name, needs, applied_at) VALUES (9, 'plain-peers', 9, 1790000000000008);

-- 0010_device_life.sql
ALTER TABLE tenants ADD COLUMN quota BIGINT;
ALTER TABLE tenants ADD COLUMN closed_at BIGINT;
ALTER TABLE tenants ADD COLUMN erase_at BIGINT;

ALTER TABLE devices ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE devices ADD COLUMN expires_at BIGINT;
ALTER TABLE devices ADD COLUMN idle_seconds BIGINT;
ALTER TABLE devices ADD COLUMN lapse TEXT;

ALTER TABLE tokens ADD COLUMN device_seconds BIGINT;
ALTER TABLE tokens ADD COLUMN idle_seconds BIGINT;

ALTER TABLE ssh_roles ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
INSERT INTO migrations (version, name, needs, applied_at) VALUES (10, 'device-life', 10, 1790000000000009);

-- 0011_device_commands.sql
CREATE TABLE device_commands (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES directories (tenant_id),
    device_id TEXT NOT NULL REFERENCES devices (id),
    kind TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'done', 'failed', 'expired')),
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    sent_at BIGINT,
    ended_at BIGINT,
    detail TEXT NOT NULL
) /* STRICT */;
CREATE INDEX device_commands_device ON device_commands (device_id, id);
CREATE INDEX device_commands_waiting ON device_commands (expires_at) WHERE ended_at IS NULL;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (11, 'device-commands', 10, 1790000000000010);

-- 0012_presence_facts.sql
ALTER TABLE presence ADD COLUMN attached BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE presence ADD COLUMN facts TEXT;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (12, 'presence-facts', 10, 1790000000000011);

-- 0013_requests.sql
ALTER TABLE audit ADD COLUMN source TEXT;
ALTER TABLE audit ADD COLUMN request TEXT;

CREATE TABLE keyed_requests (
    holder TEXT NOT NULL,
    key TEXT NOT NULL,
    asked BYTEA NOT NULL,
    asked_at BIGINT NOT NULL,
    status BIGINT,
    answer BYTEA,
    PRIMARY KEY (holder, key)
) /* STRICT */;
CREATE INDEX keyed_requests_asked ON keyed_requests (asked_at);
INSERT INTO migrations (version, name, needs, applied_at) VALUES (13, 'requests', 10, 1790000000000012);

-- 0014_revoked_by.sql
ALTER TABLE revocations ADD COLUMN revoked_by TEXT;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (14, 'revoked-by', 10, 1790000000000013);

-- 0015_hub_ports.sql
ALTER TABLE tenants ADD COLUMN hub_port BIGINT;
CREATE UNIQUE INDEX tenants_hub_port ON tenants (hub_port);
INSERT INTO migrations (version, name, needs, applied_at) VALUES (15, 'hub-ports', 10, 1790000000000014);

-- 0016_audit_classes.sql
ALTER TABLE audit ADD COLUMN class TEXT;
ALTER TABLE audit ADD COLUMN content BYTEA;

CREATE TABLE audit_forgotten (
    sequence BIGINT PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    class TEXT NOT NULL,
    content BYTEA NOT NULL,
    hash BYTEA NOT NULL
) /* STRICT */;

CREATE TABLE audit_classes (
    class TEXT PRIMARY KEY NOT NULL,
    forgotten_until BIGINT NOT NULL,
    sealed BYTEA NOT NULL
) /* STRICT */;
INSERT INTO migrations (version, name, needs, applied_at) VALUES (16, 'audit-classes', 10, 1790000000000015);

-- Rows.
INSERT INTO directories (tenant_id, generation, devices_count, sealed_anchor) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 9, 3, X'6bd329de19274ba2399da5574a61d59c57c4dac31d9d4bd0a3486cda9692825c7d2985f6e9a637738f4372d0a72aa527');
INSERT INTO directories (tenant_id, generation, devices_count, sealed_anchor) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000002', 4, 0, X'f8a406a88c9beb20c6cdade9b3366159e4ee23eebe4f4d7b24d3a5461729ae8bb3d0db16fa3f3fb1f53e88a8bebea90f');
INSERT INTO tenants (id, name, suffix, block_v4, block_v6, anchor, created_at, deleted_at, quota, closed_at, erase_at, hub_port) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'home', 'internal', '100.64.0.0/16', 'fd00:1:2::/48', '2GcqWVgI9+U72WtVkZeyfq8dAC0cud7tcrUC7eGpJcM=', 1790000000000000, NULL, 50, NULL, NULL, 51821);
INSERT INTO tenants (id, name, suffix, block_v4, block_v6, anchor, created_at, deleted_at, quota, closed_at, erase_at, hub_port) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000002', 'lab', 'internal', '100.65.0.0/16', 'fd00:1:3::/48', 'jBMuLPDXYmLIMJ8KZ9uSTLVVLszUmLRm/EiVtrmaSxM=', 1790000000000001, 1790000000000099, NULL, 1790000000000090, 1790000000000095, NULL);
INSERT INTO users (id, name, role, password_hash, created_at, disabled_at, tenant_id) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000031', 'alice', 'super-admin', '$argon2id$v=19$m=65536,t=3,p=1$V0oDau/smAYkG4cC35f2DA$/vVJ7QZuZOSpHF3CE1V4mBK55GMgsi9MeXLjRXIMnSM', 1790000000000000, NULL, NULL);
INSERT INTO users (id, name, role, password_hash, created_at, disabled_at, tenant_id) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000032', 'bob', 'operator', NULL, 1790000000000000, 1790000000000005, '0190a0b1-c2d3-7e4f-8a5b-000000000001');
INSERT INTO sessions (digest, user_id, created_at, used_at, expires_at, address) VALUES (X'067fef731059c14072a92e09fef2d6a42104b7a11225bbb8ff88cb8d2923aaf6', '0190a0b1-c2d3-7e4f-8a5b-000000000031', 1790000000000000, 1790000000000001, 1790000000000002, '192.0.2.7');
INSERT INTO api_tokens (id, user_id, label, digest, role, tenant_id, created_at, expires_at, used_at, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000041', '0190a0b1-c2d3-7e4f-8a5b-000000000031', 'alice''s script', X'2e5af91b6812cc6db33178496ddec8fa7564760635d8fb459c4db5c88a5a3fc2', 'viewer', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 1790000000000000, 1791000000000000, NULL, NULL);
INSERT INTO setup (id, digest, created_at) VALUES (1, X'16b01d97999c7a5ac99350fab742d320cdd684f73ec58b2106ea9fb3fcc4050f', 1790000000000000);
INSERT INTO settings (name, value) VALUES ('colour', '{"a": 1}');
INSERT INTO devices (id, tenant_id, name, identity, wireguard, number, standing, tags, os, enrolled_at, enrolled_by, approved_at, revoked_at, abilities, kind, labels, expires_at, idle_seconds, lapse) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000011', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'laptop', '1DF3HCje3Gbf5prghOd6RSpa0NRe3j+EcC1G1dKeTI0=', 'KW5BJ4j3++tkmoa/q/hZoZxCEIlXyK/7q7lM1Se3OKk=', 2, 'active', '["web"]', 'Debian 12 ✓ o''clock', 1790000000000001, '0190a0b1-c2d3-7e4f-8a5b-000000000021', 1790000000000002, NULL, 1, 'agent', '{"env":"prod"}', NULL, NULL, NULL);
INSERT INTO devices (id, tenant_id, name, identity, wireguard, number, standing, tags, os, enrolled_at, enrolled_by, approved_at, revoked_at, abilities, kind, labels, expires_at, idle_seconds, lapse) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000012', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'desk', 'xUkq3dfdfyWdx2e6dBl0EZ1CWPbq2e06KDZiir1CRWg=', 'l9Tfo//62gKZv/5cepmB4/TTqOhp17pDq4tiKMA1yPs=', 3, 'pending', '[]', '', 1790000000000001, '0190a0b1-c2d3-7e4f-8a5b-000000000021', NULL, NULL, 0, 'agent', '{}', 1800000000000000, 600, 'expired');
INSERT INTO devices (id, tenant_id, name, identity, wireguard, number, standing, tags, os, enrolled_at, enrolled_by, approved_at, revoked_at, abilities, kind, labels, expires_at, idle_seconds, lapse) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000013', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'laptop', 'hvVUlZ8G9llUzB4whhMp3F75b+2sTp9cteKlDeQ1lDo=', 'KW5BJ4j3++tkmoa/q/hZoZxCEIlXyK/7q7lM1Se3OKk=', 2, 'revoked', '[]', '', 1790000000000000, '0190a0b1-c2d3-7e4f-8a5b-000000000021', 1790000000000000, 1790000000000001, 0, 'agent', '{}', NULL, NULL, NULL);
INSERT INTO devices (id, tenant_id, name, identity, wireguard, number, standing, tags, os, enrolled_at, enrolled_by, approved_at, revoked_at, abilities, kind, labels, expires_at, idle_seconds, lapse) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000014', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'phone', '0190a0b1-c2d3-7e4f-8a5b-000000000014', '+xcHmS8l6dLY+59+4H5SHAvzqYU5+1gQ/U8GgqWhIls=', 4, 'active', '[]', '', 1790000000000000, '', 1790000000000000, NULL, 0, 'plain', '{}', NULL, NULL, NULL);
INSERT INTO tokens (id, tenant_id, public_key, created_at, created_by, expires_at, uses_max, uses, needs_approval, tags, revoked_at, device_seconds, idle_seconds) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000021', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'm7fqE9fgd3HpWAIUY/YfOCtC2sddpqjmhwmMKSaaJSI=', 1790000000000000, 'user:alice', 1791000000000000, 5, 3, TRUE, '["new"]', NULL, 86400, NULL);
INSERT INTO tokens (id, tenant_id, public_key, created_at, created_by, expires_at, uses_max, uses, needs_approval, tags, revoked_at, device_seconds, idle_seconds) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000022', '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'BrAE6naMaQlB4QtHVfOLPFwnZVUoho/8qfUz3ZjQ2rw=', 1790000000000000, 'local:root', 1790000000000001, 1, 0, FALSE, '[]', 1790000000000000, NULL, 600);
INSERT INTO records (tenant_id, name, kind, value, ttl) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'www.home.internal', 'A', '192.0.2.1', 30);
INSERT INTO records (tenant_id, name, kind, value, ttl) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'alias.home.internal', 'CNAME', 'www.home.internal', 30);
INSERT INTO records (tenant_id, name, kind, value, ttl) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'txt.home.internal', 'TXT', 'it''s text', 30);
INSERT INTO hubs (tenant_id, wireguard, serial, endpoint, next, retiring) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'MICjtdfBIIbrJkz9MSMnIWe9yFJ4nDYZoV6vas2aGAA=', 3, 'vpn.example.org:51820', NULL, '2PcyN7LUOWFCd5LDBdWMXe+BmP/9OG7r88+1E2tuhUY=');
INSERT INTO changes (tenant_id, generation, position, kind, fact) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 9, 0, 'record-gone', '{"kind":"A","name":"old.home.internal","value":"192.0.2.9"}');
INSERT INTO presence (device_id, last_seen, held_epoch, held_generation, held_digest, settled, software, address, attached, facts) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000011', 1790000000000007, 1, 9, 'ba54d102a5db8fc0f7c13b9be073400dafb0d7ddf1d41f6589599267a7790dab', TRUE, 'warren-agent 0.1.0', '192.0.2.8', FALSE, '{"kernel":"6.1","load_hundredths":5,"memory_available_bytes":1,"memory_bytes":2,"os":"Debian","uptime_seconds":9}');
INSERT INTO audit (id, at, tenant_id, actor, action, target, refused, detail, sequence, hash, source, request, class, content) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000051', 1790000000000000, '0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user:alice', 'device.approve', 'laptop', NULL, '', 1, X'c450c5697147607582f03b1c0f7fc0541fe9272bda328490c599b46ad71e2b35', NULL, NULL, 'change', X'1b50c5697147607582f03b1c0f7fc0541fe9272bda328490c599b46ad71e2b77');
INSERT INTO audit (id, at, tenant_id, actor, action, target, refused, detail, sequence, hash, source, request, class, content) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000052', 1790000000000001, NULL, 'network:192.0.2.9', 'device.enrol', 'x', 'token-expired', 'it''s over', NULL, NULL, '192.0.2.9', 'd93d4041ca84b5a8', NULL, NULL);
INSERT INTO authorities (tenant_id, kind, phase, active, next, signs, since, exempt, keys_made, recorded) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user', 'standby', 1, NULL, 1, 1790000000000000, '[]', 1, 1);
INSERT INTO authority_keys (tenant_id, kind, generation, public_key, created_at, erased_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user', 1, 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEPOWNDJBiUfqa35xh/x6XejbsaFKG6z7ou3wIkMMU3U', 1790000000000000, NULL);
INSERT INTO authority_secrets (tenant_id, kind, generation, sealed) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user', 1, X'03f8d41ba5b11f0dc8af132098bb53f3985380bf638fc732611bc538bc5854099277b698710bfffdc50c384ae3733c5f');
INSERT INTO authorities (tenant_id, kind, phase, active, next, signs, since, exempt, keys_made, recorded) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'host', 'standby', 1, NULL, 1, 1790000000000000, '[]', 1, 1);
INSERT INTO authority_keys (tenant_id, kind, generation, public_key, created_at, erased_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'host', 1, 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILslqK89jgYg2F+lZljW3EfaGJJ/ZiYGv3IgHn66Ihpd', 1790000000000000, NULL);
INSERT INTO authority_secrets (tenant_id, kind, generation, sealed) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'host', 1, X'03f8d41ba5b11f0dc8af132098bb53f3985380bf638fc732611bc538bc5854099277b698710bfffdc50c384ae3733c5f');
INSERT INTO revocations (tenant_id, kind, what, revoked_at, until, revoked_by) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user', 'serial:7', 1790000000000000, 1791000000000000, NULL);
INSERT INTO revocations (tenant_id, kind, what, revoked_at, until, revoked_by) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user', 'id:u:bob@home', 1790000000000000, 1791000000000000, 'user:alice');
INSERT INTO certificates (tenant_id, kind, serial, generation, certificate_id, fingerprint, principals, user_id, device_id, issued_at, valid_from, valid_until, revoked_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'user', 7, 1, 'alice@home', 'SHA256:abc', '["alice"]', '0190a0b1-c2d3-7e4f-8a5b-000000000031', '0190a0b1-c2d3-7e4f-8a5b-000000000011', 1790000000000000, 1790000000000000, 1791000000000000, 1790000000000001);
INSERT INTO second_factors (user_id, sealed, last_step, confirmed_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000031', X'2da73cfcaff01099a82279f165b926f9c1f09f1138b5f2a2733383b40ef2d5c62a5411ea1b3ccc44add7b71dc653fae2', 77, 1790000000000000);
INSERT INTO recovery_codes (user_id, digest) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000031', X'cd7e5920fb8153526c2f5c75f90168d1be03868f19fb5a224c8559b08345a849');
INSERT INTO audit_head (id, sequence, hash, pruned_sequence, pruned_hash, sealed) VALUES (1, 1, X'c450c5697147607582f03b1c0f7fc0541fe9272bda328490c599b46ad71e2b35', 0, X'0000000000000000000000000000000000000000000000000000000000000000', X'021fd3cfddd6aa76b87903bc4e247fdf27afcdeff10ece57fb03ffc68823a7759bc744df99fd87979ddab34c22b15788');
INSERT INTO audit_classes (class, forgotten_until, sealed) VALUES ('login', 1790000000000000, X'1b50c5697147607582f03b1c0f7fc0541fe9272bda328490c599b46ad71e2b77');
INSERT INTO audit_forgotten (sequence, at, class, content, hash) VALUES (2, 1780000000000000, 'login', X'1b50c5697147607582f03b1c0f7fc0541fe9272bda328490c599b46ad71e2b77', X'c450c5697147607582f03b1c0f7fc0541fe9272bda328490c599b46ad71e2b35');
INSERT INTO audit_sinks (name, sequence) VALUES ('file', 1);
INSERT INTO ssh_roles (tenant_id, name, administrators, identities, own_login, logins, tags, session_seconds, permits, labels) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'administrators', TRUE, '[]', TRUE, '["root"]', '[]', 43200, '[]', '{}');
INSERT INTO ssh_roles (tenant_id, name, administrators, identities, own_login, logins, tags, session_seconds, permits, labels) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', 'dba', FALSE, '["u:alice"]', FALSE, '["postgres"]', '["web"]', 3600, '["permit-port-forwarding"]', '{"env":"prod"}');
INSERT INTO ssh_administrators (tenant_id, names) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', '["alice"]');
INSERT INTO ssh_host_keys (tenant_id, device_id, public_key) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000001', '0190a0b1-c2d3-7e4f-8a5b-000000000011', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFNW2GR0aoffRHPZELL5vJx7nKpAsaqxl8O5uMKdvAU4');
INSERT INTO ssh_installed (device_id, tenant_id, people, hosts, presents, said_at) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000011', '0190a0b1-c2d3-7e4f-8a5b-000000000001', '[]', '["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILslqK89jgYg2F+lZljW3EfaGJJ/ZiYGv3IgHn66Ihpd"]', NULL, 1790000000000000);
INSERT INTO device_commands (id, tenant_id, device_id, kind, state, created_at, created_by, expires_at, sent_at, ended_at, detail) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000081', '0190a0b1-c2d3-7e4f-8a5b-000000000001', '0190a0b1-c2d3-7e4f-8a5b-000000000011', 'report', 'queued', 1790000000000000, 'user:alice', 1791000000000000, NULL, NULL, '');
INSERT INTO device_commands (id, tenant_id, device_id, kind, state, created_at, created_by, expires_at, sent_at, ended_at, detail) VALUES ('0190a0b1-c2d3-7e4f-8a5b-000000000082', '0190a0b1-c2d3-7e4f-8a5b-000000000001', '0190a0b1-c2d3-7e4f-8a5b-000000000011', 'restart', 'failed', 1790000000000000, 'user:alice', 1791000000000000, 1790000000000001, 1790000000000002, 'no');
INSERT INTO keyed_requests (holder, key, asked, asked_at, status, answer) VALUES ('user:alice', 'one', X'debf91d4711e0704471c5f78db5b199fc0a6eceb38109a021606409cd00414080b374a82ce642065ddbeb6891e0ec4bd', 1790000000000000, 201, X'0ab94b07419482be26a3cf99299359413a823c1e0f5c51b46a0d98961201653a372f47d59b00a430005e43bde9b98496');
