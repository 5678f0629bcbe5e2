//! Counting a request against a limit.

use edge_protocol::Algorithm;
use edge_protocol::leases::{Grant, Slices};
use filter_config::Quota;
use siphasher::sip128::{SipHasher13, SipHasher24};
use std::hash::Hasher;
use std::ops::ControlFlow;

use super::REAL_KEY;
use super::algorithm::fixed_window::FixedWindow;
use super::algorithm::sliding_window::SlidingWindow;
use super::algorithm::token_bucket::TokenBucket;
use super::algorithm::{Counting, seconds};
use super::bucket::Bucket;
use super::entry::{Entry, FieldsMut, Tag};
use super::lease::Lease;
use super::slots::{Family, MAX_SLOT_BYTES, SharedSlots, SlotName, Version};
use super::subject::Subject;
use crate::Now;
use crate::fleet::Target;

/// How often a worker tries again when others keep changing the same slot. Each lost race means
/// that another worker's count went through, so this many in a row take as many workers at once.
const MAX_LOST_RACES: u32 = 128;

/// For how long real keys are remembered, in seconds.
const REMEMBERED: u32 = 86_400;

/// Counts in the slots that all workers of an Envoy share.
///
/// They agree on slots by a keyed hash. Its key is random, so nobody outside can choose addresses
/// that share one. Fewer rounds are enough for that, as for the tables of Rust's own library; the texts of
/// keys are hashed with all of them.
pub(crate) struct Counters {
    places: SipHasher13,
    texts: SipHasher24,
    /// The slot at hand.
    bytes: Box<[u8; MAX_SLOT_BYTES]>,
}

/// What a limit says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was room.
    Within,
    /// There is none for now.
    Over,
    /// It could not be told.
    Unknown,
}

/// A limit's verdict, and how the limit stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// How many more requests there is room for at once.
    pub(crate) remaining: u32,
    /// When all of the limit is there again; when there was no room, when there is some. In
    /// seconds since the Unix epoch.
    pub(crate) ends: u32,
}

impl Outcome {
    /// It could not be told; to be tried again then.
    pub(crate) fn unknown(ends: u32) -> Self {
        Self { verdict: Verdict::Unknown, remaining: 0, ends }
    }
}

/// A rule's name and window, by a hash: what all its places have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RuleHash(u64);

/// Where an entry is kept: whose it is under which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    slot: SlotName,
    tag: Tag,
}

/// What became of spending from a lease, and how it stands now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Spent {
    /// One was spent.
    One(Lease, Target),
    /// None was: nothing is granted that is not spent, or nothing was to be.
    None(Lease, Target),
    /// Others were faster, every time.
    Unknown,
}

