//! The job of what filters follow, and of the filters themselves.

use jiff::SignedDuration;
use std::{sync::Arc, time::Duration};

use super::Job;
use crate::service::Service;

/// How often it is looked whether something is old enough to go.
const RETENTION_EVERY: Duration = Duration::from_hours(1);
/// How long a change is told of. A filter that has not asked for so long starts anew, which it does
/// after every restart.
const CHANGES_KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How many changes are kept at most: a filter that is further behind is better off anew.
const MOST_CHANGES: u32 = 100_000;
/// How long the last batch of a filter is remembered after it was heard of: none is repeated later.
const SOURCES_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Drops changes that are told to nobody any more, and forgets filters that are gone.
#[must_use]
pub fn feed_retention(service: &Arc<Service>) -> Job {
    let service = Arc::clone(service);
    Job::new("feed_retention", RETENTION_EVERY, move || {
        let service = Arc::clone(&service);
        async move {
            let now = service.clock.now();
            let mut dropped = 0;
            loop {
                // A portion at a time, so that those who write need not wait for long.
                let before = now.checked_sub(CHANGES_KEPT)?;
                match service.store.drop_changes(before, MOST_CHANGES).await? {
                    0 => break,
                    more => dropped += more,
                }
            }
            let forgotten = service.store.forget_sources(now.checked_sub(SOURCES_KEPT)?).await?;
            if dropped + forgotten > 0 {
                tracing::info!(dropped, forgotten, "old changes and filters that are gone");
            }
            Ok(())
        }
    })
}
