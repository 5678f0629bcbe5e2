//! What a worker knows of the shared slots without looking at them.
//!
//! A look copies bytes out of the host, which is the dearest thing that a host call can do. Versions
//! are numbered one after the other as slots are stored, whoever stores them. So a worker that is
//! alone in storing knows which version its own store has got, and what the slot holds: it can store
//! there again without a look. When it was not alone the store fails, as for any lost race, and the
//! worker looks.
//!
//! A version that is believed is never above the one that the store has got, and what others store
//! later has a higher one. So a store succeeds only on what is believed to be there. (The numbers begin
//! again after four thousand million stores; a belief would have to outlive all of them but one.)

use super::slots::{MAX_SLOT_BYTES, SharedSlots, SlotName, Version};

/// How many slots are recollected. A power of two; 88 bytes each.
const PLACES: usize = 4096;
/// What holds more than this is looked at: four entries of most kinds.
const MAX_BYTES: usize = 64;
/// After how many stores a worker that was not alone looks whether it is now, at first and at most.
const FIRST_REST: u32 = 1;
const LONGEST_REST: u32 = 4096;

/// The slots, as one worker sees them.
#[derive(Debug)]
pub struct Recollection<S> {
    slots: S,
    places: Vec<Option<Place>>,
    /// The version that the next store will get, if nobody else stores before.
    next: Option<u32>,
    /// How many stores are left until the worker looks what the version is.
    rest: u32,
    /// How long it rests when it finds once more that it is not alone.
    next_rest: u32,
    /// How many beliefs were right since it last was not.
    right: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    slot: SlotName,
    version: u32,
    len: u8,
    content: [u8; MAX_BYTES],
}

impl Place {
    /// Puts what was stored into a place, if there is room for it.
    fn put(place: &mut Option<Self>, slot: SlotName, version: u32, content: &[u8]) {
        let (Ok(len), true) = (u8::try_from(content.len()), content.len() <= MAX_BYTES) else {
            *place = None;
            return;
        };
        let it = place.get_or_insert(Self { slot, version, len, content: [0; MAX_BYTES] });
        (it.slot, it.version, it.len) = (slot, version, len);
        if let Some(room) = it.content.get_mut(..content.len()) {
            room.copy_from_slice(content);
        }
    }
}

impl<S> Recollection<S> {
    /// Nothing is known yet.
    pub fn new(slots: S) -> Self {
        Self {
            slots,
            places: Vec::new(),
            next: None,
            rest: FIRST_REST,
            next_rest: 2 * FIRST_REST,
            right: 0,
        }
    }

    /// The slots themselves.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.slots
    }

    fn place(&mut self, slot: &SlotName) -> Option<&mut Option<Place>> {
        let mask = self.places.len().checked_sub(1)?;
        self.places.get_mut(usize::from(slot.number()) & mask)
    }

    /// Others store as well. What is recollected may be outdated, all of it.
    fn was_wrong(&mut self) {
        self.places.fill(None);
        self.next = None;
        self.rest = self.next_rest;
        self.next_rest = (self.next_rest * 2).min(LONGEST_REST);
        self.right = 0;
    }

    fn was_right(&mut self) {
        self.right += 1;
        if self.right >= LONGEST_REST {
            (self.right, self.next_rest) = (0, 2 * FIRST_REST);
        }
    }
}

impl<S: SharedSlots> Recollection<S> {
    /// Looks which version a store has just got.
    #[cold]
    fn look(&mut self, slot: &SlotName) {
        let found = self.slots.load(slot, &mut [0; MAX_SLOT_BYTES]);
        self.next = found.and_then(|(_, Version(version))| version.checked_add(1));
        self.places.resize(PLACES, None);
    }
}

