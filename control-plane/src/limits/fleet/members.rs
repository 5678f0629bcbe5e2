//! Who lives in the fleet and how many parts of the shares each may be holding, as pure arithmetic.
//! `members.lua` is the same as a script.
//!
//! What may be held by all together is never more than all: parts are taken back by telling so, and
//! are free only when their holder has said that it goes by fewer, or has not been heard of for as
//! long as what it was told is good for. It counts that time from when it called, and we from when
//! we heard it, so with it the time ends first.

#[cfg(test)]
mod tests;

use edge_protocol::leases::{ALL_SHARES, MAX_SKEW_MS, Presence};
use std::collections::HashMap;

use super::{EnvoyId, Learnt, VALID_MS};

/// The most members; who comes later gets no share.
pub const MAX_MEMBERS: usize = 4096;
/// How soon it is looked again for members that are gone: a look takes all of them.
const LOOK_EVERY_MS: u64 = 250;

/// When nobody was heard of for so long, it is learnt again who lives: each calls once a second, and all that
/// do may be taken for gone before they are heard again.
const QUIET_MS: u64 = VALID_MS / 2;

/// Whether parts may be given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// This table knows of everybody.
    Allowed,
    /// Others may be giving away the same parts: whoever holds some keeps them.
    Frozen,
}

/// What came of a presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The parts that it may hold.
    pub parts: u32,
    /// How many live.
    pub live: u32,
    /// Whether those are all: everybody who lives has had the time to say so here.
    pub counted: bool,
    /// What is known of shares.
    pub learnt: Learnt,
    /// Whether its clock is too far off.
    pub out_of_step: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    /// How many parts it may be holding.
    cap: u32,
    /// When it is gone unless it is heard of again.
    expires_ms: u64,
    /// Its latest call.
    number: u64,
}

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    learnt: Learnt,
    /// Before this not all may have been heard of, and nothing is given away.
    grows_ms: u64,
    /// When anybody was last heard of.
    heard_ms: u64,
    /// When it is to be looked for members that are gone.
    look_ms: u64,
    /// The sum of all `cap`.
    given: u64,
    by_envoy: HashMap<EnvoyId, Member>,
}

