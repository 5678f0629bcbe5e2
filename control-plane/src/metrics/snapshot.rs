//! What is looked up when somebody asks for it, instead of being counted all the time.

use super::{
    AUDIT_BACKLOG, AUDIT_BACKLOG_AGE, DATABASE_CONNECTIONS, DATABASE_CONNECTIONS_MAX, FEED_BEHIND,
    FEED_FILTERS, FEED_SEQUENCE, FLEET_CONTROL_PLANES, FLEET_ENVOYS, HASH_THREADS, KEYS,
    KEYS_ENDING, LEASE_POOLS, VERIFY_MEMORY_KEYS,
};
use crate::{service::Service, store::pools::KeyCounts};

/// Brings the gauges that show the service's state up to date.
pub fn take(service: &Service) {
    let newest = *service.store.watch().borrow();
    set(FEED_SEQUENCE, newest);
    let followers = service.followers.census();
    set(FEED_FILTERS, followers.filters);
    set(FEED_BEHIND, followers.slowest.map_or(0, |slowest| newest.saturating_sub(slowest)));

    let fleet = service.fleet.census();
    set(FLEET_ENVOYS, fleet.envoys.into());
    set(FLEET_CONTROL_PLANES, fleet.control_planes.into());
    set(LEASE_POOLS, number(fleet.pools));

    let backlog = service.recorder.backlog();
    set(AUDIT_BACKLOG, backlog.events);
    metrics::gauge!(AUDIT_BACKLOG_AGE).set(backlog.age.as_secs_f64());

    set(HASH_THREADS, number(service.pool.threads()));
    set(VERIFY_MEMORY_KEYS, service.verifier.remembered());

    for pool in service.store.pools() {
        for (state, count) in [("in_use", pool.in_use), ("idle", pool.idle)] {
            metrics::gauge!(DATABASE_CONNECTIONS, "pool" => pool.name, "state" => state)
                .set(f64::from(count));
        }
        metrics::gauge!(DATABASE_CONNECTIONS_MAX, "pool" => pool.name).set(f64::from(pool.max));
    }
}

/// Shows how many keys there are.
pub fn show_keys(counts: &KeyCounts) {
    let states = [
        ("active", counts.active),
        ("inactive", counts.inactive),
        ("expired", counts.expired),
        ("revoked", counts.revoked),
    ];
    for (state, count) in states {
        metrics::gauge!(KEYS, "state" => state).set(exact(count));
    }
    set(KEYS_ENDING, counts.ending);
}

fn set(name: &'static str, value: u64) {
    metrics::gauge!(name).set(exact(value));
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn exact(value: u64) -> f64 {
    value as f64
}
