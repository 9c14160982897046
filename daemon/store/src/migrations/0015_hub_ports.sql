-- Tenants with an interface of their own on the hub: its UDP port, which no two have.

ALTER TABLE tenants ADD COLUMN hub_port BIGINT;
CREATE UNIQUE INDEX tenants_hub_port ON tenants (hub_port);
