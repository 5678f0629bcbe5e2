-- Rows and batches are only ever added after the end of the chain: not in the place of one that is
-- there, and not before it either, where one that was retired has been.
DROP TRIGGER api_key_audit_log_is_never_replaced;
CREATE TRIGGER api_key_audit_log_is_never_replaced
BEFORE INSERT ON api_key_audit_log
WHEN NEW.id <= (SELECT last_id FROM audit_head)
  OR EXISTS (SELECT 1 FROM api_key_audit_log WHERE id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

DROP TRIGGER audit_batches_are_never_replaced;
CREATE TRIGGER audit_batches_are_never_replaced
BEFORE INSERT ON audit_batches
WHEN NEW.sequence <= (SELECT sequence FROM audit_head)
  OR EXISTS (SELECT 1 FROM audit_batches WHERE sequence = NEW.sequence)
BEGIN
    SELECT RAISE(ABORT, 'the audit log is append-only');
END;

-- What is retired ends with a batch that is there. Whether the signature is right cannot be told
-- here; the service looks.
CREATE TRIGGER audit_checkpoints_retire_what_is_there
BEFORE INSERT ON audit_checkpoints
WHEN NEW.reason = 'retention' AND NOT EXISTS (
    SELECT 1 FROM audit_batches
    WHERE sequence = NEW.sequence AND last_id = NEW.last_id AND hash = NEW.hash)
BEGIN
    SELECT RAISE(ABORT, 'a retention checkpoint is about a batch that is there');
END;