impl Counters {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        let places = SipHasher13::new_with_key(&seed);
        let texts = SipHasher24::new_with_key(&seed);
        Self { places, texts, bytes: Box::new([0; MAX_SLOT_BYTES]) }
    }

    /// Counts one request, if there is room.
    pub(crate) fn take(
        &mut self,
        slots: &mut impl SharedSlots,
        rule: RuleHash,
        quota: Quota,
        subject: Subject,
        now: Now,
    ) -> Outcome {
        match quota.algorithm {
            Algorithm::FixedWindow => self.count::<FixedWindow>(slots, rule, quota, subject, now),
            Algorithm::SlidingWindow => {
                self.count::<SlidingWindow>(slots, rule, quota, subject, now)
            }
            Algorithm::TokenBucket => self.count::<TokenBucket>(slots, rule, quota, subject, now),
        }
    }

    fn count<E: Counting>(
        &mut self,
        slots: &mut impl SharedSlots,
        rule: RuleHash,
        quota: Quota,
        subject: Subject,
        now: Now,
    ) -> Outcome {
        let place = self.place::<E>(rule, subject);
        let outcome = self.swap::<E, _>(slots, place, now, |bucket| {
            let taken = E::take(bucket, place.tag, quota.requests, quota.seconds, now);
            match taken.entry {
                None => ControlFlow::Break(taken.outcome),
                Some(entry) => {
                    bucket.set(entry);
                    ControlFlow::Continue(taken.outcome)
                }
            }
        });
        outcome.unwrap_or_else(|| Outcome::unknown(seconds(now).saturating_add(1)))
    }

    /// Whether a window has room, and when it ends, counting nothing.
    pub(crate) fn look(
        &mut self,
        slots: &mut impl SharedSlots,
        rule: RuleHash,
        quota: Quota,
        subject: Subject,
        now: Now,
    ) -> Outcome {
        let place = self.place::<FixedWindow>(rule, subject);
        let (bucket, _) = load(slots, place, &mut self.bytes, now);
        FixedWindow::take(&bucket, place.tag, quota.requests, quota.seconds, now).outcome
    }

    /// Where the lease of a limit is kept.
    pub(crate) fn lease(&self, rule: RuleHash, subject: Subject) -> Place {
        self.place::<Lease>(rule, subject)
    }

    /// Spends one of what is granted, if it is to. A lease that is new gets `epoch`.
    pub(crate) fn spend(
        &mut self,
        slots: &mut impl SharedSlots,
        place: Place,
        slices: Slices,
        epoch: u32,
        spends: bool,
        now: Now,
    ) -> Spent {
        let spent = self.swap::<Lease, _>(slots, place, now, |bucket| {
            let (mut lease, slice) = Lease::at(bucket, place.tag, slices, now, epoch);
            let target = Target { place, slices, slice, epoch: lease.epoch };
            if spends && lease.spendable(slices, now) > 0 {
                lease.spend();
                bucket.set(lease);
                return ControlFlow::Continue(Spent::One(lease, target));
            }
            let none = Spent::None(lease, target);
            let known = bucket.get(place.tag).is_some_and(|old| old.is_of(slice, lease.epoch));
            if known {
                return ControlFlow::Break(none);
            }
            // All workers are to know the slice and the epoch before anybody asks.
            bucket.set(lease);
            ControlFlow::Continue(none)
        });
        spent.unwrap_or(Spent::Unknown)
    }

    /// Has all workers know what was granted in a slice and epoch.
    pub(crate) fn grant(
        &mut self,
        slots: &mut impl SharedSlots,
        target: Target,
        grant: &Grant,
        now: Now,
    ) {
        let Target { place, slices, slice, epoch } = target;
        self.swap::<Lease, _>(slots, place, now, |bucket| {
            let Some(mut lease) = bucket.get(place.tag) else {
                return ControlFlow::Break(());
            };
            if !lease.take_in(grant, (slice, epoch), slices, now) {
                return ControlFlow::Break(());
            }
            bucket.set(lease);
            ControlFlow::Continue(())
        });
    }

    /// Has all workers know for a day that this is the text of a real key. It is a help, not a
    /// promise: where there is no room, or too much of a rush, it is forgotten.
    pub(crate) fn remember_key(&mut self, slots: &mut impl SharedSlots, key: &[u8], now: Now) {
        let place = self.text(key);
        self.swap::<FixedWindow, _>(slots, place, now, |bucket| {
            let ends = seconds(now).saturating_add(REMEMBERED);
            bucket.set(FixedWindow::until(place.tag, ends, 1));
            ControlFlow::<()>::Continue(())
        });
    }

    /// Whether any worker has known this for the text of a real key.
    pub(crate) fn remembers_key(
        &mut self,
        slots: &mut impl SharedSlots,
        key: &[u8],
        now: Now,
    ) -> bool {
        let place = self.text(key);
        load::<FixedWindow>(slots, place, &mut self.bytes, now).0.get(place.tag).is_some()
    }

    /// What is counted under a rule of this name and window, in seconds. Each has its own counts.
    pub(crate) fn rule(&self, name: &str, seconds: u32) -> RuleHash {
        let mut hasher = self.places;
        hasher.write_u32(seconds);
        hasher.write(name.as_bytes());
        RuleHash(hasher.finish())
    }

    /// A hash that all workers of this Envoy share, and nobody else.
    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        self.texts.hash(bytes).h1
    }

    /// Where it is kept that this is the text of a real key.
    fn text(&self, key: &[u8]) -> Place {
        let rule = self.rule(REAL_KEY, REMEMBERED);
        self.place::<FixedWindow>(rule, Subject::KeyText(self.hash(key)))
    }

    fn place<E: Entry>(&self, rule: RuleHash, subject: Subject) -> Place {
        let RuleHash(rule) = rule;
        let (key, address) = match subject {
            Subject::Address(address) => (0, address),
            Subject::Key(key) | Subject::KeyText(key) => (key, 0),
            Subject::KeyAtAddress(key, address) => (key, address),
        };
        let mut bytes = [0; 32];
        let mut fields = FieldsMut(&mut bytes);
        fields.put(rule.to_le_bytes());
        fields.put(key.to_le_bytes());
        fields.put(address.to_le_bytes());
        let hash = self.places.hash(&bytes);
        let family = Family { endless: subject.is_endless(), kind: E::KIND };
        Place { slot: SlotName::new(family, hash.h1), tag: Tag::new(rule, hash.h2) }
    }

    /// Has a slot changed by compare-and-swap, or left alone when `change` breaks off. It is tried
    /// again when another worker was faster; `None`: others were, every time.
    fn swap<E: Entry, T>(
        &mut self,
        slots: &mut impl SharedSlots,
        place: Place,
        now: Now,
        mut change: impl FnMut(&mut Bucket<'_, E>) -> ControlFlow<T, T>,
    ) -> Option<T> {
        if let Some((len, version)) = slots.recall(&place.slot, self.bytes.as_mut_slice()) {
            let mut bucket = Bucket::open(&mut self.bytes, len, now);
            // A belief that leads to no store is not put to the proof: then it takes a look.
            if let ControlFlow::Continue(changed) = change(&mut bucket)
                && slots.store(&place.slot, bucket.bytes(), Some(version))
            {
                return Some(changed);
            }
        }
        for _ in 0..MAX_LOST_RACES {
            let (mut bucket, version) = load(slots, place, &mut self.bytes, now);
            let changed = match change(&mut bucket) {
                ControlFlow::Break(left_alone) => return Some(left_alone),
                ControlFlow::Continue(changed) => changed,
            };
            if slots.store(&place.slot, bucket.bytes(), version) {
                return Some(changed);
            }
        }
        None
    }
}

fn load<'b, E: Entry>(
    slots: &mut impl SharedSlots,
    place: Place,
    bytes: &'b mut [u8; MAX_SLOT_BYTES],
    now: Now,
) -> (Bucket<'b, E>, Option<Version>) {
    let found = slots.load(&place.slot, bytes);
    let len = found.map_or(0, |(len, _)| len);
    (Bucket::open(bytes, len, now), found.map(|(_, version)| version))
}
