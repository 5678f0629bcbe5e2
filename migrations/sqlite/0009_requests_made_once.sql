-- Requests with an Idempotency-Key: a repetition finds here which key the first one made. The key
-- itself, and what it was shown as, are not kept.
CREATE TABLE requests_made_once (
    -- SHA-256 of who sent it, where to, and its Idempotency-Key.
    name   BLOB    PRIMARY KEY CHECK (length(name) = 32),
    -- HMAC-SHA256(KEYGATE_SECRET_KEY, body).
    body   BLOB    NOT NULL CHECK (length(body) = 32),
    key_id TEXT    NOT NULL CHECK (length(key_id) = 16),
    at_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is old is deleted.
CREATE INDEX requests_made_once_by_time ON requests_made_once (at_ms);
