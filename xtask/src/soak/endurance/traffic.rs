//! Clients of every kind: with good keys and ended ones, without, with noise, too often.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::{Ask, Client};
use crate::soak::scene::Scene;

/// So many addresses come again and again.
const ADDRESSES: u32 = 20_000;
const PATHS: [&str; 6] =
    ["/soak", "/soak/few", "/soak?query=1", "/open/page", "/admin/x", "/a/../b"];

/// Asks until everything ends, with a pause after each request.
pub(super) fn run(scene: &Scene, pace: Duration, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Client::new(scene.gateway);
    while !scene.is_over() {
        if let Some(status) = ask(scene, &mut client, &mut random) {
            scene.answered.fetch_add(1, Ordering::Relaxed);
            if !matches!(status, 200 | 400 | 403 | 429 | 503) {
                scene.fault(format!("the gate answered with {status}"));
            }
        }
        std::thread::sleep(pace);
    }
}

fn ask(scene: &Scene, client: &mut Client, random: &mut fastrand::Rng) -> Option<u16> {
    // A few addresses ask most.
    let number = if random.u8(..4) == 0 { random.u32(..10) } else { random.u32(..ADDRESSES) };
    let address = format!("12.0.{}.{}", number >> 8, number & 255);
    let path = random.choice(PATHS)?;
    let method = if random.u8(..5) == 0 { "POST" } else { "GET" };
    let key = match random.u8(..20) {
        0 => None,
        // Of a key's form, and nobody's.
        1 => Some(std::iter::repeat_with(|| random.alphanumeric()).take(40).collect()),
        2 => Some("no key at all".to_owned()),
        3..=4 => scene.pick(|count| random.usize(..count.max(1))).map(|held| held.text),
        _ => scene.pick_good(|count| random.usize(..count.max(1))).map(|held| held.text),
    };
    let mut fields = vec![("x-forwarded-for", address.as_str())];
    fields.extend(key.as_deref().map(|key| ("x-api-key", key)));
    client.send(&Ask { method, path, fields, body: None }).ok().map(|answer| answer.status)
}
