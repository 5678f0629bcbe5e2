//! Who does the work that is done once for all control planes. See [`crate::jobs`].

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;

/// What claiming a run takes.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The job.
    pub job: &'a str,
    /// Who wants to run it.
    pub holder: &'a str,
    /// When.
    pub now: Timestamp,
    /// Until when it is theirs without a sign of life.
    pub until: Timestamp,
}

/// The latest times that a job's row can have by right.
#[derive(Clone, Copy, Debug)]
pub struct Latest {
    /// When it is due.
    pub due: Timestamp,
    /// Until when it is held.
    pub held: Timestamp,
}

/// A run that was given to one holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobRun {
    /// Counts up with every run of the job.
    pub fence: i64,
}

/// Leases of jobs. Times are those of who asks: clocks that differ make a lease longer or shorter
/// by that much.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Takes a run of the job, if it is due and nobody holds it. A job that has never run is due.
    async fn claim_job(&self, claim: &Claim<'_>) -> Result<Option<JobRun>, StoreError>;

    /// Brings times that are later than these back to them: a clock that ran ahead has left them, and
    /// the job would wait for them. Says whether there were such.
    async fn heal_job(&self, job: &str, latest: &Latest) -> Result<bool, StoreError>;

    /// Keeps the run until a later time. Says whether it still is this one's.
    async fn prolong_job(
        &self,
        job: &str,
        run: JobRun,
        until: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Ends the run: when the job is due again, and, if it has succeeded, when. Nothing happens if
    /// the run is another's by now.
    async fn end_job(
        &self,
        job: &str,
        run: JobRun,
        next: Timestamp,
        succeeded: Option<Timestamp>,
    ) -> Result<(), StoreError>;

    /// Lets go of all that this holder has; it is due at once.
    async fn give_jobs_back(&self, holder: &str, now: Timestamp) -> Result<(), StoreError>;

    /// When the job last succeeded, whoever ran it.
    async fn job_last_success(&self, job: &str) -> Result<Option<Timestamp>, StoreError>;
}
