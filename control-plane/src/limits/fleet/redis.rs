//! Pools and members in Redis, where all control planes have them in common.

use edge_protocol::leases::{Grant, Presence};
use std::sync::Arc;

use super::{
    EnvoyId, Learnt, PoolId, code,
    members::{MAX_MEMBERS, Place},
    memory::{Behind, Earlier},
    pool::{Answer, Held, MAX_HOLDERS, Outcome, Pool, Sizes, Terms, Told, Wish},
};
use crate::redis::{Redis, RedisFault, Run, Script, SharedKey};

pub(super) const POOL: &str = include_str!("pool.lua");
pub(super) const MEMBERS: &str = include_str!("members.lua");
const CONTROL_PLANES: &str = include_str!("control_planes.lua");
/// The most holders that Redis is told of when it may have forgotten a pool. Of more it gets to know
/// by what they ask.
const HOLDERS_TOLD: usize = 256;

/// An ask as Redis gets it.
pub(super) struct PoolCall {
    pub(super) id: PoolId,
    pub(super) terms: Terms,
    pub(super) sizes: Sizes,
    pub(super) wish: Wish,
    pub(super) behind: Behind,
}

/// The authority while Redis answers.
pub(super) struct InRedis {
    pub(super) redis: Arc<Redis>,
    pool: Arc<Script>,
    members: Script,
    control_planes: Script,
    /// Which control plane this is.
    name: u64,
}

impl InRedis {
    pub(super) fn new(redis: Arc<Redis>, name: u64) -> Self {
        Self {
            redis,
            pool: Arc::new(Script::new(POOL)),
            members: Script::new(MEMBERS),
            control_planes: Script::new(CONTROL_PLANES),
            name,
        }
    }

    /// Answers asks, in their order; with each comes what is to be mirrored of its pool.
    pub(super) async fn ask(
        &self,
        envoys: u32,
        calls: &[PoolCall],
    ) -> Result<Vec<(Answer, Told)>, RedisFault> {
        let run = |call: &PoolCall| Run {
            key: SharedKey::new("lease", &call.id.text()),
            arguments: arguments(call, envoys),
        };
        let runs = calls.iter().map(run).collect();
        let said: Vec<[u64; 9]> = self.redis.call_each(&self.pool, runs).await?;
        Ok(calls.iter().zip(said).map(|(call, said)| read(call, said)).collect())
    }

    /// Takes a presence in.
    pub(super) async fn hear(
        &self,
        envoy: EnvoyId,
        presence: &Presence,
        earlier: Earlier,
        alone: bool,
    ) -> Result<Place, RedisFault> {
        let arguments = presence_arguments(envoy, presence, earlier, alone);
        let said: [u64; 6] =
            self.redis.call(&self.members, &SharedKey::new("fleet", "envoys"), &arguments).await?;
        Ok(read_place(said))
    }

    /// How many Envoys live, and what is known of shares; nothing before the first presence.
    pub(super) async fn look(&self) -> Result<Option<(u32, Learnt)>, RedisFault> {
        let key = SharedKey::new("fleet", "envoys");
        let said: Vec<u64> = self.redis.call(&self.members, &key, &LOOK).await?;
        let said: Option<[u64; 6]> = said.try_into().ok();
        Ok(said.map(read_place).map(|place| (place.live, place.learnt)))
    }

    /// Notes that this control plane lives; gives how many do.
    pub(super) async fn note_control_plane(&self) -> Result<u32, RedisFault> {
        let key = SharedKey::new("fleet", "control-planes");
        self.redis.call(&self.control_planes, &key, &[self.name]).await
    }
}

/// As [`presence_arguments`], for a look that changes nothing.
const LOOK: [u64; 8] = [0, 0, 0, 0, 0, 0, 1, 0];

pub(super) fn presence_arguments(
    envoy: EnvoyId,
    presence: &Presence,
    earlier: Earlier,
    alone: bool,
) -> [u64; 8] {
    let earlier = match earlier {
        Earlier::None => 0,
        Earlier::Given => 1,
        Earlier::Foreign => 2,
    };
    let most = u64::try_from(MAX_MEMBERS).unwrap_or(u64::MAX);
    [
        envoy.0,
        presence.number,
        presence.holds.into(),
        presence.now_ms,
        earlier,
        alone.into(),
        0,
        most,
    ]
}

pub(super) fn read_place(said: [u64; 6]) -> Place {
    let [parts, live, at_ms, foreign, out_of_step, even_ms] = said;
    Place {
        parts: small(parts),
        live: small(live),
        learnt: Learnt { at_ms, foreign: foreign == 1, even_ms },
        out_of_step: out_of_step == 1,
    }
}

pub(super) fn arguments(call: &PoolCall, envoys: u32) -> Vec<u64> {
    let PoolCall { terms, sizes, wish, behind, .. } = call;
    let mut arguments = vec![
        code(terms.algorithm).into(),
        terms.slices.ms,
        terms.slices.in_window,
        sizes.pool.into(),
        sizes.whole.unwrap_or(0).into(),
        terms.requests.into(),
        envoys.into(),
        wish.slice,
        wish.envoy.0,
        wish.epoch.into(),
        wish.granted.into(),
        wish.used.into(),
        wish.want.into(),
        u64::try_from(MAX_HOLDERS).unwrap_or(u64::MAX),
    ];
    if let Some(pool) = &behind.pool {
        tell(pool, &mut arguments);
    }
    arguments
}

/// What is known of a pool here.
fn tell(pool: &Pool, arguments: &mut Vec<u64>) {
    let count = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
    arguments.extend([1, pool.latest, pool.small.into(), pool.level, count(pool.sums.len())]);
    arguments.extend(pool.sums.iter().flat_map(|(slice, sum)| [*slice, *sum]));
    let told = pool.holders.len().min(HOLDERS_TOLD);
    arguments.push(count(told));
    let holders = pool.holders.iter().take(told);
    arguments
        .extend(holders.flat_map(|it| [it.envoy.0, u64::from(it.epoch), u64::from(it.granted)]));
}

pub(super) fn read(call: &PoolCall, said: [u64; 9]) -> (Answer, Told) {
    let [outcome, granted, left, again, fresh, latest, is_small, level, current] = said;
    let granted = small(granted);
    let outcome = match outcome {
        0 => Outcome::Counted,
        1 => Outcome::Closed,
        2 => Outcome::OutOfStep,
        _ => Outcome::Full,
    };
    let grant = Grant { granted, left: small(left), again: (left == 0).then_some(again) };
    let (envoy, epoch) = (call.wish.envoy, call.wish.epoch);
    let held = (outcome == Outcome::Counted).then_some(Held { envoy, epoch, granted });
    let told = Told { latest, small: is_small == 1, level, current, held };
    (Answer { grant, outcome, fresh: small(fresh) }, told)
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
