//! Changing keys: at a version, as a whole, and never the last usable admin key away.

use edge_protocol::{ChangeKind, EventKind, Scope};
use std::sync::Arc;

use super::{
    Revocation, RevokeGuard, add, admin, at, entry, events, key, key_id, revoke, stored, told,
};
use crate::{
    keys::Key,
    store::{Store, Update, UpdateRequest},
};

const KEEP: RevokeGuard = RevokeGuard::KeepOneAdmin { test_keys: false };

async fn update(store: &dyn Store, key: Key, guard: RevokeGuard) -> Update {
    let request = UpdateRequest { key, at: at(500), guard };
    store.update_key(&request, &entry(EventKind::KeyUpdated, 1)).await.expect("done")
}

pub(crate) async fn a_change_is_made_to_the_version_it_was_decided_on(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    add(&*store, &stored(2)).await;
    let before = key(&*store, 1).await;
    let asked = Key {
        name: "new – новый".to_owned(),
        description: None,
        owner: Some("team b".to_owned()),
        scope: Scope::Read,
        is_active: false,
        allowed_ips: Vec::new(),
        rate_limit: None,
        metadata: serde_json::Map::new(),
        expires_at: None,
        ..before.clone()
    };
    // A use in between is no change of the record.
    store.touch(&[(key_id(1), at(300))]).await.expect("written");
    let expected = Key { version: 2, last_used_at: Some(at(300)), ..asked.clone() };
    let done = update(&*store, asked.clone(), RevokeGuard::Unconditional).await;
    assert_eq!(done, Update::Updated(expected.clone()));
    assert_eq!(key(&*store, 1).await, expected);
    assert_eq!(key(&*store, 2).await, stored(2).key);

    // Once only, and not to a key that is not there.
    assert_eq!(update(&*store, asked, RevokeGuard::Unconditional).await, Update::Outdated);
    let nobody = Key { key_id: key_id(3), ..before.clone() };
    assert_eq!(update(&*store, nobody, RevokeGuard::Unconditional).await, Update::Outdated);
    let created = EventKind::KeyCreated;
    assert_eq!(events(&*store).await, [created, created, EventKind::KeyUpdated]);
    assert_eq!(told(&*store).await[2], (key_id(1).to_string(), ChangeKind::Updated));

    // And back again.
    let done = update(&*store, Key { version: 2, ..before.clone() }, KEEP).await;
    assert_eq!(done, Update::Updated(Key { version: 3, last_used_at: Some(at(300)), ..before }));
}

pub(crate) async fn a_revoked_key_is_changed_no_more(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    let audit = entry(EventKind::KeyRevoked, 1);
    let request = revoke(1, RevokeGuard::Unconditional);
    let Revocation::Revoked(revoked) = store.revoke_key(&request, &audit).await.expect("done")
    else {
        panic!("not revoked")
    };
    assert_eq!(revoked.version, 2);
    assert_eq!(key(&*store, 1).await, revoked);
    let again = Key { is_active: true, revoked_at: None, ..revoked.clone() };
    assert_eq!(update(&*store, again, RevokeGuard::Unconditional).await, Update::Outdated);
    assert_eq!(key(&*store, 1).await, revoked);
}

pub(crate) async fn of_concurrent_changes_to_one_version_one_is_made(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..16 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let key = Key { name: format!("name {number}"), ..stored(1).key };
            update(&*store, key, RevokeGuard::Unconditional).await
        });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.iter().filter(|it| matches!(it, Update::Updated(_))).count(), 1);
    assert_eq!(events(&*store).await, [EventKind::KeyCreated, EventKind::KeyUpdated]);
    assert_eq!(key(&*store, 1).await.version, 2);
}

pub(crate) async fn no_change_ends_the_last_usable_admin_key(store: Arc<dyn Store>) {
    add(&*store, &admin(1)).await;
    let admin_key = admin(1).key;
    let harm = [
        Key { scope: Scope::Write, ..admin_key.clone() },
        Key { is_active: false, ..admin_key.clone() },
        Key { expires_at: Some(at(500)), ..admin_key.clone() },
    ];
    for key in harm.clone() {
        assert_eq!(update(&*store, key, KEEP).await, Update::LastAdmin);
    }
    assert_eq!(events(&*store).await, [EventKind::KeyCreated]);
    assert_eq!(key(&*store, 1).await, admin_key);
    let harmless = Key { expires_at: Some(at(501)), ..admin_key };
    assert!(matches!(update(&*store, harmless, KEEP).await, Update::Updated(_)));

    add(&*store, &admin(2)).await;
    for (key, version) in harm.into_iter().zip(2..) {
        let change = Key { version, ..key };
        assert!(matches!(update(&*store, change, KEEP).await, Update::Updated(_)));
    }
}

pub(crate) async fn two_admins_who_end_each_other_at_once_leave_one(store: Arc<dyn Store>) {
    for round in 0..8 {
        let (one, two) = (2 * round + 1, 2 * round + 2);
        add(&*store, &admin(one)).await;
        add(&*store, &admin(two)).await;
        let ending = |number| {
            let store = Arc::clone(&store);
            async move {
                let key = Key { is_active: false, ..key(&*store, number).await };
                matches!(update(&*store, key, KEEP).await, Update::Updated(_))
            }
        };
        let (first, second) = tokio::join!(ending(one), ending(two));
        assert!(first != second, "exactly one is switched off");
        let left = if first { two } else { one };
        let revoked = store
            .revoke_key(
                &revoke(left, RevokeGuard::Unconditional),
                &entry(EventKind::KeyRevoked, left),
            )
            .await;
        assert!(matches!(revoked, Ok(Revocation::Revoked(_))));
    }
}
