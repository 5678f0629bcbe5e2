//! The keys that this worker knows.

use edge_protocol::{KeyEnvironment, KeyLimit, KeyRecord, Position, Scope};
use filter_config::{MAX_REQUESTS, MAX_WINDOW_SECONDS};
use hashbrown::HashTable;
use ipnet::IpNet;
use key_policy::KeyId;

/// A keyed hash of a key's text, by which it is found again. The text itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash(pub(crate) u128);

impl KeyHash {
    /// Where the hash table looks: the hash is keyed and random already.
    pub(crate) fn bucket(self) -> u64 {
        u64::try_from(self.0 & u128::from(u64::MAX)).unwrap_or_default()
    }
}

/// The first 16 hex digits of the SHA-256 of a key: how audit events name it.
pub(crate) type KeyFingerprint = [u8; 16];

/// Where a known key stands in the cache, valid until the gate is next called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryIndex(u32);

/// Who a request comes from, in the words that the upstream is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The key's public name.
    pub key_id: &'a str,
    /// What it may do.
    pub scope: &'static str,
    /// Whose it is.
    pub owner: Option<&'a str>,
}

/// What the control plane said of a key, read into types that cannot be wrong.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) key_id: KeyId,
    pub(crate) key_id_text: String,
    pub(crate) owner: Option<Box<str>>,
    pub(crate) scope: Scope,
    pub(crate) environment: KeyEnvironment,
    pub(crate) is_active: bool,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) allowed: Box<[IpNet]>,
    pub(crate) limit: Option<KeyLimit>,
}

impl Record {
    /// Reads the wire's record; `None` when it is not one (a key id that is none, an owner that
    /// cannot stand in a header, a limit of nothing).
    pub(crate) fn read(record: KeyRecord) -> Option<Self> {
        let printable = |owner: &str| {
            owner.len() <= 128 && owner.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        };
        if record.owner.as_deref().is_some_and(|owner| !printable(owner)) {
            return None;
        }
        if record.rate_limit.is_some_and(|limit| !is_understood(&limit)) {
            return None;
        }
        Some(Self {
            key_id: record.key_id.parse().ok()?,
            key_id_text: record.key_id,
            owner: record.owner.map(String::into_boxed_str),
            scope: record.scope,
            environment: record.environment,
            is_active: record.is_active,
            expires_at_ms: record.expires_at_ms,
            allowed: record.allowed_ips.into_boxed_slice(),
            limit: record.rate_limit,
        })
    }
}

/// Whether a key's limit is one that can be counted; another must not go uncounted.
fn is_understood(limit: &KeyLimit) -> bool {
    (1..=MAX_REQUESTS).contains(&limit.requests)
        && (1..=MAX_WINDOW_SECONDS).contains(&limit.window_seconds)
}

/// A key that this worker knows.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) hash: KeyHash,
    pub(crate) fingerprint: KeyFingerprint,
    pub(crate) record: Record,
    /// When the control plane said so.
    pub(crate) learned_at_ms: u64,
    /// What its change feed had got to by then.
    pub(crate) as_of: Position,
    /// Whether it was used since the clock hand last passed.
    used: bool,
}

/// The known keys. When all places are taken, one that has not been used lately gives way
/// (the clock algorithm).
pub(crate) struct KeyCache {
    index: HashTable<u32>,
    /// By key id. A key id may have several keys: the one that replaces another, for a while.
    by_id: HashTable<u32>,
    entries: Vec<Entry>,
    hand: usize,
    capacity: usize,
}

