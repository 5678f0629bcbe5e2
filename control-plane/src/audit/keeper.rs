//! Keeps the audit log: vouches for it by checkpoints, and retires what is older than it is kept.

use jiff::{SignedDuration, Timestamp};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

use super::{
    chain::{
        batch::ChainHead,
        check::{Anchors, ChainCheck, Trust},
        checkpoint::{Checkpoint, PublicKey, Reason, Statement},
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
/// By how much the clocks of control planes may differ without a word, in milliseconds.
const CLOCKS_AGREE_MS: i64 = 60_000;

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
    /// Whose checkpoints are believed: our own key, and those that have signed before.
    trusted: Vec<PublicKey>,
}

impl Keeper {
    /// A keeper with nothing to do yet. Beside the signer's own key it believes `others`.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        signer: AuditSigner,
        others: Vec<PublicKey>,
        config: AuditConfig,
    ) -> Self {
        let mut trusted = others;
        trusted.push(signer.public_key());
        Self { store, clock, signer, config, trusted }
    }

    /// Signs and stores where the log stands, and writes it to the log stream. None, when there
    /// is nothing new since the last checkpoint, or another control plane was faster.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn checkpoint(&self, reason: Reason) -> Result<Option<Checkpoint>, StoreError> {
        let last = self.store.last_checkpoint().await?;
        let head = self.store.chain_head().await?;
        if self.is_vouched_for(&head, last.as_ref()) {
            return Ok(None);
        }
        self.sign_end(reason, head, last.as_ref()).await
    }

    async fn sign_end(
        &self,
        reason: Reason,
        head: ChainHead,
        last: Option<&Checkpoint>,
    ) -> Result<Option<Checkpoint>, StoreError> {
        self.publish(Statement {
            database_id: head.database_id,
            number: next_number(last),
            sequence: head.sequence,
            last_id: head.last_id,
            hash: head.hash,
            at_ms: self.clock.now().as_millisecond(),
            reason,
        })
        .await
    }

    /// Whether this process has signed it, or would have: anyone can put a row into the database.
    fn is_own(&self, checkpoint: &Checkpoint, head: &ChainHead) -> bool {
        checkpoint.public_key == self.signer.public_key()
            && checkpoint.statement.database_id == head.database_id
            && checkpoint.is_signed()
    }

    /// Whether our own signature stands under the chain's end, or there is nothing to sign.
    fn is_vouched_for(&self, head: &ChainHead, last: Option<&Checkpoint>) -> bool {
        head.sequence == 0
            || last.is_some_and(|last| {
                last.statement.sequence == head.sequence
                    && last.statement.hash == head.hash
                    && self.is_own(last, head)
            })
    }

    async fn publish(&self, statement: Statement) -> Result<Option<Checkpoint>, StoreError> {
        let checkpoint = self.signer.sign(statement);
        match self.store.add_checkpoint(&checkpoint).await? {
            CheckpointOutcome::NumberTaken => Ok(None),
            CheckpointOutcome::Stored => {
                tracing::info!(target: "keygate::audit", "{checkpoint}");
                let reason = checkpoint.statement.reason.as_str();
                ::metrics::counter!(metrics::AUDIT_CHECKPOINTS, "reason" => reason).increment(1);
                Ok(Some(checkpoint))
            }
        }
    }

    /// Makes a checkpoint if there is news and the last one is too old, or not our own; and shows
    /// until when everything is signed for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn checkpoint_if_due(&self) -> Result<(), StoreError> {
        let last = self.store.last_checkpoint().await?;
        let head = self.store.chain_head().await?;
        let now = self.clock.now().as_millisecond();
        if self.is_vouched_for(&head, last.as_ref()) {
            show_vouched_for(now);
            return Ok(());
        }
        let own = last.as_ref().filter(|last| self.is_own(last, &head));
        let signed_at = own.map_or(0, |own| own.statement.at_ms.min(now));
        // Before it is tried to do better: that may fail.
        show_vouched_for(signed_at);
        let every = i64::try_from(self.config.checkpoint_every.as_millis()).unwrap_or(i64::MAX);
        if now - signed_at >= every {
            self.sign_end(Reason::Periodic, head, last.as_ref()).await?;
            show_vouched_for(now);
        }
        Ok(())
    }

    /// The beginning of the first day (UTC) that is kept: only whole days go.
    fn cutoff(&self) -> Option<Timestamp> {
        let kept = SignedDuration::from_hours(24 * i64::from(self.config.retention_days));
        let oldest = self.clock.now().checked_sub(kept).ok()?.as_millisecond();
        Timestamp::from_millisecond(oldest - oldest.rem_euclid(24 * 3_600_000)).ok()
    }

    /// Deletes what is older than the log is kept, and signs where it begins then. What is to go
    /// is looked through before: nothing disappears that was tampered with.
    ///
    /// # Errors
    /// When the database fails, the rows are not as they were written, or somebody else has asked
    /// for rows to go: the database's own rules cannot check a signature, so that is done here.
    pub async fn retire(&self) -> Result<Dropped, RetireError> {
        let head = self.store.chain_head().await?;
        self.warn_of_a_clock_that_ran_ahead(&head);
        let mut mark = self.store.retired_mark().await?;
        if let Some(mark) = &mark {
            let trust = Trust::Keys(self.trusted.clone());
            ChainCheck::new(&head.database_id, trust, Anchors::new()).start_after(mark)?;
        }
        let retired = mark.as_ref().map_or(0, |mark| mark.statement.sequence);
        let Some(cutoff) = self.cutoff() else { return Ok(Dropped::default()) };
        if let Some(batch) = self.store.last_batch_before(cutoff).await?
            && batch.sequence > retired
        {
            mark = self.mark(batch.sequence, head.database_id).await?;
        }
        let Some(mark) = mark else { return Ok(Dropped::default()) };
        self.drop_all(&mark).await
    }

    async fn drop_all(&self, mark: &Checkpoint) -> Result<Dropped, RetireError> {
        let mut dropped = Dropped::default();
        loop {
            let Dropped { rows, batches } = self.store.drop_retired(mark).await?;
            if rows == 0 && batches == 0 {
                break;
            }
            dropped.rows += rows;
            dropped.batches += batches;
        }
        if dropped != Dropped::default() {
            let Dropped { rows, batches } = dropped;
            tracing::info!(rows, batches, "old audit rows are gone");
            ::metrics::counter!(metrics::AUDIT_RETIRED).increment(rows);
        }
        Ok(dropped)
    }

    /// Signs that everything up to this batch may go. None: another control plane was faster, and
    /// the next time will do.
    async fn mark(
        &self,
        up_to: u64,
        database_id: String,
    ) -> Result<Option<Checkpoint>, RetireError> {
        let trust = Trust::Keys(self.trusted.clone());
        let scope = Scope { trust, anchors: Anchors::new(), up_to: Some(up_to) };
        let found = verify(&*self.store, &scope, &mut |_| {}).await??;
        self.checkpoint(Reason::Periodic).await?;
        let last = self.store.last_checkpoint().await?;
        let statement = Statement {
            database_id,
            number: next_number(last.as_ref()),
            sequence: found.sequence,
            last_id: found.last_id,
            hash: found.hash,
            at_ms: self.clock.now().as_millisecond(),
            reason: Reason::Retention,
        };
        Ok(self.publish(statement).await?)
    }

    /// The log's time never goes back: after a clock that once ran ahead, nothing looks old for as
    /// long as it did.
    fn warn_of_a_clock_that_ran_ahead(&self, head: &ChainHead) {
        let ahead_ms = head.recorded_at_ms - self.clock.now().as_millisecond();
        if ahead_ms > CLOCKS_AGREE_MS {
            tracing::warn!(
                ahead_s = ahead_ms / 1000,
                "the audit log was written to by a clock that ran ahead; until that time has come \
                 nothing is retired"
            );
        }
    }

    /// Makes checkpoints until `stop`. The last checkpoint, at the end of
    /// the service, is not its own: others still write then.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            () = self.keep() => {}
            // Whatever is under way: each of its transactions is whole by itself.
            () = stop.cancelled() => {}
        }
    }

    async fn keep(&self) {
        loop {
            if let Err(error) = self.checkpoint_if_due().await {
                tracing::error!(%error, "the audit log's checkpoint cannot be written");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn next_number(last: Option<&Checkpoint>) -> u64 {
    last.map_or(0, |last| last.statement.number).saturating_add(1)
}

#[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
fn show_vouched_for(until_ms: i64) {
    ::metrics::gauge!(metrics::AUDIT_VOUCHED_FOR).set(until_ms as f64 / 1000.0);
}
