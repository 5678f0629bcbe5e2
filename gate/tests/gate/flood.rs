//! Ten million client addresses: memory stays bounded, and none of them helps a busy client.

use crate::world::{MemorySlots, START_MS};
use gate::{ClientAddress, Config, Credential, Decision, Gate, Now, Request, Seeds, StreamId};
use std::net::{IpAddr, Ipv4Addr};

const ADDRESSES: u32 = 10_000_000;

fn get(gate: &mut Gate, slots: &mut MemorySlots, client: IpAddr) -> bool {
    let request = Request {
        stream: StreamId(1),
        method: b"GET",
        path: b"/",
        credential: Credential::Absent,
        client: Some(ClientAddress::new(client)),
    };
    let decision = gate.on_request(&request, Now::from_unix_ms(START_MS), slots);
    // Nobody reads the log here; it must not pile up.
    gate.take_log();
    matches!(decision, Decision::Pass(_))
}

/// All within one window, which is the worst case: nothing can be forgotten.
#[test]
fn ten_million_addresses_in_one_window_take_bounded_memory_and_reset_nobody() {
    let config = r#"{"version":1,"public":[{"path_prefix":"/"}],"limits":[
        {"name":"get","per":"address","requests":100,"window_seconds":60}]}"#;
    let config = Config::parse(config.as_bytes()).unwrap();
    let seeds = Seeds { cache: [1; 16], shared: [2; 16], source: [3; 16] };
    let mut gate = Gate::new(config, seeds);
    let mut slots = MemorySlots::default();
    let busy = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    for _ in 0..100 {
        assert!(get(&mut gate, &mut slots, busy));
    }
    assert!(!get(&mut gate, &mut slots, busy));
    let mut first_refused = None;
    for n in 0..ADDRESSES {
        let client = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
        if !get(&mut gate, &mut slots, client) && first_refused.is_none() {
            first_refused = Some(n);
        }
        if n % 100_000 == 0 {
            assert!(!get(&mut gate, &mut slots, busy), "reset after {n} addresses");
        }
    }
    let bytes: usize = slots.slots.values().map(|(content, _)| content.len()).sum();
    println!(
        "{ADDRESSES} addresses: {} slots, {bytes} bytes of content; first bystander refused: {first_refused:?}",
        slots.slots.len()
    );
    assert!(slots.slots.len() <= 32_768);
    assert!(bytes <= 32_768 * gate::MAX_SLOT_BYTES);
    assert_eq!(first_refused, None, "no bystander pays for a flood of this size");
}
