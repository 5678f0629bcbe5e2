//! The job of usage.

use std::{sync::Arc, time::Duration};

use super::Job;
use crate::service::Service;

/// How often it is looked whether a day is old enough to go.
const RETENTION_EVERY: Duration = Duration::from_hours(1);

/// Drops what is older than usage is kept.
#[must_use]
pub fn usage_retention(service: &Arc<Service>) -> Job {
    let service = Arc::clone(service);
    Job::new("usage_retention", RETENTION_EVERY, move || {
        let service = Arc::clone(&service);
        async move { Ok(service.usage_keeper.drop_old().await?) }
    })
}
