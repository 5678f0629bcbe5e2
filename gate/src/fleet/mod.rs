//! One Envoy among the others of its fleet.
//!
//! | file | what it knows |
//! |---|---|
//! | `standing` | what part of each limit this Envoy may let through by itself |
//! | `silence` | what holds after the control plane was not heard |
//! | `asks` | what is asked of the control plane beyond that, and who waits for it |
//!
//! How a limit is shared, and why it is never exceeded, stands in [`edge_protocol::leases`].

mod asks;
mod silence;
mod standing;

pub use asks::LeaseCallId;
pub(crate) use asks::{Asks, Target, Wanted};
pub(crate) use standing::Share;

use edge_protocol::leases::{MAX_SKEW_MS, Presence, Standing as Told};
use filter_config::Quota;

use self::standing::Standing;
use crate::Now;
use crate::limits::{SharedSlots, SlotName};

/// Between two announcements, in milliseconds.
const EVERY_MS: u64 = 1_000;
/// How much earlier than by this clock it may be by another's, in milliseconds: each may be off by
/// as much, one ahead and one behind.
const MARGIN_MS: u64 = 2 * MAX_SKEW_MS;
/// How old a worker's copy of the standing may be, in milliseconds.
const COPY_MS: u64 = 100;
/// How often a change is tried while other workers are faster.
const TRIES: u32 = 16;

/// How this worker's Envoy stands in its fleet. All workers share it.
pub(crate) struct Fleet {
    slot: SlotName,
    copy: Standing,
    /// When the copy was read.
    read_at_ms: Option<u64>,
}

impl Fleet {
    /// `control_plane` is a hash of which control plane it is that keeps the fleet together.
    pub(crate) fn new(control_plane: u64) -> Self {
        let slot = SlotName::standing(control_plane);
        Self { slot, copy: Standing::default(), read_at_ms: None }
    }

    /// What this Envoy may let through of a limit by itself.
    pub(crate) fn share(&mut self, quota: Quota, now: Now, slots: &mut impl SharedSlots) -> Share {
        self.refresh(now, slots);
        self.copy.share(quota, now)
    }

    /// The same of another time, by what was last read.
    pub(crate) fn share_at(&self, quota: Quota, at: Now) -> Share {
        self.copy.share(quota, at)
    }

    /// How many parts of the shares this Envoy holds.
    pub(crate) fn holds(&self, now: Now) -> u32 {
        self.copy.holds(now)
    }

    /// What to tell the control plane, when it is time for one of the workers to say that this
    /// Envoy lives and this one is the first to see it.
    pub(crate) fn due(&mut self, now: Now, slots: &mut impl SharedSlots) -> Option<Presence> {
        self.refresh(now, slots);
        if !self.copy.is_due(now) {
            return None;
        }
        let due = |standing: &mut Standing| standing.is_due(now).then(|| standing.announce(now));
        self.change(slots, now, due)
    }

    /// The control plane has answered.
    pub(crate) fn told(&mut self, told: &Told, now: Now, slots: &mut impl SharedSlots) {
        self.change(slots, now, |standing| standing.adopt(told, now).then_some(()));
    }

    fn refresh(&mut self, now: Now, slots: &mut impl SharedSlots) {
        let is_young = |at| (at..at + COPY_MS).contains(&now.unix_ms());
        if self.read_at_ms.is_some_and(is_young) {
            return;
        }
        let mut bytes = [0; Standing::BYTES];
        if let Some((len, _)) = slots.load(&self.slot, &mut bytes) {
            self.copy = Standing::read(bytes.get(..len).unwrap_or_default());
        }
        self.read_at_ms = Some(now.unix_ms());
    }

    /// Changes what the workers share; `None` from `change` leaves it alone. `None` also when others
    /// were faster, every time.
    fn change<T>(
        &mut self,
        slots: &mut impl SharedSlots,
        now: Now,
        change: impl Fn(&mut Standing) -> Option<T>,
    ) -> Option<T> {
        let mut bytes = [0; Standing::BYTES];
        for _ in 0..TRIES {
            let (mut standing, version) = match slots.load(&self.slot, &mut bytes) {
                Some((len, version)) => {
                    (Standing::read(bytes.get(..len).unwrap_or_default()), Some(version))
                }
                None => (Standing::default(), None),
            };
            let changed = change(&mut standing);
            let stored = changed.is_none() || {
                standing.write(&mut bytes);
                slots.store(&self.slot, &bytes, version)
            };
            if stored {
                self.copy = standing;
                self.read_at_ms = Some(now.unix_ms());
                return changed;
            }
        }
        None
    }
}
