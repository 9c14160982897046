-- What hosts and people have of SSH: who may be whom where, the plain keys of hosts, what is installed on them.

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

-- Who administers the tenant, as users and their roles said last.
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

-- What each device said that it installed and read back. Not part of any directory.
CREATE TABLE ssh_installed (
    device_id TEXT PRIMARY KEY REFERENCES devices (id),
    tenant_id TEXT NOT NULL,
    people TEXT,
    hosts TEXT NOT NULL,
    presents TEXT,
    said_at BIGINT NOT NULL
) /* STRICT */;
CREATE INDEX ssh_installed_tenant ON ssh_installed (tenant_id);
