//! Clients of the gate, who check each answer against what they may expect.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::scene::{Held, REVOKED_WITHIN, Scene, Told};
use crate::client::{Answer, Ask, Client};

/// Addresses of clients who bring no key: each asks once.
const WITHOUT_KEY: u8 = 10;
/// Addresses of clients who bring one.
const WITH_KEY: u8 = 11;

/// Between two requests of a client: what is looked for is not how much fits.
const PACE: Duration = Duration::from_millis(8);

/// A client that asks until everything ends.
pub(super) fn run(scene: &Scene, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut client = Client::new(scene.gateway);
    while !scene.is_over() {
        let held = match random.u8(..3) {
            0 => None,
            1 => scene.pick(|count| random.usize(..count.max(1))),
            // Those made last change most.
            _ => scene.pick(|count| count.saturating_sub(1 + random.usize(..8))),
        };
        {
            let _turn = scene.traffic.read().unwrap_or_else(PoisonError::into_inner);
            match held {
                Some(held) => with_key(scene, &mut client, &held),
                None => without_key(scene, &mut client),
            }
        }
        std::thread::sleep(PACE);
    }
}

fn get(client: &mut Client, address: &str, key: Option<&str>) -> Option<Answer> {
    let mut fields = vec![("x-forwarded-for", address)];
    fields.extend(key.map(|key| ("x-api-key", key)));
    client.send(&Ask { method: "GET", path: "/soak", fields, body: None }).ok()
}

/// Is refused, and the refusal is an event.
fn without_key(scene: &Scene, client: &mut Client) {
    let address = scene.fresh_client(WITHOUT_KEY);
    let life = scene.life();
    let Some(answer) = get(client, &address.to_string(), None) else { return };
    scene.answered.fetch_add(1, Ordering::Relaxed);
    match answer.status {
        403 => scene.tell(Told { client: address, life, at: scene.now() }),
        503 => {}
        other => scene.fault(format!("a request without a key was answered with {other}")),
    }
}

/// Passes while the key is good, and does not when it has ended for long enough.
fn with_key(scene: &Scene, client: &mut Client, held: &Held) {
    let address = scene.fresh_client(WITH_KEY).to_string();
    let (sent, up) = (scene.now(), scene.up_since());
    let Some(answer) = get(client, &address, Some(&held.text)) else { return };
    scene.answered.fetch_add(1, Ordering::Relaxed);
    match answer.status {
        200 => {
            // Only while the control plane is there can its word be heard.
            let since = up.filter(|_| up == scene.up_since()).zip(held.ended);
            if let Some((up, ended)) = since
                && sent > ended.max(up) + REVOKED_WITHIN
            {
                let late = sent.saturating_sub(ended);
                scene.fault(format!("key {} passed {late:?} after its end", held.id));
            }
        }
        403 => {
            let now = scene.held(&held.id);
            if now.is_some_and(|it| !it.ending && it.ended.is_none()) {
                scene.fault(format!("key {} is good, and was refused", held.id));
            }
        }
        // It cannot be told just now.
        503 => {}
        other => scene.fault(format!("a request with a key was answered with {other}")),
    }
}

/// Whether the gate still lets a key pass that has ended.
pub(super) fn passes(scene: &Scene, client: &mut Client, key: &str) -> Option<bool> {
    let address = scene.fresh_client(WITH_KEY).to_string();
    get(client, &address, Some(key)).filter(|it| it.status != 503).map(|it| it.status == 200)
}
