//! The slots that workers share, in memory.

use criterion::Criterion;
use gate::{MAX_SLOT_BYTES, SharedSlots, SlotName, Version};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;

use crate::cpu_time::CpuTime;

/// Names of slots are hashes already.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0.rotate_left(5) ^ u64::from(*byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
}

/// A store as cheap as can be: what it takes is not the gate's.
#[derive(Default)]
pub(crate) struct Shelf {
    slots: HashMap<SlotName, (Vec<u8>, u32), BuildHasherDefault<NameHasher>>,
    version: u32,
    last: Option<SlotName>,
}

impl SharedSlots for Shelf {
    fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
        self.last = Some(*slot);
        let (content, version) = self.slots.get(slot)?;
        into.get_mut(..content.len())?.copy_from_slice(content);
        Some((content.len(), Version(*version)))
    }

    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool {
        self.version = self.version.wrapping_add(1);
        let (present, version) = self.slots.entry(*slot).or_default();
        if expected.is_some_and(|expected| expected.0 != *version) {
            return false;
        }
        present.clear();
        present.extend_from_slice(content);
        *version = self.version;
        true
    }
}

/// One compare-and-swap, as the gate has two for two limits.
pub(crate) fn itself(c: &mut Criterion<CpuTime>) {
    let mut scene = crate::scene::Scene::new(
        r#"{"version":1,"public":[{"path_prefix":"/"}],
            "limits":[{"name":"a","per":"address","requests":1000000000,"window_seconds":60}]}"#,
    );
    scene.decide(&crate::scene::get("/"));
    let shelf = scene.slots.get_mut();
    let slot = shelf.last.expect("a slot was asked for");
    let mut bytes = [0; MAX_SLOT_BYTES];
    c.bench_function("store/load and store", |b| {
        b.iter(|| {
            let (len, version) = shelf.load(&slot, &mut bytes).expect("it is there");
            let content = bytes.get(..len).expect("no longer than a slot");
            black_box(shelf.store(&slot, content, Some(version)))
        });
    });
}
