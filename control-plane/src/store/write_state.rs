//! Whether the last attempt to write failed.

use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;

/// What became of the last write.
#[derive(Debug, Default)]
pub(super) struct WriteState(AtomicBool);

impl WriteState {
    /// A write is durable.
    pub(super) fn succeeded(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Keeps in mind that a write failed. That a key is already there is no failure of the
    /// database.
    pub(super) fn noted<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error @ StoreError::Database(_)) = &written
            && !error.is_duplicate()
        {
            self.0.store(true, Ordering::Relaxed);
        }
        written
    }

    /// The same of one statement that is a unit of work by itself, and durable when it is done;
    /// gives how many rows it wrote. One that wrote none shows nothing.
    pub(super) fn settled(&self, written: Result<u64, sqlx::Error>) -> Result<u64, StoreError> {
        let rows = self.noted(written.map_err(StoreError::from))?;
        if rows > 0 {
            self.succeeded();
        }
        Ok(rows)
    }

    /// Whether it failed.
    pub(super) fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{
        admin::tests::call,
        store::jobs::{Claim, JobRun},
        testing::{Database, START, TestService, at, on_each_database, request, send},
    };

    on_each_database!(
        a_single_statement_that_writes_again_ends_the_failure,
        looking_for_a_job_in_vain_is_no_failure_of_a_write,
        forgetting_requests_again_ends_the_failure,
    );

    async fn a_single_statement_that_writes_again_ends_the_failure(database: Database) {
        let it = TestService::start_at(database).await;
        let store = &it.service.store;
        let used = [(it.issue(request("a")).await.0.key_id, at(START))];
        it.database.execute("ALTER TABLE api_keys RENAME TO elsewhere").await;
        store.touch(&used).await.expect_err("no table");
        assert!(store.writes_fail());
        it.database.execute("ALTER TABLE elsewhere RENAME TO api_keys").await;
        store.touch(&[]).await.expect("nothing to write");
        assert!(store.writes_fail(), "what wrote nothing shows nothing");
        store.touch(&used).await.expect("written");
        assert!(!store.writes_fail());
    }

    async fn forgetting_requests_again_ends_the_failure(database: Database) {
        let it = TestService::start_at(database).await;
        let store = &it.service.store;
        let (later, (_, admin)) = (at(START) + Duration::from_secs(1), it.issue_admin().await);
        let mut once = call("POST", "/api/v1/admin/api-keys/", &admin, Some(r#"{"name":"a"}"#));
        once.headers_mut().insert("idempotency-key", "\"one\"".parse().expect("a value"));
        assert_eq!(send(&it.admin, once).await.status, 201);
        it.database.execute("ALTER TABLE requests_made_once RENAME TO elsewhere").await;
        store.forget_requests(later).await.expect_err("no table");
        assert!(store.writes_fail());
        it.database.execute("ALTER TABLE elsewhere RENAME TO requests_made_once").await;
        assert_eq!(store.forget_requests(later).await.expect("deleted"), 1);
        assert!(!store.writes_fail());
    }

    async fn looking_for_a_job_in_vain_is_no_failure_of_a_write(database: Database) {
        let it = TestService::start_at(database).await;
        let store = &it.service.store;
        it.database.execute("ALTER TABLE jobs RENAME TO elsewhere").await;
        let claim = Claim { job: "a job", holder: "one", now: at(START), until: at(START) };
        store.claim_job(&claim).await.expect_err("no table");
        assert!(!store.writes_fail());
        store.prolong_job("a job", JobRun { fence: 1 }, at(START)).await.expect_err("no table");
        assert!(store.writes_fail());
    }
}
