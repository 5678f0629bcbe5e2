//! When a key was last used: written at most once a minute for each, never on a request's way.

use jiff::{SignedDuration, Timestamp};
use key_policy::KeyId;
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

use super::Key;
use crate::{
    store::{KeyStore, Store, StoreError},
    usage::Minute,
};

/// A use within this time of the one that is stored is not written.
const RESOLUTION: SignedDuration = SignedDuration::from_secs(60);
/// How often what has gathered is written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// Keys that may wait to be written. Beyond it a use is not noted; a later one will be.
const MAX_WAITING: usize = 10_000;

/// Gathers uses until they are written.
#[derive(Default)]
pub struct LastUsed {
    waiting: Mutex<HashMap<KeyId, Timestamp>>,
    reported: Mutex<Reported>,
}

/// The newest minute that filters have reported a use in, and the keys that need not be written
/// for it again: every worker reports every second.
#[derive(Default)]
struct Reported {
    minute: Option<Minute>,
    keys: HashSet<KeyId>,
}

impl Reported {
    /// Whether this use is news.
    fn is_news(&mut self, key_id: KeyId, minute: Minute) -> bool {
        if self.minute < Some(minute) {
            self.minute = Some(minute);
            self.keys.clear();
        }
        self.minute != Some(minute) || self.keys.len() >= MAX_WAITING || self.keys.insert(key_id)
    }
}

impl LastUsed {
    /// How many keys wait to be written.
    #[cfg(test)]
    pub(crate) fn waits(&self) -> usize {
        self.waiting.lock().expect("whole").len()
    }

    /// Notes that a key is used now.
    pub fn note(&self, key: &Key, now: Timestamp) {
        if key.last_used_at.is_some_and(|last| now.duration_since(last) < RESOLUTION) {
            return;
        }
        self.add(key.key_id, now);
    }

    /// Notes that a filter has let a key through in that minute. What is stored moves to where a
    /// minute begins, so that these are written once a minute, whichever filter was first.
    pub fn note_minute(&self, key_id: KeyId, minute: Minute) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = reported.is_news(key_id, minute);
        drop(reported);
        if is_news {
            self.add(key_id, minute.start());
        }
    }

    fn add(&self, key_id: KeyId, at: Timestamp) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = waiting.len() < MAX_WAITING;
        match waiting.entry(key_id) {
            Entry::Occupied(mut noted) => {
                let last = (*noted.get()).max(at);
                noted.insert(last);
            }
            Entry::Vacant(place) if room => {
                place.insert(at);
            }
            Entry::Vacant(_) => {}
        }
    }

    /// Writes what has gathered.
    ///
    /// # Errors
    /// When the database fails. What was to be written is let go: the next use of each key is
    /// noted again.
    pub async fn flush(&self, store: &dyn KeyStore) -> Result<(), StoreError> {
        let used: Vec<_> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain().collect()
        };
        if used.is_empty() {
            return Ok(());
        }
        let written = store.touch(&used).await;
        if written.is_err() {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            reported.keys.clear();
        }
        written
    }

    /// Writes every second until `stop`, and once more then.
    pub async fn run(&self, store: &dyn Store, stop: CancellationToken) {
        loop {
            let stopping = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(FLUSH_EVERY) => false,
            };
            if let Err(error) = self.flush(store).await {
                tracing::warn!(%error, "last_used_at could not be written");
            }
            if stopping {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestService, at, request};

    #[tokio::test]
    async fn a_use_is_written_at_most_once_a_minute() {
        let it = TestService::start().await;
        let (key, _) = it.issue(request("a")).await;
        let last_used = LastUsed::default();
        let store = &*it.service.store;
        let used = async |time: &str| {
            let key = store.key(key.key_id).await.expect("read").expect("there");
            last_used.note(&key, at(time));
            last_used.flush(store).await.expect("written");
            store.key(key.key_id).await.expect("read").expect("there").last_used_at
        };
        assert_eq!(used("2026-11-25T12:00:00Z").await, Some(at("2026-11-25T12:00:00Z")));
        assert_eq!(used("2026-11-25T12:00:59Z").await, Some(at("2026-11-25T12:00:00Z")));
        assert_eq!(used("2026-11-25T12:01:00Z").await, Some(at("2026-11-25T12:01:00Z")));
        // What filters report of one minute is written once, however often it comes.
        let minute = |time: &str| Minute::of(crate::clock::unix_ms(at(time)));
        for (time, waiting) in [("12:05:01", 1), ("12:05:59", 0), ("12:06:00", 1), ("12:05:30", 1)]
        {
            last_used.note_minute(key.key_id, minute(&format!("2026-11-25T{time}Z")));
            assert_eq!(last_used.waits(), waiting, "{time}");
            last_used.flush(store).await.expect("written");
        }
        let last = store.key(key.key_id).await.expect("read").expect("there").last_used_at;
        assert_eq!(last, Some(at("2026-11-25T12:06:00Z")));
        // A clock that falls back takes nothing away.
        assert_eq!(used("2026-11-25T11:00:00Z").await, Some(at("2026-11-25T12:06:00Z")));
    }
}
