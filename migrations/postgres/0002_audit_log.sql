-- The audit log, and its chain: every transaction that adds rows adds one batch, which carries the
-- hash of the batch before. docs/audit.md says what that is good for.

CREATE TABLE api_key_audit_log (
    id             BIGINT  NOT NULL,
    -- When the row was stored, which is when the control plane learnt of it. It never goes back, so
    -- the partitions hold the ids in order.
    recorded_at_ms BIGINT  NOT NULL,
    at_ms          BIGINT  NOT NULL,
    event          TEXT    COLLATE "C" NOT NULL,
    key_id         TEXT    COLLATE "C",
    -- The first 16 hex digits of the SHA-256 of the presented key.
    key_hash       TEXT    COLLATE "C",
    client_ip      TEXT    COLLATE "C",
    -- Who acted, for what administrators do: a key id, or 'cli'.
    actor          TEXT    COLLATE "C",
    details        TEXT    NOT NULL,
    -- Only counted, the request passed.
    shadow         BOOLEAN NOT NULL DEFAULT false,
    -- The filter's name for its own life, or 'control-plane'.
    source         TEXT    COLLATE "C" NOT NULL,
    batch          BIGINT,
    PRIMARY KEY (recorded_at_ms, id)
) PARTITION BY RANGE (recorded_at_ms);

-- What the log is read in order of, and asked for.
CREATE INDEX api_key_audit_log_by_id ON api_key_audit_log (id);
CREATE INDEX api_key_audit_log_by_event ON api_key_audit_log (event, id);
CREATE INDEX api_key_audit_log_by_key ON api_key_audit_log (key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX api_key_audit_log_by_client ON api_key_audit_log (client_ip, id) WHERE client_ip IS NOT NULL;
CREATE INDEX api_key_audit_log_by_actor ON api_key_audit_log (actor, id) WHERE actor IS NOT NULL;
CREATE INDEX api_key_audit_log_by_source ON api_key_audit_log (source, id);
CREATE INDEX api_key_audit_log_by_time ON api_key_audit_log (at_ms, id);

-- Where the chain ends. Whoever adds to the log takes this row first, and keeps it.
CREATE TABLE audit_head (
    single         INTEGER PRIMARY KEY CHECK (single = 1),
    -- The chain's name: the first batch follows the hash of it.
    database_id    TEXT    NOT NULL,
    sequence       BIGINT  NOT NULL,
    last_id        BIGINT  NOT NULL,
    -- Null before the first batch.
    hash           BYTEA   CHECK (hash IS NULL OR octet_length(hash) = 32),
    recorded_at_ms BIGINT  NOT NULL
);

INSERT INTO audit_head (single, database_id, sequence, last_id, hash, recorded_at_ms)
VALUES (1, replace(gen_random_uuid()::text, '-', ''), 0, 0, NULL, 0);

CREATE TABLE audit_batches (
    sequence       BIGINT PRIMARY KEY,
    first_id       BIGINT NOT NULL,
    last_id        BIGINT NOT NULL,
    count          BIGINT NOT NULL,
    recorded_at_ms BIGINT NOT NULL,
    previous_hash  BYTEA  NOT NULL CHECK (octet_length(previous_hash) = 32),
    hash           BYTEA  NOT NULL CHECK (octet_length(hash) = 32),
    -- The first 8 bytes of each row's hash.
    digests        BYTEA  NOT NULL,
    CHECK (count > 0 AND count = last_id - first_id + 1 AND octet_length(digests) = 8 * count)
);

-- What retention asks for.
CREATE INDEX audit_batches_by_time ON audit_batches (recorded_at_ms, sequence);

-- Signed statements of where the chain stood.
CREATE TABLE audit_checkpoints (
    number      BIGINT PRIMARY KEY,
    sequence    BIGINT NOT NULL,
    last_id     BIGINT NOT NULL,
    hash        BYTEA  NOT NULL CHECK (octet_length(hash) = 32),
    at_ms       BIGINT NOT NULL,
    reason      TEXT   NOT NULL CHECK (reason IN ('periodic', 'shutdown', 'retention', 'manual')),
    database_id TEXT   NOT NULL,
    public_key  BYTEA  NOT NULL CHECK (octet_length(public_key) = 32),
    signature   BYTEA  NOT NULL CHECK (octet_length(signature) = 64)
);

-- Up to where rows may go.
CREATE INDEX audit_checkpoints_retired ON audit_checkpoints (sequence) WHERE reason = 'retention';

-- The rules. Rows are only ever added after the end of the chain; they go with their partition
-- once a checkpoint has retired them, and never one by one.

CREATE FUNCTION audit_is_append_only() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
END;
$$;

CREATE FUNCTION audit_row_follows_the_end() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <= (SELECT last_id FROM audit_head) THEN
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END;
$$;

CREATE FUNCTION audit_batch_follows_the_end() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.sequence <= (SELECT sequence FROM audit_head) THEN
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END;
$$;

CREATE FUNCTION audit_batch_is_retired() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.sequence > coalesce(
        (SELECT max(sequence) FROM audit_checkpoints WHERE reason = 'retention'), 0)
    THEN
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END;
$$;

-- Whether the signature is right cannot be told here; the service looks.
CREATE FUNCTION audit_checkpoint_retires_what_is_there() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM audit_batches WHERE sequence = NEW.sequence
                   AND last_id = NEW.last_id AND hash = NEW.hash)
    THEN
        RAISE EXCEPTION 'a retention checkpoint is about a batch that is there'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END;
