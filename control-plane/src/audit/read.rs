//! Reads the chain from a database, in order, a page at a time.

use std::collections::VecDeque;

use super::chain::{
    batch::{Batch, ChainHead},
    checkpoint::Checkpoint,
    line::Line,
    row::ChainedRow,
};
use crate::store::{Store, StoreError};

const BATCHES: u32 = 200;
const ROWS: u32 = 2000;
const CHECKPOINTS: u32 = 500;

/// Reads a chain, up to where it ended when reading began.
pub struct ChainReader<'a> {
    store: &'a dyn Store,
    head: ChainHead,
    last_number: u64,
    ready: VecDeque<Line>,
    /// The batch whose rows are being read: its sequence and last row.
    open: Option<(u64, i64)>,
    batches: VecDeque<Batch>,
    sequence: u64,
    rows: VecDeque<ChainedRow<'static>>,
    row: i64,
    checkpoints: VecDeque<Checkpoint>,
    number: u64,
    ended: bool,
}

impl<'a> ChainReader<'a> {
    /// Begins after what `mark` has retired.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn new(store: &'a dyn Store, mark: Option<Checkpoint>) -> Result<Self, StoreError> {
        // The checkpoints first: what they are about is in the chain by the time it is read.
        let last = store.last_checkpoint().await?;
        let head = store.chain_head().await?;
        // From the very first row: some may have been put before it.
        let place = mark
            .as_ref()
            .map_or((0, i64::MIN), |mark| (mark.statement.sequence, mark.statement.last_id));
        let start =
            Line::Start { database_id: head.database_id.clone(), retired: mark.map(Box::new) };
        Ok(Self {
            store,
            head,
            last_number: last.map_or(0, |last| last.statement.number),
            ready: VecDeque::from([start]),
            open: None,
            batches: VecDeque::new(),
            sequence: place.0,
            rows: VecDeque::new(),
            row: place.1,
            checkpoints: VecDeque::new(),
            number: 0,
            ended: false,
        })
    }

    /// The next line; none after the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self) -> Result<Option<Line>, StoreError> {
        while self.ready.is_empty() && !self.ended {
            match self.open {
                Some((sequence, last_id)) => self.read_rows(sequence, last_id).await?,
                None => self.read_batch().await?,
            }
        }
        Ok(self.ready.pop_front())
    }

    async fn read_batch(&mut self) -> Result<(), StoreError> {
        if self.batches.is_empty() {
            self.batches = self.store.chain_batches(self.sequence, BATCHES).await?.into();
        }
        let next = self.batches.pop_front().filter(|batch| batch.sequence <= self.head.sequence);
        if let Some(batch) = next {
            self.sequence = batch.sequence;
            self.open = Some((batch.sequence, batch.last_id));
            self.ready.push_back(Line::Batch(batch));
        } else {
            self.read_checkpoints(u64::MAX).await?;
            self.ready.push_back(Line::End(self.head.clone()));
            self.ended = true;
        }
        Ok(())
    }

    async fn read_rows(&mut self, sequence: u64, last_id: i64) -> Result<(), StoreError> {
        if self.rows.is_empty() && self.row < last_id {
            self.rows = self.store.chain_rows(self.row, ROWS).await?.into();
            // No row at all: what is missing is for the chain to say.
            self.row = self.rows.back().map_or(i64::MAX, |row| row.id);
        }
        while let Some(row) = self.rows.pop_front_if(|row| row.id <= last_id) {
            self.ready.push_back(Line::Row(row));
        }
        if !self.rows.is_empty() || self.row >= last_id {
            self.open = None;
            self.read_checkpoints(sequence).await?;
        }
        Ok(())
    }

    async fn read_checkpoints(&mut self, sequence: u64) -> Result<(), StoreError> {
        loop {
            if self.checkpoints.is_empty() && self.number < self.last_number {
                let page = self.store.checkpoints(self.number, CHECKPOINTS).await?;
                self.number = page.last().map_or(u64::MAX, |last| last.statement.number);
                self.checkpoints = page.into();
            }
            let last_number = self.last_number;
            let next = self.checkpoints.pop_front_if(|next| {
                next.statement.sequence <= sequence && next.statement.number <= last_number
            });
            match next {
                Some(next) => self.ready.push_back(Line::Checkpoint(Box::new(next))),
                None => return Ok(()),
            }
        }
    }
}