impl Members {
    /// A table that is made now, and learns first.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        let learnt_ms = now_ms.saturating_add(VALID_MS);
        Self {
            learnt: Learnt { at_ms: learnt_ms, foreign: false, even_ms: now_ms },
            grows_ms: learnt_ms,
            heard_ms: now_ms,
            look_ms: learnt_ms,
            given: 0,
            by_envoy: HashMap::new(),
        }
    }

    /// What is known of shares.
    #[must_use]
    pub fn learnt(&self) -> Learnt {
        self.learnt
    }

    /// How many live at that time.
    #[must_use]
    pub fn alive(&self, now_ms: u64) -> u32 {
        let alive = self.by_envoy.values().filter(|member| member.expires_ms > now_ms).count();
        u32::try_from(alive).unwrap_or(u32::MAX)
    }

    /// How many live, as far as it was looked.
    fn live(&self) -> u32 {
        u32::try_from(self.by_envoy.len()).unwrap_or(u32::MAX)
    }

    /// The parts that anybody may be holding.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given
    }

    /// Notes that shares are out which this table never gave away.
    pub fn note_foreign(&mut self) {
        self.learnt.foreign = true;
    }

    /// Counts anew who lives, and gives nothing away for as long as something may be held that was told
    /// elsewhere.
    pub fn learn_again(&mut self, now_ms: u64) {
        self.grows_ms = self.grows_ms.max(now_ms.saturating_add(VALID_MS));
    }

    /// Takes a presence in.
    pub fn hear(
        &mut self,
        now_ms: u64,
        envoy: EnvoyId,
        presence: &Presence,
        growth: Growth,
    ) -> Place {
        if now_ms.saturating_sub(self.heard_ms) > QUIET_MS {
            // Some of it may be over, or was told by somebody else meanwhile.
            self.learn_again(now_ms);
        }
        self.heard_ms = self.heard_ms.max(now_ms);
        self.forget_the_gone(now_ms);
        let out_of_step = now_ms.abs_diff(presence.now_ms) > MAX_SKEW_MS;
        let counted = growth == Growth::Allowed && now_ms >= self.grows_ms;
        let known = self.known(now_ms, envoy);
        if known.is_none() && self.by_envoy.len() >= MAX_MEMBERS {
            self.learnt.even_ms = now_ms;
            return self.place(0, counted, out_of_step);
        }
        if let Some(known) = known
            && presence.number <= known.number
        {
            // It was overtaken. What it says is no news, and what it is told is not used.
            let parts = if out_of_step { 0 } else { presence.holds.min(known.cap) };
            return self.place(parts, counted, out_of_step);
        }
        let before = known.map_or(0, |known| known.cap);
        self.learnt.foreign |= presence.holds > before;
        let live = self.by_envoy.len() + usize::from(known.is_none());
        let others = self.given - u64::from(before);
        let free = u64::from(ALL_SHARES).saturating_sub(others);
        let target = ALL_SHARES / u32::try_from(live).unwrap_or(u32::MAX).max(1);
        let fair = target.min(u32::try_from(free).unwrap_or(u32::MAX));
        let parts = match growth {
            _ if out_of_step => 0,
            Growth::Frozen => presence.holds,
            Growth::Allowed if !counted => fair.min(presence.holds),
            Growth::Allowed => fair,
        };
        let cap = presence.holds.max(parts);
        let is_even = known.is_some() && [before, presence.holds, parts] == [target; 3];
        if !is_even {
            self.learnt.even_ms = now_ms;
        }
        self.put(envoy, Member { cap, expires_ms: now_ms + VALID_MS, number: presence.number });
        self.place(parts, counted, out_of_step)
    }

    /// Notes what another table told an Envoy. When this one takes over, it knows of everybody if it
    /// has noted for as long as a standing is good for; before, it gives nothing away.
    pub fn note(&mut self, now_ms: u64, envoy: EnvoyId, presence: &Presence, place: &Place) {
        self.learnt = place.learnt;
        self.heard_ms = self.heard_ms.max(now_ms);
        self.forget_the_gone(now_ms);
        let known = self.known(now_ms, envoy);
        let overtaken = known.is_some_and(|known| presence.number <= known.number);
        if overtaken || (known.is_none() && self.by_envoy.len() >= MAX_MEMBERS) {
            return;
        }
        let cap = presence.holds.max(place.parts);
        self.put(envoy, Member { cap, expires_ms: now_ms + VALID_MS, number: presence.number });
    }

    fn place(&self, parts: u32, counted: bool, out_of_step: bool) -> Place {
        Place { parts, live: self.live(), counted, learnt: self.learnt, out_of_step }
    }

    fn put(&mut self, envoy: EnvoyId, member: Member) {
        let before = self.by_envoy.insert(envoy, member);
        self.given -= before.map_or(0, |before| u64::from(before.cap));
        self.given += u64::from(member.cap);
    }

    /// The member, unless it is gone.
    fn known(&mut self, now_ms: u64, envoy: EnvoyId) -> Option<Member> {
        let member = *self.by_envoy.get(&envoy)?;
        if member.expires_ms > now_ms {
            return Some(member);
        }
        self.by_envoy.remove(&envoy);
        self.given -= u64::from(member.cap);
        self.learnt.even_ms = now_ms;
        None
    }

    fn forget_the_gone(&mut self, now_ms: u64) {
        if now_ms < self.look_ms {
            return;
        }
        let before = self.by_envoy.len();
        self.by_envoy.retain(|_, member| member.expires_ms > now_ms);
        if self.by_envoy.len() < before {
            self.learnt.even_ms = now_ms;
        }
        self.given = self.by_envoy.values().map(|member| u64::from(member.cap)).sum();
        let first = self.by_envoy.values().map(|member| member.expires_ms).min();
        let soonest = now_ms.saturating_add(LOOK_EVERY_MS);
        self.look_ms = first.unwrap_or(now_ms.saturating_add(VALID_MS)).max(soonest);
    }
}
