//! How keys are recognised, when that changes under them.

use edge_protocol::EventKind;
use std::sync::Arc;

use super::{add, admin, at, digest, events, found_at, key_id, stored};
use crate::{
    audit::AuditEntry,
    keys::{
        StoredKey,
        digest::SecretName,
        hashing::{HashAlgorithm, HashRecipe, SecretHash},
    },
    store::{
        Store,
        credentials::{LookupPlace, SECRET_NAME, SecretUse},
    },
};

const OLD: &str = "000102030405060708090a0b0c0d0e0f";
const NEW: &str = "ffeeddccbbaa99887766554433221100";

fn under(secret: &str, key: StoredKey) -> StoredKey {
    StoredKey { lookup_secret: SecretName::from_stored(secret), ..key }
}

fn place(secret: &str, number: u64) -> LookupPlace {
    LookupPlace { digest: digest(number), secret: SecretName::from_stored(secret) }
}

pub(crate) async fn a_key_is_found_by_either_of_two_digests(store: Arc<dyn Store>) {
    add(&*store, &under(OLD, stored(1))).await;
    add(&*store, &under(NEW, stored(2))).await;
    for (current, previous, found) in
        [(1, 9, Some(1)), (9, 1, Some(1)), (2, 1, Some(2)), (1, 2, Some(1)), (8, 9, None)]
    {
        let digests = [digest(current), digest(previous)];
        let lookup = store.look_up(&digests).await.expect("read");
        assert_eq!(lookup.as_of.sequence, 2);
        let first = lookup.first_of(&digests).expect("right");
        assert_eq!(first.map(|first| first.key.key_id), found.map(key_id));
    }
    let found = found_at(&*store, 1).await.expect("found");
    assert_eq!(found.lookup_secret, SecretName::from_stored(OLD));
}

pub(crate) async fn a_key_moves_only_to_the_secret_key_that_the_database_names(
    store: Arc<dyn Store>,
) {
    add(&*store, &under(OLD, stored(1))).await;
    store.setting_or_insert(SECRET_NAME, NEW).await.expect("set");
    let move_it =
        async |from, to| store.move_lookup(key_id(1), &digest(from), &to).await.expect("answered");
    assert!(!move_it(1, place(OLD, 5)).await);
    assert!(!move_it(7, place(NEW, 5)).await);
    assert!(move_it(1, place(NEW, 5)).await);
    assert!(!move_it(1, place(NEW, 5)).await);
    let found = found_at(&*store, 5).await.expect("found");
    assert_eq!(found.lookup_secret, SecretName::from_stored(NEW));
    assert!(found_at(&*store, 1).await.is_none());
    // Nobody has to hear of it.
    assert_eq!(store.position().await.expect("read").sequence, 1);
}

pub(crate) async fn a_hash_gives_way_only_to_a_dearer_one(store: Arc<dyn Store>) {
    let key = stored(1);
    add(&*store, &key).await;
    let hash = |iterations, byte| SecretHash {
        recipe: HashRecipe::new(HashAlgorithm::Pbkdf2HmacSha256, iterations, [byte; 16])
            .expect("a recipe"),
        digest: [byte; 32],
    };
    let replace = async |old: &SecretHash, new: &SecretHash| {
        store.replace_hash(key_id(1), old, new).await.expect("answered")
    };
    assert!(!replace(&key.secret, &hash(1233, 1)).await);
    assert!(!replace(&hash(1234, 2), &hash(2000, 3)).await);
    assert!(replace(&key.secret, &hash(2000, 4)).await);
    assert!(!replace(&key.secret, &hash(3000, 5)).await);
    let found = found_at(&*store, 1).await.expect("found");
    assert_eq!(found.secret, hash(2000, 4));
    assert_eq!(store.position().await.expect("read").sequence, 1);
}

pub(crate) async fn keys_are_counted_by_the_secret_key_they_need(store: Arc<dyn Store>) {
    let mut expired = under(OLD, stored(3));
    expired.key.expires_at = Some(at(5));
    for key in [under(OLD, admin(1)), under(NEW, stored(2)), expired] {
        add(&*store, &key).await;
    }
    let used =
        |secret, keys, usable| SecretUse { secret: SecretName::from_stored(secret), keys, usable };
    assert_eq!(store.secret_use(at(5)).await.expect("read"), [used(OLD, 2, 1), used(NEW, 1, 1)]);
}

pub(crate) async fn the_secret_keys_name_changes_once_and_is_logged(store: Arc<dyn Store>) {
    store.setting_or_insert(SECRET_NAME, OLD).await.expect("set");
    let (old, new) = (SecretName::from_stored(OLD), SecretName::from_stored(NEW));
    let entry = AuditEntry::of(EventKind::SecretKeyRotated, at(0), "x=1");
    assert!(!store.rename_secret(&new, &old, &entry).await.expect("answered"));
    assert!(store.rename_secret(&old, &new, &entry).await.expect("answered"));
    assert!(!store.rename_secret(&old, &new, &entry).await.expect("answered"));
    assert_eq!(store.setting(SECRET_NAME).await.expect("read").as_deref(), Some(NEW));
    assert_eq!(events(&*store).await, [EventKind::SecretKeyRotated]);
}
