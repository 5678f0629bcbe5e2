//! What filters follow.

use std::sync::Arc;

use edge_protocol::{ChangeKind, EventKind};

use super::{add, at, digest, entry, key_id, page, revoke, stored};
use crate::store::{Changes, RevokeGuard, Store, key_filter::KeyFilter};

pub(crate) async fn the_feed_has_no_holes_under_concurrent_changes(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            // Every third fails, after it had taken its place in the feed or before.
            let mut key = stored(number);
            if number % 3 == 2 {
                key.lookup = digest(0);
            }
            let _ = store.add_key(&key, &entry(EventKind::KeyCreated, number)).await;
        });
    }
    tasks.join_all().await;
    let (position, Changes::Since(changes)) = store.changes(0, 1000).await.expect("changes") else {
        panic!("unknown")
    };
    let sequences: Vec<_> = changes.iter().map(|change| change.sequence).collect();
    assert_eq!(sequences, (1..=position.sequence).collect::<Vec<_>>());
    assert_eq!(*store.watch().borrow(), position.sequence);
    let kept = page(&*store, KeyFilter::default(), None, 1000).await.len();
    assert_eq!(u64::try_from(kept).expect("small"), position.sequence);
}

pub(crate) async fn the_feed_tells_what_followed_a_position(store: Arc<dyn Store>) {
    let start = store.position().await.expect("read");
    assert_eq!(start.sequence, 0);
    assert!(!start.epoch.is_empty());
    assert_eq!(store.changes(0, 10).await.expect("read"), (start.clone(), Changes::Since(vec![])));
    for number in [1, 2] {
        add(&*store, &stored(number)).await;
    }
    let audit = entry(EventKind::KeyRevoked, 1);
    store.revoke_key(&revoke(1, RevokeGuard::Unconditional), &audit).await.expect("done");

    let (position, Changes::Since(changes)) = store.changes(1, 10).await.expect("read") else {
        panic!("unknown")
    };
    assert_eq!(position, edge_protocol::Position { sequence: 3, ..start.clone() });
    let told: Vec<_> =
        changes.iter().map(|it| (it.sequence, it.key_id.as_str(), it.kind)).collect();
    let (one, two) = (key_id(1).to_string(), key_id(2).to_string());
    assert_eq!(
        told,
        [(2, two.as_str(), ChangeKind::Created), (3, one.as_str(), ChangeKind::Revoked)]
    );
    assert_eq!(changes[1].at_ms, 1_800_000_000_500);

    // A page that is full ends where the next one begins.
    let (position, Changes::Since(changes)) = store.changes(0, 2).await.expect("read") else {
        panic!("unknown")
    };
    assert_eq!((position.sequence, changes.len()), (2, 2));
    let (position, changes) = store.changes(3, 10).await.expect("read");
    assert_eq!((position.sequence, changes), (3, Changes::Since(vec![])));
    for never in [4, u64::MAX] {
        assert!(matches!(store.changes(never, 10).await, Ok((_, Changes::Unknown))));
    }
}

pub(crate) async fn who_asks_for_changes_that_were_dropped_starts_anew(store: Arc<dyn Store>) {
    let start = store.position().await.expect("read");
    assert_eq!(store.drop_changes(at(1_000_000), 1).await.expect("nothing"), 0);
    for number in 1..=5 {
        add(&*store, &stored(number)).await;
    }
    let audit = entry(EventKind::KeyRevoked, 1);
    store.revoke_key(&revoke(1, RevokeGuard::Unconditional), &audit).await.expect("done");
    let told = async |since| store.changes(since, 10).await.expect("read").1;
    let count = async |since| match told(since).await {
        Changes::Since(changes) => Some(changes.len()),
        Changes::Unknown => None,
    };
    assert_eq!(store.drop_changes(at(0), 6).await.expect("nothing"), 0);
    assert_eq!((count(0).await, count(6).await), (Some(6), Some(0)));
    // All but the newest four.
    assert_eq!(store.drop_changes(at(0), 4).await.expect("dropped"), 2);
    assert_eq!((count(0).await, count(1).await, count(2).await), (None, None, Some(4)));
    // Only what is before the first that is young enough; the last one stays, however old.
    assert_eq!(store.drop_changes(at(500), 100).await.expect("dropped"), 3);
    assert_eq!((count(4).await, count(5).await, count(6).await), (None, Some(1), Some(0)));
    assert_eq!(store.drop_changes(at(1_000_000), 0).await.expect("nothing"), 0);
    // The feed stands where it stood, and goes on from there.
    let position = store.position().await.expect("read");
    assert_eq!((position.epoch, position.sequence), (start.epoch, 6));
    add(&*store, &stored(6)).await;
    assert_eq!(count(6).await, Some(1));
    assert_eq!(*store.watch().borrow(), 7);
}