$$;

-- The database gives each partition a copy of the row's triggers, but not of the statement's.
CREATE TRIGGER api_key_audit_log_is_never_changed
BEFORE UPDATE OR DELETE ON api_key_audit_log
FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER api_key_audit_log_is_never_truncated
BEFORE TRUNCATE ON api_key_audit_log
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER api_key_audit_log_only_grows
BEFORE INSERT ON api_key_audit_log
FOR EACH ROW EXECUTE FUNCTION audit_row_follows_the_end();

CREATE FUNCTION make_audit_partition(ms BIGINT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT make_day_partition('api_key_audit_log', ms) THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE TRIGGER api_key_audit_log_is_never_truncated BEFORE TRUNCATE ON %I
         FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()',
        day_partition_name('api_key_audit_log', ms));
    RETURN true;
END;
$$;

CREATE TRIGGER audit_head_only_moves_forward
BEFORE UPDATE ON audit_head
FOR EACH ROW
WHEN (NEW.single <> OLD.single OR NEW.database_id <> OLD.database_id
   OR NEW.sequence <= OLD.sequence OR NEW.last_id <= OLD.last_id
   OR NEW.recorded_at_ms < OLD.recorded_at_ms)
EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER audit_head_is_the_only_one
BEFORE INSERT OR DELETE ON audit_head
FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER audit_head_is_never_truncated
BEFORE TRUNCATE ON audit_head
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER audit_batches_are_never_updated
BEFORE UPDATE ON audit_batches
FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER audit_batches_go_when_they_are_retired
BEFORE DELETE ON audit_batches
FOR EACH ROW EXECUTE FUNCTION audit_batch_is_retired();

CREATE TRIGGER audit_batches_are_never_truncated
BEFORE TRUNCATE ON audit_batches
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER audit_batches_only_grow
BEFORE INSERT ON audit_batches
FOR EACH ROW EXECUTE FUNCTION audit_batch_follows_the_end();

CREATE TRIGGER audit_checkpoints_are_never_changed
BEFORE UPDATE OR DELETE ON audit_checkpoints
FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER audit_checkpoints_are_never_truncated
BEFORE TRUNCATE ON audit_checkpoints
FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE TRIGGER audit_checkpoints_retire_what_is_there
BEFORE INSERT ON audit_checkpoints
FOR EACH ROW WHEN (NEW.reason = 'retention')
EXECUTE FUNCTION audit_checkpoint_retires_what_is_there();
