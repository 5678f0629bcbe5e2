-- Times are milliseconds since the Unix epoch. Lists and objects are JSON text. What is compared
-- or put in order byte by byte says so with COLLATE "C": the order must not depend on the locale.

CREATE TABLE settings (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value TEXT NOT NULL
);

-- The name of this database's change feed. Positions of different epochs cannot be compared.
INSERT INTO settings (name, value) VALUES ('feed_epoch', replace(gen_random_uuid()::text, '-', ''));

CREATE TABLE api_keys (
    key_id          TEXT    COLLATE "C" PRIMARY KEY CHECK (length(key_id) = 16),
    -- HMAC-SHA256(KEYGATE_SECRET_KEY, key), truncated to 16 bytes.
    lookup          BYTEA   NOT NULL UNIQUE CHECK (octet_length(lookup) = 16),
    -- Which secret key `lookup` was made with, by the name that the settings have for it. A row
    -- keeps the one it was issued under until its key is next verified.
    lookup_secret   TEXT    COLLATE "C" NOT NULL DEFAULT '',
    hash_algorithm  TEXT    NOT NULL CHECK (hash_algorithm IN ('pbkdf2-hmac-sha256')),
    hash_iterations BIGINT  NOT NULL CHECK (hash_iterations >= 1000),
    hash_salt       BYTEA   NOT NULL CHECK (octet_length(hash_salt) = 16),
    hash            BYTEA   NOT NULL CHECK (octet_length(hash) = 32),
    name            TEXT    NOT NULL,
    description     TEXT,
    owner           TEXT,
    scope           TEXT    NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    environment     TEXT    NOT NULL CHECK (environment IN ('live', 'test')),
    is_active       BOOLEAN NOT NULL,
    allowed_ips     TEXT    NOT NULL CHECK (allowed_ips::json IS NOT NULL),
    rate_limit      TEXT    CHECK (rate_limit IS NULL OR rate_limit::json IS NOT NULL),
    metadata        TEXT    NOT NULL CHECK (metadata::json IS NOT NULL),
    created_at_ms   BIGINT  NOT NULL,
    expires_at_ms   BIGINT,
    last_used_at_ms BIGINT,
    revoked_at_ms   BIGINT,
    revoked_reason  TEXT,
    CHECK (revoked_at_ms IS NULL OR NOT is_active)
)
-- `last_used_at_ms` is in no index: with room left on the page, writing it touches none.
WITH (fillfactor = 90);

-- Lists are read newest first, from a place on.
CREATE INDEX api_keys_by_age ON api_keys (created_at_ms, key_id);
-- Whether an admin key is the last one.
CREATE INDEX api_keys_active_admins ON api_keys (key_id) WHERE scope = 'admin' AND is_active;
CREATE INDEX api_keys_by_lookup_secret ON api_keys (lookup_secret);

-- What filters follow.
CREATE TABLE change_log (
    sequence BIGINT PRIMARY KEY,
    key_id   TEXT   NOT NULL,
    kind     TEXT   NOT NULL CHECK (kind IN ('created', 'updated', 'revoked')),
    at_ms    BIGINT NOT NULL
);

-- Where the feed stands. Whoever adds a change moves this row on and holds it until the end of the
-- transaction: so the sequence has no holes, and nobody sees a change before the one that came
-- before it. A SERIAL would promise neither.
CREATE TABLE feed_head (
    single   INTEGER PRIMARY KEY CHECK (single = 1),
    sequence BIGINT  NOT NULL
);

INSERT INTO feed_head (single, sequence) VALUES (1, 0);

-- The last batch stored of each filter: a repeated batch is acknowledged and not stored again.
CREATE TABLE edge_sources (
    source       TEXT   COLLATE "C" PRIMARY KEY,
    last_batch   BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL
);

-- Partitions by day (UTC), for tables whose partition key is a time in milliseconds.

CREATE FUNCTION day_partition_name(parent TEXT, ms BIGINT) RETURNS TEXT
LANGUAGE sql STABLE
AS $$ SELECT parent || '_' || to_char(to_timestamp(ms / 1000) AT TIME ZONE 'UTC', 'YYYYMMDD') $$;

-- Makes the partition that a time belongs to, if there is none; says whether it did. A table that
-- is attached keeps nobody from reading or writing the others, as one that is created in its place
-- would.
CREATE FUNCTION make_day_partition(parent TEXT, ms BIGINT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
DECLARE
    day  CONSTANT BIGINT := 86400000;
    first CONSTANT BIGINT := ms - mod(ms, day);
    partition CONSTANT TEXT := day_partition_name(parent, ms);
BEGIN
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('keygate partitions'), hashtext(parent));
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                   parent, partition, first, first + day);
    RETURN true;
END;
$$;

-- The partitions of a table, oldest first, and the times at which they end.
CREATE FUNCTION day_partitions(parent TEXT) RETURNS TABLE (partition TEXT, until_ms BIGINT)
LANGUAGE sql STABLE AS $$
    SELECT child.relname,
           (extract(epoch FROM to_date(right(child.relname, 8), 'YYYYMMDD')) * 1000)::bigint + 86400000
    FROM pg_inherits
    JOIN pg_class AS child ON child.oid = inhrelid
    WHERE inhparent = to_regclass(parent)
    ORDER BY child.relname
$$;
