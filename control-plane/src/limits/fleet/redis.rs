//! Pools and members in Redis, where all control planes have them in common.

use edge_protocol::{Algorithm, leases::Presence};
use std::sync::Arc;

use super::{
    EnvoyId, Learnt, PoolId,
    members::{MAX_MEMBERS, Place},
    memory::{Behind, Earlier},
    pool::{Answer, MAX_HOLDERS, Sizes, Terms, Told, Wish},
    record,
};
use crate::redis::{Redis, RedisFault, Script, SharedKey, Subject};

pub(super) const POOL: &str = include_str!("pool.lua");
pub(super) const MEMBERS: &str = include_str!("members.lua");
const CONTROL_PLANES: &str = include_str!("control_planes.lua");

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
        let subject = |call: &PoolCall| Subject {
            key: SharedKey::new("lease", &call.id.text()),
            told: record::ask(call),
            weight: weight(call),
        };
        let subjects = calls.iter().map(subject).collect();
        let read = |mut said: &[u8]| {
            let answers = calls.iter().map(|call| record::answer(call, &mut said));
            answers.collect::<Option<_>>().filter(|_| said.is_empty())
        };
        self.redis.call_each(&self.pool, common(envoys), subjects, read).await
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
        let said: [u64; 7] =
            self.redis.call(&self.members, &SharedKey::new("fleet", "envoys"), &arguments).await?;
        Ok(read_place(said))
    }

    /// How many Envoys live, and what is known of shares; nothing before the first presence.
    pub(super) async fn look(&self) -> Result<Option<(u32, Learnt)>, RedisFault> {
        let key = SharedKey::new("fleet", "envoys");
        let said: Vec<u64> = self.redis.call(&self.members, &key, &LOOK).await?;
        let said: Option<[u64; 7]> = said.try_into().ok();
        Ok(said.map(read_place).map(|place| (place.live, place.learnt)))
    }

    /// Notes that this control plane lives; gives how many do.
    pub(super) async fn note_control_plane(&self) -> Result<u32, RedisFault> {
        let key = SharedKey::new("fleet", "control-planes");
        self.redis.call(&self.control_planes, &key, &[self.name]).await
    }
}

/// How much of a run an ask takes: whoever comes first in a slice of a sliding window has the sums of all
/// slices written anew.
fn weight(call: &PoolCall) -> usize {
    match call.terms.algorithm {
        Algorithm::SlidingWindow => 8,
        Algorithm::FixedWindow | Algorithm::TokenBucket => 1,
    }
}

/// What the asks of a call have in common.
pub(super) fn common(envoys: u32) -> [u64; 2] {
    [envoys.into(), u64::try_from(MAX_HOLDERS).unwrap_or(u64::MAX)]
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

pub(super) fn read_place(said: [u64; 7]) -> Place {
    let [parts, live, counted, at_ms, foreign, out_of_step, even_ms] = said;
    Place {
        parts: small(parts),
        live: small(live),
        counted: counted == 1,
        learnt: Learnt { at_ms, foreign: foreign == 1, even_ms },
        out_of_step: out_of_step == 1,
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
