//! Second factors.

use edge_protocol::EventKind;
use jiff::SignedDuration;
use std::sync::Arc;

use super::{
    add, admin, at, entry, events, key_id,
    rotation::{rotate, rotation},
};
use crate::{
    keys::digest::SecretName,
    store::{
        Rotation, Store, StoreError,
        totp::{Attempt, NewFactor, Removal, RemovalEntries, SealedSecret},
    },
    totp::attempts::MAX_IN_WINDOW,
};

fn sealed(byte: u8) -> SealedSecret {
    SealedSecret { sealed: vec![byte; 48], with: SecretName::from_stored(&"0f".repeat(16)) }
}

fn factor(byte: u8) -> NewFactor {
    NewFactor {
        factor_id: [byte; 16],
        sealed: sealed(byte),
        enrolled_at: at(0),
        recovery: vec![[1; 32], [2; 32]],
    }
}

async fn begin(store: &dyn Store, number: u64, byte: u8) -> Result<bool, StoreError> {
    let audit = entry(EventKind::TotpIssued, number);
    store.begin_factor(key_id(number), &factor(byte), &audit).await
}

/// The entries of taking the factor of that key away.
fn removal(number: u64) -> RemovalEntries {
    let audit = entry(EventKind::TotpDisabled, number);
    RemovalEntries { in_force: audit.clone(), pending: audit }
}

async fn confirmed(store: &dyn Store, number: u64) {
    add(store, &admin(number)).await;
    let byte = u8::try_from(number).expect("small");
    assert!(begin(store, number, byte).await.expect("written"));
    let audit = entry(EventKind::TotpEnrolled, number);
    assert!(store.confirm_factor(&[byte; 16], 10, at(5), &audit).await.expect("written"));
}

pub(crate) async fn a_factor_waits_until_it_is_confirmed_once(store: Arc<dyn Store>) {
    add(&*store, &admin(1)).await;
    assert_eq!(store.factor(key_id(1)).await.expect("read"), None);
    assert!(begin(&*store, 1, 1).await.expect("written"));
    // Another one takes its place, with everything that belongs to it.
    assert!(begin(&*store, 1, 2).await.expect("written"));
    let waits = store.factor(key_id(1)).await.expect("read").expect("there");
    assert_eq!((waits.factor_id, waits.sealed, waits.recovery_codes), ([2; 16], sealed(2), 2));
    assert_eq!((waits.enrolled_at, waits.confirmed_at), (at(0), None));

    let audit = entry(EventKind::TotpEnrolled, 1);
    let confirm = async |byte| store.confirm_factor(&[byte; 16], 10, at(5), &audit).await;
    assert!(!confirm(1).await.expect("nothing"));
    assert!(confirm(2).await.expect("written"));
    assert!(!confirm(2).await.expect("nothing"));
    assert!(!begin(&*store, 1, 3).await.expect("nothing"));
    let listed = store.factors().await.expect("read");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].0, listed[0].1.confirmed_at), (key_id(1), Some(at(5))));
    let issued = EventKind::TotpIssued;
    let expected = [EventKind::KeyCreated, issued, issued, EventKind::TotpEnrolled];
    assert_eq!(events(&*store).await, expected);
}

pub(crate) async fn each_code_is_accepted_once_however_many_come_at_once(store: Arc<dyn Store>) {
    confirmed(&*store, 1).await;
    assert!(!store.accept_step(&[1; 16], 10).await.expect("the code that confirmed"));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let audit = entry(EventKind::TotpRecoveryUsed, 1);
            let step = store.accept_step(&[1; 16], 11).await.expect("asked");
            let code = store.accept_recovery(&[1; 16], &[1; 32], &audit).await.expect("asked");
            (step, code)
        });
    }
    let accepted = tasks.join_all().await;
    assert_eq!(accepted.iter().filter(|(step, _)| *step).count(), 1);
    assert_eq!(accepted.iter().filter(|(_, code)| *code).count(), 1);
    assert!(!store.accept_step(&[1; 16], 9).await.expect("an earlier one"));
    let left = store.factor(key_id(1)).await.expect("read").expect("there");
    assert_eq!(left.recovery_codes, 1);
    let used = events(&*store).await;
    assert_eq!(used.iter().filter(|it| **it == EventKind::TotpRecoveryUsed).count(), 1);
}

pub(crate) async fn a_code_that_only_waits_to_be_confirmed_opens_nothing(store: Arc<dyn Store>) {
    add(&*store, &admin(1)).await;
    begin(&*store, 1, 1).await.expect("written");
    assert!(!store.accept_step(&[1; 16], 11).await.expect("asked"));
    let audit = entry(EventKind::TotpRecoveryUsed, 1);
    assert!(!store.accept_recovery(&[1; 16], &[1; 32], &audit).await.expect("asked"));
    let waits = store.factor(key_id(1)).await.expect("read").expect("there");
    assert_eq!(waits.recovery_codes, 2);
}

