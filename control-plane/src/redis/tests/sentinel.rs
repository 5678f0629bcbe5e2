//! Fail-overs.

use std::time::Duration;
use xtask::servers::redis::RedisSentinels;

use super::{Kept, PATIENCE};

async fn started() -> (RedisSentinels, Kept) {
    let set = RedisSentinels::start(Some("word")).expect("a set");
    let kept = Kept::at(&set.url());
    kept.becomes(true).await;
    kept.keeps("a", 1).await;
    (set, kept)
}

/// Writes until the server that is the primary by now has it: the former one takes writes for a
/// moment more, which are lost.
async fn reaches_the_primary(set: &mut RedisSentinels, kept: &Kept, number: u64) {
    let reached = async {
        loop {
            kept.keeps("a", number).await;
            let primary = set.primary_mut().expect("a primary");
            let said = primary.cli(&["GET", "keygate:test:{a}"]).expect("said");
            if said.trim() == number.to_string() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the primary is found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fail_over_is_followed() {
    let (mut set, kept) = started().await;
    set.fail_over().expect("another primary");
    reaches_the_primary(&mut set, &kept, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_primary_is_found_when_the_first_is_killed_or_hangs() {
    let (mut set, kept) = started().await;
    let before = set.primary_port().expect("a port");
    set.primary_mut().expect("a primary").process_mut().kill().expect("killed");
    set.wait_for_another_primary(before).expect("another primary");
    reaches_the_primary(&mut set, &kept, 2).await;

    let (mut set, kept) = started().await;
    let before = set.primary_port().expect("a port");
    set.primary_mut().expect("a primary").process_mut().pause().expect("frozen");
    set.wait_for_another_primary(before).expect("another primary");
    reaches_the_primary(&mut set, &kept, 3).await;
}
