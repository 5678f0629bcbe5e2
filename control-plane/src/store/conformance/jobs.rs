//! Work that is done once for all control planes.

use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use tokio::task::JoinSet;

use super::at;
use crate::store::{
    Store,
    jobs::{Claim, JobRun},
};

const JOB: &str = "a job";

/// Claims it for a second.
async fn claim(store: &dyn Store, holder: &str, now: Timestamp) -> Option<JobRun> {
    let until = now + SignedDuration::from_secs(1);
    store.claim_job(&Claim { job: JOB, holder, now, until }).await.expect("answered")
}

pub(crate) async fn a_run_is_given_to_one_of_many(store: Arc<dyn Store>) {
    let mut tasks = JoinSet::new();
    for number in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { claim(&*store, &format!("process {number}"), at(0)).await });
    }
    let given: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    assert_eq!(given, [JobRun { fence: 1 }]);
    assert_eq!(store.job_last_success(JOB).await.expect("read"), None);
}

pub(crate) async fn a_job_that_is_done_is_not_run_before_it_is_due_again(store: Arc<dyn Store>) {
    let run = claim(&*store, "one", at(0)).await.expect("a run");
    store.end_job(JOB, run, at(5000), Some(at(100))).await.expect("ended");
    assert_eq!(claim(&*store, "other", at(4999)).await, None);
    let next = claim(&*store, "other", at(5000)).await.expect("a run");
    assert_eq!(next.fence, 2);
    assert_eq!(store.job_last_success(JOB).await.expect("read"), Some(at(100)));
    // One that failed leaves what succeeded before it.
    store.end_job(JOB, next, at(6000), None).await.expect("ended");
    assert_eq!(store.job_last_success(JOB).await.expect("read"), Some(at(100)));
    assert!(claim(&*store, "one", at(6000)).await.is_some());
}

pub(crate) async fn who_has_lost_a_run_can_neither_keep_nor_end_it(store: Arc<dyn Store>) {
    let lost = claim(&*store, "one", at(0)).await.expect("a run");
    assert!(store.prolong_job(JOB, lost, at(2000)).await.expect("answered"));
    assert_eq!(claim(&*store, "other", at(1999)).await, None);
    let run = claim(&*store, "other", at(2000)).await.expect("a run");
    assert!(!store.prolong_job(JOB, lost, at(9000)).await.expect("answered"));
    store.end_job(JOB, lost, at(99_000), Some(at(2001))).await.expect("answered");
    assert_eq!(store.job_last_success(JOB).await.expect("read"), None);
    assert!(store.prolong_job(JOB, run, at(3000)).await.expect("answered"));
    store.end_job(JOB, run, at(4000), Some(at(2500))).await.expect("ended");
    // What has ended is nobody's.
    assert!(!store.prolong_job(JOB, run, at(9000)).await.expect("answered"));
    assert_eq!(store.job_last_success(JOB).await.expect("read"), Some(at(2500)));
}

pub(crate) async fn what_is_given_back_is_due_at_once(store: Arc<dyn Store>) {
    claim(&*store, "one", at(0)).await.expect("a run");
    store.give_jobs_back("other", at(1)).await.expect("given");
    assert_eq!(claim(&*store, "other", at(1)).await, None);
    store.give_jobs_back("one", at(1)).await.expect("given");
    assert!(claim(&*store, "other", at(1)).await.is_some());
}
