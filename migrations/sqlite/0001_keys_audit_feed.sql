-- Times are milliseconds since the Unix epoch. Lists and objects are JSON text.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The name of this database's change feed. Positions of different epochs cannot be compared.
INSERT INTO settings (name, value) VALUES ('feed_epoch', lower(hex(randomblob(16))));

CREATE TABLE api_keys (
    key_id          TEXT    PRIMARY KEY CHECK (length(key_id) = 16),
    -- HMAC-SHA256(KEYGATE_SECRET_KEY, key), truncated to 16 bytes.
    lookup          BLOB    NOT NULL UNIQUE CHECK (length(lookup) = 16),
    hash_algorithm  TEXT    NOT NULL CHECK (hash_algorithm IN ('pbkdf2-hmac-sha256')),
    hash_iterations INTEGER NOT NULL CHECK (hash_iterations >= 1000),
    hash_salt       BLOB    NOT NULL CHECK (length(hash_salt) = 16),
    hash            BLOB    NOT NULL CHECK (length(hash) = 32),
    name            TEXT    NOT NULL,
    description     TEXT,
    owner           TEXT,
    scope           TEXT    NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    environment     TEXT    NOT NULL CHECK (environment IN ('live', 'test')),
    is_active       INTEGER NOT NULL CHECK (is_active IN (0, 1)),
    allowed_ips     TEXT    NOT NULL CHECK (json_valid(allowed_ips)),
    rate_limit      TEXT    CHECK (rate_limit IS NULL OR json_valid(rate_limit)),
    metadata        TEXT    NOT NULL CHECK (json_valid(metadata)),
    created_at_ms   INTEGER NOT NULL,
    expires_at_ms   INTEGER,
    last_used_at_ms INTEGER,
    revoked_at_ms   INTEGER,
    revoked_reason  TEXT,
    CHECK (revoked_at_ms IS NULL OR is_active = 0)
) STRICT, WITHOUT ROWID;

-- Lists are read newest first, from a place on.
CREATE INDEX api_keys_by_age ON api_keys (created_at_ms, key_id);
-- Whether an admin key is the last one.
CREATE INDEX api_keys_active_admins ON api_keys (key_id) WHERE scope = 'admin' AND is_active = 1;

-- What filters follow. AUTOINCREMENT allocates inside the transaction, so the sequence has no
-- holes, and it never falls back when old rows are removed.
CREATE TABLE change_log (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    key_id   TEXT    NOT NULL,
    kind     TEXT    NOT NULL CHECK (kind IN ('created', 'updated', 'revoked')),
    at_ms    INTEGER NOT NULL
) STRICT;

CREATE TABLE api_key_audit_log (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms     INTEGER NOT NULL,
    event     TEXT    NOT NULL,
    key_id    TEXT,
    -- The first 16 hex digits of the SHA-256 of the presented key.
    key_hash  TEXT,
    client_ip TEXT,
    -- Who acted, for what administrators do: a key id, or 'cli'.
    actor     TEXT,
    details   TEXT    NOT NULL,
    -- 1: only counted, the request passed.
    shadow    INTEGER NOT NULL DEFAULT 0 CHECK (shadow IN (0, 1)),
    -- The filter's name for its own life, or 'control-plane'.
    source    TEXT    NOT NULL,
    batch     INTEGER
) STRICT;

CREATE INDEX api_key_audit_log_by_event ON api_key_audit_log (event, id);
CREATE INDEX api_key_audit_log_by_key ON api_key_audit_log (key_id, id) WHERE key_id IS NOT NULL;

CREATE TRIGGER api_key_audit_log_is_never_updated
BEFORE UPDATE ON api_key_audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER api_key_audit_log_is_never_deleted
BEFORE DELETE ON api_key_audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- INSERT OR REPLACE takes a row away without a word to the trigger above.
CREATE TRIGGER api_key_audit_log_is_never_replaced
BEFORE INSERT ON api_key_audit_log
WHEN EXISTS (SELECT 1 FROM api_key_audit_log WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- The last batch stored of each filter: a repeated batch is acknowledged and not stored again.
CREATE TABLE edge_sources (
    source       TEXT    PRIMARY KEY,
    last_batch   INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
