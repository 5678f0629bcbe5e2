//! What was granted to this Envoy of a limit that its fleet shares.

use edge_protocol::leases::{Grant, Slices};

use super::algorithm::{UNSTEADY_SECONDS, last_bits, seconds, seconds_after};
use super::bucket::Bucket;
use super::entry::{Entry, Fields, FieldsMut, Tag};
use super::slots::Kind;
use crate::Now;

/// How long an empty pool is taken for empty without asking again, in seconds.
const EMPTY_SECONDS: u32 = 5;

/// What was granted of the pool, and what of it is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    tag: Tag,
    /// Until when it is to be remembered, in seconds since the Unix epoch.
    ends: u32,
    /// The last bits of the number of the slice that is now.
    slice: u32,
    /// All that was granted in this slice and epoch.
    pub(crate) granted: u32,
    /// What of that is spent.
    pub(crate) used: u32,
    /// All that was granted in the slice before, if it can still be spent.
    granted_before: u32,
    /// What of that is not spent.
    carried: u32,
    /// What was spent in this slice, of either.
    spent: u32,
    /// What was spent in the slice before.
    pub(crate) spent_before: u32,
    /// What was granted and lost with its slices since something was last spent.
    lost: u32,
    /// What the pool had left, as far as it is known.
    pub(crate) left: u32,
    /// When the pool is empty: in how many slices there may be more.
    again_in: u32,
    /// When that was told, in seconds since the Unix epoch.
    told_at: u32,
    /// Until when it is known that more is wanted than there is, in seconds since the Unix epoch.
    short_until: u32,
    /// Tells apart what was forgotten.
    pub(crate) epoch: u32,
}

impl Lease {
    /// Nothing was ever granted.
    const VOID: Self = Self {
        tag: Tag::from_number(0),
        ends: 0,
        slice: 0,
        granted: 0,
        used: 0,
        granted_before: 0,
        carried: 0,
        spent: 0,
        spent_before: 0,
        lost: 0,
        left: 0,
        again_in: 0,
        told_at: 0,
        short_until: 0,
        epoch: 0,
    };

    /// How a lease stands in the slice of `now`, and that slice: a later one if another worker is
    /// there already, or was before the clock went back a little. One that is new, or was forgotten, gets
    /// `epoch`.
    pub(super) fn at(
        bucket: &Bucket<'_, Self>,
        tag: Tag,
        slices: Slices,
        now: Now,
        epoch: u32,
    ) -> (Self, u64) {
        let slice = slices.at(now.unix_ms());
        let at = last_bits(slice);
        let keep = slices.begins_ms(slice + slices.in_window + 1);
        let ends = seconds_after(keep);
        let Some(lease) = bucket.get(tag) else {
            let fresh = Self { tag, ends, slice: at, epoch, left: u32::MAX, ..Self::VOID };
            return (fresh, slice);
        };
        let ahead = u64::from(lease.slice.wrapping_sub(at));
        if ahead <= (u64::from(UNSTEADY_SECONDS) * 1000 / slices.ms).max(1) {
            return (Self { ends, ..lease }, slice + ahead);
        }
        let behind = at.wrapping_sub(lease.slice);
        // A clock that was set back comes by the same slice twice.
        let set_back = behind > u32::MAX / 2;
        let follows = behind == 1;
        let carries = follows && slices.lasts > 1;
        let lost = if carries { lease.carried } else { lease.unspent() };
        let moved = Self {
            ends,
            slice: at,
            granted: 0,
            used: 0,
            granted_before: if carries { lease.granted } else { 0 },
            carried: if carries { lease.unspent_of_slice() } else { 0 },
            spent: 0,
            spent_before: if follows { lease.spent } else { 0 },
            lost: lease.lost.saturating_add(lost),
            left: u32::MAX,
            again_in: lease.again_in.saturating_sub(behind),
            // What came of an ask in an earlier slice is told by its slice.
            epoch: if set_back { epoch } else { lease.epoch },
            short_until: if set_back { 0 } else { lease.short_until },
            ..lease
        };
        (moved, slice)
    }

    /// What is granted and not spent.
    pub(crate) fn unspent(&self) -> u32 {
        self.carried.saturating_add(self.unspent_of_slice())
    }

    /// What of that can be spent at a time: nothing that slides before its slice has begun.
    pub(super) fn spendable(&self, slices: Slices, now: Now) -> u32 {
        let ahead = self.slice.wrapping_sub(last_bits(slices.at(now.unix_ms())));
        match ahead {
            1 if slices.lasts > 1 => self.carried,
            2.. if slices.lasts > 1 => 0,
            _ => self.unspent(),
        }
    }

