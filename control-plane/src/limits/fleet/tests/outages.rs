//! Redis that dies, hangs, forgets and comes back, and several control planes.

use edge_protocol::{
    Algorithm,
    leases::{ALL_SHARES, Ask, Grant, MAX_ASKS, Presence},
};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::Instant};
use xtask::servers::redis::{RedisCluster, RedisOptions, RedisSentinels, RedisServer};

use super::{Replica, fixed, now_ms};
use crate::{
    clock::SystemClock,
    limits::fleet::{EnvoyId, FleetLimits, VALID_MS},
    random::SystemRandom,
    redis::testing::{Kept, PATIENCE},
};

fn started() -> RedisServer {
    RedisServer::start(RedisOptions::default()).expect("a server")
}

/// Envoys that spend all they get, each at one of the control planes.
struct Fleet<'a> {
    replicas: Vec<&'a Replica>,
    granted: Vec<u32>,
}

impl<'a> Fleet<'a> {
    fn new(replicas: Vec<&'a Replica>, envoys: usize) -> Self {
        Self { replicas, granted: vec![0; envoys] }
    }

    /// Each asks so many times, of a limit with that pool; gives what they have in all.
    async fn asks(&mut self, pool: u32, times: u32) -> u32 {
        for _ in 0..times {
            for (envoy, granted) in self.granted.iter_mut().enumerate() {
                let replica = self.replicas[envoy % self.replicas.len()];
                let ask = fixed("a", pool * 2, *granted, 1);
                let envoy = u64::try_from(envoy).expect("small");
                let grant = replica.grant(envoy, &ask).await;
                assert!(grant.granted >= *granted, "{grant:?}");
                *granted = grant.granted;
            }
        }
        self.granted.iter().sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_grant_one_pool_together_and_all_of_it() {
    let server = started();
    let (one, other) = (Replica::at(&server.url()).await, Replica::at(&server.url()).await);
    let mut fleet = Fleet::new(vec![&one, &other], 5);
    assert_eq!(fleet.asks(100, 40).await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_and_comes_back_empty_costs_one_control_plane_nothing_of_the_limit()
{
    let mut server = started();
    let replica = Replica::at(&server.url()).await;
    // Of so many Envoys each gets little at a time.
    for envoy in 0..20 {
        replica.hear(envoy, 1, 0).await;
    }
    let mut fleet = Fleet::new(vec![&replica], 5);
    let before = fleet.asks(1000, 2).await;
    assert!(before > 100 && before < 1000, "{before}");
    server.process_mut().kill().expect("killed");
    replica.becomes(false).await;
    let without = fleet.asks(1000, 2).await;
    assert!(without > before && without < 1000, "{before} {without}");
    server.restart().expect("restarted");
    replica.becomes(true).await;
    assert_eq!(fleet.asks(1000, 60).await, 1000);
    let kept: u64 = server.cli(&["DBSIZE"]).expect("said").trim().parse().expect("a number");
    assert!(kept >= 1, "Redis counts again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_control_planes_without_redis_each_grant_their_part() {
    let mut server = started();
    let (one, other) = (Replica::at(&server.url()).await, Replica::at(&server.url()).await);
    for replica in [&one, &other, &one] {
        replica.limits.note().await;
    }
    assert_eq!(one.limits.census().control_planes, 2);
    server.process_mut().kill().expect("killed");
    one.becomes(false).await;
    other.becomes(false).await;
    let mut fleet = Fleet::new(vec![&one, &other], 6);
    assert_eq!(fleet.asks(100, 30).await, 100);
    server.restart().expect("restarted");
    one.becomes(true).await;
    other.becomes(true).await;
    // Redis hears of what was granted meanwhile from each with the first ask, and the first of them
    // may get something before the second has told.
    let after = fleet.asks(100, 30).await;
    assert!((100..=150).contains(&after), "{after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_costs_nothing_of_the_limit() {
    let mut set = RedisSentinels::start(Some("word")).expect("a set");
    let replica = Replica::at(&set.url()).await;
    let mut fleet = Fleet::new(vec![&replica], 3);
    fleet.asks(500, 3).await;
    let before = set.primary_port().expect("a port");
    set.primary_mut().expect("a primary").process_mut().kill().expect("killed");
    let (mut asked, begun) = (0, Instant::now());
    while asked < 500 && begun.elapsed() < PATIENCE {
        asked = fleet.asks(500, 1).await;
        assert!(asked <= 500);
    }
    set.wait_for_another_primary(before).expect("another primary");
    replica.becomes(true).await;
    assert_eq!(fleet.asks(500, 20).await, 500);
}

/// As many asks as a call may have, of pools that hold 1, 2, 3, ...
fn asks_of_all_sizes() -> Vec<Ask> {
    let sizes = (1..).take(MAX_ASKS);
    sizes.map(|size| fixed(&size.to_string(), 2 * size, 0, 2 * size)).collect()
}

/// That each was answered by its own pool, and got all of it.
fn holds_all_sizes(grants: &[Grant]) {
    assert_eq!(grants.len(), MAX_ASKS);
    for (size, grant) in (1..).zip(grants) {
        assert_eq!((grant.granted, grant.left), (size, 0), "{grants:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_ask_of_a_full_call_is_answered_by_its_own_pool() {
    let mut server = started();
    let replica = Replica::at(&server.url()).await;
    let asks = asks_of_all_sizes();
    holds_all_sizes(&replica.limits.answer(EnvoyId(1), None, &asks).await.grants);
    // And so it is when Redis has to be told of all of them.
    server.process_mut().kill().expect("killed");
    replica.becomes(false).await;
    server.restart().expect("restarted");
    replica.becomes(true).await;
    holds_all_sizes(&replica.limits.answer(EnvoyId(1), None, &asks).await.grants);
    let other = Replica::at(&server.url()).await;
    let others = other.limits.answer(EnvoyId(2), None, &asks).await.grants;
    assert!(others.iter().all(|grant| (grant.granted, grant.left) == (0, 0)), "{others:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_pools_on_all_its_nodes() {
    let cluster = RedisCluster::start().expect("a cluster");
    let replica = Replica::at(&cluster.url()).await;
    let asks = asks_of_all_sizes();
    let answered = async {
        loop {
            let answer = replica.limits.answer(EnvoyId(1), None, &asks).await;
            let sizes: Vec<u64> = cluster
                .nodes
                .iter()
                .map(|node| node.cli(&["DBSIZE"]).expect("said").trim().parse().expect("a number"))
                .collect();
            if sizes.iter().all(|size| *size > 5) {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answered).await.expect("they are kept");
    holds_all_sizes(&answer.grants);
    assert!(replica.hear(1, 1, 0).await == 0, "a new table learns");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_redis_has_forgotten_are_loaded_again() {
    let server = started();
    let replica = Replica::at(&server.url()).await;
    replica.grant(1, &fixed("a", 20, 0, 1)).await;
    server.cli(&["SCRIPT", "FLUSH"]).expect("flushed");
    let asks = [fixed("b", 20, 0, 1), fixed("c", 20, 0, 1)];
    replica.limits.answer(EnvoyId(1), None, &asks).await;
    let keys = server.cli(&["KEYS", "keygate:lease:*"]).expect("said");
    assert_eq!(keys.lines().count(), 3, "{keys}");
    for key in keys.lines() {
        let kept = server.cli(&["PTTL", key.trim()]).expect("said");
        let kept: u64 = kept.trim().parse().expect("a time to live");
        assert!((1..=4 * 3_600_000).contains(&kept), "{kept}");
    }
}

/// In Redis, by a clock that may be another than that of who asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_short_slices_is_kept_for_as_long_as_clocks_differ() {
    let server = started();
    let replica = Replica::at(&server.url()).await;
    let ask = Ask {
        algorithm: Algorithm::SlidingWindow,
        window_seconds: 4,
        slice: now_ms() / 125,
        ..fixed("a", 20, 0, 1)
    };
    let answer = replica.limits.answer(EnvoyId(1), None, &[ask]).await;
    assert_eq!(answer.grants[0].granted, 1);
    let key = server.cli(&["KEYS", "keygate:lease:*"]).expect("said");
    let kept = server.cli(&["PTTL", key.trim()]).expect("said");
    let kept: u64 = kept.trim().parse().expect("a time to live");
    // 34 slices of an eighth of a second, and the clocks of two.
    assert!((5250..=34 * 125 + 2000 + 125).contains(&kept), "{kept}");
}

/// A well-known way for a limiter to stop its whole runtime: more distinct counters than it has
/// room for while Redis is away, with a lock held while it waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_subjects_than_every_bound_while_redis_is_away_stop_nothing() {
    let mut server = started();
    let kept = Kept::at(&server.url());
    kept.becomes(true).await;
    let redis = Some(Arc::clone(&kept.redis));
    let limits = FleetLimits::new(redis, Arc::new(SystemClock), &SystemRandom).expect("one");
    let limits = Arc::new(limits.with_room_for(2000));
    let replica = Replica { kept: Some(kept), limits };
    let before = fixed("before", 100, 0, 10);
    let granted = replica.grant(1, &before).await.granted;
    // It hangs first, so that calls are under way, and then it is gone.
    server.process_mut().pause().expect("frozen");
    let mut tasks = JoinSet::new();
    for part in 0..64_u64 {
        let limits = Arc::clone(&replica.limits);
        tasks.spawn(async move {
            let mut longest = Duration::ZERO;
            for call in 0..20 {
                let asks: Vec<_> = (0..16)
                    .map(|number| fixed(&format!("{part}/{call}/{number}"), 100, 0, 10))
                    .collect();
                let number = call + 1;
                let presence = Presence { number, holds: 0, now_ms: now_ms() };
                let begun = Instant::now();
                let answer = limits.answer(EnvoyId(part), Some(&presence), &asks).await;
                longest = longest.max(begun.elapsed());
                assert_eq!((answer.grants.len(), answer.standing.is_some()), (16, true));
            }
            longest
        });
    }
    let all = tokio::time::timeout(Duration::from_mins(1), tasks.join_all()).await;
    let longest = all.expect("it is stuck").into_iter().max().expect("some");
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(replica.limits.census().pools <= 2000);
    let full = replica.grant(1, &fixed("one more", 100, 0, 10)).await;
    assert!(full.granted == 0 && full.again.is_some(), "{full:?}");
    let known = fixed("before", 100, granted, 1);
    assert!(replica.grant(1, &known).await.granted > granted, "what is known goes on");

    server.process_mut().kill().expect("killed");
    server.restart().expect("restarted");
    replica.becomes(true).await;
    let grant = replica.grant(1, &fixed("one more", 100, 0, 10)).await;
    assert!(grant.granted >= 10, "{grant:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_are_split_in_redis_and_kept_while_it_is_gone() {
    let mut server = started();
    let (one, other) = (Replica::at(&server.url()).await, Replica::at(&server.url()).await);
    for replica in [&one, &other, &one] {
        replica.limits.note().await;
    }
    let mut holds = [0_u32; 2];
    let mut number = 0;
    let split = async {
        while holds != [ALL_SHARES / 2; 2] {
            number += 1;
            holds[0] = one.hear(1, number, holds[0]).await;
            holds[1] = other.hear(2, number, holds[1]).await;
            assert!(holds.iter().sum::<u32>() <= ALL_SHARES);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, split).await.expect("they are split");
    server.process_mut().kill().expect("killed");
    one.becomes(false).await;
    // Longer than what was told is good for.
    let until = Instant::now() + Duration::from_millis(VALID_MS + 500);
    while Instant::now() < until {
        number += 1;
        assert_eq!(one.hear(1, number, holds[0]).await, ALL_SHARES / 2);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    server.restart().expect("restarted");
    one.becomes(true).await;
    // The other is silent now. A new table does not know for how long it holds its own.
    assert_eq!(one.hear(1, number + 1, holds[0]).await, ALL_SHARES / 2);
    assert_eq!(one.hear(3, 1, 0).await, 0, "nothing is given before it has learnt");
}

#[tokio::test]
async fn a_control_plane_without_redis_is_the_authority_alone() {
    let replica = Replica::alone();
    assert_eq!(replica.hear(1, 1, 0).await, 0, "a new table learns");
    // Nobody has a share of this window, so all of the limit is granted.
    let all = Ask { holds: 0, ..fixed("whole", 100, 0, 100) };
    assert_eq!(replica.grant(1, &all).await.granted, 100);
    // Somebody says that there are shares.
    let mut fleet = Fleet::new(vec![&replica], 3);
    assert_eq!(fleet.asks(50, 30).await, 50);
    let all = Ask { subject: "half".to_owned(), ..all };
    assert_eq!(replica.grant(1, &all).await.granted, 50);
    let late = Ask { slice: all.slice + 7, ..all };
    let grant = replica.grant(1, &late).await;
    assert_eq!((grant.granted, grant.left, grant.again), (0, 0, Some(late.slice + 1)));
}
