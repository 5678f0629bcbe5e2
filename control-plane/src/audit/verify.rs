//! Looks through the whole log in a database.

use super::{
    chain::{
        check::{Anchors, Trust, Verified},
        checkpoint::Checkpoint,
        fault::Fault,
        line::{Line, LineCheck},
    },
    read::ChainReader,
};
use crate::store::{Store, StoreError};

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
/// again and again how many rows have gone by.
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
        let result = walk(store, scope, mark.clone(), progress).await?;
        if result.is_ok() || attempt == ATTEMPTS || store.retired_mark().await? == mark {
            return Ok(result);
        }
        attempt += 1;
    }
}

/// `Ok(Err(…))` is a fault of the log, `Err(…)` one of the database.
async fn walk(
    store: &dyn Store,
    scope: &Scope,
    mark: Option<Checkpoint>,
    progress: &mut (dyn FnMut(u64) + Send),
) -> Result<Result<Verified, Fault>, StoreError> {
    let mut check = LineCheck::new(scope.trust.clone(), scope.anchors.clone());
    let mut reader = ChainReader::new(store, mark).await?;
    while let Some(line) = reader.next().await? {
        if let (Line::Batch(batch), Some(up_to)) = (&line, scope.up_to)
            && batch.sequence > up_to
        {
            return Ok(check.finish_at(up_to));
        }
        if let Err(fault) = check.line(line) {
            return Ok(Err(fault));
        }
        progress(check.rows());
    }
    let found = match check.finish() {
        Ok(found) => found,
        Err(fault) => return Ok(Err(fault)),
    };
    // Whatever stands after the end was not put there by this program.
    let ends = store.chain_ends().await?;
    if ends.max_id > ends.head.last_id {
        let rows = store.chain_rows(ends.head.last_id, 1).await?;
        let row = rows.first().map_or(ends.max_id, |row| row.id);
        return Ok(Err(Fault::RowInserted { row, after: ends.head.sequence }));
    }
    if ends.max_sequence > ends.head.sequence {
        return Ok(Err(Fault::HeadEdited { last: found.sequence }));
    }
    Ok(Ok(found))
}
