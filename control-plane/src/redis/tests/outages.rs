//! A Redis that dies, hangs, forgets, or can be written no longer.

use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use xtask::servers::redis::{RedisOptions, RedisServer};

use super::Kept;
use crate::redis::{CALL_TIMEOUT, MAX_CALLS, RedisFault, Script, SharedKey};

/// What a machine that is busy with other things may add to a time limit.
const SLACK: Duration = Duration::from_millis(400);

async fn started() -> (RedisServer, Kept) {
    let server = RedisServer::start(RedisOptions::default()).expect("a server");
    let kept = Kept::at(&server.url());
    kept.becomes(true).await;
    kept.keeps("a", 1).await;
    (server, kept)
}

/// So many calls at the same time: what came of each, and how long the longest took.
async fn at_once(kept: &Kept, calls: usize) -> (Vec<Result<u64, RedisFault>>, Duration) {
    let script = Arc::new(Script::new("return 1"));
    let mut tasks = JoinSet::new();
    for number in 0..calls {
        let (redis, script) = (Arc::clone(&kept.redis), Arc::clone(&script));
        tasks.spawn(async move {
            let begun = Instant::now();
            let key = SharedKey::new("test", &number.to_string());
            (redis.call::<u64>(&script, &key, &[]).await, begun.elapsed())
        });
    }
    let (answers, times): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().unzip();
    (answers, times.into_iter().max().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_is_noticed_costs_nothing_and_is_used_again_when_it_is_back() {
    let (mut server, kept) = started().await;
    server.process_mut().kill().expect("killed");
    kept.becomes(false).await;
    let begun = Instant::now();
    for _ in 0..1000 {
        let fault = kept.keep_number("a", 1).await.expect_err("there is no server");
        assert!(matches!(fault, RedisFault::NotConnected), "{fault}");
    }
    assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
    server.restart().expect("restarted");
    kept.becomes(true).await;
    kept.keeps("a", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_costs_no_call_more_than_its_time_and_is_left_alone() {
    let (mut server, kept) = started().await;
    server.process_mut().pause().expect("frozen");
    let (answers, longest) = at_once(&kept, 40).await;
    assert!(answers.iter().all(Result::is_err));
    assert!(longest < CALL_TIMEOUT + SLACK, "{longest:?}");
    // Known to be no use, before the keeper's probe has told: it costs nothing any more.
    let begun = Instant::now();
    let fault = kept.keep_number("a", 1).await.expect_err("it hangs");
    assert!(matches!(fault, RedisFault::LeftAlone | RedisFault::NotConnected), "{fault}");
    assert!(begun.elapsed() < CALL_TIMEOUT);
    let probe = kept.redis.probe().await;
    assert!(probe.is_err());

    server.process_mut().resume().expect("going on");
    kept.becomes(true).await;
    kept.keeps("a", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_calls_than_can_be_under_way_are_refused_and_do_not_wait() {
    let (mut server, kept) = started().await;
    server.process_mut().pause().expect("frozen");
    let (answers, longest) = at_once(&kept, MAX_CALLS * 2).await;
    let busy = answers.iter().filter(|it| matches!(it, Err(RedisFault::Busy))).count();
    assert!(busy > 0);
    assert!(longest < CALL_TIMEOUT + SLACK, "{longest:?}");
    server.process_mut().resume().expect("going on");
    kept.becomes(true).await;
    let (answers, _) = at_once(&kept, 20).await;
    assert!(answers.iter().any(Result::is_ok), "room is given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_redis_has_forgotten_is_loaded_again() {
    let (server, kept) = started().await;
    server.cli(&["SCRIPT", "FLUSH"]).expect("flushed");
    kept.keeps("a", 2).await;
    assert!(kept.redis.is_in_use());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_cannot_be_written_counts_as_gone() {
    let (server, kept) = started().await;
    for (breaks, mends) in [
        // A replica, after a fail-over that nobody told us about.
        (&["REPLICAOF", "127.0.0.1", "1"][..], &["REPLICAOF", "NO", "ONE"][..]),
        (&["CONFIG", "SET", "maxmemory", "1"], &["CONFIG", "SET", "maxmemory", "0"]),
    ] {
        server.cli(breaks).expect("broken");
        kept.becomes(false).await;
        server.cli(mends).expect("mended");
        kept.becomes(true).await;
        kept.keeps("a", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_not_there_at_first_is_picked_up_later() {
    let mut server = RedisServer::start(RedisOptions::default()).expect("a server");
    server.process_mut().kill().expect("killed");
    let kept = Kept::at(&server.url());
    kept.redis.tried().await;
    assert!(!kept.redis.is_in_use());
    server.restart().expect("restarted");
    kept.becomes(true).await;
}
