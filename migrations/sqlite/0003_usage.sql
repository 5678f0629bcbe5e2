-- How often keys were used: by minute (UTC, when it began, in milliseconds since the Unix epoch),
-- method, and what became of the requests.
CREATE TABLE api_key_usage (
    key_id    TEXT    NOT NULL,
    minute_ms INTEGER NOT NULL CHECK (minute_ms >= 0 AND minute_ms % 60000 = 0),
    method    TEXT    NOT NULL,
    outcome   TEXT    NOT NULL,
    count     INTEGER NOT NULL CHECK (count > 0),
    PRIMARY KEY (key_id, minute_ms, method, outcome)
) STRICT, WITHOUT ROWID;

-- What is old goes, whichever key's it is.
CREATE INDEX api_key_usage_by_minute ON api_key_usage (minute_ms);
