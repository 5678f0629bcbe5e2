//! Who answers: Redis while it does, else this process's memory, by the same arithmetic.
//!
//! What Redis told is mirrored in memory, so that memory goes on from there; what memory granted is
//! told to Redis with the next ask of the same pool. While several control planes answer from
//! memory, each goes by its part of the pool, and none gives shares away.

use edge_protocol::leases::{
    ALL_SHARES, Ask, Grant, LeaseAnswer, MAX_SKEW_MS, Presence, Standing, pool_of, share_of,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

use super::{
    EnvoyId, PoolId, VALID_MS,
    members::{Growth, Place},
    memory::{MAX_POOLS, Memory, View},
    pool::{Answer, Outcome, Sizes, Terms, Wish},
    redis::{InRedis, PoolCall},
};
use crate::{
    clock::{Clock, unix_ms},
    metrics,
    random::{self, Random, RandomError},
    redis::Redis,
};

/// How often a control plane notes that it lives.
const NOTE_EVERY: Duration = Duration::from_millis(500);
/// How old a view may be for its even parts: an Envoy that came since has its part a skew later.
const EVEN_VIEW_MS: u64 = MAX_SKEW_MS;
/// How often it is said that an Envoy's clock is off.
const WARN_EVERY_MS: u64 = 60_000;

/// How the fleet is, for those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Envoys that live.
    pub envoys: u32,
    /// Control planes that live; 1 without Redis.
    pub control_planes: u32,
    /// Pools that are remembered here.
    pub pools: usize,
}

/// The authority on limits that a fleet shares.
pub struct FleetLimits {
    clock: Arc<dyn Clock>,
    pub(super) memory: Memory,
    redis: Option<InRedis>,
    /// When it was last said that a clock is off.
    warned_ms: AtomicU64,
}

/// An ask, and what is to be known to answer it.
struct Asked {
    id: PoolId,
    terms: Terms,
    sizes: Sizes,
    wish: Wish,
}

