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
    pool::{Answer, Outcome, Pool, Sizes, Terms, Told, Wish, nothing},
    record,
    redis::{MEMBERS, POOL, PoolCall, common, presence_arguments, read_place},
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

    /// Asks of several pools in one run.
    async fn ask(
        &mut self,
        asks: &[(&str, &PoolCall)],
        envoys: u32,
        now_ms: u64,
    ) -> Vec<(Answer, Told)> {
        let mut run = self.script.prepare_invoke();
        for number in common(envoys) {
            run.arg(number);
        }
        for (key, call) in asks {
            run.key(*key).arg(record::ask(call));
        }
        run.arg(now_ms);
        let said: Vec<u8> = run.invoke_async(&mut self.connection).await.expect("an answer");
        let mut left = said.as_slice();
        let answer = |(_, call): &(&str, &PoolCall)| record::answer(call, &mut left);
        let answers = asks.iter().map(answer).collect::<Option<_>>().expect("an answer to each");
        assert!(left.is_empty(), "{left:?}");
        answers
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

/// A pool of a story: as it is in Redis, and as another memory has it.
struct Kept {
    key: String,
    terms: Terms,
    pool: Option<Pool>,
    mirror: Option<Pool>,
}

impl Kept {
    fn new(chance: &mut Chance, key: String, algorithm: Algorithm) -> Self {
        let window_seconds =
            [1, 2, 10, 60, 86_400][usize::try_from(chance.below(5)).expect("small")];
        let requests =
            [1, 2, 3, 40, 300, u32::MAX][usize::try_from(chance.below(6)).expect("small")];
        let slices = Slices::of(algorithm, window_seconds);
        Self { key, terms: Terms { algorithm, slices, requests }, pool: None, mirror: None }
    }

    /// A call of it, if it is asked of Redis in this step.
    async fn call(
        &mut self,
        redis: &mut Timed,
        chance: &mut Chance,
        (envoys, now_ms): (u32, u64),
    ) -> Option<PoolCall> {
        let mut call = call(chance, self.terms, now_ms);
        if chance.one_in(5) {
            // Asked of another memory, as when there was no Redis.
            model(&mut self.mirror, &call, envoys, now_ms);
            return None;
        }
        if chance.one_in(4) {
            call.behind.pool.clone_from(&self.mirror);
        }
        if chance.one_in(40) {
            // Redis forgets everything.
            redis.forget(&self.key).await;
            self.pool = None;
        }
        Some(call)
    }

    /// Holds what Redis told against the arithmetic.
    fn hears(
        &mut self,
        chance: &mut Chance,
        call: &PoolCall,
        (envoys, now_ms): (u32, u64),
        (answer, told): (Answer, Told),
        about: &str,
    ) {
        let about = format!("{:?}, {about}: {call:?}", self.terms);
        let expected = model(&mut self.pool, call, envoys, now_ms);
        assert_eq!(answer, expected, "{about}");
        if answer.outcome == Outcome::OutOfStep {
            return;
        }
        let pool = self.pool.as_ref().expect("it was asked of");
        let expected = (pool.latest, pool.small, pool.level);
        assert_eq!((told.latest, told.small, told.level), expected, "{about}");
        let counted = answer.outcome == Outcome::Counted;
        if counted && self.terms.algorithm == Algorithm::SlidingWindow {
            let now = pool.sums.iter().find(|(slice, _)| *slice == pool.latest);
            assert_eq!(told.current, now.map_or(0, |it| it.1), "{about}");
        }
        if chance.one_in(3) {
            self.mirror.get_or_insert_with(|| Pool::new(told.latest)).note(&self.terms, &told);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_in_redis_are_pools_in_memory_one_by_one_and_many_at_once() {
    let mut redis = Timed::started(POOL).await;
    let mut outcomes = BTreeMap::new();
    let algorithms = [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket];
    for story in 0..60_u64 {
        let mut chance = Chance(story);
        let count = if chance.one_in(3) { 1 } else { 2 + chance.below(4) };
        let mut pools: Vec<_> = (0..count)
            .map(|number| {
                let algorithm = algorithms[usize::try_from((story + number) % 3).expect("small")];
                Kept::new(&mut chance, format!("{story} {number}"), algorithm)
            })
            .collect();
        let mut now_ms = 1_795_608_005_123;
        for step in 0..60 {
            let slice_ms = pools[0].terms.slices.ms;
            now_ms += match chance.below(8) {
                0..5 => chance.below(40),
                5..7 => slice_ms * chance.below(3),
                _ => slice_ms * chance.below(50),
            };
            let given = (chance.small(20), now_ms);
            let mut calls = Vec::new();
            for (place, pool) in pools.iter_mut().enumerate() {
                // Some are asked of twice in a run.
                for _ in 0..=u8::from(chance.one_in(6)) {
                    let call = pool.call(&mut redis, &mut chance, given).await;
                    calls.extend(call.map(|call| (place, call)));
                }
            }
            let asks: Vec<_> =
                calls.iter().map(|(place, call)| (pools[*place].key.as_str(), call)).collect();
            if asks.is_empty() {
                continue;
            }
            let answers = redis.ask(&asks, given.0, now_ms).await;
            for ((place, call), said) in calls.iter().zip(answers) {
                let about = format!("story {story}, step {step}");
                pools[*place].hears(&mut chance, call, given, said, &about);
                *outcomes.entry(format!("{:?}", said.0.outcome)).or_insert(0) += 1;
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