impl<S: SharedSlots> SharedSlots for Recollection<S> {
    fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
        self.slots.load(slot, into)
    }

    fn recall(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
        let place = self.place(slot)?.as_ref().filter(|place| place.slot == *slot)?;
        let content = place.content.get(..usize::from(place.len))?;
        into.get_mut(..content.len())?.copy_from_slice(content);
        Some((content.len(), Version(place.version)))
    }

    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool {
        let believed = self
            .place(slot)
            .and_then(|place| place.as_ref())
            .is_some_and(|place| place.slot == *slot && expected == Some(Version(place.version)));
        let stored = self.slots.store(slot, content, expected);
        if believed {
            if stored { self.was_right() } else { self.was_wrong() }
        }
        if !stored {
            return false;
        }
        let Some(version) = self.next else {
            self.rest = self.rest.saturating_sub(1);
            if self.rest == 0 {
                self.look(slot);
            }
            return true;
        };
        // The numbers begin again with 1.
        self.next = version.checked_add(1);
        if let Some(place) = self.place(slot) {
            Place::put(place, *slot, version, content);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::slots::{Family, Kind};
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::collections::HashMap;
    use std::rc::Rc;
    use wasm_bindgen_test::wasm_bindgen_test;

    /// Slots as Envoy keeps them.
    #[derive(Default)]
    struct Host {
        slots: HashMap<SlotName, (Vec<u8>, u32)>,
        last_version: u32,
        looks: u32,
    }

    #[derive(Clone, Default)]
    struct Worker(Rc<RefCell<Host>>);

    impl SharedSlots for Worker {
        fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
            let mut host = self.0.borrow_mut();
            host.looks += 1;
            let (content, version) = host.slots.get(slot)?;
            into[..content.len()].copy_from_slice(content);
            Some((content.len(), Version(*version)))
        }

        fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool {
            let host = &mut *self.0.borrow_mut();
            let present = host.slots.get(slot).map(|(_, version)| Version(*version));
            if present != expected {
                return false;
            }
            host.last_version += 1;
            host.slots.insert(*slot, (content.to_vec(), host.last_version));
            true
        }
    }

    fn slot(number: u64) -> SlotName {
        SlotName::new(Family { endless: true, kind: Kind::FixedWindow }, number)
    }

    /// Adds one to the number in a slot, as counters do.
    fn add(worker: &mut Recollection<Worker>, slot: SlotName, padding: usize) {
        let mut bytes = [0; MAX_SLOT_BYTES];
        let recalled = worker.recall(&slot, &mut bytes);
        let mut known = recalled.is_some();
        let mut found = recalled;
        loop {
            if !known {
                found = worker.load(&slot, &mut bytes);
            }
            let count =
                found.map_or(0, |_| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            bytes[..4].copy_from_slice(&(count + 1).to_le_bytes());
            if worker.store(&slot, &bytes[..4 + padding], found.map(|(_, version)| version)) {
                return;
            }
            known = false;
        }
    }

    fn count(host: &Worker, slot: SlotName) -> u32 {
        let host = host.0.borrow();
        host.slots
            .get(&slot)
            .map_or(0, |(content, _)| u32::from_le_bytes(*content.first_chunk().unwrap()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(3), ..ProptestConfig::default() })]

        /// However workers take turns, nothing that was counted is lost, and nothing counted twice.
        #[wasm_bindgen_test(unsupported = test)]
        fn no_store_is_made_on_a_wrong_belief(
            turns in prop::collection::vec((0..3usize, 0..4u64, prop_oneof![9 => 0..8usize, 1 => 60..100usize], 1..20u8), 0..200)
        ) {
            let host = Worker::default();
            let mut workers = [(); 3].map(|()| Recollection::new(host.clone()));
            let mut truth = HashMap::new();
            for (worker, number, padding, times) in turns {
                for _ in 0..times {
                    add(&mut workers[worker], slot(number), padding);
                    *truth.entry(number).or_insert(0) += 1;
                }
            }
            for (number, times) in truth {
                prop_assert_eq!(count(&host, slot(number)), times);
            }
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_worker_that_is_alone_looks_once_at_each_slot() {
        let host = Worker::default();
        let mut worker = Recollection::new(host.clone());
        for round in 0..1000 {
            for number in 0..10 {
                add(&mut worker, slot(number), 0);
            }
            if round == 1 {
                host.0.borrow_mut().looks = 0;
            }
        }
        assert_eq!(host.0.borrow().looks, 0);
        assert_eq!(count(&host, slot(3)), 1000);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_worker_among_others_soon_gives_up_guessing() {
        let host = Worker::default();
        let mut workers = [(); 2].map(|()| Recollection::new(host.clone()));
        for _ in 0..10_000 {
            for worker in &mut workers {
                add(worker, slot(1), 0);
            }
        }
        let looks = host.0.borrow().looks;
        assert!(looks < 20_200, "{looks}");
    }
}
