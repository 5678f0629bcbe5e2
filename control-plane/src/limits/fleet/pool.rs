//! The pool of one limit for one subject, as pure arithmetic. `pool.lua` is the same as a script.
//!
//! Grants are spent in their own slice and, but for fixed windows, in the next; slices before the
//! latest seen are closed. So what was granted in a run of slices bounds what is spent in any interval
//! that they cover:
//!
//! - **fixed window**: a slice is a window, and has the pool.
//! - **sliding window**: an interval as long as a window touches at most `in_window + 1` slices, so
//!   what is spent in it was granted in at most `in_window + 2` ([`Slices::run`]); the latest so many
//!   have the pool.
//! - **token bucket**: a debt that each slice pays off by the refill, and that may not be greater
//!   than the pool less two refills. An interval that touches *n* slices lasts longer than *n - 2* of
//!   them, and what is spent in it was granted in *n + 1*, between which *n* refills are paid off; so
//!   it has at most the pool and its own refill. A pool of one is a token in each run. Tokens are
//!   counted in whole fractions ([`token`]); nothing is rounded.

#[cfg(test)]
mod tests;

use edge_protocol::{
    Algorithm,
    leases::{Ask, Grant, MAX_SKEW_MS, Slices, pool_of},
};

use super::EnvoyId;

/// The most grants (an Envoy and epoch each) that are told apart in a slice. Who comes later gets
/// nothing in it.
pub const MAX_HOLDERS: usize = 4096;

/// How a limit counts, and how much it is in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How it counts.
    pub algorithm: Algorithm,
    /// How its time is cut.
    pub slices: Slices,
    /// The whole limit.
    pub requests: u32,
}

impl Terms {
    /// Those of an ask.
    #[must_use]
    pub fn of(ask: &Ask) -> Self {
        let slices = Slices::of(ask.algorithm, ask.window_seconds);
        Self { algorithm: ask.algorithm, slices, requests: ask.requests }
    }

    /// When nothing of a pool counts any more that was last asked in this slice: by the clock of nobody who
    /// may ask.
    #[must_use]
    pub fn kept_until_ms(&self, latest: u64) -> u64 {
        let over = self.slices.begins_ms(latest.saturating_add(self.slices.run() + 1));
        over.saturating_add(MAX_SKEW_MS)
    }

    /// For an ask that is made further from its slice than clocks may differ: the first slice that
    /// may be asked for.
    #[must_use]
    pub fn out_of_step(&self, slice: u64, now_ms: u64) -> Option<u64> {
        let begins = self.slices.begins_ms(slice);
        let ends = self.slices.begins_ms(slice.saturating_add(1));
        let early = now_ms.saturating_add(MAX_SKEW_MS) < begins;
        let late = now_ms > ends.saturating_add(MAX_SKEW_MS);
        (early || late).then(|| self.slices.at(now_ms).max(slice.saturating_add(1)))
    }
}

/// What a token is counted in: fractions that every refill is a whole number of. The greatest debt
/// is below 2^43, so a script's numbers hold it exactly.
fn token(slices: Slices) -> u64 {
    slices.in_window * slices.run()
}

/// What a bucket gets back in a slice, and holds.
fn bucket(size: u64, slices: Slices) -> (u64, u64) {
    if size == 1 {
        return (slices.in_window, token(slices));
    }
    let refill = size * slices.run();
    (refill, refill * slices.in_window.saturating_sub(slices.lasts))
}

/// How much the pool may grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// What is not split up into shares.
    pub pool: u32,
    /// All of the limit, while it is certain that no share counts.
    pub whole: Option<u32>,
}

/// An ask of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who asks.
    pub envoy: EnvoyId,
    /// As in [`Ask`].
    pub slice: u64,
    /// As in [`Ask`].
    pub epoch: u32,
    /// As in [`Ask`].
    pub granted: u32,
    /// As in [`Ask`].
    pub used: u32,
    /// As in [`Ask`].
    pub want: u32,
}

/// What was answered, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The answer.
    pub grant: Grant,
    /// How it came about.
    pub outcome: Outcome,
    /// How much of it is new.
    pub fresh: u32,
}

/// How an answer came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By the arithmetic.
    Counted,
    /// The slice is over: another has been asked for.
    Closed,
    /// The slice is too far from now.
    OutOfStep,
    /// There is no room to keep one more grant, or one more pool.
    Full,
}

/// What one Envoy was granted in the latest slice, under one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub envoy: EnvoyId,
    /// Under which epoch.
    pub epoch: u32,
    /// All of it.
    pub granted: u32,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The latest slice that was asked for.
    pub(super) latest: u64,
    /// Whether it has ever been less than the whole limit; then it stays so.
    pub(super) small: bool,
    /// What counts against the size: what was granted in the slice (fixed window) or in the run
    /// that ends with it (sliding window), or the debt (token bucket).
    pub(super) level: u64,
    /// What was granted in each slice of the run, oldest first (sliding window).
    pub(super) sums: Vec<(u64, u64)>,
    /// Who was granted what in the latest slice.
    pub(super) holders: Vec<Held>,
}

