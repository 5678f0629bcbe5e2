//! So many in each window. Windows are multiples of their length since the Unix epoch.

use super::{Counting, Taken, UNSTEADY_SECONDS, seconds};
use crate::Now;
use crate::limits::bucket::Bucket;
use crate::limits::entry::{Entry, Fields, FieldsMut, Tag};
use crate::limits::slots::Kind;

/// A count in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct FixedWindow {
    tag: Tag,
    /// When the window ends, in seconds since the Unix epoch.
    ends: u32,
    count: u32,
}

impl FixedWindow {
    /// So many of `tag`, until a moment in seconds since the Unix epoch.
    pub(in crate::limits) fn until(tag: Tag, ends: u32, count: u32) -> Self {
        Self { tag, ends, count }
    }
}

impl Entry for FixedWindow {
    const KIND: Kind = Kind::FixedWindow;
    const BYTES: usize = 16;

    fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        Self { tag: Tag::from_number(fields.u64()), ends: fields.u32(), count: fields.u32() }
    }

    fn write(&self, into: &mut [u8]) {
        let mut fields = FieldsMut(into);
        fields.put(self.tag.number().to_le_bytes());
        fields.put(self.ends.to_le_bytes());
        fields.put(self.count.to_le_bytes());
    }

    fn tag(&self) -> Tag {
        self.tag
    }

    fn is_over(&self, now: Now) -> bool {
        self.ends <= seconds(now)
    }

    fn weight(&self) -> u64 {
        self.count.into()
    }

    fn floor(&self, tag: Tag) -> Option<Self> {
        Some(Self { tag, ..*self })
    }

    fn raise(&mut self, other: &Self) {
        self.ends = self.ends.max(other.ends);
        self.count = self.count.max(other.count);
    }
}

impl Counting for FixedWindow {
    fn take(bucket: &Bucket<'_, Self>, tag: Tag, limit: u32, window: u32, now: Now) -> Taken<Self> {
        let now = seconds(now);
        let window = window.max(1);
        let ends = (now - now % window).saturating_add(window);
        let (used, ends) = match bucket.get(tag) {
            // A worker whose clock is a hair ahead may have begun a later window already.
            Some(entry)
                if entry.ends >= ends && entry.ends - ends <= window.max(UNSTEADY_SECONDS) =>
            {
                (entry.count, entry.ends)
            }
            // Of another window: the clock was set back.
            Some(_) => (0, ends),
            None => (bucket.floor(tag).map_or(0, |floor| floor.count), ends),
        };
        if used >= limit {
            return Taken::over(ends);
        }
        Taken::within(limit - used - 1, ends, Self { tag, ends, count: used + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::slots::MAX_SLOT_BYTES;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_worker_behind_the_others_counts_in_the_window_they_are_in() {
        let tag = Tag::new(1 << 48, 7 << 16);
        let mut bytes = [0; MAX_SLOT_BYTES];
        let mut bucket = Bucket::open(&mut bytes, 0, Now::from_unix_ms(0));
        bucket.set(FixedWindow { tag, ends: 120, count: 5 });
        let behind = FixedWindow::take(&bucket, tag, 10, 60, Now::from_unix_ms(59_999)).outcome;
        assert_eq!((behind.remaining, behind.ends), (4, 120));
        let set_back = FixedWindow::take(&bucket, tag, 10, 30, Now::from_unix_ms(1_000)).outcome;
        assert_eq!((set_back.remaining, set_back.ends), (9, 30));
    }
}
