//! What the clients saw, held against what Keygate has written down of it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Carries, Report, Seen};
use crate::{Gate, eventually, fresh_address, within};

/// A worker that could not deliver tries again after eight seconds at the latest.
const DELIVERED: Duration = Duration::from_secs(40);

/// What is told nowhere.
#[derive(Debug)]
pub struct Untold {
    /// Refusals that are not in the audit log.
    pub refusals: Vec<Seen>,
    /// How many requests are not in the usage of their keys.
    pub uses: u64,
}

impl Report {
    /// Waits until each worker has delivered all that it has to tell, and fails the test unless every
    /// refusal of the report is in the audit log once, nothing else of its clients is, and the usage
    /// of each key is what its clients have counted. No other requests may have been sent with the
    /// keys of the load, and none may have gone without an answer.
    #[track_caller]
    pub fn told_once(&self, gate: &Gate) {
        self.each("was answered", |it| it.status != 0);
        wait_delivered(gate);
        let wrong = self.wrong_events(gate);
        let shown = &wrong[..wrong.len().min(5)];
        assert!(wrong.is_empty(), "{} are told otherwise: {shown:#?}", wrong.len());
        for (key_id, expected) in self.usage() {
            // A batch is stored as one, so whoever sees the events sees the usage.
            assert_eq!(gate.admin().usage(&key_id), expected, "usage of {key_id}");
        }
    }

    /// As [`told_once`](Self::told_once) where something may have been lost on the way: no event is
    /// there twice, and nothing is counted that did not happen. Gives what is missing.
    #[track_caller]
    pub fn told_at_most_once(&self, gate: &Gate) -> Untold {
        wait_delivered(gate);
        let mut untold = Untold { refusals: Vec::new(), uses: 0 };
        for wrong in self.wrong_events(gate) {
            assert!(wrong.told.is_empty(), "told otherwise: {wrong:#?}");
            untold.refusals.push(wrong.seen);
        }
        for (key_id, expected) in self.usage() {
            let (told, most) = (gate.admin().usage(&key_id), &expected["requests"]);
            let (told, most) = (told["requests"].as_u64().unwrap(), most.as_u64().unwrap());
            assert!(told <= most, "{told} uses of {key_id} are counted, of {most}");
            untold.uses += most - told;
        }
        untold
    }

    /// The clients whose rows in the audit log are not what they saw.
    fn wrong_events(&self, gate: &Gate) -> Vec<Wrong> {
        let mut rows: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in gate.admin().audit_log() {
            let (event, client) = (row["event"].as_str().unwrap(), row["client_ip"].as_str());
            // That a key was seen for the first time is no refusal.
            if let Some(client) = client.filter(|_| event != "VALID_API_KEY") {
                rows.entry(client.to_owned()).or_default().push(event.to_owned());
            }
        }
        let mut wrong = Vec::new();
        for seen in &self.seen {
            let told = rows.remove(&seen.address).unwrap_or_default();
            let expected: Vec<_> = event_of(seen).into_iter().collect();
            // Whoever saw no answer does not know what was decided.
            let is_right = if seen.status == 0 { told.len() <= 1 } else { told == expected };
            if !is_right {
                wrong.push(Wrong { seen: seen.clone(), told });
            }
        }
        wrong
    }

    /// The usage of each key, as the API tells it.
    fn usage(&self) -> BTreeMap<String, Value> {
        let mut counts: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
        for seen in &self.seen {
            if let (Carries::Key(key), Some(outcome)) = (&seen.carried, outcome_of(seen)) {
                *counts.entry(key.id.clone()).or_default().entry(outcome).or_default() += 1;
            }
        }
        let total = |by_outcome: BTreeMap<&str, u64>| {
            let requests: u64 = by_outcome.values().sum();
            json!({"requests": requests, "by_method": {"GET": requests}, "by_outcome": by_outcome})
        };
        counts.into_iter().map(|(key_id, by_outcome)| (key_id, total(by_outcome))).collect()
    }
}

/// A request that is told of otherwise than it was.
#[derive(Debug)]
struct Wrong {
    seen: Seen,
    told: Vec<String>,
}

/// What the gate writes down of it.
fn event_of(seen: &Seen) -> Option<&'static str> {
    match (seen.status, seen.code.as_str(), &seen.carried) {
        (403, "missing_api_key", _) => Some("MISSING_API_KEY"),
        (403, "invalid_api_key", Carries::Key(_)) => Some("REVOKED_KEY"),
        (403, "invalid_api_key", _) => Some("INVALID_KEY"),
        (429, "rate_limited", _) => Some("RATE_LIMITED"),
        // Without a key it is refused only where there is no room for events: not for one more.
        (503, "temporarily_unavailable", Carries::Key(_) | Carries::Unknown) => Some("DB_ERROR"),
        _ => None,
    }
}

/// As what it counts for its key; a key that could not be told has no usage.
fn outcome_of(seen: &Seen) -> Option<&'static str> {
    match (seen.status, seen.code.as_str()) {
        // Before the connection broke it may have been let through, and counted.
        (200 | 0, _) => Some("allowed"),
        (429, "rate_limited") => Some("rate_limited"),
        (403, "invalid_api_key") => Some("revoked"),
        _ => None,
    }
}

/// Batches go out in order: once a last event of each worker is stored, nothing that it decided
/// before is still on its way, and nothing of it comes again.
fn wait_delivered(gate: &Gate) {
    for worker in 0..usize::try_from(gate.stack.options().concurrency).unwrap() {
        let last = fresh_address();
        // A VM that has crashed is there again at the next request, or the one after; a gate without
        // room has some again once it could deliver.
        let mut connection = gate.connect_to_worker(worker);
        within(DELIVERED, "the worker decides", || {
            let answer = gate.get("/").client(&last).send_on(&mut connection);
            (answer.status == 403).then_some(())
        });
        within(DELIVERED, "the worker's last event is in the audit log", || {
            let rows = gate.admin().audit_events("MISSING_API_KEY");
            rows.iter().any(|row| row["client_ip"] == last.as_str()).then_some(())
        });
    }
    eventually("no request is left hanging", || {
        (gate.stat("http.gateway.downstream_rq_active") == 0).then_some(())
    });
}
