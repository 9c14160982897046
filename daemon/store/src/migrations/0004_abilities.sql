-- What the programs of devices know. Those that are there say it when they attach next.

ALTER TABLE devices ADD COLUMN abilities BIGINT NOT NULL DEFAULT 0;
