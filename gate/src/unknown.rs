//! The keys that this worker knows to be none.

use hashbrown::HashTable;

use crate::cache::KeyHash;

/// Keys that the control plane does not know. They have a place of their own, so that a flood of
/// them cannot crowd out a good key; the oldest gives way.
pub(crate) struct UnknownKeys {
    index: HashTable<u32>,
    ring: Vec<(KeyHash, u64)>,
    next: usize,
}

/// How many unknown keys are remembered: 16 384 of 24 bytes.
const MAX_UNKNOWN: usize = 16_384;
/// For how long, in milliseconds. A key that comes into being is told by the change feed.
const UNKNOWN_MS: u64 = 60_000;

impl UnknownKeys {
    pub(crate) fn new() -> Self {
        Self { index: HashTable::new(), ring: Vec::new(), next: 0 }
    }

    pub(crate) fn contains(&self, hash: KeyHash, now_ms: u64) -> bool {
        let found = self.index.find(hash.bucket(), |&i| self.at(i).is_some_and(|e| e.0 == hash));
        found.and_then(|&i| self.at(i)).is_some_and(|&(_, until)| now_ms < until)
    }

    pub(crate) fn insert(&mut self, hash: KeyHash, now_ms: u64) {
        let until = now_ms + UNKNOWN_MS;
        let present = self.index.find(hash.bucket(), |&i| self.at(i).is_some_and(|e| e.0 == hash));
        if let Some(&index) = present {
            if let Some(entry) = usize::try_from(index).ok().and_then(|i| self.ring.get_mut(i)) {
                entry.1 = until;
            }
            return;
        }
        let at = self.next;
        self.next = (self.next + 1) % MAX_UNKNOWN;
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        if let Some(place) = self.ring.get_mut(at) {
            let old = std::mem::replace(place, (hash, until)).0;
            if let Ok(found) = self.index.find_entry(old.bucket(), |&i| i == index) {
                found.remove();
            }
        } else {
            self.ring.push((hash, until));
        }
        let ring = &self.ring;
        // Dynamic for the same reason as in the cache of known keys.
        let by_bucket: &dyn Fn(&u32) -> u64 =
            &|&i| usize::try_from(i).ok().and_then(|i| ring.get(i)).map_or(0, |e| e.0.bucket());
        self.index.insert_unique(hash.bucket(), index, by_bucket);
    }

    pub(crate) fn clear(&mut self) {
        self.index.clear();
        self.ring.clear();
        self.next = 0;
    }

    fn at(&self, index: u32) -> Option<&(KeyHash, u64)> {
        self.ring.get(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn hash(id: u64) -> KeyHash {
        KeyHash(u128::from(id) << 64 | u128::from(id % 3))
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn an_unknown_key_is_remembered_for_a_while_and_within_bounds() {
        let mut unknown = UnknownKeys::new();
        unknown.insert(hash(1), 0);
        assert!(unknown.contains(hash(1), UNKNOWN_MS - 1));
        assert!(!unknown.contains(hash(1), UNKNOWN_MS));
        let spread = |id: u64| KeyHash(u128::from(id) | u128::from(id) << 64);
        for id in 2..200_000 {
            unknown.insert(spread(id), 0);
        }
        assert_eq!(unknown.ring.len(), MAX_UNKNOWN);
        assert_eq!(unknown.index.len(), MAX_UNKNOWN);
        assert!(unknown.contains(spread(199_999), 0));
        assert!(!unknown.contains(spread(2), 0));
    }
}