impl FleetLimits {
    /// An authority that has granted nothing yet.
    ///
    /// # Errors
    /// When there is no randomness for its name.
    pub fn new(
        redis: Option<Arc<Redis>>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, RandomError> {
        let name = u64::from_le_bytes(random::bytes(random)?);
        let redis = redis.map(|redis| InRedis::new(redis, name));
        let memory = Memory::new(MAX_POOLS);
        Ok(Self { clock, memory, redis, warned_ms: AtomicU64::new(0) })
    }

    #[cfg(test)]
    pub(super) fn with_room_for(mut self, pools: usize) -> Self {
        self.memory = Memory::new(pools);
        self
    }

    /// Answers an Envoy. It takes no longer than two calls of Redis may, and nothing of it fails.
    pub async fn answer(
        &self,
        envoy: EnvoyId,
        presence: Option<&Presence>,
        asks: &[Ask],
    ) -> LeaseAnswer {
        let standing = match presence {
            Some(presence) => Some(self.hear(envoy, presence).await),
            None => None,
        };
        LeaseAnswer { standing, grants: self.grant(envoy, asks).await }
    }

    /// How the fleet is.
    #[must_use]
    pub fn census(&self) -> Census {
        let View { envoys, control_planes, .. } = self.memory.view();
        let envoys = match &self.redis {
            Some(it) if it.redis.is_in_use() => envoys,
            _ => self.memory.alive(self.now_ms()),
        };
        Census { envoys, control_planes, pools: self.memory.pools() }
    }

    /// Tells the other control planes that this one lives, and hears how the fleet is, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            self.note().await;
            tokio::select! {
                () = tokio::time::sleep(NOTE_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Does so once. Why it does not work is in the metrics, and in the keeper's log.
    pub(super) async fn note(&self) {
        let Some(redis) = &self.redis else { return };
        let (noted, looked) = tokio::join!(redis.note_control_plane(), redis.look());
        if let Ok(live) = noted {
            self.memory.note_control_planes(live);
        }
        if let Ok(Some((live, learnt))) = looked {
            self.memory.note_fleet(self.now_ms(), live, Some(learnt));
        }
    }

    async fn hear(&self, envoy: EnvoyId, presence: &Presence) -> Standing {
        let (place, authority) = match self.hear_in_redis(envoy, presence).await {
            Some(place) => (place, "redis"),
            None => (self.memory.hear(self.now_ms(), envoy, presence, self.growth()), "memory"),
        };
        let outcome = if place.out_of_step { "clock" } else { "ok" };
        ::metrics::counter!(
            metrics::FLEET_PRESENCES, "authority" => authority, "outcome" => outcome
        )
        .increment(1);
        if place.out_of_step {
            self.warn_of_clock(envoy, presence);
        }
        Standing {
            number: presence.number,
            parts: place.parts,
            envoys: place.live.max(1),
            counted: place.counted,
            valid_ms: VALID_MS,
        }
    }

    async fn hear_in_redis(&self, envoy: EnvoyId, presence: &Presence) -> Option<Place> {
        let redis = self.redis.as_ref()?;
        let alone = self.memory.view().alone;
        let earlier = self.memory.earlier();
        let place = redis.hear(envoy, presence, earlier, alone).await.ok()?;
        self.memory.note_place(self.now_ms(), envoy, presence, &place);
        Some(place)
    }

    /// Whether memory may give parts away: not while others do it by theirs.
    fn growth(&self) -> Growth {
        if self.sharers(&self.memory.view()) > 1 { Growth::Frozen } else { Growth::Allowed }
    }

    /// How many grant the same pools while each goes by its own memory.
    fn sharers(&self, view: &View) -> u32 {
        if self.redis.is_some() { view.control_planes.max(1) } else { 1 }
    }

    async fn grant(&self, envoy: EnvoyId, asks: &[Ask]) -> Vec<Grant> {
        if asks.is_empty() {
            return Vec::new();
        }
        let now_ms = self.now_ms();
        let mut view = self.memory.view();
        // Before there is a table, there is none in memory either, or Redis was not asked yet.
        let learns = view.learnt.map_or(self.redis.is_none(), |learnt| now_ms < learnt.at_ms);
        if learns && asks.iter().any(|ask| ask.holds > 0) {
            self.memory.note_foreign();
            view = self.memory.view();
        }
        let even = self.holds_even(&view, now_ms);
        let asked: Vec<_> = asks.iter().map(|ask| asked(envoy, ask, &view, even)).collect();
        let (answers, authority) = match self.grant_in_redis(&asked, &view).await {
            Some(answers) => (answers, "redis"),
            None => (self.grant_from_memory(&asked, &view), "memory"),
        };
        measure(&answers, authority);
        answers.into_iter().map(|answer| answer.grant).collect()
    }

    /// Whether the view can tell how evenly shares are held: it is young, and there is no other.
    fn holds_even(&self, view: &View, now_ms: u64) -> bool {
        let others = view.alone && self.sharers(view) > 1;
        !others && now_ms.abs_diff(view.noted_ms) < EVEN_VIEW_MS
    }

    async fn grant_in_redis(&self, asked: &[Asked], view: &View) -> Option<Vec<Answer>> {
        let redis = self.redis.as_ref()?;
        // Else all that is known would be copied for nothing.
        if !redis.redis.is_in_use() {
            return None;
        }
        let connection = redis.redis.connection();
        let call = |it: &Asked| {
            let (behind, granted) = self.memory.behind(it.id, connection, &it.wish);
            // An answer may have been lost on its way to the Envoy, and to Redis' memory.
            let wish = Wish { granted: it.wish.granted.max(granted), ..it.wish };
            PoolCall { id: it.id, terms: it.terms, sizes: it.sizes, wish, behind }
        };
        let calls: Vec<_> = asked.iter().map(call).collect();
        let said = redis.ask(view.envoys, &calls).await.ok()?;
        let now_ms = self.now_ms();
        let answers = calls.iter().zip(said).map(|(call, (answer, told))| {
            if answer.outcome != Outcome::OutOfStep {
                let when = (connection, call.behind.version);
                self.memory.note(now_ms, call.id, &call.terms, when, &told);
            }
            answer
        });
        Some(answers.collect())
    }

    fn grant_from_memory(&self, asked: &[Asked], view: &View) -> Vec<Answer> {
        let now_ms = self.now_ms();
        let sharers = self.sharers(view);
        let grant = |it: &Asked| {
            let part = |size: u32| size / sharers;
            let sizes = Sizes { pool: part(it.sizes.pool), whole: it.sizes.whole.map(part) };
            self.memory.ask(now_ms, it.id, &it.terms, sizes, &it.wish)
        };
        asked.iter().map(grant).collect()
    }

    fn now_ms(&self) -> u64 {
        unix_ms(self.clock.now())
    }

    fn warn_of_clock(&self, envoy: EnvoyId, presence: &Presence) {
        let now_ms = self.now_ms();
        let warned_ms = self.warned_ms.load(Ordering::Relaxed);
        let due = now_ms.abs_diff(warned_ms) >= WARN_EVERY_MS;
        let (set, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        if due && self.warned_ms.compare_exchange(warned_ms, now_ms, set, seen).is_ok() {
            tracing::warn!(
                %envoy,
                envoy_ms = presence.now_ms,
                own_ms = now_ms,
                "an Envoy's clock is more than {MAX_SKEW_MS} ms off: it gets no part of limits that \
                 the fleet shares"
            );
        }
    }
}

fn asked(envoy: EnvoyId, ask: &Ask, view: &View, even: bool) -> Asked {
    let terms = Terms::of(ask);
    // An Envoy that came after the view was had has its part in what begins a skew later.
    let seen = terms.slices.begins_ms(ask.slice) < view.noted_ms.saturating_add(MAX_SKEW_MS);
    let even = even
        && seen
        && view.learnt.is_some_and(|learnt| learnt.is_even(ask.algorithm, terms.slices, ask.slice));
    let pool = if even { pool_beside(ask.requests, view.envoys) } else { pool_of(ask.requests) };
    let certain =
        view.learnt.is_some_and(|learnt| learnt.is_certain(ask.algorithm, terms.slices, ask.slice));
    Asked {
        id: PoolId::of(ask),
        terms,
        sizes: Sizes { pool, whole: certain.then_some(ask.requests) },
        wish: Wish {
            envoy,
            slice: ask.slice,
            epoch: ask.epoch,
            granted: ask.granted,
            used: ask.used,
            want: ask.want,
        },
    }
}

/// What so many even shares leave.
fn pool_beside(requests: u32, envoys: u32) -> u32 {
    let Some(parts) = ALL_SHARES.checked_div(envoys) else {
        return pool_of(requests);
    };
    requests.saturating_sub(share_of(requests, parts).saturating_mul(envoys))
}

/// Counts a call's answers together: to look a counter up takes longer than an answer's arithmetic.
fn measure(answers: &[Answer], authority: &'static str) {
    let mut outcomes = BTreeMap::new();
    for answer in answers {
        *outcomes.entry(outcome(answer)).or_insert(0) += 1;
    }
    for (outcome, asks) in outcomes {
        ::metrics::counter!(metrics::LEASE_ASKS, "authority" => authority, "outcome" => outcome)
            .increment(asks);
    }
    let fresh = answers.iter().map(|answer| u64::from(answer.fresh)).sum();
    ::metrics::counter!(metrics::LEASE_GRANTED, "authority" => authority).increment(fresh);
}

fn outcome(answer: &Answer) -> &'static str {
    match answer.outcome {
        Outcome::Counted if answer.fresh > 0 => "granted",
        Outcome::Counted if answer.grant.left == 0 => "no_room",
        Outcome::Counted => "enough",
        Outcome::Closed => "closed",
        Outcome::OutOfStep => "clock",
        Outcome::Full => "full",
    }
}
