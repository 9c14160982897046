-- Where what people did came from, and the answers that they may ask for again.

ALTER TABLE audit ADD COLUMN source TEXT;
ALTER TABLE audit ADD COLUMN request TEXT;

-- Requests with a key of their sender's. What was asked and what was answered are sealed by a key that is not here; no
-- answer: it is being done.
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
