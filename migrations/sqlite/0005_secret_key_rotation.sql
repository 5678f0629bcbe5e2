-- Which secret key a row's `lookup` was made with, by the name that the settings have for it. A
-- row keeps the one it was issued under until its key is next verified.
ALTER TABLE api_keys ADD COLUMN lookup_secret TEXT NOT NULL DEFAULT '';

UPDATE api_keys SET lookup_secret =
    coalesce((SELECT value FROM settings WHERE name = 'lookup_secret_key_check'), '');

CREATE INDEX api_keys_by_lookup_secret ON api_keys (lookup_secret);
