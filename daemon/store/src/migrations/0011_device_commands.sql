-- The queue of device commands. Rows that ended stay for a month.

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
