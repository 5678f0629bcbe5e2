//! Counting together in Redis, and alone while Redis gives no answer.

use async_trait::async_trait;
use std::sync::Arc;

use super::{
    Decision, Meter, Quota, Subject,
    memory::{MemoryMeter, decide, each, micros},
};
use crate::{
    metrics,
    redis::{Redis, Script, SharedKey},
};

/// The algorithm of [`super::memory`] on one key, by Redis' own clock: those of several control
/// planes may differ. Gives back in how many µs the quota was to be whole.
const TAKE_OR_LOOK: &str = "
local each, window, counts = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local whole_at = tonumber(redis.call('GET', KEYS[1]) or now)
local until_whole = math.min(math.max(whole_at - now, 0), window)
if counts and until_whole + each <= window then
  local ends = until_whole + each
  redis.call('SET', KEYS[1], string.format('%.0f', now + ends), 'PX', math.ceil(ends / 1000))
end
return until_whole
";

/// Counts in Redis, and in memory when there is no answer from there.
pub struct SharedMeter {
    redis: Arc<Redis>,
    script: Script,
    memory: MemoryMeter,
}

impl SharedMeter {
    /// Counts in `redis` while it answers, and in `memory` while it does not.
    #[must_use]
    pub fn new(redis: Arc<Redis>, memory: MemoryMeter) -> Self {
        Self { redis, script: Script::new(TAKE_OR_LOOK), memory }
    }

    async fn ask_redis(&self, subject: &Subject, quota: Quota, counts: bool) -> Option<Decision> {
        let key = SharedKey::new(&format!("limit:{}", subject.kind), &subject.name);
        let arguments = [each(quota), micros(quota.window), u64::from(counts)];
        // Why there is no answer is in the metrics, and in the keeper's log.
        let until_whole = self.redis.call(&self.script, &key, &arguments).await.ok();
        let authority = if until_whole.is_some() { "redis" } else { "memory" };
        ::metrics::counter!(metrics::LIMITER_DECISIONS, "authority" => authority).increment(1);
        until_whole.map(|until_whole| decide(quota, until_whole).0)
    }
}

#[async_trait]
impl Meter for SharedMeter {
    async fn take(&self, subject: &Subject, quota: Quota) -> Decision {
        let shared = self.ask_redis(subject, quota, true).await;
        if let Some(refused) = shared.filter(|shared| !shared.allowed) {
            return refused;
        }
        // What Redis lets through is noted in memory too: it goes on from there when Redis is gone.
        let alone = self.memory.take(subject, quota).await;
        shared.unwrap_or(alone)
    }

