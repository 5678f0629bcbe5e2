//! Following what changes about keys.

use edge_protocol::{ChangeKind, ChangesAnswer, ChangesQuery, Position};
use std::collections::VecDeque;

use crate::Now;
use crate::cache::KeyCache;
use crate::unknown::UnknownKeys;

/// How long the control plane may hold a poll when there is no news, in milliseconds. Short
/// enough that a connection that died silently is noticed soon, long enough to cost nothing.
const HOLD_MS: u32 = 5_000;
/// How long a poll may take in all, in milliseconds.
const TIMEOUT_MS: u32 = 8_000;
/// After so long without a word from the feed, in milliseconds, what is cached counts as stale.
const SILENT_MS: u64 = 12_000;
/// How long to wait after a poll that failed, in milliseconds.
const RETRY_MS: u64 = 250;
/// How many changes are remembered, to tell an answer that one of them overtook.
const MAX_RECENT: usize = 4096;

/// This worker's place in the change feed.
pub(crate) struct Feed {
    position: Option<Position>,
    last_contact_ms: Option<u64>,
    asked_at_ms: Option<u64>,
    poll_at_ms: u64,
    /// Changes since `recent_from`: their sequence and key.
    recent: VecDeque<(u64, String)>,
    recent_from: u64,
}

impl Feed {
    pub(crate) const TIMEOUT_MS: u32 = TIMEOUT_MS;

    pub(crate) fn new() -> Self {
        Self {
            position: None,
            last_contact_ms: None,
            asked_at_ms: None,
            poll_at_ms: 0,
            recent: VecDeque::new(),
            recent_from: 0,
        }
    }

    /// The next poll, when it is time for one.
    pub(crate) fn next_poll(&mut self, now: Now) -> Option<ChangesQuery> {
        let now_ms = now.unix_ms();
        if self.asked_at_ms.is_some() || now_ms < self.poll_at_ms {
            return None;
        }
        self.asked_at_ms = Some(now_ms);
        Some(ChangesQuery {
            epoch: self.position.as_ref().map(|p| p.epoch.clone()),
            since: self.position.as_ref().map_or(0, |p| p.sequence),
            wait_ms: u64::from(HOLD_MS),
        })
    }

    /// Whether the feed has been quiet for so long that changes may have been missed.
    pub(crate) fn is_silent(&self, now: Now) -> bool {
        self.last_contact_ms.is_none_or(|at| now.unix_ms().saturating_sub(at) > SILENT_MS)
    }

    /// The clock was set back by so many milliseconds.
    pub(crate) fn set_back(&mut self, by_ms: u64) {
        let earlier = |at: Option<u64>| at.map(|at| at.saturating_sub(by_ms));
        self.last_contact_ms = earlier(self.last_contact_ms);
        self.asked_at_ms = earlier(self.asked_at_ms);
        self.poll_at_ms = self.poll_at_ms.saturating_sub(by_ms);
    }

    /// The poll failed.
    pub(crate) fn on_failure(&mut self, now: Now) {
        self.asked_at_ms = None;
        self.poll_at_ms = now.unix_ms() + RETRY_MS;
    }

