-- The audit log's chain: every transaction that adds rows adds one batch, which carries the hash
-- of the batch before. docs/audit.md says what that is good for.

-- Where the chain ends. Whoever adds to the log takes this row first.
CREATE TABLE audit_head (
    only           INTEGER PRIMARY KEY CHECK (only = 1),
    -- The chain's name: the first batch follows the hash of it.
    database_id    TEXT    NOT NULL,
    sequence       INTEGER NOT NULL,
    last_id        INTEGER NOT NULL,
    -- Null before the first batch.
    hash           BLOB    CHECK (hash IS NULL OR length(hash) = 32),
    recorded_at_ms INTEGER NOT NULL
) STRICT;

INSERT INTO audit_head (only, database_id, sequence, last_id, hash, recorded_at_ms)
VALUES (1, lower(hex(randomblob(16))), 0, 0, NULL, 0);

CREATE TRIGGER audit_head_only_moves_forward
BEFORE UPDATE ON audit_head
WHEN NEW.only <> OLD.only OR NEW.database_id <> OLD.database_id
  OR NEW.sequence <= OLD.sequence OR NEW.last_id <= OLD.last_id
  OR NEW.recorded_at_ms < OLD.recorded_at_ms
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_head_is_never_deleted
BEFORE DELETE ON audit_head
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_head_is_never_replaced
BEFORE INSERT ON audit_head
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TABLE audit_batches (
    sequence       INTEGER PRIMARY KEY,
    first_id       INTEGER NOT NULL,
    last_id        INTEGER NOT NULL,
    count          INTEGER NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    previous_hash  BLOB    NOT NULL CHECK (length(previous_hash) = 32),
    hash           BLOB    NOT NULL CHECK (length(hash) = 32),
    -- The first 8 bytes of each row's hash.
    digests        BLOB    NOT NULL,
    CHECK (count > 0 AND count = last_id - first_id + 1 AND length(digests) = 8 * count)
) STRICT;

-- What retention asks for.
CREATE INDEX audit_batches_by_time ON audit_batches (recorded_at_ms);

-- Signed statements of where the chain stood.
CREATE TABLE audit_checkpoints (
    number      INTEGER PRIMARY KEY,
    sequence    INTEGER NOT NULL,
    last_id     INTEGER NOT NULL,
    hash        BLOB    NOT NULL CHECK (length(hash) = 32),
    at_ms       INTEGER NOT NULL,
    reason      TEXT    NOT NULL CHECK (reason IN ('periodic', 'shutdown', 'retention', 'manual')),
    database_id TEXT    NOT NULL,
    public_key  BLOB    NOT NULL CHECK (length(public_key) = 32),
    signature   BLOB    NOT NULL CHECK (length(signature) = 64)
) STRICT;

-- Up to where rows may be deleted.
CREATE INDEX audit_checkpoints_retired ON audit_checkpoints (last_id) WHERE reason = 'retention';
CREATE INDEX audit_checkpoints_retired_batches ON audit_checkpoints (sequence) WHERE reason = 'retention';

-- When a row was stored, which is when the control plane learnt of it. The rows that were there
-- before get the time of this migration.
DROP TRIGGER api_key_audit_log_is_never_updated;
ALTER TABLE api_key_audit_log ADD COLUMN recorded_at_ms INTEGER NOT NULL DEFAULT 0;
UPDATE api_key_audit_log SET recorded_at_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER);

CREATE TRIGGER api_key_audit_log_is_never_updated
BEFORE UPDATE ON api_key_audit_log
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- A row may go once a checkpoint has retired it.
DROP TRIGGER api_key_audit_log_is_never_deleted;
CREATE TRIGGER api_key_audit_log_is_never_deleted
BEFORE DELETE ON api_key_audit_log
WHEN OLD.id > coalesce((SELECT max(last_id) FROM audit_checkpoints WHERE reason = 'retention'), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_batches_are_never_updated
BEFORE UPDATE ON audit_batches
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_batches_are_never_deleted
BEFORE DELETE ON audit_batches
WHEN OLD.sequence > coalesce((SELECT max(sequence) FROM audit_checkpoints WHERE reason = 'retention'), 0)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_batches_are_never_replaced
BEFORE INSERT ON audit_batches
WHEN EXISTS (SELECT 1 FROM audit_batches WHERE sequence = NEW.sequence)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_checkpoints_are_never_updated
BEFORE UPDATE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_checkpoints_are_never_deleted
BEFORE DELETE ON audit_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

CREATE TRIGGER audit_checkpoints_are_never_replaced
BEFORE INSERT ON audit_checkpoints
WHEN EXISTS (SELECT 1 FROM audit_checkpoints WHERE number = NEW.number)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- What the log is asked for.
CREATE INDEX api_key_audit_log_by_client ON api_key_audit_log (client_ip, id) WHERE client_ip IS NOT NULL;
CREATE INDEX api_key_audit_log_by_actor ON api_key_audit_log (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX api_key_audit_log_by_source ON api_key_audit_log (source, id);
CREATE INDEX api_key_audit_log_by_time ON api_key_audit_log (at_ms, id);
