-- That a key was imported though the policy refuses it: a JSON object with the reason and the rules
-- that it breaks.
ALTER TABLE api_keys ADD COLUMN policy_override TEXT
    CHECK (policy_override IS NULL OR policy_override::json IS NOT NULL);
