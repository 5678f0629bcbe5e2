//! The chain as a sequence of lines: what a database is read as, and what an export is written as.

use serde::{Deserialize, Serialize};

use super::{
    batch::{Batch, ChainHead},
    check::{Anchors, ChainCheck, Trust, Verified},
    checkpoint::Checkpoint,
    fault::Fault,
    row::ChainedRow,
};

/// One line. A chain is a start, batches with their rows after each, checkpoints after the batch
/// that they are about, and an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// Whose chain it is, and where it begins.
    Start {
        /// The chain's name.
        database_id: String,
        /// The checkpoint that retired what was before; none: it begins at its beginning.
        retired: Option<Box<Checkpoint>>,
    },
    /// A batch.
    Batch(Batch),
    /// A row of it.
    Row(ChainedRow<'static>),
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// Where it ends.
    End(ChainHead),
}

/// Checks a chain line by line.
pub struct LineCheck {
    trust: Trust,
    anchors: Anchors,
    check: Option<ChainCheck>,
    verified: Option<Verified>,
}

fn out_of_place(what: &str) -> Fault {
    Fault::Unreadable { place: what.to_owned(), problem: "it stands where it cannot".to_owned() }
}

impl LineCheck {
    /// Waits for the start.
    #[must_use]
    pub fn new(trust: Trust, anchors: Anchors) -> Self {
        Self { trust, anchors, check: None, verified: None }
    }

    /// The rows that have gone by.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.check.as_ref().map_or(0, ChainCheck::rows)
    }

    /// The next line.
    ///
    /// # Errors
    /// When it is not what was recorded there.
    pub fn line(&mut self, line: Line) -> Result<(), Fault> {
        match (line, &mut self.check) {
            (Line::Start { database_id, retired }, check @ None) if self.verified.is_none() => {
                let anchors = std::mem::take(&mut self.anchors);
                let mut begun = ChainCheck::new(&database_id, self.trust.clone(), anchors);
                if let Some(mark) = retired {
                    begun.start_after(&mark)?;
                }
                *check = Some(begun);
                Ok(())
            }
            (Line::Batch(batch), Some(check)) => check.batch(batch),
            (Line::Row(row), Some(check)) => check.row(&row),
            (Line::Checkpoint(checkpoint), Some(check)) => check.checkpoint(&checkpoint),
            (Line::End(head), Some(_)) => {
                let check = self.check.take().ok_or_else(|| out_of_place("the end"))?;
                self.verified = Some(check.finish(&head)?);
                Ok(())
            }
            (Line::Start { .. }, _) => Err(out_of_place("another start")),
            (Line::Batch(batch), None) => Err(out_of_place(&format!("batch {}", batch.sequence))),
            (Line::Row(row), None) => Err(out_of_place(&format!("row {}", row.id))),
            (Line::Checkpoint(it), None) => {
                Err(out_of_place(&format!("checkpoint {}", it.statement.number)))
            }
            (Line::End(_), None) => Err(out_of_place("the end")),
        }
    }

    /// What was found, after the last line.
    ///
    /// # Errors
    /// When there was no end.
    pub fn finish(self) -> Result<Verified, Fault> {
        self.verified.ok_or_else(|| Fault::Unreadable {
            place: "the end of the chain".to_owned(),
            problem: "it is missing: what was read is cut off".to_owned(),
        })
    }

    /// What was found up to this batch.
    ///
    /// # Errors
    /// When it was not reached, or is not whole.
    pub fn finish_at(self, up_to: u64) -> Result<Verified, Fault> {
        match self.check {
            Some(check) => check.finish_at(up_to),
            None => self.finish(),
        }
    }
}