impl Pool {
    /// A pool of which nothing was granted.
    #[must_use]
    pub fn new(latest: u64) -> Self {
        Self { latest, small: false, level: 0, sums: Vec::new(), holders: Vec::new() }
    }

    /// Answers an ask. The same ask again gets the same, and nothing new.
    pub fn ask(&mut self, terms: &Terms, sizes: Sizes, envoys: u32, wish: &Wish) -> Answer {
        if wish.slice < self.latest {
            return self.closed(terms, wish);
        }
        let size = self.decide(sizes);
        self.advance(terms, size, wish.slice);
        let holder = (wish.envoy, wish.epoch);
        let place = self.holders.iter().position(|held| (held.envoy, held.epoch) == holder);
        if place.is_none() && self.holders.len() >= MAX_HOLDERS {
            let grant = nothing(wish.granted, wish.slice.saturating_add(1));
            return Answer { grant, outcome: Outcome::Full, fresh: 0 };
        }
        let stored = place.and_then(|place| self.holders.get(place)).map_or(0, |it| it.granted);
        // Nobody was granted more than the limit; who says so must not close it for ever.
        let known = stored.max(wish.granted.min(terms.requests));
        self.count(terms, known - stored);
        let room = self.room(terms, size);
        let fresh = chunk(terms, room, known, envoys, wish);
        self.count(terms, fresh);
        let granted = known + fresh;
        match place.and_then(|place| self.holders.get_mut(place)) {
            Some(held) => held.granted = granted,
            None => {
                self.holders.push(Held { envoy: wish.envoy, epoch: wish.epoch, granted });
            }
        }
        let left = room - fresh;
        let again = (left == 0).then(|| self.again(terms, size));
        let granted = granted.max(wish.granted);
        Answer { grant: Grant { granted, left, again }, outcome: Outcome::Counted, fresh }
    }

    /// What one Envoy was granted in a slice, as far as it is known.
    #[must_use]
    pub fn granted(&self, wish: &Wish) -> u32 {
        let of = |held: &&Held| (held.envoy, held.epoch) == (wish.envoy, wish.epoch);
        let held = self.holders.iter().find(of).filter(|_| self.latest == wish.slice);
        held.map_or(0, |held| held.granted)
    }

    /// Takes over what another memory of the same pool knows: never less than either.
    pub fn merge(&mut self, terms: &Terms, sizes: Sizes, other: &Self) {
        self.small |= other.small;
        let size = self.decide(sizes);
        self.advance(terms, size, other.latest);
        if self.latest == other.latest {
            for held in &other.holders {
                self.raise(terms, held);
            }
        }
        match terms.algorithm {
            Algorithm::FixedWindow if self.latest == other.latest => {
                self.level = self.level.max(other.level);
            }
            Algorithm::FixedWindow => {}
            Algorithm::SlidingWindow => {
                for &(slice, sum) in &other.sums {
                    self.at_least(terms, slice, sum);
                }
            }
            Algorithm::TokenBucket => {
                let paid = paid_off(size, terms, self.latest - other.latest);
                self.level = self.level.max(other.level.saturating_sub(paid));
            }
        }
    }

    /// Notes an answer of another authority for this pool.
    pub fn note(&mut self, terms: &Terms, told: &Told) {
        self.small |= told.small;
        let size = if self.small { pool_of(terms.requests) } else { terms.requests };
        self.advance(terms, u64::from(size), told.latest);
        if self.latest != told.latest {
            return;
        }
        if let Some(held) = told.held {
            let has_room = self.holders.len() < MAX_HOLDERS;
            match self.place(&held) {
                Some(place) => place.granted = place.granted.max(held.granted),
                None if has_room => self.holders.push(held),
                None => {}
            }
        }
        match terms.algorithm {
            Algorithm::FixedWindow | Algorithm::TokenBucket => {
                self.level = self.level.max(told.level);
            }
            Algorithm::SlidingWindow => {
                self.at_least(terms, self.latest, told.current);
                // What others were granted in slices that nobody asked for here counts as just
                // granted: it falls out later than it did, never sooner.
                let unseen = told.level.saturating_sub(self.level);
                let before = self.latest.saturating_sub(1);
                let known = self.sums.iter().find(|(slice, _)| *slice == before);
                let sum = known.map_or(0, |(_, sum)| *sum);
                self.at_least(terms, before, sum.saturating_add(unseen));
            }
        }
    }

    fn closed(&mut self, terms: &Terms, wish: &Wish) -> Answer {
        // It may be that this is all that is still known of what was granted there.
        if terms.algorithm == Algorithm::SlidingWindow {
            self.at_least(terms, wish.slice, u64::from(wish.granted.min(terms.requests)));
        }
        let grant = nothing(wish.granted, self.latest);
        Answer { grant, outcome: Outcome::Closed, fresh: 0 }
    }

    fn decide(&mut self, sizes: Sizes) -> u64 {
        self.small |= sizes.whole.is_none();
        let whole = sizes.whole.filter(|_| !self.small);
        u64::from(whole.unwrap_or(sizes.pool))
    }

