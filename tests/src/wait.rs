//! Waiting for a condition, never for a length of time.

use std::time::{Duration, Instant, SystemTime};

/// How long [`eventually`] waits: far longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Looks until there is something to see; fails the test when there is nothing for half a minute.
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look)
}

/// As [`eventually`], within another time.
pub fn within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(start.elapsed() < patience, "still not after {patience:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// The wall clock in whole seconds since the Unix epoch.
pub fn unix_seconds() -> u64 {
    unix_ms() / 1000
}

/// The wall clock in milliseconds since the Unix epoch.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// Waits until at least `seconds` are left of the current minute: a test that counts in windows
/// of 60 s must not straddle the end of one. Longer windows need no waiting; prefer them.
pub fn wait_for_room_in_window(seconds: u64) {
    wait_for_room_in_window_of(60, seconds);
}

/// As [`wait_for_room_in_window`], for windows of another length.
pub fn wait_for_room_in_window_of(window_seconds: u64, seconds: u64) {
    assert!(seconds < window_seconds, "no window of {window_seconds} s has {seconds} s to spare");
    let what = format!("{seconds} s left of a window of {window_seconds} s");
    within(Duration::from_secs(window_seconds + 1), &what, || {
        let left = window_seconds * 1000 - unix_ms() % (window_seconds * 1000);
        (left >= seconds * 1000).then_some(())
    });
}

/// A time as the API writes it.
pub fn rfc3339(unix_ms: u64) -> String {
    let since = Duration::from_millis(unix_ms);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}
