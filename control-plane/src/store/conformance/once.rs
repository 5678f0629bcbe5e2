//! Requests that are made once.

use super::{
    add, at, entry, events, key, key_id, page,
    rotation::{rotate, rotation},
    stored,
};
use crate::store::{
    RotateRequest, Rotation, Store,
    key_filter::KeyFilter,
    once::{Claim, MadeRequest},
};
use edge_protocol::EventKind;
use std::sync::Arc;

fn claim(name: u8, body: u8) -> Claim {
    Claim { name: [name; 32], body: [body; 32], at: at(100), forgotten_before: at(0) }
}

fn made(body: u8, number: u64) -> MadeRequest {
    MadeRequest { body: [body; 32], key_id: key_id(number) }
}

async fn add_once(store: &dyn Store, number: u64, claim: Claim) -> Option<MadeRequest> {
    let audit = entry(EventKind::KeyCreated, number);
    store.add_key_once(&stored(number), &audit, &claim).await.expect("answered")
}

pub(crate) async fn a_request_makes_one_key_however_often_it_is_sent(store: Arc<dyn Store>) {
    assert_eq!(store.made_request(&[1; 32], at(0)).await.expect("read"), None);
    assert_eq!(add_once(&*store, 1, claim(1, 7)).await, None);
    assert_eq!(add_once(&*store, 2, claim(1, 7)).await, Some(made(7, 1)));
    // Who asks for something else is told what was asked for before.
    assert_eq!(add_once(&*store, 2, claim(1, 8)).await, Some(made(7, 1)));
    assert_eq!(add_once(&*store, 3, claim(2, 7)).await, None);
    assert_eq!(store.made_request(&[1; 32], at(0)).await.expect("read"), Some(made(7, 1)));
    assert_eq!(store.key(key_id(2)).await.expect("read"), None);
    assert_eq!(events(&*store).await, [EventKind::KeyCreated; 2]);
    assert_eq!(store.position().await.expect("read").sequence, 2);
}

pub(crate) async fn a_key_that_is_not_made_leaves_its_request_unmade(store: Arc<dyn Store>) {
    add(&*store, &stored(1)).await;
    let audit = entry(EventKind::KeyCreated, 1);
    assert!(store.add_key_once(&stored(1), &audit, &claim(1, 7)).await.is_err());
    assert_eq!(store.made_request(&[1; 32], at(0)).await.expect("read"), None);
    assert_eq!(add_once(&*store, 2, claim(1, 7)).await, None);
}

pub(crate) async fn those_who_send_a_request_at_once_make_one_key(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..12 {
        let store = Arc::clone(&store);
        tasks.spawn(async move { add_once(&*store, number, claim(1, 7)).await });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|it| it.is_none()).count(), 1);
    let keys = page(&*store, KeyFilter::default(), None, 100).await;
    assert_eq!(keys.len(), 1);
    assert!(answers.iter().flatten().all(|it| it.key_id == keys[0].key_id));
}

pub(crate) async fn a_request_is_forgotten_in_time(store: Arc<dyn Store>) {
    assert_eq!(add_once(&*store, 1, claim(1, 7)).await, None);
    assert_eq!(add_once(&*store, 2, claim(2, 7)).await, None);
    assert_eq!(store.made_request(&[1; 32], at(101)).await.expect("read"), None);
    // Before it is deleted, too.
    let later = Claim { at: at(500), forgotten_before: at(101), ..claim(1, 8) };
    assert_eq!(add_once(&*store, 3, later).await, None);
    assert_eq!(store.made_request(&[1; 32], at(101)).await.expect("read"), Some(made(8, 3)));
    assert_eq!(store.forget_requests(at(500)).await.expect("deleted"), 1);
    assert_eq!(store.forget_requests(at(501)).await.expect("deleted"), 1);
    assert_eq!(store.made_request(&[1; 32], at(0)).await.expect("read"), None);
}

pub(crate) async fn a_request_rotates_a_key_once_and_leaves_no_note_when_it_cannot(
    store: Arc<dyn Store>,
) {
    add(&*store, &stored(1)).await;
    let asked =
        |number, claim| RotateRequest { claim: Some(claim), ..rotation(&stored(1), number, 900) };
    let outdated = RotateRequest { version: 7, ..asked(2, claim(1, 7)) };
    assert_eq!(rotate(&*store, &outdated).await, Rotation::Outdated);
    assert_eq!(store.made_request(&[1; 32], at(0)).await.expect("read"), None);

    let mut tasks = tokio::task::JoinSet::new();
    for number in 2..14 {
        let (store, request) = (Arc::clone(&store), asked(number, claim(1, 7)));
        tasks.spawn(async move { rotate(&*store, &request).await });
    }
    let answers = tasks.join_all().await;
    let done = |it: &&Rotation| matches!(it, Rotation::Rotated(_));
    assert_eq!(answers.iter().filter(done).count(), 1, "{answers:?}");
    let successor = key(&*store, 1).await.superseded_by.expect("a successor");
    let before = MadeRequest { body: [7; 32], key_id: successor };
    let told = Rotation::MadeBefore(before.clone());
    assert_eq!(answers.iter().filter(|it| **it == told).count(), 11, "{answers:?}");
    assert_eq!(page(&*store, KeyFilter::default(), None, 100).await.len(), 2);

    // Whoever asks for something else is told what was asked for before.
    assert_eq!(rotate(&*store, &asked(20, claim(1, 8))).await, told);
    assert_eq!(store.made_request(&[1; 32], at(0)).await.expect("read"), Some(before));
    // Under another name it is another request.
    assert_eq!(rotate(&*store, &asked(20, claim(2, 7))).await, Rotation::Outdated);
    assert_eq!(store.made_request(&[2; 32], at(0)).await.expect("read"), None);
}
