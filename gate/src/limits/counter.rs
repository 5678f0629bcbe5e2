//! Counting a request against a limit.

use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::ops::ControlFlow;

use super::bucket::{Bucket, Tag};
use super::slots::{Family, MAX_SLOT_BYTES, SharedSlots, SlotName, Version};
use crate::Now;
use crate::config::Window;

/// How often a worker tries again when others keep changing the same slot. Each lost race means
/// that another worker's count went through, so this many in a row take as many workers at once.
const MAX_LOST_RACES: u32 = 128;

/// The name under which real keys are remembered, and for how long.
const REAL_KEY: &str = "real-key";
const REMEMBERED: Window = Window { requests: 1, seconds: 86_400 };

/// The keyed hash by which all workers of an Envoy agree on slots. Its key is random, so nobody
/// outside can choose addresses that share one.
#[derive(Clone)]
pub(crate) struct Counters {
    seed: SipHasher24,
}

/// Whom a count is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A client address.
    Address(u128),
    /// A key.
    Key(u64),
    /// A key at one address.
    KeyAtAddress(u64, u128),
    /// The text of a key, by [`Counters::text`].
    KeyText(u64),
}

impl Subject {
    fn family(self) -> Family {
        match self {
            // There is no end of these, for the holder of a single key too.
            Self::Address(_) | Self::KeyAtAddress(..) => Family::Addresses,
            // Only a key that was verified gets here, and there are just so many.
            Self::Key(_) | Self::KeyText(_) => Family::Keys,
        }
    }
}

/// What a limit says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was room.
    Within,
    /// There is none until the window ends.
    Over,
    /// It could not be told.
    Unknown,
}

/// A limit's verdict, and how the limit stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// How many more requests the window has room for.
    pub(crate) remaining: u32,
    /// When the window ends, in seconds since the Unix epoch.
    pub(crate) ends: u32,
}

/// Where one count is kept.
struct Place {
    slot: SlotName,
    tag: Tag,
    ends: u32,
    now: u32,
}

impl Counters {
    pub(crate) fn new(seed: [u8; 16]) -> Self {
        Self { seed: SipHasher24::new_with_key(&seed) }
    }

    /// Counts one request, if the window has room for it.
    pub(crate) fn take(
        &self,
        slots: &mut impl SharedSlots,
        rule: &str,
        window: Window,
        subject: Subject,
        now: Now,
    ) -> Outcome {
        let place = self.place(rule, window, subject, now);
        let outcome = swap(slots, &place, |bucket| {
            let (used, ends) = bucket.count(place.tag, place.ends, window.seconds);
            if used >= window.requests {
                return ControlFlow::Break(Outcome { verdict: Verdict::Over, remaining: 0, ends });
            }
            bucket.set(place.tag, ends, used + 1);
            let remaining = window.requests - used - 1;
            ControlFlow::Continue(Outcome { verdict: Verdict::Within, remaining, ends })
        });
        outcome.unwrap_or(Outcome { verdict: Verdict::Unknown, remaining: 0, ends: place.ends })
    }

    /// How a limit stands, counting nothing.
    pub(crate) fn look(
        &self,
        slots: &mut impl SharedSlots,
        rule: &str,
        window: Window,
        subject: Subject,
        now: Now,
    ) -> Outcome {
        let place = self.place(rule, window, subject, now);
        let mut bytes = [0; MAX_SLOT_BYTES];
        let (bucket, _) = load(slots, &place, &mut bytes);
        let (used, ends) = bucket.count(place.tag, place.ends, window.seconds);
        let verdict = if used >= window.requests { Verdict::Over } else { Verdict::Within };
        Outcome { verdict, remaining: window.requests.saturating_sub(used), ends }
    }

    /// Has all workers know for a day that this is the text of a real key. It is a help, not a
    /// promise: where there is no room, or too much of a rush, it is forgotten.
    pub(crate) fn remember_key(&self, slots: &mut impl SharedSlots, key: &[u8], now: Now) {
        let place = self.place(REAL_KEY, REMEMBERED, self.text(key), now);
        swap(slots, &place, |bucket| {
            let ends = place.now.saturating_add(REMEMBERED.seconds);
            bucket.set(place.tag, ends, 1);
            ControlFlow::<()>::Continue(())
        });
    }

    /// Whether any worker has known this for the text of a real key.
    pub(crate) fn remembers_key(&self, slots: &mut impl SharedSlots, key: &[u8], now: Now) -> bool {
        let place = self.place(REAL_KEY, REMEMBERED, self.text(key), now);
        let mut bytes = [0; MAX_SLOT_BYTES];
        load(slots, &place, &mut bytes).0.has(place.tag)
    }

    fn text(&self, key: &[u8]) -> Subject {
        Subject::KeyText(self.seed.hash(key).h1)
    }

    fn place(&self, rule: &str, window: Window, subject: Subject, now: Now) -> Place {
        let mut hasher = self.seed;
        hasher.write_u32(window.seconds);
        hasher.write(rule.as_bytes());
        let rule_hash = hasher.finish();
        match subject {
            Subject::Address(address) => hasher.write_u128(address),
            Subject::Key(key) | Subject::KeyText(key) => hasher.write_u64(key),
            Subject::KeyAtAddress(key, address) => {
                hasher.write_u64(key);
                hasher.write_u128(address);
            }
        }
        let hash = hasher.finish128();
        let now = u32::try_from(now.unix_seconds()).unwrap_or(u32::MAX);
        Place {
            slot: SlotName::new(subject.family(), hash.h1),
            tag: Tag::new(rule_hash, hash.h2),
            ends: (now - now % window.seconds).saturating_add(window.seconds),
            now,
        }
    }
}

/// Has a slot changed by compare-and-swap, or left alone when `change` breaks off. It is tried
/// again when another worker was faster; `None`: others were, every time.
fn swap<T>(
    slots: &mut impl SharedSlots,
    place: &Place,
    mut change: impl FnMut(&mut Bucket) -> ControlFlow<T, T>,
) -> Option<T> {
    let mut bytes = [0; MAX_SLOT_BYTES];
    for _ in 0..MAX_LOST_RACES {
        let (mut bucket, version) = load(slots, place, &mut bytes);
        let changed = match change(&mut bucket) {
            ControlFlow::Break(left_alone) => return Some(left_alone),
            ControlFlow::Continue(changed) => changed,
        };
        let len = bucket.write(&mut bytes);
        if slots.store(&place.slot, bytes.get(..len).unwrap_or_default(), version) {
            return Some(changed);
        }
    }
    None
}

fn load(
    slots: &mut impl SharedSlots,
    place: &Place,
    bytes: &mut [u8; MAX_SLOT_BYTES],
) -> (Bucket, Option<Version>) {
    match slots.load(&place.slot, bytes) {
        Some((len, version)) => {
            (Bucket::read(bytes.get(..len).unwrap_or_default(), place.now), Some(version))
        }
        None => (Bucket::read(&[], place.now), None),
    }
}
