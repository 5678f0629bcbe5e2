//! What this process remembers: as the authority when there is no Redis or it gives no answer, and
//! as a mirror of what it told when it does. Of bounded size; and no lock of it is ever held while
//! anything is waited for.

use edge_protocol::leases::Presence;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    EnvoyId, Learnt, PoolId,
    members::{Growth, Members, Place},
    pool::{Answer, Outcome, Pool, Sizes, Terms, Told, Wish, nothing},
};

/// The most pools that are remembered; each takes some 200 bytes, and as much again for ten Envoys
/// that were granted something in its latest slice.
pub(super) const MAX_POOLS: usize = 100_000;
/// How often it is looked for pools of which nothing counts any more, when there is no room.
const SWEEP_EVERY_MS: u64 = 1000;

/// How the fleet is, as it was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// How many Envoys live.
    pub(super) envoys: u32,
    /// How many control planes do.
    pub(super) control_planes: u32,
    /// What is known of shares.
    pub(super) learnt: Option<Learnt>,
    /// When that was heard.
    pub(super) noted_ms: u64,
    /// Whether parts were given away here, and nobody else knows of it.
    pub(super) alone: bool,
}

/// What is known of shares that a table did not give away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// Nothing.
    None,
    /// They are of the last table: of a new one they are foreign.
    Given,
    /// They are foreign to any table.
    Foreign,
}

/// A pool that Redis may know less of.
#[derive(Clone, Debug)]
pub(super) struct Behind {
    /// What is known of it here.
    pub(super) pool: Option<Pool>,
    /// Which state of it that is.
    pub(super) version: u64,
}

struct Kept {
    pool: Pool,
    /// When nothing of it counts any more.
    until_ms: u64,
    /// The connection on which Redis last told of it; none: it was granted from here since.
    told_on: Option<u64>,
    /// Counts what is granted from here.
    version: u64,
}

struct Table {
    pools: HashMap<PoolId, Kept>,
    most_pools: usize,
    swept_ms: u64,
    members: Option<Members>,
    view: View,
    foreign: bool,
}

/// The memory.
pub(super) struct Memory(Mutex<Table>);