impl KeyCache {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            index: HashTable::new(),
            by_id: HashTable::new(),
            entries: Vec::new(),
            hand: 0,
            capacity: capacity.max(1),
        }
    }

    pub(crate) fn find(&mut self, hash: KeyHash) -> Option<EntryIndex> {
        let index = *self.index.find(hash.bucket(), |&i| self.hash_at(i) == Some(hash))?;
        self.entry_mut(EntryIndex(index))?.used = true;
        Some(EntryIndex(index))
    }

    pub(crate) fn get(&self, index: EntryIndex) -> Option<&Entry> {
        self.entries.get(usize::try_from(index.0).ok()?)
    }

    pub(crate) fn insert(
        &mut self,
        hash: KeyHash,
        fingerprint: KeyFingerprint,
        record: Record,
        learned_at_ms: u64,
        as_of: Position,
    ) -> EntryIndex {
        // Not marked as used: a key that is seen once must not outlast one that is in use.
        let entry = Entry { hash, fingerprint, record, learned_at_ms, as_of, used: false };
        if let Some(index) = self.find(hash) {
            if let Some(present) = self.entry_mut(index) {
                *present = entry;
            }
            return index;
        }
        let at = if self.entries.len() < self.capacity {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let at = self.make_room();
            if let Some(place) = self.entries.get_mut(at) {
                *place = entry;
            }
            at
        };
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        self.enter(index);
        EntryIndex(index)
    }

    pub(crate) fn remove(&mut self, hash: KeyHash) {
        if let Some(EntryIndex(index)) = self.find(hash) {
            self.drop_entry(index);
        }
    }

    /// Forgets what was learned of a key before this place in the feed.
    pub(crate) fn remove_changed(&mut self, key_id: KeyId, sequence: u64) {
        loop {
            let outdated = |&i: &u32| {
                self.get(EntryIndex(i)).is_some_and(|entry| {
                    entry.record.key_id == key_id && entry.as_of.sequence < sequence
                })
            };
            let Some(&index) = self.by_id.find(key_id.as_u64(), outdated) else { return };
            self.drop_entry(index);
        }
    }

    /// Forgets every entry that `keep` does not want.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.entries.retain(|entry| keep(entry));
        self.hand = 0;
        self.index.clear();
        self.by_id.clear();
        for at in 0..self.entries.len() {
            self.enter(u32::try_from(at).unwrap_or(u32::MAX));
        }
    }

    /// The clock was set back by so many milliseconds: what was learned is as old as before.
    pub(crate) fn set_back(&mut self, by_ms: u64) {
        for entry in &mut self.entries {
            entry.learned_at_ms = entry.learned_at_ms.saturating_sub(by_ms);
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn make_room(&mut self) -> usize {
        // Two rounds at most: the first takes every mark away.
        for _ in 0..=2 * self.entries.len() {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.entries.len().max(1);
            match self.entries.get_mut(at) {
                Some(entry) if entry.used => entry.used = false,
                _ => break,
            }
        }
        let at = (self.hand + self.entries.len() - 1) % self.entries.len().max(1);
        self.unindex(u32::try_from(at).unwrap_or(u32::MAX));
        at
    }

    /// Makes an entry findable.
    fn enter(&mut self, index: u32) {
        let entries = &self.entries;
        // Dynamic, so that all tables of the gate's caches grow by the same code.
        let by_bucket: &dyn Fn(&u32) -> u64 = &|&i| bucket_at(entries, i);
        let by_id: &dyn Fn(&u32) -> u64 = &|&i| id_at(entries, i);
        self.index.insert_unique(by_bucket(&index), index, by_bucket);
        self.by_id.insert_unique(by_id(&index), index, by_id);
    }

    fn unindex(&mut self, index: u32) {
        let (bucket, id) = (bucket_at(&self.entries, index), id_at(&self.entries, index));
        if let Ok(found) = self.index.find_entry(bucket, |&i| i == index) {
            found.remove();
        }
        if let Ok(found) = self.by_id.find_entry(id, |&i| i == index) {
            found.remove();
        }
    }

    /// Takes an entry out; the last one moves into its place.
    fn drop_entry(&mut self, index: u32) {
        let Some(last) = self.entries.len().checked_sub(1) else { return };
        let Ok(at) = usize::try_from(index) else { return };
        self.unindex(index);
        if at < last {
            self.unindex(u32::try_from(last).unwrap_or(u32::MAX));
            self.entries.swap_remove(at);
            self.enter(index);
        } else {
            self.entries.truncate(last);
        }
        self.hand = 0;
    }

    fn hash_at(&self, index: u32) -> Option<KeyHash> {
        self.get(EntryIndex(index)).map(|entry| entry.hash)
    }

    fn entry_mut(&mut self, index: EntryIndex) -> Option<&mut Entry> {
        self.entries.get_mut(usize::try_from(index.0).ok()?)
    }
}

fn bucket_at(entries: &[Entry], index: u32) -> u64 {
    entry_at(entries, index).map_or(0, |entry| entry.hash.bucket())
}

/// The control plane draws key ids at random, so they are good hashes as they are.
fn id_at(entries: &[Entry], index: u32) -> u64 {
    entry_at(entries, index).map_or(0, |entry| entry.record.key_id.as_u64())
}

fn entry_at(entries: &[Entry], index: u32) -> Option<&Entry> {
    entries.get(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn record(id: u64) -> Record {
        Record::read(KeyRecord {
            key_id: format!("{id:016x}"),
            owner: None,
            scope: Scope::Read,
            environment: KeyEnvironment::Live,
            is_active: true,
            expires_at_ms: None,
            allowed_ips: Vec::new(),
            rate_limit: None,
        })
        .unwrap()
    }

    fn hash(id: u64) -> KeyHash {
        // Few distinct buckets, so that collisions are met.
        KeyHash(u128::from(id) << 64 | u128::from(id % 3))
    }

    fn insert(cache: &mut KeyCache, id: u64) -> EntryIndex {
        let as_of = Position { epoch: "e".into(), sequence: 0 };
        cache.insert(hash(id), [0; 16], record(id), 0, as_of)
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u64),
        Remove(u64),
        Find(u64),
        Change(u64),
        RetainEven,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..40).prop_map(Step::Insert),
            2 => (0u64..40).prop_map(Step::Remove),
            2 => (0u64..40).prop_map(Step::Find),
            2 => (0u64..40).prop_map(Step::Change),
            1 => Just(Step::RetainEven),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        /// With room for all, the cache is a map.
        #[wasm_bindgen_test(unsupported = test)]
        fn a_cache_with_room_behaves_like_a_map(steps in steps()) {
            let mut cache = KeyCache::new(64);
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(id) => { insert(&mut cache, id); model.insert(id); }
                    Step::Remove(id) => { cache.remove(hash(id)); model.remove(&id); }
                    Step::Change(id) => {
                        cache.remove_changed(KeyId::from_u64(id), 1);
                        model.remove(&id);
                    }
                    Step::Find(id) => {
                        let found = cache.find(hash(id)).and_then(|i| cache.get(i)).map(|e| e.record.key_id.as_u64());
                        prop_assert_eq!(found, model.get(&id).copied());
                    }
                    Step::RetainEven => {
                        cache.retain(|e| e.record.key_id.as_u64() % 2 == 0);
                        model.retain(|id| id % 2 == 0);
                    }
                }
                prop_assert_eq!(cache.len(), model.len());
            }
            for id in 0..40 {
                prop_assert_eq!(cache.find(hash(id)).is_some(), model.contains(&id));
            }
        }

        /// Without, it never grows past its bound and never answers with another's record.
        #[wasm_bindgen_test(unsupported = test)]
        fn a_full_cache_stays_within_its_bound(steps in steps()) {
            let mut cache = KeyCache::new(7);
            let mut inserted = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(id) => {
                        let index = insert(&mut cache, id);
                        prop_assert_eq!(cache.get(index).unwrap().record.key_id.as_u64(), id);
                        inserted.insert(id);
                    }
                    Step::Remove(id) => { cache.remove(hash(id)); inserted.remove(&id); }
                    Step::Change(id) => {
                        cache.remove_changed(KeyId::from_u64(id), 1);
                        inserted.remove(&id);
                    }
                    Step::Find(id) => if let Some(index) = cache.find(hash(id)) {
                        prop_assert_eq!(cache.get(index).unwrap().record.key_id.as_u64(), id);
                        prop_assert!(inserted.contains(&id));
                    }
                    Step::RetainEven => {
                        cache.retain(|e| e.record.key_id.as_u64() % 2 == 0);
                        inserted.retain(|id| id % 2 == 0);
                    }
                }
                prop_assert!(cache.len() <= 7);
            }
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_in_use_outlives_a_flood_of_others() {
        let mut cache = KeyCache::new(100);
        insert(&mut cache, 0);
        for id in 1..10_000 {
            insert(&mut cache, id);
            assert!(cache.find(hash(0)).is_some(), "lost after {id} others");
        }
    }
}
