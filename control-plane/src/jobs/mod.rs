//! Work that is done now and then, once for all control planes.
//!
//! Every control plane looks whether something is due. The database gives a run to one of them, as
//! a lease: it is prolonged while the work goes on, and when its holder dies, it ends by itself and
//! another one takes over. A lease carries a number, the fence, that is never given twice; who has
//! lost a lease without noticing can neither prolong it nor say that the work is done. Work that was
//! begun twice all the same must do no harm: each job is made of transactions that can be repeated.
//!
//! A clock that ran ahead leaves times far in the future. What is later than a job's own period and
//! a lease is brought back to that, so the job waits no longer than it always does.

mod audit;
mod feed;
mod once;
mod run;
#[cfg(test)]
mod tests;
mod usage;

pub use audit::{audit_partitions, audit_retention};
pub use feed::feed_retention;
pub use once::forget_requests;
pub use usage::usage_retention;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, store::Store};

/// How often it is looked whether something is due.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long a run is its holder's without a sign of life: a holder that has died is followed by
/// another one after this.
const LEASE: Duration = Duration::from_mins(1);
/// How often a holder gives one.
const PROLONG_EVERY: Duration = Duration::from_secs(20);
/// After how long a run that failed is tried again, if the job is not due sooner.
const TRY_AGAIN: Duration = Duration::from_mins(5);

/// What a job does, once.
type Work = Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// A piece of work that is due now and then.
pub struct Job {
    /// Its name in the database, in metrics and logs.
    pub name: &'static str,
    /// How often it is due.
    pub every: Duration,
    work: Box<dyn Fn() -> Work + Send + Sync>,
}

impl Job {
    /// A job that does this.
    pub fn new<F>(
        name: &'static str,
        every: Duration,
        work: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        Self { name, every, work: Box::new(move || Box::pin(work())) }
    }
}

/// One control plane's part in the jobs of all.
pub struct Jobs {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// This process among the others.
    holder: String,
    all: Vec<Job>,
}

impl Jobs {
    /// Takes part under a name that no other process has.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        holder: String,
        all: Vec<Job>,
    ) -> Self {
        Self { store, clock, holder, all }
    }

    /// Takes part until `stop`. A run that is under way then is given up: each of its transactions
    /// is whole by itself, and the rest is for the next run, here or elsewhere.
    pub async fn run(&self, stop: CancellationToken) {
        let work = async {
            loop {
                self.run_due().await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => self.give_back().await,
        }
    }
}
