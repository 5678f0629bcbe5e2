-- The log's rows by key and by client, found block by block: 4096 ids that follow one another. What is
-- stored together goes into few pages of such an index, whichever keys and clients it is about; in an
-- index that begins with the key it went all over, which took most of the time that storing took.
DROP INDEX api_key_audit_log_by_key;
DROP INDEX api_key_audit_log_by_client;
CREATE INDEX api_key_audit_log_by_key ON api_key_audit_log ((id >> 12), key_id, id) WHERE key_id IS NOT NULL;
CREATE INDEX api_key_audit_log_by_client ON api_key_audit_log ((id >> 12), client_ip, id) WHERE client_ip IS NOT NULL;

-- Whoever looks for ids finds them by the primary key as well.
ALTER TABLE api_key_audit_log
    DROP CONSTRAINT api_key_audit_log_pkey,
    ADD PRIMARY KEY (id, recorded_at_ms);
DROP INDEX api_key_audit_log_by_id;

-- The days of the log that have rows, and between what their ids are.
CREATE FUNCTION audit_days()
RETURNS TABLE (from_ms BIGINT, until_ms BIGINT, first_id BIGINT, last_id BIGINT)
LANGUAGE plpgsql AS $$
DECLARE
    day RECORD;
BEGIN
    FOR day IN SELECT * FROM day_partitions('api_key_audit_log') LOOP
        BEGIN
            EXECUTE format('SELECT min(id), max(id) FROM %I', day.partition) INTO first_id, last_id;
        EXCEPTION WHEN undefined_table THEN
            -- It has just been retired.
            first_id := NULL;
        END;
        IF first_id IS NOT NULL THEN
            until_ms := day.until_ms;
            from_ms := until_ms - 86400000;
            RETURN NEXT;
        END IF;
    END LOOP;
END;
$$;

-- That rows come after the end of the chain is looked at once for all rows of a statement, and not for
-- each. The database gives a partition no copy of such a trigger.
DROP TRIGGER api_key_audit_log_only_grows ON api_key_audit_log;
DROP FUNCTION audit_row_follows_the_end();

CREATE FUNCTION audit_rows_follow_the_end() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM added WHERE id <= (SELECT last_id FROM audit_head)) THEN
        RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END;
$$;

CREATE FUNCTION guard_audit_rows(log_or_partition TEXT) RETURNS VOID
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE TRIGGER api_key_audit_log_only_grows AFTER INSERT ON %I
         REFERENCING NEW TABLE AS added
         FOR EACH STATEMENT EXECUTE FUNCTION audit_rows_follow_the_end()',
        log_or_partition);
END;
$$;

CREATE OR REPLACE FUNCTION make_audit_partition(ms BIGINT) RETURNS BOOLEAN
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT make_day_partition('api_key_audit_log', ms) THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE TRIGGER api_key_audit_log_is_never_truncated BEFORE TRUNCATE ON %I
         FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()',
        day_partition_name('api_key_audit_log', ms));
    PERFORM guard_audit_rows(day_partition_name('api_key_audit_log', ms));
    RETURN true;
END;
$$;

SELECT guard_audit_rows('api_key_audit_log');
SELECT guard_audit_rows(partition) FROM day_partitions('api_key_audit_log');
