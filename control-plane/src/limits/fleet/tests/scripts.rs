//! The scripts and the arithmetic give the same, step by step, on stories at random.

use ::redis::{AsyncConnectionConfig, aio::MultiplexedConnection};
use edge_protocol::{
    Algorithm,
    leases::{ALL_SHARES, MAX_SKEW_MS, Presence, Slices, pool_of},
};
use std::collections::BTreeMap;
use xtask::servers::redis::{RedisOptions, RedisServer};

use crate::limits::fleet::{
    EnvoyId, PoolId, VALID_MS,
    members::{Growth, Members},
    memory::{Behind, Earlier},
    pool::{Answer, Outcome, Pool, Sizes, Terms, Wish, nothing},
    redis::{MEMBERS, POOL, PoolCall, arguments, presence_arguments, read, read_place},
};

/// Numbers that look like chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn small(&mut self, most: u64) -> u32 {
        u32::try_from(self.below(most)).expect("small")
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// A script, with the time as its last argument, on a connection without time limits: a call that is
/// made twice would be another story.
struct Timed {
    _server: RedisServer,
    connection: MultiplexedConnection,
    script: ::redis::Script,
}

impl Timed {
    async fn started(code: &str) -> Self {
        let server = RedisServer::start(RedisOptions::default()).expect("a server");
        let timed = code.replace("redis.call('TIME')", "{0, ARGV[#ARGV] * 1000}");
        assert_ne!(timed, code);
        // The story has a time of its own, and Redis would go by another.
        let timed = timed.replace("redis.call('PEXPIRE', key, ", "tostring(");
        let client = ::redis::Client::open(server.url()).expect("a client");
        let settings = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client
            .get_multiplexed_async_connection_with_config(&settings)
            .await
            .expect("connected");
        Self { _server: server, connection, script: ::redis::Script::new(&timed) }
    }

    async fn run<const N: usize>(&mut self, key: &str, arguments: &[u64], now_ms: u64) -> [u64; N] {
        let mut call = self.script.key(key);
        for argument in arguments {
            call.arg(*argument);
        }
        call.arg(now_ms);
        call.invoke_async(&mut self.connection).await.expect("an answer")
    }

    async fn forget(&mut self, key: &str) {
        ::redis::cmd("DEL").arg(key).exec_async(&mut self.connection).await.expect("deleted");
    }
}

/// What the script does, in Rust.
fn model(pool: &mut Option<Pool>, call: &PoolCall, envoys: u32, now_ms: u64) -> Answer {
    let PoolCall { terms, sizes, wish, behind, .. } = call;
    if let Some(again) = terms.out_of_step(wish.slice, now_ms) {
        let granted = pool.as_ref().map_or(0, |pool| pool.granted(wish)).max(wish.granted);
        let grant = nothing(granted, again);
        return Answer { grant, outcome: Outcome::OutOfStep, fresh: 0 };
    }
    if let Some(other) = &behind.pool {
        pool.get_or_insert_with(|| Pool::new(other.latest)).merge(terms, *sizes, other);
    }
    pool.get_or_insert_with(|| Pool::new(wish.slice)).ask(terms, *sizes, envoys, wish)
}

