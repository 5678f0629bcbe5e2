-- How often keys were used: by minute (UTC, when it began), method, and what became of the requests.
-- A partition for each day, made when something is first counted in it.
CREATE TABLE api_key_usage (
    key_id    TEXT   COLLATE "C" NOT NULL,
    minute_ms BIGINT NOT NULL CHECK (minute_ms >= 0 AND minute_ms % 60000 = 0),
    method    TEXT   COLLATE "C" NOT NULL,
    outcome   TEXT   COLLATE "C" NOT NULL,
    count     BIGINT NOT NULL CHECK (count > 0),
    PRIMARY KEY (key_id, minute_ms, method, outcome)
) PARTITION BY RANGE (minute_ms);

-- Two filters may be the first of a day at once. Whether the partition is there is then asked of the
-- catalogue itself: `to_regclass` may answer from a cache that does not know yet what another
-- transaction has made while this one waited for the lock.
CREATE OR REPLACE FUNCTION make_day_partition(parent TEXT, ms BIGINT) RETURNS BOOLEAN
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
    IF EXISTS (SELECT 1 FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
               WHERE inhparent = to_regclass(parent) AND child.relname = partition) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', partition, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                   parent, partition, first, first + day);
    RETURN true;
END;
$$;