    /// Takes in what has changed. Returns whether all that was cached had to be looked through
    /// for being of an unknown age.
    pub(crate) fn on_answer(
        &mut self,
        answer: ChangesAnswer,
        now: Now,
        known: &mut KeyCache,
        unknown: &mut UnknownKeys,
    ) -> bool {
        let asked_at = self.asked_at_ms.take().unwrap_or(0);
        self.last_contact_ms = Some(now.unix_ms());
        let idle = answer.changes.is_empty() && self.position.is_some();
        // A control plane that does not hold the poll must not be asked in a tight circle.
        let hurried = idle && now.unix_ms().saturating_sub(asked_at) < u64::from(HOLD_MS) / 2;
        self.poll_at_ms = if hurried { now.unix_ms() + RETRY_MS } else { now.unix_ms() };

        let reset = answer.reset || !self.continues_with(&answer);
        if reset {
            self.recent.clear();
            self.recent_from = answer.position.sequence;
            let at = &answer.position;
            // A feed that has gone backwards is that of a restored database: its next numbers
            // will be ones that have been seen before, for other changes.
            let backwards = self.position.as_ref().is_some_and(|position| {
                position.epoch == at.epoch && position.sequence > at.sequence
            });
            known.retain(|e| {
                !backwards && e.as_of.epoch == at.epoch && e.as_of.sequence >= at.sequence
            });
            unknown.clear();
        } else if !answer.changes.is_empty() {
            for change in &answer.changes {
                // A name that no key of ours can have is no key of ours.
                if let Ok(key_id) = change.key_id.parse() {
                    known.remove_changed(key_id, change.sequence);
                }
            }
            if answer.changes.iter().any(|c| c.kind != ChangeKind::Revoked) {
                unknown.clear();
            }
            for change in answer.changes {
                self.recent.push_back((change.sequence, change.key_id));
            }
            while self.recent.len() > MAX_RECENT {
                if let Some((sequence, _)) = self.recent.pop_front() {
                    self.recent_from = sequence;
                }
            }
        }
        self.position = Some(answer.position);
        reset
    }

    /// Whether a change may be missing from an answer that was given at `as_of`. Without a key it
    /// asks for any change.
    pub(crate) fn overtook(&self, as_of: &Position, key_id: Option<&str>) -> bool {
        let Some(position) = &self.position else {
            return false;
        };
        if as_of.epoch != position.epoch {
            return true;
        }
        if as_of.sequence >= position.sequence {
            return false;
        }
        as_of.sequence < self.recent_from
            || self.recent.iter().any(|(sequence, id)| {
                *sequence > as_of.sequence && key_id.is_none_or(|wanted| wanted == id)
            })
    }