/// A call at random, near the slice that is now.
fn call(chance: &mut Chance, terms: Terms, now_ms: u64) -> PoolCall {
    let slice = terms.slices.at(now_ms) + 2 - chance.below(4).min(2) - chance.below(9) / 7;
    let granted = if chance.one_in(3) { chance.small(20) } else { 0 };
    let whole = chance.one_in(3).then_some(terms.requests);
    PoolCall {
        id: PoolId([0; 16]),
        terms,
        sizes: Sizes { pool: pool_of(terms.requests), whole },
        wish: Wish {
            envoy: EnvoyId(u64::MAX - chance.below(4)),
            slice,
            epoch: chance.small(2),
            granted,
            used: if chance.one_in(2) { granted } else { chance.small(30) },
            want: chance.small(12) + 1,
        },
        behind: Behind { pool: None, version: 0 },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_in_redis_is_a_pool_in_memory() {
    let mut redis = Timed::started(POOL).await;
    let mut outcomes = BTreeMap::new();
    let algorithms = [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket];
    for story in 0..90_u64 {
        let mut chance = Chance(story);
        let algorithm = algorithms[usize::try_from(story % 3).expect("small")];
        let window_seconds =
            [1, 2, 10, 60, 86_400][usize::try_from(chance.below(5)).expect("small")];
        let requests =
            [1, 2, 3, 40, 300, u32::MAX][usize::try_from(chance.below(6)).expect("small")];
        let slices = Slices::of(algorithm, window_seconds);
        let terms = Terms { algorithm, slices, requests };
        let key = story.to_string();
        let (mut pool, mut mirror): (Option<Pool>, Option<Pool>) = (None, None);
        let mut now_ms = 1_795_608_005_123;
        for step in 0..60 {
            now_ms += match chance.below(8) {
                0..5 => chance.below(40),
                5..7 => terms.slices.ms * chance.below(3),
                _ => terms.slices.ms * chance.below(50),
            };
            let mut call = call(&mut chance, terms, now_ms);
            let envoys = chance.small(20);
            if chance.one_in(5) {
                // Asked of another memory, as when there was no Redis.
                model(&mut mirror, &call, envoys, now_ms);
                continue;
            }
            if chance.one_in(4) {
                call.behind.pool.clone_from(&mirror);
            }
            if chance.one_in(40) {
                // Redis forgets everything.
                redis.forget(&key).await;
                pool = None;
            }
            let said = redis.run(&key, &arguments(&call, envoys), now_ms).await;
            let (answer, told) = read(&call, said);
            let expected = model(&mut pool, &call, envoys, now_ms);
            let about = format!("{terms:?}, story {story}, step {step}: {call:?}");
            assert_eq!(answer, expected, "{about}");
            *outcomes.entry(format!("{:?}", answer.outcome)).or_insert(0) += 1;
            if let Some(pool) = pool.as_ref().filter(|_| answer.outcome != Outcome::OutOfStep) {
                assert_eq!(
                    (told.latest, told.small, told.level),
                    (pool.latest, pool.small, pool.level),
                    "{about}"
                );
                if answer.outcome == Outcome::Counted && algorithm == Algorithm::SlidingWindow {
                    let now = pool.sums.iter().find(|(slice, _)| *slice == pool.latest);
                    assert_eq!(told.current, now.map_or(0, |it| it.1), "{about}");
                }
                if chance.one_in(3) {
                    mirror.get_or_insert_with(|| Pool::new(told.latest)).note(&terms, &told);
                }
            }
        }
    }
    for outcome in ["Counted", "Closed", "OutOfStep"] {
        assert!(outcomes.get(outcome).is_some_and(|count| *count > 100), "{outcomes:?}");
    }
}

impl std::fmt::Debug for PoolCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?} {:?}", self.sizes, self.wish, self.behind)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_in_redis_is_a_table_in_memory() {
    let mut redis = Timed::started(MEMBERS).await;
    for story in 0..40_u64 {
        let mut chance = Chance(story);
        let key = story.to_string();
        let mut table: Option<Members> = None;
        let mut now_ms = 1_795_608_005_123;
        let mut holds = [0_u32; 6];
        let mut numbers = [0_u64; 6];
        for step in 0..120 {
            now_ms += match chance.below(20) {
                0 => chance.below(3 * VALID_MS),
                _ => chance.below(600),
            };
            let place = usize::try_from(chance.below(6)).expect("small");
            let number = match chance.below(8) {
                0 => numbers[place].saturating_sub(chance.below(2)),
                _ => numbers[place] + 1,
            };
            numbers[place] = numbers[place].max(number);
            if chance.one_in(30) {
                holds[place] = chance.small(u64::from(ALL_SHARES));
            }
            let off = if chance.one_in(15) { MAX_SKEW_MS + 1 } else { MAX_SKEW_MS };
            let its_now = if chance.one_in(2) { now_ms + off } else { now_ms - off };
            let presence = Presence { number, holds: holds[place], now_ms: its_now };
            let alone = chance.one_in(20);
            let earlier = match chance.below(60) {
                0 => Earlier::Foreign,
                1..20 => Earlier::Given,
                _ => Earlier::None,
            };
            let envoy = EnvoyId(u64::MAX - u64::try_from(place).expect("small"));
            let arguments = presence_arguments(envoy, &presence, earlier, alone);
            let said = redis.run(&key, &arguments, now_ms).await;
            let new = table.is_none();
            let table = table.get_or_insert_with(|| Members::new(now_ms));
            if alone {
                table.learn_again(now_ms);
            }
            if earlier == Earlier::Foreign || (new && earlier == Earlier::Given) {
                table.note_foreign();
            }
            let expected = table.hear(now_ms, envoy, &presence, Growth::Allowed);
            assert_eq!(read_place(said), expected, "story {story}, step {step}: {presence:?}");
            if chance.one_in(2) {
                holds[place] = expected.parts;
            }
        }
    }
}
