//! What this machine can bear: the cost of a hash, open files.

use rustix::process::{Resource, getrlimit};
use std::{num::NonZeroUsize, sync::Arc, time::Duration};
use tokio::time::Instant;

use super::finding::{Check, Finding, milliseconds};
use crate::keys::{
    digest::PresentedKey,
    hashing::{HashRecipe, Iterations},
    pool::HashPool,
};

/// A filter waits a second for a new key; with this, some four can wait at a time.
const SLOW_HASH: Duration = Duration::from_millis(40);
/// The quickest counts: the machine may be busy for a moment.
const HASHES: usize = 3;
/// Fewer are used up by the connections of one crowd.
const FEW_FILES: u64 = 4096;

pub(super) async fn hash_cost(iterations: Iterations) -> Finding {
    let threads = HashPool::default_threads();
    match measure(iterations).await {
        Some(took) => judge_hash(took, iterations, threads),
        None => Finding::failed(
            Check::HashCost,
            "no thread can be started to hash on",
            "see how many threads this user may have (ulimit -u, pids_limit)",
        ),
    }
}

async fn measure(iterations: Iterations) -> Option<Duration> {
    let pool = HashPool::start(NonZeroUsize::MIN).ok()?;
    let key = Arc::new(PresentedKey::new(b"what does one hash cost here?".as_slice())?);
    let mut quickest: Option<Duration> = None;
    for _ in 0..HASHES {
        let started = Instant::now();
        pool.hash(Arc::clone(&key), HashRecipe::current(iterations, [0; 16])).await.ok()?;
        let took = started.elapsed();
        quickest = Some(quickest.map_or(took, |known| known.min(took)));
    }
    quickest
}

fn judge_hash(took: Duration, iterations: Iterations, threads: NonZeroUsize) -> Finding {
    #[expect(clippy::cast_precision_loss, reason = "a handful of threads")]
    let per_second = threads.get() as f64 / took.as_secs_f64().max(f64::EPSILON);
    let what = format!(
        "one hash of {} iterations takes {}: {per_second:.0} new keys a second on {threads} thread(s)",
        iterations.get(),
        milliseconds(took)
    );
    if took > SLOW_HASH {
        let mend = "take a machine with SHA instructions (sha_ni in /proc/cpuinfo), or more cores; \
                    keys that are known already are not touched";
        Finding::warning(Check::HashCost, what, mend)
    } else {
        Finding::ok(Check::HashCost, what)
    }
}

pub(super) fn open_files() -> Finding {
    judge_files(getrlimit(Resource::Nofile).maximum)
}

/// The service raises its limit as far as it may itself, so the hard one counts.
fn judge_files(most: Option<u64>) -> Finding {
    match most {
        None => Finding::ok(Check::OpenFiles, "as many as there is memory for"),
        Some(most) if most < FEW_FILES => Finding::warning(
            Check::OpenFiles,
            format!("only {most} files and connections may be open"),
            format!(
                "allow more: LimitNOFILE=65536 (systemd), ulimits: nofile (compose); at least {FEW_FILES}"
            ),
        ),
        Some(most) => {
            Finding::ok(Check::OpenFiles, format!("{most} files and connections may be open"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn a_slow_hash_is_told() {
        for (millis, status) in [(12, Status::Ok), (55, Status::Warning)] {
            let took = Duration::from_millis(millis);
            let found = judge_hash(took, Iterations::default(), NonZeroUsize::MIN);
            assert_eq!(found.status, status, "{found:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_cost_of_a_hash_is_measured() {
        let cheap = Iterations::new(Iterations::LEAST).expect("a number");
        assert!(measure(cheap).await.is_some_and(|took| took > Duration::ZERO));
    }

    #[test]
    fn few_open_files_are_told() {
        assert_eq!(judge_files(Some(1024)).status, Status::Warning);
        assert_eq!(judge_files(Some(65_536)).status, Status::Ok);
        assert_eq!(judge_files(None).status, Status::Ok);
    }
}
