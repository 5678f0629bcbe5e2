//! Limits against the simplest count that there is.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use arbitrary::{Result, Unstructured};
use gate::{ClientAddress, Decision, Problem};

use super::worker::Worker;

/// As many as surely find room: a slot holds sixteen.
const CLIENTS: u8 = 16;

pub(crate) fn run(data: &[u8]) {
    // An input that ends is a story that ends.
    let _ = story(&mut Unstructured::new(data));
}

fn story(input: &mut Unstructured<'_>) -> Result<()> {
    let (requests, seconds) = (input.int_in_range(1..=12u32)?, input.int_in_range(1..=90u32)?);
    let mut worker = Worker::of(&format!(
        r#"{{"version":1,"public":[{{"path_prefix":"/"}}],"limits":[{{"name":"a","per":"address",
            "algorithm":"fixed_window","requests":{requests},"window_seconds":{seconds}}}]}}"#
    ));
    let mut counts: HashMap<(u8, u64), u32> = HashMap::new();
    while !input.is_empty() {
        let client = input.int_in_range(0..=CLIENTS - 1)?;
        worker.now_ms += u64::from(input.arbitrary::<u8>()?) * 50;
        // Others win a race now and then, and it is tried again.
        worker.slots.lost_races = u32::from(input.arbitrary::<u8>()? % 8);
        let window = worker.now_ms / 1000 / u64::from(seconds);
        let count = counts.entry((client, window)).or_default();
        let address = ClientAddress::new(Ipv4Addr::new(192, 0, 2, client).into());
        let report = match worker.ask(b"GET", b"/", None, Some(address)).1 {
            Decision::Pass(pass) => {
                assert!(*count < requests, "more than {requests} passed");
                *count += 1;
                pass.report
            }
            Decision::Refuse(refusal) => {
                assert_eq!(refusal.problem, Problem::RateLimited);
                assert_eq!(*count, requests, "refused with room left");
                let left = (window + 1) * u64::from(seconds) - worker.now_ms / 1000;
                assert_eq!(refusal.retry_after.map(u64::from), Some(left));
                refusal.report
            }
            Decision::Wait => panic!("a limit waits for nobody"),
        };
        let report = report.expect("a limit tells how it stands");
        assert_eq!((report.limit, report.remaining), (requests, requests - *count));
    }
    Ok(())
}
