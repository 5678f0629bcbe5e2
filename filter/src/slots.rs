//! Envoy's shared data as the store that all workers share.

use gate::{SharedSlots, SlotName, Version};

use crate::buffer::HostBuffer;
use crate::host;

/// A version that no value has. A compare-and-swap against it on a key that is absent creates
/// the key, and on a key that exists fails: that is how two workers do not both create a slot.
/// (Versions count up from 1 for the whole process, and 0 means "whatever the version".)
const ABSENT: u32 = u32::MAX;

/// Under which all VMs of this Envoy find the seed of their common hash.
const SEED_KEY: &[u8] = b"kg2.seed";

/// Envoy's shared data.
#[derive(Default)]
pub(crate) struct EnvoySlots {
    buffer: HostBuffer,
}

impl SharedSlots for EnvoySlots {
    fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
        let (value, cas) = host::shared(&mut self.buffer, slot.as_bytes())?;
        let len = match into.get_mut(..value.len()) {
            Some(place) => {
                place.copy_from_slice(value);
                value.len()
            }
            None => 0,
        };
        Some((len, Version(cas)))
    }

    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool {
        let cas = expected.map_or(ABSENT, |Version(cas)| cas);
        host::set_shared(slot.as_bytes(), content, cas)
    }
}

impl EnvoySlots {
    /// The seed that all workers share: whoever comes first brings it.
    pub(crate) fn seed(&mut self, own: [u8; 16]) -> [u8; 16] {
        host::set_shared(SEED_KEY, &own, ABSENT);
        host::shared(&mut self.buffer, SEED_KEY)
            .and_then(|(value, _)| value.try_into().ok())
            .unwrap_or(own)
    }
}