    fn advance(&mut self, terms: &Terms, size: u64, to: u64) {
        if to <= self.latest {
            return;
        }
        let passed = to - self.latest;
        self.latest = to;
        self.holders.clear();
        match terms.algorithm {
            Algorithm::FixedWindow => self.level = 0,
            Algorithm::SlidingWindow => {
                self.sums.retain(|(slice, _)| slice + terms.slices.run() > to);
                self.level = self.sums.iter().map(|(_, sum)| sum).sum();
            }
            Algorithm::TokenBucket => {
                self.level = self.level.saturating_sub(paid_off(size, terms, passed));
            }
        }
    }

    fn count(&mut self, terms: &Terms, more: u32) {
        let more = u64::from(more);
        match terms.algorithm {
            Algorithm::FixedWindow => self.level += more,
            Algorithm::SlidingWindow if more > 0 => {
                self.level += more;
                match self.sums.last_mut() {
                    Some((slice, sum)) if *slice == self.latest => *sum += more,
                    _ => self.sums.push((self.latest, more)),
                }
            }
            Algorithm::SlidingWindow => {}
            Algorithm::TokenBucket => {
                let unit = token(terms.slices);
                self.level = (self.level + more * unit).min(u64::from(terms.requests) * unit);
            }
        }
    }

    /// Counts what a holder was granted beyond what is known of it.
    fn raise(&mut self, terms: &Terms, held: &Held) {
        let has_room = self.holders.len() < MAX_HOLDERS;
        match self.place(held) {
            Some(place) => {
                let more = held.granted.saturating_sub(place.granted);
                place.granted += more;
                self.count(terms, more);
            }
            None if has_room => {
                self.holders.push(*held);
                self.count(terms, held.granted);
            }
            None => {}
        }
    }

    /// Counts so much in a slice of the run, at least.
    fn at_least(&mut self, terms: &Terms, slice: u64, sum: u64) {
        if sum == 0 || slice > self.latest || slice + terms.slices.run() <= self.latest {
            return;
        }
        match self.sums.binary_search_by_key(&slice, |(slice, _)| *slice) {
            Ok(place) => {
                if let Some((_, known)) = self.sums.get_mut(place) {
                    self.level += sum.saturating_sub(*known);
                    *known = sum.max(*known);
                }
            }
            Err(place) => {
                self.sums.insert(place, (slice, sum));
                self.level += sum;
            }
        }
    }

    fn place(&mut self, held: &Held) -> Option<&mut Held> {
        self.holders.iter_mut().find(|it| (it.envoy, it.epoch) == (held.envoy, held.epoch))
    }

    fn room(&self, terms: &Terms, size: u64) -> u32 {
        let room = match terms.algorithm {
            Algorithm::FixedWindow | Algorithm::SlidingWindow => size.saturating_sub(self.level),
            Algorithm::TokenBucket => {
                let (_, most) = bucket(size, terms.slices);
                most.saturating_sub(self.level) / token(terms.slices)
            }
        };
        u32::try_from(room).unwrap_or(u32::MAX)
    }

    /// The first slice in which there may be room, when there is none now.
    fn again(&self, terms: &Terms, size: u64) -> u64 {
        let slices = match terms.algorithm {
            Algorithm::FixedWindow => 1,
            Algorithm::SlidingWindow => match self.sums.first() {
                Some((oldest, _)) => oldest + terms.slices.run() - self.latest,
                None => 1,
            },
            Algorithm::TokenBucket => {
                let unit = token(terms.slices);
                let (refill, most) = bucket(size, terms.slices);
                let missing = (self.level + unit).saturating_sub(most);
                if refill == 0 { 1 } else { missing.div_ceil(refill).max(1) }
            }
        };
        self.latest.saturating_add(slices)
    }
}

/// What another authority told of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// As in [`Pool`].
    pub latest: u64,
    /// As in [`Pool`].
    pub small: bool,
    /// As in [`Pool`].
    pub level: u64,
    /// What was granted in the latest slice (sliding window).
    pub current: u64,
    /// Whom it answered.
    pub held: Option<Held>,
}

/// How much more who knows of so much gets: what is wanted, and of what a window has left a part that
/// gets smaller as the room does, so that the last of it goes to whoever needs it. What is granted
/// for slices of a window and not spent in them is lost, so there it is what is wanted.
fn chunk(terms: &Terms, room: u32, known: u32, envoys: u32, wish: &Wish) -> u32 {
    let wanted = wish.used.min(known).saturating_add(wish.want);
    if known >= wanted {
        return 0;
    }
    let part = match terms.algorithm {
        Algorithm::FixedWindow => room.div_ceil(envoys.max(1).saturating_mul(2)),
        Algorithm::SlidingWindow | Algorithm::TokenBucket => 0,
    };
    part.max(wanted - known).min(room).min(u32::MAX - known)
}

fn paid_off(size: u64, terms: &Terms, slices: u64) -> u64 {
    bucket(size, terms.slices).0.saturating_mul(slices)
}

pub(super) fn nothing(granted: u32, again: u64) -> Grant {
    Grant { granted, left: 0, again: Some(again) }
}
