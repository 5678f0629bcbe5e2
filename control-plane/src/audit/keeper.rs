//! Keeps the audit log: vouches for it by checkpoints, and retires what is older than it is kept.

use jiff::{SignedDuration, Timestamp};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

use super::{
    chain::{
        batch::Batch,
        check::{Anchors, Trust},
        checkpoint::{Checkpoint, Reason, Statement},
        fault::Fault,
    },
    signer::AuditSigner,
    verify::{Scope, verify},
};
use crate::{
    clock::Clock,
    config::AuditConfig,
    metrics,
    store::{
        Store, StoreError,
        audit_chain::{CheckpointOutcome, Dropped},
    },
};

/// How often it is looked whether a checkpoint is due.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How often it is looked whether there is something to retire.
const RETIRE_EVERY: Duration = Duration::from_hours(1);

/// Why nothing was retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is old enough is not as it was written. It stays, for someone to look at.
    #[error("nothing is retired, since the audit log is broken: {0}")]
    Broken(#[from] Fault),
}

/// Vouches for the log and retires its beginning.
pub struct Keeper {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    signer: AuditSigner,
    config: AuditConfig,
    /// Whose checkpoints are believed when old rows are looked through before they go.
    trust: Trust,
}

impl Keeper {
    /// A keeper with nothing to do yet.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        signer: AuditSigner,
        config: AuditConfig,
    ) -> Self {
        // Which keys have signed before is not known here; that it was a key is all we can ask.
        Self { store, clock, signer, config, trust: Trust::Anyone }
    }

    /// Signs and stores where the log stands, and writes it to the log stream. None, when there
    /// is nothing new since the last checkpoint, or another control plane was faster.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn checkpoint(&self, reason: Reason) -> Result<Option<Checkpoint>, StoreError> {
        let last = self.store.last_checkpoint().await?;
        let head = self.store.chain_head().await?;
        let told = last.as_ref().is_some_and(|last| {
            last.statement.sequence == head.sequence
                && last.statement.hash == head.hash
                && last.public_key == self.signer.public_key()
        });
        if told || head.sequence == 0 {
            return Ok(None);
        }
        let statement = Statement {
            database_id: head.database_id,
            number: 1 + last.map_or(0, |last| last.statement.number),
            sequence: head.sequence,
            last_id: head.last_id,
            hash: head.hash,
            at_ms: self.clock.now().as_millisecond(),
            reason,
        };
        self.publish(statement).await
    }

    async fn publish(&self, statement: Statement) -> Result<Option<Checkpoint>, StoreError> {
        let checkpoint = self.signer.sign(statement);
        match self.store.add_checkpoint(&checkpoint).await? {
            CheckpointOutcome::NumberTaken => Ok(None),
            CheckpointOutcome::Stored => {
                tracing::info!(target: "keygate::audit", "{checkpoint}");
                let Statement { at_ms, reason, .. } = &checkpoint.statement;
                #[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
                ::metrics::gauge!(metrics::AUDIT_CHECKPOINT_TIME).set(*at_ms as f64 / 1000.0);
                ::metrics::counter!(metrics::AUDIT_CHECKPOINTS, "reason" => reason.as_str())
                    .increment(1);
                Ok(Some(checkpoint))
            }
        }
    }

    /// Makes a checkpoint if the last one is too old, or was signed with another key.
    async fn checkpoint_if_due(&self) -> Result<(), StoreError> {
        let last = self.store.last_checkpoint().await?;
        let every = i64::try_from(self.config.checkpoint_every.as_millis()).unwrap_or(i64::MAX);
        let now = self.clock.now().as_millisecond();
        let is_due = last.is_none_or(|last| {
            last.public_key != self.signer.public_key() || now - last.statement.at_ms >= every
        });
        if is_due {
            self.checkpoint(Reason::Periodic).await?;
        }
        Ok(())
    }

    /// The beginning of the first day (UTC) that is kept. `PostgreSQL` keeps a partition a day.
    fn cutoff(&self) -> Option<Timestamp> {
        let kept = SignedDuration::from_hours(24 * i64::from(self.config.retention_days));
        let oldest = self.clock.now().checked_sub(kept).ok()?.as_millisecond();
        Timestamp::from_millisecond(oldest - oldest.rem_euclid(24 * 3_600_000)).ok()
    }

    /// Deletes what is older than the log is kept, and signs where it begins then. What is to go
    /// is looked through before: nothing disappears that was tampered with.
    ///
    /// # Errors
    /// When the database fails, or the rows are not as they were written.
    pub async fn retire(&self) -> Result<Dropped, RetireError> {
        let Some(cutoff) = self.cutoff() else { return Ok(Dropped::default()) };
        let retired = self.store.retired_mark().await?.map_or(0, |mark| mark.statement.sequence);
        if let Some(batch) = self.store.last_batch_before(cutoff).await?
            && batch.sequence > retired
        {
            self.mark(batch).await?;
        }
        let mut dropped = Dropped::default();
        loop {
            let Dropped { rows, batches } = self.store.drop_retired().await?;
            if rows == 0 && batches == 0 {
                break;
            }
            dropped.rows += rows;
            dropped.batches += batches;
        }
        if dropped != Dropped::default() {
            tracing::info!(
                rows = dropped.rows,
                batches = dropped.batches,
                "old audit rows are gone"
            );
            ::metrics::counter!(metrics::AUDIT_RETIRED).increment(dropped.rows);
        }
        Ok(dropped)
    }

    /// Signs that everything up to this batch may go.
    async fn mark(&self, batch: Batch) -> Result<(), RetireError> {
        let scope = Scope {
            trust: self.trust.clone(),
            anchors: Anchors::new(),
            up_to: Some(batch.sequence),
        };
        verify(&*self.store, &scope, &mut |_| {}).await??;
        self.checkpoint(Reason::Periodic).await?;
        let last = self.store.last_checkpoint().await?;
        let statement = Statement {
            database_id: self.store.chain_head().await?.database_id,
            number: 1 + last.map_or(0, |last| last.statement.number),
            sequence: batch.sequence,
            last_id: batch.last_id,
            hash: batch.hash,
            at_ms: self.clock.now().as_millisecond(),
            reason: Reason::Retention,
        };
        self.publish(statement).await?;
        Ok(())
    }

    /// Makes checkpoints and retires what is old, until `stop`. The last checkpoint, at the end of
    /// the service, is not its own: others still write then.
    pub async fn run(&self, stop: CancellationToken) {
        let mut until_retiring = Duration::ZERO;
        loop {
            if let Err(error) = self.checkpoint_if_due().await {
                tracing::error!(%error, "the audit log's checkpoint cannot be written");
            }
            if until_retiring.is_zero() {
                until_retiring = RETIRE_EVERY;
                if let Err(error) = self.retire().await {
                    ::metrics::counter!(metrics::AUDIT_RETIRE_FAILURES).increment(1);
                    tracing::error!(%error, "old audit rows cannot be retired");
                }
            }
            until_retiring = until_retiring.saturating_sub(LOOK_EVERY);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
