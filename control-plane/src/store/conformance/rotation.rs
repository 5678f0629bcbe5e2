//! Rotating keys: both or neither, once, and never the last usable admin key away.

use edge_protocol::{ChangeKind, EventKind};
use std::sync::Arc;

use super::{
    RevokeGuard, add, admin, at, digest, entry, events, found_at, key, key_id, page, revoke,
    stored, told,
};
use crate::{
    audit::AuditEntry,
    keys::{Key, StoredKey},
    store::{Revocation, RotateRequest, Rotation, Store, key_filter::KeyFilter},
};

const KEEP: RevokeGuard = RevokeGuard::KeepOneAdmin { test_keys: false };

/// The key of one number takes the place of that of another.
pub(super) fn rotation(old: &StoredKey, number: u64, ends_at: i64) -> RotateRequest {
    let mut successor = old.clone();
    successor.lookup = digest(number);
    successor.key.key_id = key_id(number);
    successor.key.created_at = at(500);
    successor.key.supersedes = Some(old.key.key_id);
    RotateRequest {
        key_id: old.key.key_id,
        version: old.key.version,
        successor,
        ends_at: at(ends_at),
        guard: KEEP,
        claim: None,
    }
}

fn entries() -> [AuditEntry; 2] {
    [entry(EventKind::KeyRotated, 1), entry(EventKind::KeyCreated, 2)]
}

pub(super) async fn rotate(store: &dyn Store, request: &RotateRequest) -> Rotation {
    store.rotate_key(request, &entries()).await.expect("done")
}

pub(crate) async fn a_rotation_is_made_as_a_whole_and_once(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    store.touch(&[(key_id(1), at(300))]).await.expect("written");
    let request = rotation(&stored(1), 2, 900);
    let expected = Key {
        expires_at: Some(at(900)),
        last_used_at: Some(at(300)),
        version: 2,
        superseded_by: Some(key_id(2)),
        rotated_at: Some(at(500)),
        ..stored(1).key
    };
    assert_eq!(rotate(&*store, &request).await, Rotation::Rotated(expected.clone()));
    assert_eq!(key(&*store, 1).await, expected);
    assert_eq!(key(&*store, 2).await, request.successor.key);
    // Both are found by what is presented.
    for number in [1, 2] {
        let found = found_at(&*store, number).await.expect("found");
        assert_eq!(found.key.key_id, key_id(number));
    }
    let logged = [EventKind::KeyCreated, EventKind::KeyRotated, EventKind::KeyCreated];
    assert_eq!(events(&*store).await, logged);
    let news = [(2, ChangeKind::Created), (1, ChangeKind::Updated)];
    let news = news.map(|(number, kind)| (key_id(number).to_string(), kind));
    assert_eq!(told(&*store).await[1..], news);
    assert_eq!(*store.watch().borrow(), 3);

    // Not from the version before, and not from the one after either.
    assert_eq!(rotate(&*store, &rotation(&stored(1), 3, 900)).await, Rotation::Outdated);
    let again = RotateRequest { version: 2, ..rotation(&stored(1), 3, 900) };
    assert_eq!(rotate(&*store, &again).await, Rotation::Outdated);
    assert_eq!(rotate(&*store, &rotation(&stored(7), 3, 900)).await, Rotation::Outdated);
    // What cannot be added takes nobody's place.
    let mut taken = rotation(&stored(2), 4, 900);
    taken.successor.lookup = digest(1);
    assert!(store.rotate_key(&taken, &entries()).await.is_err());
    assert_eq!(key(&*store, 2).await.superseded_by, None);
    assert_eq!(events(&*store).await, logged);

    // The one that has taken the place can be rotated in its turn.
    let next = rotation(&request.successor, 3, 900);
    assert!(matches!(rotate(&*store, &next).await, Rotation::Rotated(_)));
}

pub(crate) async fn a_revoked_key_is_not_rotated(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    let request = revoke(1, RevokeGuard::Unconditional);
    store.revoke_key(&request, &entry(EventKind::KeyRevoked, 1)).await.expect("revoked");
    for version in [1, 2] {
        let request = RotateRequest { version, ..rotation(&stored(1), 2, 900) };
        assert_eq!(rotate(&*store, &request).await, Rotation::Outdated);
    }
    assert_eq!(store.key(key_id(2)).await.expect("read"), None);
}

pub(crate) async fn of_concurrent_rotations_one_is_made(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 2..10 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { rotate(&*store, &rotation(&stored(1), number, 900)).await });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|it| matches!(it, Rotation::Rotated(_))).count(), 1);
    assert_eq!(page(&*store, KeyFilter::default(), None, 100).await.len(), 2);
}

pub(crate) async fn the_last_usable_admin_key_does_not_end_as_it_is_rotated(store: Arc<dyn Store>) {
    add(&*store, &admin(1)).await;
    let at_once = rotation(&admin(1), 2, 500);
    assert_eq!(rotate(&*store, &at_once).await, Rotation::LastAdmin);
    assert_eq!(page(&*store, KeyFilter::default(), None, 100).await.len(), 1);
    assert_eq!(events(&*store).await, [EventKind::KeyCreated]);
    add(&*store, &admin(3)).await;
    assert!(matches!(rotate(&*store, &at_once).await, Rotation::Rotated(_)));
    // The successor is the other one that is needed.
    let with_overlap = rotation(&admin(3), 4, 501);
    assert!(matches!(rotate(&*store, &with_overlap).await, Rotation::Rotated(_)));
}

pub(crate) async fn a_successor_that_nobody_used_is_no_other_admin_key(store: Arc<dyn Store>) {
    add(&*store, &admin(1)).await;
    let rotated = rotate(&*store, &rotation(&admin(1), 2, 900)).await;
    assert!(matches!(rotated, Rotation::Rotated(_)), "{rotated:?}");
    let end = async |number| {
        let audit = entry(EventKind::KeyRevoked, number);
        store.revoke_key(&revoke(number, KEEP), &audit).await.expect("done")
    };
    // The old one ends by itself, and whether anybody has the new one is not known.
    assert_eq!(end(1).await, Revocation::LastAdmin);
    assert_eq!(end(2).await, Revocation::LastAdmin);
    store.touch(&[(key_id(1), at(300)), (key_id(2), at(600))]).await.expect("written");
    assert_eq!(end(2).await, Revocation::LastAdmin);
    assert!(matches!(end(1).await, Revocation::Revoked(_)));
}
