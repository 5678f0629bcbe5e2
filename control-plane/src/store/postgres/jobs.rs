//! Leases of jobs, on `PostgreSQL`.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{PostgresStore, StoreError};
use crate::store::{
    jobs::{Claim, JobRun, JobStore, Latest},
    row::time,
};

#[async_trait]
impl JobStore for PostgresStore {
    async fn claim_job(&self, claim: &Claim<'_>) -> Result<Option<JobRun>, StoreError> {
        // No row comes back when the job is not due, or is held. Every control plane asks all the
        // time: a failure of that is none of a write that somebody has asked for.
        let claimed = sqlx::query_scalar(
            "INSERT INTO jobs AS known (name, holder, fence, held_until_ms, due_at_ms)
             VALUES ($1, $2, 1, $4, $3)
             ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, fence = known.fence + 1,
                 held_until_ms = excluded.held_until_ms
             WHERE known.due_at_ms <= $3 AND known.held_until_ms <= $3
             RETURNING fence",
        )
        .bind(claim.job)
        .bind(claim.holder)
        .bind(claim.now.as_millisecond())
        .bind(claim.until.as_millisecond())
        .fetch_optional(&self.writers)
        .await?;
        Ok(claimed.map(|fence| JobRun { fence }))
    }

    async fn heal_job(&self, job: &str, latest: &Latest) -> Result<bool, StoreError> {
        let healed = sqlx::query(
            "UPDATE jobs SET due_at_ms = least(due_at_ms, $2), held_until_ms = least(held_until_ms, $3)
             WHERE name = $1 AND (due_at_ms > $2 OR held_until_ms > $3)",
        )
        .bind(job)
        .bind(latest.due.as_millisecond())
        .bind(latest.held.as_millisecond())
        .execute(&self.writers)
        .await?;
        Ok(healed.rows_affected() > 0)
    }

    async fn prolong_job(
        &self,
        job: &str,
        run: JobRun,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let prolonged = sqlx::query(
            "UPDATE jobs SET held_until_ms = $3 WHERE name = $1 AND fence = $2 AND held_until_ms > 0",
        )
        .bind(job)
        .bind(run.fence)
        .bind(until.as_millisecond())
        .execute(&self.writers)
        .await;
        Ok(self.writes.settled(prolonged.map(|done| done.rows_affected()))? == 1)
    }

    async fn end_job(
        &self,
        job: &str,
        run: JobRun,
        next: Timestamp,
        succeeded: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let ended = sqlx::query(
            "UPDATE jobs SET held_until_ms = 0, due_at_ms = $3,
                 last_success_ms = coalesce($4, last_success_ms)
             WHERE name = $1 AND fence = $2",
        )
        .bind(job)
        .bind(run.fence)
        .bind(next.as_millisecond())
        .bind(succeeded.map(Timestamp::as_millisecond))
        .execute(&self.writers)
        .await;
        self.writes.settled(ended.map(|done| done.rows_affected())).map(drop)
    }

    async fn give_jobs_back(&self, holder: &str, now: Timestamp) -> Result<(), StoreError> {
        let given = sqlx::query(
            "UPDATE jobs SET held_until_ms = 0, due_at_ms = $2
             WHERE holder = $1 AND held_until_ms > $2",
        )
        .bind(holder)
        .bind(now.as_millisecond())
        .execute(&self.writers)
        .await;
        self.writes.settled(given.map(|done| done.rows_affected())).map(drop)
    }

    async fn job_last_success(&self, job: &str) -> Result<Option<Timestamp>, StoreError> {
        let millis: Option<Option<i64>> =
            sqlx::query_scalar("SELECT last_success_ms FROM jobs WHERE name = $1")
                .bind(job)
                .fetch_optional(&self.pool)
                .await?;
        millis.flatten().map(|millis| time(millis, "last_success_ms")).transpose()
    }
}
