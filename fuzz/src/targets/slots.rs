//! Any bytes where counts are kept.

use arbitrary::Unstructured;
use gate::{ClientAddress, Decision, MAX_SLOT_BYTES};

use super::worker::Worker;

const CONFIG: &str = r#"{"version":1,"public":[{"path_prefix":"/"}],"limits":[
    {"name":"a","per":"address","requests":3,"window_seconds":60},
    {"name":"b","per":"address","requests":1000000000,"window_seconds":2678400}]}"#;

pub(crate) fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut worker = Worker::of(CONFIG);
    // The seconds of a slot are good for until 2106.
    worker.now_ms = input.int_in_range(0..=4_200_000_000_000).unwrap_or(worker.now_ms);
    worker.slots.lost_races = u32::from(input.arbitrary::<u8>().unwrap_or(0));
    let rest = input.take_rest();
    worker.slots.noise = Some(rest[..rest.len().min(MAX_SLOT_BYTES)].to_vec());
    for number in 0..8 {
        let client = ClientAddress::new([192, 0, 2, number / 4].into());
        let (_, decision) = worker.ask(b"GET", b"/", None, Some(client));
        // How many pass is not promised here: the gate itself never writes such a slot.
        assert_ne!(decision, Decision::Wait);
    }
}