    async fn look(&self, subject: &Subject, quota: Quota) -> Decision {
        match self.ask_redis(subject, quota, false).await {
            Some(decision) => decision,
            None => self.memory.look(subject, quota).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        redis::{CALL_TIMEOUT, testing::Kept},
    };
    use std::{num::NonZeroU32, time::Duration};
    use tokio::{task::JoinSet, time::Instant};
    use xtask::servers::redis::{RedisOptions, RedisServer};

    /// Of an hour, so that nothing comes back while a test runs.
    fn quota(requests: u32) -> Quota {
        let requests = NonZeroU32::new(requests).expect("not zero");
        Quota { requests, window: Duration::from_hours(1) }
    }

    fn subject(name: impl std::fmt::Display) -> Subject {
        Subject { kind: "test", name: name.to_string() }
    }

    /// A control plane's meter.
    struct Replica {
        kept: Kept,
        meter: Arc<SharedMeter>,
    }

    impl Replica {
        async fn on(server: &RedisServer) -> Self {
            let kept = Kept::at(&server.url());
            kept.becomes(true).await;
            let memory = MemoryMeter::new(Arc::new(SystemClock));
            let meter = Arc::new(SharedMeter::new(Arc::clone(&kept.redis), memory));
            Self { kept, meter }
        }

        /// How many of so many, one after another, are allowed.
        async fn takes(&self, name: &str, quota: Quota, times: u32) -> u32 {
            let mut allowed = 0;
            for _ in 0..times {
                allowed += u32::from(self.meter.take(&subject(name), quota).await.allowed);
            }
            allowed
        }
    }

    fn started() -> RedisServer {
        RedisServer::start(RedisOptions::default()).expect("a server")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn control_planes_share_one_count_however_many_ask_at_once() {
        let server = started();
        let (one, other) = (Replica::on(&server).await, Replica::on(&server).await);
        let mut tasks = JoinSet::new();
        for meter in [&one.meter, &other.meter].into_iter().cycle().take(60) {
            let meter = Arc::clone(meter);
            tasks.spawn(async move { meter.take(&subject("a"), quota(20)).await });
        }
        let decisions = tasks.join_all().await;
        assert_eq!(decisions.iter().filter(|decision| decision.allowed).count(), 20);
        let refused = other.meter.look(&subject("a"), quota(20)).await;
        assert!(!refused.allowed && refused.remaining == 0, "{refused:?}");
        let each = Duration::from_mins(3);
        assert!(refused.retry_after <= each && refused.retry_after > each / 2, "{refused:?}");
        assert!(refused.reset_after > Duration::from_mins(58), "{refused:?}");
        // Another subject, and the same name of another kind, are on their own.
        assert!(one.meter.take(&subject("b"), quota(20)).await.allowed);
        let kind = Subject { kind: "another", ..subject("a") };
        assert_eq!(one.meter.take(&kind, quota(20)).await.remaining, 19);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_kept_for_longer_than_it_counts() {
        let server = started();
        let replica = Replica::on(&server).await;
        assert!(replica.meter.look(&subject("a"), quota(60)).await.allowed);
        let ttl = || server.cli(&["PTTL", "keygate:limit:test:{a}"]).expect("said");
        assert_eq!(ttl().trim(), "-2", "looking writes nothing");
        replica.takes("a", quota(60), 1).await;
        let kept: u64 = ttl().trim().parse().expect("a number");
        assert!((1..=60_000).contains(&kept), "{kept}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_redis_a_count_goes_on_from_what_was_let_through_here() {
        let mut server = started();
        let replica = Replica::on(&server).await;
        assert_eq!(replica.takes("a", quota(5), 3).await, 3);
        server.process_mut().kill().expect("killed");
        assert_eq!(replica.takes("a", quota(5), 10).await, 2);
        server.restart().expect("restarted");
        replica.kept.becomes(true).await;
        assert!(replica.meter.look(&subject("a"), quota(5)).await.allowed, "an empty Redis");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_redis_that_hangs_costs_a_call_its_time_and_never_the_limit() {
        let mut server = started();
        let replica = Replica::on(&server).await;
        server.process_mut().pause().expect("frozen");
        let begun = Instant::now();
        assert_eq!(replica.takes("a", quota(5), 1).await, 1);
        // With what a machine that is busy with other things adds.
        assert!(begun.elapsed() < CALL_TIMEOUT + Duration::from_millis(400));
        assert_eq!(replica.takes("a", quota(5), 30).await, 4);
        server.process_mut().resume().expect("going on");
        replica.kept.becomes(true).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn more_subjects_than_there_is_room_for_block_nothing_while_redis_is_away() {
        let mut server = started();
        let replica = Replica::on(&server).await;
        server.process_mut().pause().expect("frozen");
        let mut tasks = JoinSet::new();
        for part in 0..64 {
            let meter = Arc::clone(&replica.meter);
            tasks.spawn(async move {
                for number in 0..1000 {
                    meter.take(&subject(part * 1000 + number), quota(5)).await;
                }
            });
        }
        let all = tokio::time::timeout(Duration::from_mins(1), tasks.join_all()).await;
        assert!(all.is_ok(), "it is stuck");
        server.process_mut().resume().expect("going on");
        replica.kept.becomes(true).await;
        assert_eq!(replica.takes("new", quota(5), 10).await, 5);
    }
}
