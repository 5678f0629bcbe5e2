//! Running what is due.

use jiff::Timestamp;
use std::time::Duration;

use super::{Job, Jobs, LEASE, PROLONG_EVERY, TRY_AGAIN};
use crate::{
    metrics,
    store::{
        StoreError,
        jobs::{Claim, JobRun, Latest},
    },
};

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Failed,
    /// The lease is another's by now, and so is the work.
    Lost,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// A time from now on; the end of time, should it be later than that.
fn after(now: Timestamp, length: Duration) -> Timestamp {
    now.saturating_add(length).unwrap_or(Timestamp::MAX)
}

impl Jobs {
    /// Runs each job that is due and that nobody else runs, one after the other.
    pub async fn run_due(&self) {
        for job in &self.all {
            if let Err(error) = self.run_if_due(job).await {
                tracing::error!(job = job.name, %error, "it cannot be told whether a job is due");
            }
        }
    }

    async fn run_if_due(&self, job: &Job) -> Result<(), StoreError> {
        let now = self.clock.now();
        let claim = Claim { job: job.name, holder: &self.holder, now, until: after(now, LEASE) };
        if let Some(run) = self.store.claim_job(&claim).await? {
            self.run_claimed(job, run).await?;
        } else {
            self.heal(job, now).await?;
        }
        show_last_success(job.name, self.store.job_last_success(job.name).await?);
        Ok(())
    }

    /// A job that is not due for longer than any is has been put off by a clock that ran ahead.
    async fn heal(&self, job: &Job, now: Timestamp) -> Result<(), StoreError> {
        let latest = Latest { due: after(now, job.every + LEASE), held: after(now, LEASE * 2) };
        if self.store.heal_job(job.name, &latest).await? {
            tracing::warn!(
                job = job.name,
                "a job was put off for longer than it ever is, and goes on: is a clock wrong?"
            );
        }
        Ok(())
    }

    async fn run_claimed(&self, job: &Job, run: JobRun) -> Result<(), StoreError> {
        tracing::debug!(job = job.name, fence = run.fence, "begun");
        let outcome = tokio::select! {
            done = (job.work)() => match done {
                Ok(()) => Outcome::Done,
                Err(error) => {
                    tracing::error!(job = job.name, error = format!("{error:#}"), "a job failed");
                    Outcome::Failed
                }
            },
            () = self.until_lost(job, run) => {
                tracing::warn!(job = job.name, "another control plane has taken a job over");
                Outcome::Lost
            }
        };
        ::metrics::counter!(metrics::JOB_RUNS, "work" => job.name, "outcome" => outcome.name())
            .increment(1);
        let now = self.clock.now();
        match outcome {
            Outcome::Done => self.store.end_job(job.name, run, after(now, job.every), Some(now)),
            Outcome::Failed => {
                self.store.end_job(job.name, run, after(now, job.every.min(TRY_AGAIN)), None)
            }
            Outcome::Lost => return Ok(()),
        }
        .await
    }

    /// Prolongs the lease again and again; returns when it is ours no longer.
    async fn until_lost(&self, job: &Job, run: JobRun) {
        loop {
            tokio::time::sleep(PROLONG_EVERY).await;
            let until = after(self.clock.now(), LEASE);
            match self.store.prolong_job(job.name, run, until).await {
                Ok(true) => {}
                Ok(false) => return,
                // The work will notice, or the lease will end.
                Err(error) => tracing::warn!(job = job.name, %error, "a lease was not prolonged"),
            }
        }
    }

    /// Lets others have at once what is under way here: nobody goes on with it.
    pub(super) async fn give_back(&self) {
        if let Err(error) = self.store.give_jobs_back(&self.holder, self.clock.now()).await {
            tracing::warn!(%error, "leases were not given back; they end by themselves");
        }
    }
}

/// Every control plane shows it, whoever ran the job: so it is told whichever one is asked.
#[expect(clippy::cast_precision_loss, reason = "exact until the year 287396")]
fn show_last_success(job: &'static str, at: Option<Timestamp>) {
    let seconds = at.map_or(0.0, |at| at.as_millisecond() as f64 / 1000.0);
    ::metrics::gauge!(metrics::JOB_LAST_SUCCESS, "work" => job).set(seconds);
}