    /// Whether the answer takes up where this worker stands, without a hole.
    fn continues_with(&self, answer: &ChangesAnswer) -> bool {
        let Some(position) = &self.position else {
            return false;
        };
        let mut sequence = position.sequence;
        for change in &answer.changes {
            if change.sequence != sequence + 1 {
                return false;
            }
            sequence = change.sequence;
        }
        position.epoch == answer.position.epoch && sequence == answer.position.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::{KeyHash, Record};
    use edge_protocol::{Change, KeyEnvironment, KeyRecord, Scope};
    use wasm_bindgen_test::wasm_bindgen_test;

    fn at(sequence: u64) -> Position {
        Position { epoch: "aa".into(), sequence }
    }

    fn key_id(id: u64) -> String {
        format!("{id:016x}")
    }

    fn learn(known: &mut KeyCache, id: u64, as_of: Position) {
        let record = KeyRecord {
            key_id: key_id(id),
            owner: None,
            scope: Scope::Read,
            environment: KeyEnvironment::Live,
            is_active: true,
            expires_at_ms: None,
            allowed_ips: Vec::new(),
            rate_limit: None,
        };
        let record = Record::read(record).unwrap();
        known.insert(KeyHash(u128::from(id)), [b'0'; 16], record, 0, as_of);
    }

    fn knows(known: &mut KeyCache, id: u64) -> bool {
        known.find(KeyHash(u128::from(id))).is_some()
    }

    fn changes(from: u64, ids: &[u64]) -> ChangesAnswer {
        let changes: Vec<Change> = ids
            .iter()
            .zip(from + 1..)
            .map(|(&id, sequence)| Change {
                sequence,
                key_id: key_id(id),
                kind: ChangeKind::Revoked,
                at_ms: 0,
            })
            .collect();
        ChangesAnswer { position: at(from + changes.len() as u64), reset: false, changes }
    }

    fn reset(position: Position) -> ChangesAnswer {
        ChangesAnswer { position, reset: true, changes: Vec::new() }
    }

    struct Follower {
        feed: Feed,
        known: KeyCache,
        unknown: UnknownKeys,
        now_ms: u64,
    }

    impl Follower {
        fn new() -> Self {
            let (feed, known, unknown) = (Feed::new(), KeyCache::new(100), UnknownKeys::new());
            Self { feed, known, unknown, now_ms: 0 }
        }

        fn now(&self) -> Now {
            Now::from_unix_ms(self.now_ms)
        }

        fn hears(&mut self, answer: ChangesAnswer) -> bool {
            let now = self.now();
            self.feed.on_answer(answer, now, &mut self.known, &mut self.unknown)
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_change_drops_the_key_it_is_about_and_no_other() {
        let mut f = Follower::new();
        f.hears(reset(at(5)));
        learn(&mut f.known, 1, at(5));
        learn(&mut f.known, 2, at(5));
        assert!(!f.hears(changes(5, &[2])));
        assert!(knows(&mut f.known, 1));
        assert!(!knows(&mut f.known, 2));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_hole_in_the_feed_drops_all_that_may_be_outdated() {
        let mut f = Follower::new();
        f.hears(reset(at(5)));
        learn(&mut f.known, 1, at(5));
        learn(&mut f.known, 3, at(9));
        assert!(f.hears(changes(7, &[2, 2])));
        assert!(!knows(&mut f.known, 1));
        assert!(knows(&mut f.known, 3), "this one was learned at the new position");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_restored_database_drops_everything() {
        let mut f = Follower::new();
        f.hears(reset(at(100)));
        learn(&mut f.known, 1, at(100));
        f.hears(reset(at(50)));
        assert!(!knows(&mut f.known, 1), "its next revocation would be number 51");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn another_database_drops_everything() {
        let mut f = Follower::new();
        f.hears(reset(at(5)));
        learn(&mut f.known, 1, at(5));
        f.hears(reset(Position { epoch: "bb".into(), sequence: 1 }));
        assert!(!knows(&mut f.known, 1));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn an_answer_that_a_revocation_overtook_is_told() {
        let mut f = Follower::new();
        assert!(!f.feed.overtook(&at(0), Some("x")));
        f.hears(reset(at(5)));
        f.hears(changes(5, &[1, 2]));
        assert!(f.feed.overtook(&at(5), Some(&key_id(1))));
        assert!(!f.feed.overtook(&at(6), Some(&key_id(1))));
        assert!(f.feed.overtook(&at(6), Some(&key_id(2))));
        assert!(!f.feed.overtook(&at(5), Some(&key_id(3))));
        assert!(f.feed.overtook(&at(5), None));
        assert!(f.feed.overtook(&at(4), Some(&key_id(3))), "from before this worker listened");
        let elsewhere = Position { epoch: "bb".into(), sequence: 99 };
        assert!(f.feed.overtook(&elsewhere, Some(&key_id(3))));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn polls_follow_one_another_without_haste_or_overlap() {
        let mut f = Follower::new();
        assert!(f.feed.is_silent(f.now()));
        assert_eq!(f.feed.next_poll(f.now()).unwrap().epoch, None);
        assert!(f.feed.next_poll(f.now()).is_none(), "one at a time");
        f.hears(reset(at(5)));
        assert!(!f.feed.is_silent(f.now()));
        let query = f.feed.next_poll(f.now()).unwrap();
        assert_eq!((query.epoch.as_deref(), query.since), (Some("aa"), 5));
        f.hears(changes(5, &[]));
        assert!(f.feed.next_poll(f.now()).is_none(), "an idle answer came at once: not again now");
        f.now_ms += RETRY_MS;
        assert!(f.feed.next_poll(f.now()).is_some());
        f.feed.on_failure(f.now());
        assert!(f.feed.next_poll(f.now()).is_none());
        f.now_ms += SILENT_MS + 1;
        assert!(f.feed.is_silent(f.now()));
    }
}
