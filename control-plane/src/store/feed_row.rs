//! Rows of the change feed, as they are read.

use edge_protocol::{Change, ChangeKind, Position};

use super::{
    Changes, StoreError,
    row::{self, unsigned},
};

/// The feed's epoch and bounds, and a change if there is one: sequence, key, kind and time.
pub(super) type FeedRow =
    (Option<String>, i64, i64, Option<i64>, Option<String>, Option<String>, Option<i64>);

/// How many changes go in one transaction.
pub(super) const CHANGES_DROPPED_AT_ONCE: u32 = 5000;

/// A kind of change as a row holds it.
pub(super) fn name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Created => "created",
        ChangeKind::Updated => "updated",
        ChangeKind::Revoked => "revoked",
    }
}

fn kind(name: &str) -> Result<ChangeKind, StoreError> {
    [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Revoked]
        .into_iter()
        .find(|kind| self::name(*kind) == name)
        .ok_or_else(|| StoreError::Corrupt(format!("change_log.kind = {name}")))
}

/// What followed `since`, from rows of one snapshot: at least one, with the bounds.
pub(super) fn changes(since: u64, rows: Vec<FeedRow>) -> Result<(Position, Changes), StoreError> {
    let (epoch, oldest, newest) =
        rows.first().map_or((None, 1, 0), |row| (row.0.clone(), row.1, row.2));
    let position = row::position(epoch, newest)?;
    let after = row::signed(since, "since")?;
    if after > newest || after < oldest - 1 {
        return Ok((position, Changes::Unknown));
    }
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        if let (_, _, _, Some(sequence), Some(key_id), Some(name), Some(at_ms)) = row {
            changes.push(Change {
                sequence: unsigned(sequence, "sequence")?,
                key_id,
                kind: kind(&name)?,
                at_ms: unsigned(at_ms, "at_ms")?,
            });
        }
    }
    // "Where the feed stands after these changes": a full page ends before the newest.
    let end = changes.last().map_or(since, |change| change.sequence);
    Ok((Position { sequence: end, ..position }, Changes::Since(changes)))
}
