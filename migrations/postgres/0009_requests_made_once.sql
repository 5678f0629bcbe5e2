-- Requests with an Idempotency-Key: a repetition finds here which key the first one made. The key
-- itself, and what it was shown as, are not kept.
CREATE TABLE requests_made_once (
    -- SHA-256 of who sent it, where to, and its Idempotency-Key.
    name   BYTEA  PRIMARY KEY CHECK (octet_length(name) = 32),
    -- HMAC-SHA256(KEYGATE_SECRET_KEY, body).
    body   BYTEA  NOT NULL CHECK (octet_length(body) = 32),
    key_id TEXT   COLLATE "C" NOT NULL CHECK (length(key_id) = 16),
    at_ms  BIGINT NOT NULL
);

-- What is old is deleted.
CREATE INDEX requests_made_once_by_time ON requests_made_once (at_ms);
