//! Finding keys.

use edge_protocol::{EventKind, KeyEnvironment, Scope};
use std::sync::Arc;

use super::{RevokeGuard, add, at, entry, key_id, page, revoke, stored};
use crate::{
    keys::{StoredKey, state::KeyState},
    store::{Store, cursor::KeyCursor, key_filter::KeyFilter},
};

const DAY_MS: i64 = 86_400_000;

/// The numbers of the keys that a filter gives, newest first.
async fn found(store: &dyn Store, filter: KeyFilter) -> Vec<u64> {
    page(store, filter, None, 100).await.into_iter().map(|key| key.key_id.as_u64()).collect()
}

/// Keys of every state: 1 for good, 2 for a day, 3 for ten days, 4 over, 5 switched off, 6 revoked.
async fn fill(store: &dyn Store) {
    let ends = [None, Some(DAY_MS), Some(10 * DAY_MS), Some(0), Some(DAY_MS), None];
    for (number, end) in (1..).zip(ends) {
        let mut key = stored(number);
        key.key.expires_at = end.map(at);
        key.key.is_active = number != 5;
        if number % 2 == 0 {
            key.key.scope = Scope::Admin;
            key.key.owner = Some("team b".to_owned());
        }
        if number == 3 {
            key.key.environment = KeyEnvironment::Live;
            key.key.owner = None;
        }
        add(store, &key).await;
    }
    let request = revoke(6, RevokeGuard::Unconditional);
    store.revoke_key(&request, &entry(EventKind::KeyRevoked, 6)).await.expect("revoked");
}

pub(crate) async fn a_filter_gives_the_keys_that_meet_all_of_it(store: Arc<dyn Store>) {
    fill(&*store).await;
    let none = KeyFilter::default();
    let owner = |name: &str| Some(name.to_owned());
    let state = |state| KeyFilter { state: Some(state), ..KeyFilter::default() };
    let expiring = |days| KeyFilter { expiring_within_days: Some(days), ..KeyFilter::default() };
    for (filter, numbers) in [
        (none.clone(), &[6, 5, 4, 3, 2, 1][..]),
        (state(KeyState::Active), &[3, 2, 1]),
        (state(KeyState::Disabled), &[5]),
        (state(KeyState::Revoked), &[6]),
        (state(KeyState::Expired), &[4]),
        (KeyFilter { scope: Some(Scope::Admin), ..none.clone() }, &[6, 4, 2]),
        (KeyFilter { scope: Some(Scope::Read), ..none.clone() }, &[]),
        (KeyFilter { owner: owner("team b"), ..none.clone() }, &[6, 4, 2]),
        (KeyFilter { owner: owner("TEAM B"), ..none.clone() }, &[]),
        (KeyFilter { environment: Some(KeyEnvironment::Live), ..none.clone() }, &[3]),
        // Only keys that can be used will end by themselves.
        (expiring(1), &[2]),
        (expiring(9), &[2]),
        (expiring(10), &[3, 2]),
        (expiring(u32::MAX), &[3, 2]),
        (KeyFilter { state: Some(KeyState::Expired), ..expiring(10) }, &[]),
        (KeyFilter { scope: Some(Scope::Admin), ..state(KeyState::Active) }, &[2]),
        (
            KeyFilter {
                state: Some(KeyState::Revoked),
                scope: Some(Scope::Admin),
                owner: owner("team b"),
                environment: Some(KeyEnvironment::Test),
                expiring_within_days: None,
                text: Some("key 6".to_owned()),
            },
            &[6],
        ),
    ] {
        assert_eq!(found(&*store, filter.clone()).await, numbers, "{filter:?}");
    }
}

pub(crate) async fn a_text_is_found_alike_by_every_database(store: Arc<dyn Store>) {
    let with = |number, name: &str, description: Option<&str>, owner: Option<&str>| {
        let mut key = stored(number);
        key.key.name = name.to_owned();
        key.key.description = description.map(str::to_owned);
        key.key.owner = owner.map(str::to_owned);
        key
    };
    let keys: [StoredKey; 4] = [
        with(0xab01, "Billing – Ünïcode Ключ", None, None),
        with(0xab02, "other", Some("for the BILLING of 100%_\\'\"-- things"), None),
        with(0xab03, "third", None, Some("Team Billing")),
        with(0xcd04, "fourth", None, None),
    ];
    for key in &keys {
        add(&*store, key).await;
    }
    let find = async |text: &str| {
        found(&*store, KeyFilter { text: Some(text.to_owned()), ..KeyFilter::default() }).await
    };
    for text in ["billing", "BILLING", "bIlLiNg"] {
        assert_eq!(find(text).await, [0xab03, 0xab02, 0xab01], "{text}");
    }
    // Nothing in it is more than itself.
    for text in ["100%_\\'\"--", "%", "_", "\\", "'", "\"--"] {
        assert_eq!(find(text).await, [0xab02], "{text}");
    }
    // Letters beyond ASCII are found as they are written.
    for (text, numbers) in
        [("Ünïcode", &[0xab01][..]), ("ünïcode", &[]), ("Ключ", &[0xab01]), ("КЛЮЧ", &[])]
    {
        assert_eq!(find(text).await, numbers, "{text}");
    }
    // The beginning of an id, and not the end.
    assert_eq!(find("000000000000ab").await, [0xab03, 0xab02, 0xab01]);
    assert_eq!(find(&key_id(0xcd04).to_string().to_uppercase()).await, [0xcd04]);
    assert!(find("cd04").await.is_empty() && find("nowhere").await.is_empty());
}

pub(crate) async fn pages_of_a_filter_have_no_gaps_and_no_repeats(store: Arc<dyn Store>) {
    for number in 0..30 {
        let mut key = stored(number);
        key.key.created_at = at(i64::try_from(number / 4).expect("small"));
        key.key.scope = if number % 3 == 0 { Scope::Admin } else { Scope::Read };
        add(&*store, &key).await;
    }
    let filter = KeyFilter { scope: Some(Scope::Admin), ..KeyFilter::default() };
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = page(&*store, filter.clone(), after, 3).await;
        let Some(last) = page.last() else { break };
        after = Some(KeyCursor { created_at: last.created_at, key_id: last.key_id });
        seen.extend(page.into_iter().map(|key| key.key_id.as_u64()));
    }
    assert_eq!(seen, (0..30).rev().filter(|number| number % 3 == 0).collect::<Vec<_>>());
}
