//! Keys as they are kept, found, listed and ended.

use std::sync::Arc;

use edge_protocol::{EventKind, KeyEnvironment};

use super::{add, admin, at, digest, entry, events, found_at, key_id, page, revoke, stored};
use crate::store::{
    Revocation, RevokeGuard, RevokeRequest, Store, cursor::KeyCursor, key_filter::KeyFilter,
};

pub(crate) async fn a_key_comes_back_as_it_was_added(store: Arc<dyn Store>) {
    let mut bare = admin(2);
    bare.key.description = None;
    bare.key.owner = None;
    bare.key.allowed_ips.clear();
    bare.key.rate_limit = None;
    bare.key.metadata.clear();
    bare.key.policy_override = None;
    for key in [stored(1), bare] {
        add(&*store, &key).await;
        assert_eq!(store.key(key.key.key_id).await.expect("read"), Some(key.key));
    }
    assert_eq!(store.key(key_id(3)).await.expect("read"), None);
}

pub(crate) async fn a_key_is_found_by_its_digest_and_by_no_other(store: Arc<dyn Store>) {
    let key = stored(1);
    let before = store.look_up(&[digest(1)]).await.expect("read");
    assert!(before.found.is_empty());
    add(&*store, &key).await;
    let after = store.look_up(&[digest(1)]).await.expect("read");
    let found = after.first_of(&[digest(1)]).expect("right").expect("found");
    assert_eq!((found.key, found.lookup, found.secret), (key.key, key.lookup, key.secret));
    // The position is of the same moment as the row.
    assert_eq!((before.as_of.sequence, after.as_of.sequence), (0, 1));
    assert_eq!(before.as_of.epoch, after.as_of.epoch);
    assert!(found_at(&*store, 2).await.is_none());
}

pub(crate) async fn many_keys_are_found_at_once(store: Arc<dyn Store>) {
    for number in 1..=3 {
        add(&*store, &stored(number)).await;
    }
    // Some that are not there, and one that is asked for twice.
    let digests = [7, 3, 1, 8, 3].map(digest);
    let lookup = store.look_up(&digests).await.expect("read");
    assert_eq!(lookup.as_of.sequence, 3);
    let mut found: Vec<_> = lookup.found.values().map(|it| it.as_ref().expect("right")).collect();
    found.sort_by_key(|it| it.key.key_id);
    let found: Vec<_> = found.iter().map(|it| (it.key.key_id, it.lookup)).collect();
    assert_eq!(found, [(key_id(1), digest(1)), (key_id(3), digest(3))]);
}

pub(crate) async fn adding_a_key_logs_and_publishes_it_or_does_nothing_at_all(
    store: Arc<dyn Store>,
) {
    let news = store.watch();
    add(&*store, &stored(1)).await;
    assert_eq!(*news.borrow(), 1);
    assert_eq!(events(&*store).await, [EventKind::KeyCreated]);

    let mut same_digest = stored(2);
    same_digest.lookup = digest(1);
    assert!(store.add_key(&same_digest, &entry(EventKind::KeyCreated, 2)).await.is_err());
    assert!(store.add_key(&stored(1), &entry(EventKind::KeyCreated, 1)).await.is_err());
    assert_eq!(events(&*store).await, [EventKind::KeyCreated]);
    assert_eq!(store.position().await.expect("read").sequence, 1);
    assert_eq!(store.key(key_id(2)).await.expect("read"), None);
}

pub(crate) async fn a_revocation_is_once_and_for_good(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    let request = revoke(1, RevokeGuard::Unconditional);
    let audit = entry(EventKind::KeyRevoked, 1);
    let Revocation::Revoked(key) = store.revoke_key(&request, &audit).await.expect("done") else {
        panic!("not revoked")
    };
    assert!(!key.is_active);
    assert_eq!(key.revoked_at, Some(at(500)));
    assert_eq!(store.key(key_id(1)).await.expect("read"), Some(key.clone()));
    assert_eq!(key.revoked_reason.as_deref(), Some("leaked"));

    let again = RevokeRequest { at: at(900), reason: None, ..request };
    assert_eq!(
        store.revoke_key(&again, &audit).await.expect("done"),
        Revocation::AlreadyRevoked(key)
    );
    let other = revoke(2, RevokeGuard::Unconditional);
    assert_eq!(store.revoke_key(&other, &audit).await.expect("done"), Revocation::NotFound);
    assert_eq!(events(&*store).await, [EventKind::KeyCreated, EventKind::KeyRevoked]);
    assert_eq!(store.position().await.expect("read").sequence, 2);
}

pub(crate) async fn the_last_usable_admin_key_is_kept_when_asked_for(store: Arc<dyn Store>) {
    let keep = RevokeGuard::KeepOneAdmin { test_keys: false };
    let audit = entry(EventKind::KeyRevoked, 1);
    let mut expired = admin(2);
    expired.key.expires_at = Some(at(400));
    let mut for_tests = admin(3);
    for_tests.key.environment = KeyEnvironment::Test;
    for key in [admin(1), expired, for_tests, stored(4)] {
        add(&*store, &key).await;
    }
    let first = revoke(1, keep);
    assert_eq!(store.revoke_key(&first, &audit).await.expect("done"), Revocation::LastAdmin);
    assert!(store.key(key_id(1)).await.expect("read").expect("there").is_active);
    // A key that is no usable admin key can go, and the test key counts where it is usable.
    assert!(matches!(store.revoke_key(&revoke(4, keep), &audit).await, Ok(Revocation::Revoked(_))));
    assert!(matches!(store.revoke_key(&revoke(2, keep), &audit).await, Ok(Revocation::Revoked(_))));
    let with_tests = revoke(1, RevokeGuard::KeepOneAdmin { test_keys: true });
    assert!(matches!(store.revoke_key(&with_tests, &audit).await, Ok(Revocation::Revoked(_))));
    assert_eq!(events(&*store).await.len(), 7);
}

pub(crate) async fn keys_are_listed_newest_first_without_gaps_or_repeats(store: Arc<dyn Store>) {
    // Several of the same millisecond, across the ends of pages.
    for number in 0..25 {
        let mut key = stored(number);
        key.key.created_at = at(i64::try_from(number / 4).expect("small"));
        add(&*store, &key).await;
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = page(&*store, KeyFilter::default(), after, 3).await;
        let Some(last) = page.last() else { break };
        after = Some(KeyCursor { created_at: last.created_at, key_id: last.key_id });
        seen.extend(page.into_iter().map(|key| key.key_id.as_u64()));
    }
    assert_eq!(seen, (0..25).rev().collect::<Vec<_>>());
}

pub(crate) async fn last_use_only_moves_forward(store: Arc<dyn Store>) {
    for number in [1, 2] {
        add(&*store, &stored(number)).await;
    }
    let used =
        async |number| store.key(key_id(number)).await.expect("read").expect("there").last_used_at;
    store.touch(&[(key_id(1), at(10)), (key_id(3), at(10))]).await.expect("written");
    assert_eq!((used(1).await, used(2).await), (Some(at(10)), None));
    store
        .touch(&[(key_id(1), at(5)), (key_id(2), at(5)), (key_id(2), at(7))])
        .await
        .expect("written");
    assert_eq!((used(1).await, used(2).await), (Some(at(10)), Some(at(7))));
    // It is no change that filters would have to hear of.
    assert_eq!(store.position().await.expect("read").sequence, 2);
}