pub(crate) async fn codes_that_come_at_once_are_counted_before_they_are_looked_at(
    store: Arc<dyn Store>,
) {
    confirmed(&*store, 1).await;
    let take = async |millis| store.take_attempt(key_id(1), at(millis)).await.expect("asked");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { store.take_attempt(key_id(1), at(0)).await.expect("asked") });
    }
    let tries = tasks.join_all().await;
    let counted = tries.iter().filter(|it| matches!(it, Attempt::Counted(_))).count();
    assert_eq!(counted, usize::try_from(MAX_IN_WINDOW).expect("small"));
    let Attempt::TooMany(refused) = take(20_000).await else { panic!("room") };
    assert_eq!(refused.wait, SignedDuration::from_secs(40));
    // A right one is the end of it.
    let Attempt::Counted(later) = take(60_000).await else { panic!("no room") };
    assert_eq!((later.attempts.in_window, later.attempts.in_a_row), (1, MAX_IN_WINDOW + 1));
    assert!(store.accept_step(&[1; 16], 12).await.expect("asked"));
    let Attempt::Counted(after) = take(60_001).await else { panic!("no room") };
    assert_eq!((after.attempts.in_window, after.attempts.in_a_row), (1, 1));
    assert_eq!(store.take_attempt(key_id(2), at(0)).await.expect("asked"), Attempt::NoFactor);
}

pub(crate) async fn a_factor_is_drawn_and_taken_away_with_an_entry(store: Arc<dyn Store>) {
    confirmed(&*store, 1).await;
    add(&*store, &admin(2)).await;
    begin(&*store, 2, 2).await.expect("written");
    let audit = entry(EventKind::TotpDisabled, 1);
    let remove = async |number, only_pending| {
        let entries = removal(number);
        store.remove_factor(key_id(number), only_pending, &entries).await.expect("asked")
    };
    assert_eq!(remove(1, true).await, Removal::Nothing);
    assert_eq!(remove(2, true).await, Removal::Pending);
    assert_eq!(remove(2, true).await, Removal::Nothing);
    assert_eq!(remove(1, false).await, Removal::InForce);
    assert_eq!(remove(1, false).await, Removal::Nothing);
    assert_eq!(store.factors().await.expect("read"), []);
    let count = async |kind| events(&*store).await.into_iter().filter(|it| *it == kind).count();
    assert_eq!((count(EventKind::TotpIssued).await, count(EventKind::TotpDisabled).await), (2, 2));
    assert!(!store.accept_recovery(&[1; 16], &[1; 32], &audit).await.expect("asked"));
}

pub(crate) async fn a_secret_is_sealed_anew_only_where_it_is_as_it_was_read(store: Arc<dyn Store>) {
    confirmed(&*store, 1).await;
    let name = |text: &str| SecretName::from_stored(&text.repeat(16));
    let fresh = SealedSecret { sealed: vec![9; 48], with: name("aa") };
    let others = async |text| {
        let others = store.factors_sealed_otherwise(&name(text)).await.expect("read");
        others.into_iter().map(|(key_id, _)| key_id).collect::<Vec<_>>()
    };
    assert_eq!(others("0f").await, []);
    assert_eq!(others("aa").await, [key_id(1)]);
    let reseal = async |from: &SealedSecret| store.reseal_factor(&[1; 16], from, &fresh).await;
    assert!(!reseal(&sealed(2)).await.expect("asked"));
    assert!(reseal(&sealed(1)).await.expect("asked"));
    assert!(!reseal(&sealed(1)).await.expect("asked"));
    assert_eq!(others("aa").await, []);
    assert_eq!(store.factor(key_id(1)).await.expect("read").expect("there").sealed, fresh);
}

pub(crate) async fn a_key_that_takes_the_place_of_another_shares_its_factor(store: Arc<dyn Store>) {
    confirmed(&*store, 1).await;
    add(&*store, &admin(3)).await;
    let rotated = rotate(&*store, &rotation(&admin(1), 2, 900)).await;
    assert!(matches!(rotated, Rotation::Rotated(_)), "{rotated:?}");
    let shared = store.factor(key_id(2)).await.expect("read").expect("there");
    assert_eq!(store.factor(key_id(1)).await.expect("read"), Some(shared.clone()));
    // A code is good once, with whichever of the two keys.
    assert!(store.accept_step(&shared.factor_id, 11).await.expect("asked"));
    assert!(!store.accept_step(&shared.factor_id, 11).await.expect("asked"));
    let removed = store.remove_factor(key_id(2), false, &removal(2)).await.expect("asked");
    assert_eq!(removed, Removal::InForce);
    assert_eq!(store.factor(key_id(1)).await.expect("read"), None);
    // Where there is none, none is shared.
    rotate(&*store, &rotation(&admin(3), 4, 900)).await;
    assert_eq!(store.factor(key_id(4)).await.expect("read"), None);
}

pub(crate) async fn a_factor_that_waits_is_not_shared(store: Arc<dyn Store>) {
    add(&*store, &admin(1)).await;
    begin(&*store, 1, 1).await.expect("written");
    let rotated = rotate(&*store, &rotation(&admin(1), 2, 900)).await;
    assert!(matches!(rotated, Rotation::Rotated(_)), "{rotated:?}");
    assert_eq!(store.factor(key_id(2)).await.expect("read"), None);
    // Confirmed later, it is that of the old key alone.
    let audit = entry(EventKind::TotpEnrolled, 1);
    assert!(store.confirm_factor(&[1; 16], 10, at(5), &audit).await.expect("written"));
    assert_eq!(store.factor(key_id(2)).await.expect("read"), None);
}
