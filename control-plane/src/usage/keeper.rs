//! How long usage is kept.

use jiff::Timestamp;
use std::sync::Arc;

use crate::{
    clock::{Clock, from_unix_ms, unix_ms},
    store::{Store, StoreError},
};

const DAY_MS: u64 = 24 * 3_600_000;

/// Drops usage that is older than it is kept.
pub struct Keeper {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    retention_days: u32,
}

impl Keeper {
    /// A keeper with nothing to do yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, retention_days: u32) -> Self {
        Self { store, clock, retention_days }
    }

    /// The beginning of the first day (UTC) that is kept: only whole days go.
    #[must_use]
    pub fn kept_since(&self) -> Timestamp {
        let now_ms = unix_ms(self.clock.now());
        let oldest = now_ms.saturating_sub(u64::from(self.retention_days) * DAY_MS);
        from_unix_ms(oldest - oldest % DAY_MS)
    }

    /// Drops what is older than that.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_old(&self) -> Result<(), StoreError> {
        let before = self.kept_since();
        let mut dropped = 0;
        loop {
            // A portion at a time, so that those who write need not wait for long.
            match self.store.drop_usage_before(before).await? {
                0 => break,
                more => dropped += more,
            }
        }
        if dropped > 0 {
            tracing::info!(dropped, %before, "old usage is gone");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use edge_protocol::{UsageMethod, UsageOutcome};
    use key_policy::KeyId;

    use super::*;
    use crate::{
        store::FilterBatch,
        testing::{TestService, at},
        usage::{
            Minute, Use, Uses,
            period::{Interval, Period},
        },
    };

    #[tokio::test]
    async fn days_that_are_kept_no_longer_go_whole() {
        // Noon of the 25th.
        let it = TestService::start().await;
        let store = &it.service.store;
        let key_id = KeyId::from_u64(1);
        let (method, outcome) = (UsageMethod::Get, UsageOutcome::Allowed);
        let times = ["2026-11-22T00:00:00Z", "2026-11-23T23:59:00Z", "2026-11-24T00:00:00Z"];
        let usage = times.map(|time| {
            let minute = Minute::of(unix_ms(at(time)));
            Uses { of: Use { key_id, minute, method, outcome }, count: 1 }
        });
        let batch = FilterBatch {
            source: "f".to_owned(),
            batch: 1,
            at: it.clock.now(),
            entries: Vec::new(),
            usage: usage.to_vec(),
        };
        store.append_batch(&batch).await.expect("taken");
        let left = async || {
            let period = Period::new(None, None, Interval::Day, it.clock.now()).expect("a period");
            let sums = store.usage(key_id, &period).await.expect("read");
            sums.iter().map(|sum| sum.start.to_string()).collect::<Vec<_>>()
        };
        let keeper = |days| Keeper::new(Arc::clone(store), Arc::new(it.clock.clone()), days);
        keeper(3).drop_old().await.expect("done");
        assert_eq!(left().await.len(), 3);
        keeper(1).drop_old().await.expect("done");
        assert_eq!(left().await, ["2026-11-24T00:00:00Z"]);
    }
}
