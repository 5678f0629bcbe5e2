-- Which version of the record this is: a change names the one that it was decided on. When a key
-- was last used is no part of the record.
ALTER TABLE api_keys ADD COLUMN version BIGINT NOT NULL DEFAULT 1 CHECK (version >= 1);

-- A key that is rotated is superseded by the one that takes its place.
ALTER TABLE api_keys ADD COLUMN supersedes TEXT COLLATE "C" REFERENCES api_keys (key_id);
ALTER TABLE api_keys ADD COLUMN superseded_by TEXT COLLATE "C" REFERENCES api_keys (key_id);
ALTER TABLE api_keys ADD COLUMN rotated_at_ms BIGINT
    CHECK ((rotated_at_ms IS NULL) = (superseded_by IS NULL));

-- No key takes the place of two, nor two the place of one.
CREATE UNIQUE INDEX api_keys_by_supersedes ON api_keys (supersedes) WHERE supersedes IS NOT NULL;
CREATE UNIQUE INDEX api_keys_by_superseded_by ON api_keys (superseded_by) WHERE superseded_by IS NOT NULL;

-- What lists ask for: few of many, newest first, in the wording of the query.
CREATE INDEX api_keys_by_environment ON api_keys (environment, created_at_ms, key_id);
CREATE INDEX api_keys_by_scope ON api_keys (scope, created_at_ms, key_id);
CREATE INDEX api_keys_by_owner ON api_keys (owner, created_at_ms, key_id) WHERE owner IS NOT NULL;
CREATE INDEX api_keys_revoked ON api_keys (created_at_ms, key_id) WHERE revoked_at_ms IS NOT NULL;
CREATE INDEX api_keys_disabled ON api_keys (created_at_ms, key_id)
    WHERE NOT is_active AND revoked_at_ms IS NULL;
-- Expired ones, and those that soon will be.
CREATE INDEX api_keys_by_end ON api_keys (expires_at_ms) WHERE is_active AND expires_at_ms IS NOT NULL;