impl Memory {
    pub(super) fn new(most_pools: usize) -> Self {
        let view = View { envoys: 0, control_planes: 1, learnt: None, noted_ms: 0, alone: false };
        Self(Mutex::new(Table {
            pools: HashMap::new(),
            most_pools,
            swept_ms: 0,
            members: None,
            view,
            foreign: false,
        }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> View {
        let table = self.table();
        let learnt =
            table.view.learnt.map(|it| Learnt { foreign: it.foreign || table.foreign, ..it });
        View { learnt, ..table.view }
    }

    /// How many Envoys live at that time, of those that said so here.
    pub(super) fn alive(&self, now_ms: u64) -> u32 {
        self.table().members.as_ref().map_or(0, |members| members.alive(now_ms))
    }

    /// How many pools are remembered.
    pub(super) fn pools(&self) -> usize {
        self.table().pools.len()
    }

    /// Notes that somebody holds a share which no table of ours gave away.
    pub(super) fn note_foreign(&self) {
        self.table().foreign = true;
    }

    /// What is known here of shares that are out.
    pub(super) fn earlier(&self) -> Earlier {
        let table = self.table();
        let given = table.members.as_ref().is_some_and(|members| members.given() > 0);
        match (table.foreign, given) {
            (true, _) => Earlier::Foreign,
            (false, true) => Earlier::Given,
            (false, false) => Earlier::None,
        }
    }

    /// Answers an ask.
    pub(super) fn ask(
        &self,
        now_ms: u64,
        id: PoolId,
        terms: &Terms,
        sizes: Sizes,
        wish: &Wish,
    ) -> Answer {
        let mut table = self.table();
        let envoys = table.view.envoys;
        if let Some(again) = terms.out_of_step(wish.slice, now_ms) {
            let granted = table.pools.get(&id).map_or(0, |kept| kept.pool.granted(wish));
            let grant = nothing(granted.max(wish.granted), again);
            return Answer { grant, outcome: Outcome::OutOfStep, fresh: 0 };
        }
        let Some(kept) = table.kept(now_ms, id, wish.slice) else {
            let grant = nothing(wish.granted, wish.slice.saturating_add(1));
            return Answer { grant, outcome: Outcome::Full, fresh: 0 };
        };
        let answer = kept.pool.ask(terms, sizes, envoys, wish);
        kept.until_ms = terms.kept_until_ms(kept.pool.latest);
        kept.told_on = None;
        kept.version += 1;
        answer
    }

    /// What Redis may not know of a pool, and what this Envoy was granted there.
    pub(super) fn behind(&self, id: PoolId, connection: u64, wish: &Wish) -> (Behind, u32) {
        let table = self.table();
        let Some(kept) = table.pools.get(&id) else {
            return (Behind { pool: None, version: 0 }, 0);
        };
        let pool = (kept.told_on != Some(connection)).then(|| kept.pool.clone());
        (Behind { pool, version: kept.version }, kept.pool.granted(wish))
    }

    /// Notes what Redis told of a pool on that connection, when it was of that version here.
    pub(super) fn note(
        &self,
        now_ms: u64,
        id: PoolId,
        terms: &Terms,
        (connection, version): (u64, u64),
        told: &Told,
    ) {
        let mut table = self.table();
        let Some(kept) = table.kept(now_ms, id, told.latest) else { return };
        kept.pool.note(terms, told);
        kept.until_ms = terms.kept_until_ms(kept.pool.latest);
        if kept.version == version {
            kept.told_on = Some(connection);
        }
    }

    /// Takes a presence in.
    pub(super) fn hear(
        &self,
        now_ms: u64,
        envoy: EnvoyId,
        presence: &Presence,
        growth: Growth,
    ) -> Place {
        let mut table = self.table();
        let members = table.members.get_or_insert_with(|| Members::new(now_ms));
        let place = members.hear(now_ms, envoy, presence, growth);
        table.view.learnt = Some(place.learnt);
        table.view.noted_ms = now_ms;
        table.view.alone = true;
        if growth == Growth::Allowed {
            table.view.envoys = place.live;
        }
        place
    }

    /// Notes what Redis told an Envoy.
    pub(super) fn note_place(
        &self,
        now_ms: u64,
        envoy: EnvoyId,
        presence: &Presence,
        place: &Place,
    ) {
        let mut table = self.table();
        let members = table.members.get_or_insert_with(|| Members::new(now_ms));
        members.note(now_ms, envoy, presence, place);
        table.view.alone = false;
        table.note_fleet(now_ms, place.live, Some(place.learnt));
    }

    /// Notes how Redis says that the fleet is.
    pub(super) fn note_fleet(&self, now_ms: u64, live: u32, learnt: Option<Learnt>) {
        self.table().note_fleet(now_ms, live, learnt);
    }

    /// Notes how many control planes there are.
    pub(super) fn note_control_planes(&self, live: u32) {
        self.table().view.control_planes = live.max(1);
    }
}

impl Table {
    fn note_fleet(&mut self, now_ms: u64, live: u32, learnt: Option<Learnt>) {
        self.view.envoys = live;
        self.view.learnt = learnt;
        self.view.noted_ms = now_ms;
    }

    /// The pool, which is made if there is room.
    fn kept(&mut self, now_ms: u64, id: PoolId, slice: u64) -> Option<&mut Kept> {
        let full = self.pools.len() >= self.most_pools;
        if full && !self.pools.contains_key(&id) {
            if now_ms.abs_diff(self.swept_ms) < SWEEP_EVERY_MS {
                return None;
            }
            self.swept_ms = now_ms;
            self.pools.retain(|_, kept| kept.until_ms > now_ms);
            if self.pools.len() >= self.most_pools {
                return None;
            }
        }
        let new = || Kept { pool: Pool::new(slice), until_ms: 0, told_on: None, version: 0 };
        let kept = self.pools.entry(id).or_insert_with(new);
        if kept.until_ms > 0 && kept.until_ms <= now_ms {
            *kept = new();
        }
        Some(kept)
    }
}
