//! What a store tells of its state.

use std::sync::Arc;

use super::{add, at, stored};
use crate::store::{Store, pools::KeyCounts};

pub(crate) async fn keys_are_counted_by_their_state(store: Arc<dyn Store>) {
    let count = async || store.count_keys(at(1000), at(2000)).await.expect("counted");
    assert_eq!(count().await, KeyCounts::default());
    // Ends when, active, revoked when.
    let keys = [
        (None, true, None),
        (Some(1000), true, None),
        (Some(1001), true, None),
        (Some(2000), true, None),
        (None, false, None),
        (Some(1500), false, None),
        (None, false, Some(500)),
        (Some(900), false, Some(500)),
    ];
    for (number, (ends, active, revoked)) in (1..).zip(keys) {
        let mut stored = stored(number);
        stored.key.expires_at = ends.map(at);
        stored.key.is_active = active;
        stored.key.revoked_at = revoked.map(at);
        add(&*store, &stored).await;
    }
    let expected = KeyCounts { active: 3, inactive: 2, expired: 1, revoked: 2, ending: 1 };
    assert_eq!(count().await, expected);
}

pub(crate) async fn its_pools_are_shown_within_their_bounds(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    let pools = store.pools();
    assert!(!pools.is_empty());
    for pool in pools {
        assert!(pool.max > 0 && pool.in_use + pool.idle <= pool.max, "{pool:?}");
    }
}
