-- The log's rows by key and by client, found block by block: 4096 ids that follow one another. What is
-- stored together goes into few pages of such an index, whichever keys and clients it is about; in an
-- index that begins with the key it went all over, which took most of the time that storing took.
DROP INDEX api_key_audit_log_by_key;
DROP INDEX api_key_audit_log_by_client;
CREATE INDEX api_key_audit_log_by_key ON api_key_audit_log (id >> 12, key_id) WHERE key_id IS NOT NULL;
CREATE INDEX api_key_audit_log_by_client ON api_key_audit_log (id >> 12, client_ip) WHERE client_ip IS NOT NULL;
