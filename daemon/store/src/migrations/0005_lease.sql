-- One row: which replica acts as the hub's server, sweeps and works the queue of commands. Terms only grow, and what
-- belongs to a term is committed only while that is the last one.
CREATE TABLE lease (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    holder TEXT NOT NULL,
    term BIGINT NOT NULL,
    -- By the clock of the database: those of replicas may differ.
    expires_at BIGINT NOT NULL
) /* STRICT */;
INSERT INTO lease (id, holder, term, expires_at) VALUES (1, '', 0, 0);
