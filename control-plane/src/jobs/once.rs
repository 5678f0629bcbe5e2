//! The job of those requests that are made once.

use std::{sync::Arc, time::Duration};

use super::Job;
use crate::service::Service;

/// How often requests that are no longer remembered are deleted. They count as forgotten before.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// Deletes requests that are no longer remembered.
#[must_use]
pub fn forget_requests(service: &Arc<Service>) -> Job {
    let service = Arc::clone(service);
    Job::new("forget_requests", FORGET_EVERY, move || {
        let service = Arc::clone(&service);
        async move {
            let forgotten = service.once.forget().await?;
            tracing::debug!(forgotten, "requests are no longer remembered");
            Ok(())
        }
    })
}
