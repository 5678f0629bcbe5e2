//! The audit log's jobs.

use std::{sync::Arc, time::Duration};

use super::Job;
use crate::{audit::keeper::RetireError, metrics, service::Service};

/// How often it is looked whether something is old enough to go; whole days go, so that is soon
/// enough.
const RETENTION_EVERY: Duration = Duration::from_hours(1);
/// How often the coming days are looked at.
const PARTITIONS_EVERY: Duration = Duration::from_hours(6);
/// How many days ahead have their place: enough for a week in which no job runs. A day that has
/// none gets one with its first row, while those who write wait.
const DAYS_AHEAD: u32 = 7;

/// Retires what is older than the log is kept.
#[must_use]
pub fn audit_retention(service: &Arc<Service>) -> Job {
    let service = Arc::clone(service);
    Job::new("audit_retention", RETENTION_EVERY, move || {
        let service = Arc::clone(&service);
        async move {
            let retired = service.audit_keeper.retire().await;
            // Not that the database failed: that is the job's failure, and no fault of the log.
            if matches!(retired, Err(RetireError::Broken(_))) {
                ::metrics::counter!(metrics::AUDIT_RETIRE_FAILURES).increment(1);
            }
            Ok(retired.map(drop)?)
        }
    })
}

/// Makes the places for what the coming days bring.
#[must_use]
pub fn audit_partitions(service: &Arc<Service>) -> Job {
    let service = Arc::clone(service);
    Job::new("audit_partitions", PARTITIONS_EVERY, move || {
        let service = Arc::clone(&service);
        async move {
            let made = service.store.prepare_days(service.clock.now(), DAYS_AHEAD).await?;
            if made > 0 {
                tracing::info!(made, "partitions were made ahead");
            }
            Ok(())
        }
    })
}
