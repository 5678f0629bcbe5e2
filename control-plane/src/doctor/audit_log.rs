//! Whether the audit log is signed for, by a key that is believed.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Check, Finding};
use crate::{
    audit::{
        chain::{
            batch::ChainHead,
            checkpoint::{Checkpoint, PublicKey},
        },
        signer::configured_keys,
    },
    config::Config,
    store::{Store, StoreError},
};

/// What a service that runs signs within its interval, and then some.
const GRACE: SignedDuration = SignedDuration::from_mins(2);

pub(super) async fn examine(config: &Config, store: &dyn Store, now: Timestamp) -> Finding {
    match read(store).await {
        Ok((head, last)) => {
            let every = SignedDuration::try_from(config.audit.checkpoint_every);
            let patience = every.unwrap_or(SignedDuration::ZERO).saturating_add(GRACE);
            judge(&head, last.as_ref(), &configured_keys(config), now, patience)
        }
        Err(error) => {
            Finding::failed(Check::AuditLog, error.to_string(), "see the database's own log")
        }
    }
}

async fn read(store: &dyn Store) -> Result<(ChainHead, Option<Checkpoint>), StoreError> {
    Ok((store.chain_head().await?, store.last_checkpoint().await?))
}

fn judge(
    head: &ChainHead,
    last: Option<&Checkpoint>,
    believed: &[PublicKey],
    now: Timestamp,
    patience: SignedDuration,
) -> Finding {
    const LOOK: &str =
        "keygate audit verify; docs/incident-runbook.md, \"The audit chain is broken\"";
    if head.sequence == 0 {
        return Finding::ok(Check::AuditLog, "it is empty");
    }
    if let Some(last) = last {
        let signed = last.statement.sequence;
        if !last.is_signed() || signed > head.sequence {
            let what = "the last checkpoint is not what was signed, or is of another log";
            return Finding::failed(Check::AuditLog, what, LOOK);
        }
        if signed == head.sequence && last.statement.hash != head.hash {
            let what = "its end is not what the last checkpoint was signed for";
            return Finding::failed(Check::AuditLog, what, LOOK);
        }
        // Outside production the key may be in the database, and cannot be told from here.
        if !believed.is_empty() && !believed.contains(&last.public_key) {
            return Finding::failed(
                Check::AuditLog,
                format!(
                    "the last checkpoint was signed with {}, which is not believed",
                    last.public_key
                ),
                "if that was your key before, name it in KEYGATE_AUDIT_TRUSTED_KEYS; else keygate audit verify",
            );
        }
        if signed == head.sequence {
            return Finding::ok(
                Check::AuditLog,
                format!("all of it is signed for (batch {signed})"),
            );
        }
    }
    let newest = Timestamp::from_millisecond(head.recorded_at_ms).unwrap_or_default();
    let signed_at = last.and_then(|it| Timestamp::from_millisecond(it.statement.at_ms).ok());
    // Since the last signature, and at most since the newest entry came: nothing was due before.
    let waiting = now.duration_since(signed_at.unwrap_or(newest)).min(now.duration_since(newest));
    let what = format!(
        "entries since batch {} are not signed for yet",
        last.map_or(0, |it| it.statement.sequence)
    );
    if waiting > patience {
        let mend = "the service signs them while it runs; without it: keygate audit checkpoint";
        Finding::warning(Check::AuditLog, what, mend)
    } else {
        Finding::ok(Check::AuditLog, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{
            chain::{
                ChainHash,
                checkpoint::{Reason, Statement},
            },
            signer::AuditSigner,
        },
        doctor::finding::Status,
        testing::at,
    };

    fn hash(byte: u8) -> ChainHash {
        hex::encode([byte; 32]).parse().expect("a hash")
    }

    fn head(sequence: u64) -> ChainHead {
        ChainHead {
            database_id: "a".to_owned(),
            sequence,
            last_id: 9,
            hash: hash(7),
            recorded_at_ms: at("2026-11-26T12:00:00Z").as_millisecond(),
        }
    }

    fn checkpoint(sequence: u64, of: u8) -> Checkpoint {
        let end = head(sequence);
        AuditSigner::from_seed([1; 32]).sign(Statement {
            database_id: end.database_id,
            number: 1,
            sequence,
            last_id: end.last_id,
            hash: hash(of),
            at_ms: end.recorded_at_ms,
            reason: Reason::Periodic,
        })
    }

    fn status(sequence: u64, last: Option<&Checkpoint>, now: &str) -> Status {
        let believed = [AuditSigner::from_seed([1; 32]).public_key()];
        judge(&head(sequence), last, &believed, at(now), SignedDuration::from_mins(7)).status
    }

    const SOON: &str = "2026-11-26T12:01:00Z";
    const LATE: &str = "2026-11-26T13:00:00Z";

    #[test]
    fn entries_that_nothing_signs_for_any_more_are_told() {
        assert_eq!(status(0, None, LATE), Status::Ok);
        assert_eq!(status(3, None, SOON), Status::Ok);
        assert_eq!(status(3, None, LATE), Status::Warning);
        assert_eq!(status(3, Some(&checkpoint(2, 5)), SOON), Status::Ok);
        assert_eq!(status(3, Some(&checkpoint(2, 5)), LATE), Status::Warning);
        assert_eq!(status(3, Some(&checkpoint(3, 7)), LATE), Status::Ok);
    }

    #[test]
    fn a_checkpoint_that_is_not_right_is_a_failure() {
        assert_eq!(status(3, Some(&checkpoint(3, 8)), SOON), Status::Failed, "another end");
        assert_eq!(status(3, Some(&checkpoint(4, 7)), SOON), Status::Failed, "rows are gone");
        let mut edited = checkpoint(3, 7);
        edited.statement.number += 1;
        assert_eq!(status(3, Some(&edited), SOON), Status::Failed, "edited");
        let foreign = [AuditSigner::from_seed([2; 32]).public_key()];
        let own = checkpoint(3, 7);
        let found = judge(&head(3), Some(&own), &foreign, at(SOON), GRACE);
        assert_eq!(found.status, Status::Failed, "another key");
    }
}
