-- How long devices and tenants stay, how many there may be, and what administrators label.

ALTER TABLE tenants ADD COLUMN quota BIGINT;
ALTER TABLE tenants ADD COLUMN closed_at BIGINT;
ALTER TABLE tenants ADD COLUMN erase_at BIGINT;

ALTER TABLE devices ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
ALTER TABLE devices ADD COLUMN expires_at BIGINT;
ALTER TABLE devices ADD COLUMN idle_seconds BIGINT;
-- 'expired' beside the standing 'pending'.
ALTER TABLE devices ADD COLUMN lapse TEXT;

ALTER TABLE tokens ADD COLUMN device_seconds BIGINT;
ALTER TABLE tokens ADD COLUMN idle_seconds BIGINT;

ALTER TABLE ssh_roles ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
