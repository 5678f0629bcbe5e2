//! The outage matrix: whatever fails, warm keys are served and limited, what cannot be told gets 503
//! with `Retry-After`, nothing hangs, nothing passes unchecked, and what was to be told is told once.
//!
//! `docs/failure-modes.md` is its table; each row of it names its tests.

mod backlog;
mod control_plane;
mod databases;
mod envoy;
mod feed;
mod redis;
mod rubbish;

use std::time::{Duration, Instant};

use serde_json::json;
use tests::load::{Carries, Load, Report};
use tests::{Gate, GateBuilder, Key, wait_for_room_in_window_of, within};

const VERIFY: &str = "/edge/v1/verify";
const EVENTS: &str = "/edge/v1/events";
const CHANGES: &str = "/edge/v1/changes";

/// A client with a key that the gate knows.
const WARM: &str = "warm";
/// One with a key of [`LIMIT`] requests a day.
const LIMITED: &str = "limited";
/// One with a key that nobody knows, another each time.
const UNKNOWN: &str = "unknown";
/// One without a key.
const NOBODY: &str = "nobody";
/// One with a key that is revoked in the course of the test.
const ENDING: &str = "ending";

const DAY: u64 = 86_400;
/// Few enough to be used up within the shortest of these outages.
const LIMIT: usize = 50;
/// `control_plane.timeout_ms`, as it is by default: what an answer may be waited for.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How much later than that an answer may come on a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// After this without a word from the feed, a worker no longer believes what it remembers.
const SILENT: Duration = Duration::from_secs(12);

/// A gate without limits but those of keys, whose memory of keys is soon no longer fresh.
fn gate() -> GateBuilder {
    Gate::builder().config(json!({
        "limits": [], "cache": {"fresh_seconds": 2},
        "control_plane": {"timeout_ms": TIMEOUT.as_millis() as u64},
    }))
}

/// The usual load.
struct Usual {
    warm: Key,
    limited: Key,
}

impl Usual {
    /// Makes its keys.
    fn of(gate: &Gate) -> Self {
        wait_for_room_in_window_of(DAY, 300);
        let limit = json!({"requests": LIMIT, "window_seconds": DAY});
        Self {
            warm: gate.admin().key_of_scope("read"),
            limited: gate.admin().create_key(json!({"scope": "read", "rate_limit": limit})),
        }
    }

    /// Clients of all kinds, each kind at both workers, and both workers know the keys.
    fn start(&self, gate: &Gate) -> Load {
        gate.have_both_follow_the_feed();
        Load::on(gate)
            .client(WARM, &self.warm)
            .client(WARM, &self.warm)
            .slow_client(UNKNOWN, Carries::Unknown)
            .slow_client(UNKNOWN, Carries::Unknown)
            .slow_client(LIMITED, &self.limited)
            .slow_client(LIMITED, &self.limited)
            .slow_client(NOBODY, Carries::Nothing)
            .start()
    }
}

/// What holds in every outage that leaves Envoy alone.
#[track_caller]
fn assert_the_promise(gate: &Gate, report: &Report) {
    report.each_within(TIMEOUT + SLACK).refusals_say_when();
    report.of(WARM).print(WARM).only(&[200]);
    report.of(LIMITED).only(&[200, 429]);
    assert_eq!(report.of(LIMITED).count(200), LIMIT, "the limit is exact");
    report.of(UNKNOWN).print(UNKNOWN).only(&[403, 503]);
    report.of(NOBODY).only(&[403]);
    assert_nothing_unchecked(gate, report);
}

/// What reached the upstream are the requests that were let through, and no others.
#[track_caller]
fn assert_nothing_unchecked(gate: &Gate, report: &Report) {
    assert_eq!(gate.upstream_hits(), u64::try_from(report.count(200)).unwrap());
}

/// Waits until unknown keys can be told again, and gives when that was.
fn until_told_again(load: &Load) -> Instant {
    let since = Instant::now();
    within(Duration::from_secs(30), "unknown keys are told again", || {
        (load.so_far().begun_after(since).of(UNKNOWN).count(403) > 0).then_some(())
    });
    Instant::now()
}
