//! Looks through the whole log in a database, in order, a page at a time.

use std::collections::VecDeque;

use super::chain::{
    batch::{Batch, ChainHead},
    check::{Anchors, ChainCheck, Trust, Verified},
    checkpoint::Checkpoint,
    fault::Fault,
    row::ChainedRow,
};
use crate::store::{Store, StoreError};

const BATCHES: u32 = 200;
const ROWS: u32 = 2000;
const CHECKPOINTS: u32 = 500;
/// Retention may take rows away while they are looked for; then it begins anew.
const ATTEMPTS: u32 = 3;

/// What is looked through, and who is believed.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Whose checkpoints are believed.
    pub trust: Trust,
    /// Checkpoints that are known from outside.
    pub anchors: Anchors,
    /// Not beyond this batch; none: to the end.
    pub up_to: Option<u64>,
}

/// Looks through the log, and gives what was found whole, or the first fault. `progress` is told
/// the rows that have gone by, every few thousand.
///
/// # Errors
/// When the database fails.
pub async fn verify(
    store: &dyn Store,
    scope: &Scope,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Result<Verified, Fault>, StoreError> {
    let mut attempt = 1;
    loop {
        let mark = store.retired_mark().await?;
        let result = Walk::new(store, scope, mark.clone()).await?.run(scope, progress).await?;
        if result.is_ok() || attempt == ATTEMPTS || store.retired_mark().await? == mark {
            return Ok(result);
        }
        attempt += 1;
    }
}

/// `Ok(Err(…))` is a fault of the log, `Err(…)` one of the database.
macro_rules! or_fault {
    ($checked:expr) => {
        if let Err(fault) = $checked {
            return Ok(Err(fault));
        }
    };
}

struct Walk<'a> {
    store: &'a dyn Store,
    check: ChainCheck,
    mark: Option<Checkpoint>,
    /// What is known to be there: whatever is added meanwhile is for the next time.
    head: ChainHead,
    last_number: u64,
    rows: VecDeque<ChainedRow<'static>>,
    read_up_to: i64,
    checkpoints: VecDeque<Checkpoint>,
    next_number: u64,
}

impl<'a> Walk<'a> {
    async fn new(
        store: &'a dyn Store,
        scope: &Scope,
        mark: Option<Checkpoint>,
    ) -> Result<Self, StoreError> {
        // The checkpoints first: what they are about is in the chain by the time it is read.
        let last = store.last_checkpoint().await?;
        let head = store.chain_head().await?;
        let check = ChainCheck::new(&head.database_id, scope.trust.clone(), scope.anchors.clone());
        Ok(Self {
            store,
            check,
            // From the very first: rows may have been put before it.
            read_up_to: mark.as_ref().map_or(i64::MIN, |mark| mark.statement.last_id),
            mark,
            head,
            last_number: last.map_or(0, |last| last.statement.number),
            rows: VecDeque::new(),
            checkpoints: VecDeque::new(),
            next_number: 0,
        })
    }

    async fn run(
        mut self,
        scope: &Scope,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Result<Verified, Fault>, StoreError> {
        if let Some(mark) = &self.mark {
            or_fault!(self.check.start_after(mark));
        }
        let end = scope.up_to.unwrap_or(self.head.sequence).min(self.head.sequence);
        'pages: loop {
            let page = self.store.chain_batches(self.check.sequence(), BATCHES).await?;
            let whole = page.len();
            for batch in page {
                if batch.sequence > end {
                    break 'pages;
                }
                let last_of = batch.clone();
                or_fault!(self.check.batch(batch));
                or_fault!(self.rows_of(&last_of, progress).await?);
                or_fault!(self.check.close());
                or_fault!(self.checkpoints_up_to(last_of.sequence).await?);
            }
            if whole == 0 {
                break;
            }
        }
        if scope.up_to.is_some() {
            let reached = ChainHead { sequence: end, ..self.head.clone() };
            return Ok(self.check.finish_at(&reached));
        }
        or_fault!(self.checkpoints_up_to(u64::MAX).await?);
        let sequence = self.check.sequence();
        let verified = self.check.finish(&self.head);
        if verified.is_ok() {
            // Whatever stands after the end was not put there by this program.
            let ends = self.store.chain_ends().await?;
            if ends.max_id > ends.head.last_id {
                let rows = self.store.chain_rows(ends.head.last_id, 1).await?;
                let row = rows.first().map_or(ends.max_id, |row| row.id);
                return Ok(Err(Fault::RowInserted { row, after: ends.head.sequence }));
            }
            if ends.max_sequence > ends.head.sequence {
                return Ok(Err(Fault::HeadEdited { last: sequence }));
            }
        }
        Ok(verified)
    }

    async fn rows_of(
        &mut self,
        batch: &Batch,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Result<(), Fault>, StoreError> {
        loop {
            if self.rows.is_empty() {
                self.rows = self.store.chain_rows(self.read_up_to, ROWS).await?.into();
                match self.rows.back() {
                    Some(row) => self.read_up_to = row.id,
                    None => return Ok(Ok(())),
                }
                progress(self.check.rows());
            }
            while let Some(row) = self.rows.pop_front() {
                if row.id > batch.last_id {
                    self.rows.push_front(row);
                    return Ok(Ok(()));
                }
                or_fault!(self.check.row(&row));
            }
            if self.read_up_to >= batch.last_id {
                return Ok(Ok(()));
            }
        }
    }

    async fn checkpoints_up_to(&mut self, sequence: u64) -> Result<Result<(), Fault>, StoreError> {
        loop {
            if self.checkpoints.is_empty() && self.next_number < self.last_number {
                let page = self.store.checkpoints(self.next_number, CHECKPOINTS).await?;
                self.next_number = page.last().map_or(u64::MAX, |last| last.statement.number);
                self.checkpoints = page.into();
            }
            let next = self.checkpoints.front().map(|next| &next.statement);
            let Some(next) = next.filter(|it| it.number <= self.last_number) else {
                return Ok(Ok(()));
            };
            if next.sequence > sequence {
                return Ok(Ok(()));
            }
            if let Some(checkpoint) = self.checkpoints.pop_front() {
                or_fault!(self.check.checkpoint(&checkpoint));
            }
        }
    }
}
