//! What both backends make of filters' batches, once the database has said which are new.

use std::collections::HashSet;

use super::{BatchOutcome, FilterBatch, StoreError, row::signed};
use crate::{
    audit::chain::batch::Report,
    usage::{Uses, sum_up},
};

/// The batches of a group that were not stored before.
pub(super) struct NewBatches<'a> {
    /// What came of each of the group.
    pub(super) outcomes: Vec<BatchOutcome>,
    /// All that they have counted.
    pub(super) usage: Vec<Uses>,
    /// All that they have to tell, in the order of the batches.
    pub(super) reports: Vec<Report<'a>>,
    /// When the last of them came.
    pub(super) at_ms: i64,
}

impl<'a> NewBatches<'a> {
    /// Those of sources whose batch is new; a group has of each source one batch. None, when all of
    /// them were stored before.
    pub(super) fn of(
        group: &[&'a FilterBatch],
        new: &HashSet<String>,
    ) -> Result<Option<Self>, StoreError> {
        let is_new = |it: &FilterBatch| new.contains(&it.source);
        let batches: Vec<&'a FilterBatch> = group.iter().copied().filter(|it| is_new(it)).collect();
        let report = |it: &'a FilterBatch| {
            let batch = Some(signed(it.batch, "batch")?);
            Ok::<_, StoreError>(Report { source: &it.source, batch, entries: &it.entries })
        };
        let outcome = |it: &&FilterBatch| {
            if is_new(it) { BatchOutcome::Stored } else { BatchOutcome::Repeated }
        };
        let Some(at_ms) = batches.iter().map(|it| it.at.as_millisecond()).max() else {
            return Ok(None);
        };
        Ok(Some(Self {
            outcomes: group.iter().map(outcome).collect(),
            usage: sum_up(batches.iter().map(|it| it.usage.as_slice())),
            reports: batches.iter().map(|it| report(it)).collect::<Result<_, _>>()?,
            at_ms,
        }))
    }
}