    /// What of that was granted in this slice.
    pub(crate) fn unspent_of_slice(&self) -> u32 {
        self.granted.saturating_sub(self.used)
    }

    /// Whether so little is left that it is time to ask for more.
    pub(crate) fn runs_out(&self) -> bool {
        self.unspent() <= (self.granted.max(self.granted_before) / 8).max(1)
    }

    /// Whether what was last asked for was not needed in time.
    pub(crate) fn was_early(&self) -> bool {
        self.lost > 0
    }

    /// What was needed lately in a slice, at least one.
    pub(crate) fn need(&self) -> u32 {
        self.spent.max(self.spent_before).max(1)
    }

    /// When the pool is empty: in how many slices it may have more.
    pub(crate) fn empty_for(&self) -> Option<u32> {
        (self.again_in > 0).then_some(self.again_in)
    }

    /// Whether it is time to ask whether the pool is still empty: who answers may not be whoever
    /// said so.
    pub(crate) fn is_old(&self, now: Now) -> bool {
        seconds(now).abs_diff(self.told_at) >= EMPTY_SECONDS
    }

    /// Whether more was wanted lately than there was.
    pub(crate) fn is_short(&self, now: Now) -> bool {
        self.short_until > seconds(now)
    }

    /// Spends one, of what is older first.
    pub(super) fn spend(&mut self) {
        self.spent = self.spent.saturating_add(1);
        self.lost = 0;
        if self.carried > 0 {
            self.carried -= 1;
        } else {
            self.used = self.used.saturating_add(1);
        }
    }

    /// Takes in an answer, and says whether there was anything in it. It says how much there is in
    /// all, so it may come late, or twice.
    pub(super) fn take_in(
        &mut self,
        grant: &Grant,
        (slice, epoch): (u64, u32),
        slices: Slices,
        now: Now,
    ) -> bool {
        let late = self.slice.wrapping_sub(last_bits(slice));
        match late {
            _ if self.epoch != epoch => return false,
            0 => self.take_in_now(grant, slice, slices, now),
            1 if slices.lasts > 1 => {
                let more = grant.granted.saturating_sub(self.granted_before);
                self.granted_before = self.granted_before.saturating_add(more);
                self.carried = self.carried.saturating_add(more);
            }
            _ => return false,
        }
        true
    }

    fn take_in_now(&mut self, grant: &Grant, slice: u64, slices: Slices, now: Now) {
        self.granted = self.granted.max(grant.granted);
        self.left = grant.left;
        if grant.left > 0 {
            self.again_in = 0;
            return;
        }
        self.told_at = seconds(now);
        let again = grant.again.unwrap_or(slice + 1).saturating_sub(slice);
        self.again_in = u32::try_from(again).unwrap_or(u32::MAX).max(1);
        // A fixed window begins anew for everybody.
        if slices.in_window > 1 {
            let window_ms = slices.ms.saturating_mul(slices.in_window);
            self.short_until = seconds_after(now.unix_ms().saturating_add(window_ms));
        }
    }

    pub(super) fn is_of(&self, slice: u64, epoch: u32) -> bool {
        self.slice == last_bits(slice) && self.epoch == epoch
    }
}

impl Entry for Lease {
    const KIND: Kind = Kind::Lease;
    const BYTES: usize = 64;

    fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            tag: Tag::from_number(fields.u64()),
            ends: fields.u32(),
            slice: fields.u32(),
            granted: fields.u32(),
            used: fields.u32(),
            granted_before: fields.u32(),
            carried: fields.u32(),
            spent: fields.u32(),
            spent_before: fields.u32(),
            lost: fields.u32(),
            left: fields.u32(),
            again_in: fields.u32(),
            told_at: fields.u32(),
            short_until: fields.u32(),
            epoch: fields.u32(),
        }
    }

    fn write(&self, into: &mut [u8]) {
        let mut fields = FieldsMut(into);
        fields.put(self.tag.number().to_le_bytes());
        let numbers = [
            self.ends,
            self.slice,
            self.granted,
            self.used,
            self.granted_before,
            self.carried,
            self.spent,
            self.spent_before,
            self.lost,
            self.left,
            self.again_in,
            self.told_at,
            self.short_until,
            self.epoch,
        ];
        for number in numbers {
            fields.put(number.to_le_bytes());
        }
    }

    fn tag(&self) -> Tag {
        self.tag
    }

    fn is_over(&self, now: Now) -> bool {
        self.ends <= seconds(now)
    }

    fn weight(&self) -> u64 {
        self.unspent().into()
    }

    /// Nothing: what was granted counts as spent, and one that comes new asks under another epoch.
    fn floor(&self, _: Tag) -> Option<Self> {
        None
    }

    fn raise(&mut self, _: &Self) {}
}
