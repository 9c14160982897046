-- Devices without an agent. Theirs is the id in place of an identity, and no token.

ALTER TABLE devices ADD COLUMN kind TEXT NOT NULL DEFAULT 'agent' CHECK (kind IN ('agent', 'plain'));
