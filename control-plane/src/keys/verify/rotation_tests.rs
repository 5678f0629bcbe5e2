//! What a change of the secret key, or of the cost of a hash, means for keys that are there.

use axum::{body::Body, http::Request};
use edge_protocol::{Deployment, Scope};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

use super::{Compared, Outcome, PresentedKey};
use crate::{
    clock::{Clock, testing::ManualClock},
    config::{Config, SecretKey, TestKeys},
    keys::{
        Key,
        hashing::{HashRecipe, Iterations},
        new_key::NewKeyRequest,
    },
    random::SystemRandom,
    secret_key::{self, SecretKeyFault},
    store::credentials::SecretUse,
    testing::{Database, EDGE_TOKEN, START, TestService, config, request, send},
};

fn with(database: &Database, secret: u8, previous: Option<u8>, iterations: u32) -> Config {
    let key = |byte| SecretKey::from_random([byte; 32]);
    Config {
        secret_key: Some(key(secret)),
        previous_secret_key: previous.map(key),
        iterations: Iterations::new(iterations).expect("sensible"),
        ..config(database, Deployment::Production)
    }
}

async fn serve(database: Database, secret: u8, previous: Option<u8>) -> TestService {
    let config = with(&database, secret, previous, 1000);
    TestService::start_on(database, config, TestKeys::Off).await
}

async fn outcome(it: &TestService, text: &str) -> Outcome {
    let key = PresentedKey::new(text.as_bytes()).expect("short enough");
    it.service.verifier.verify(key).await.expect("told").outcome
}

async fn knows(it: &TestService, text: &str) -> bool {
    matches!(outcome(it, text).await, Outcome::Known(_))
}

/// Waits until the condition holds; the upkeep has a task of its own.
async fn until(condition: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(20), "it never came true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn uses(it: &TestService) -> Vec<SecretUse> {
    let mut uses = it.service.store.secret_use(it.clock.now()).await.expect("read");
    uses.sort_by_key(|held| held.keys);
    uses
}

async fn hash_of(it: &TestService, key: &Key, text: &str) -> u32 {
    let secrets = it.service.verifier.lookup.lookup.lookup(text.as_bytes());
    let found = it.service.store.look_up(&[secrets]).await.expect("read");
    let found = found.first_of(&[secrets]).expect("right").expect("found");
    assert_eq!(found.key.key_id, key.key_id);
    found.secret.recipe.iterations()
}

#[tokio::test]
async fn a_secret_key_is_rotated_without_losing_a_key_and_each_moves_when_it_is_used() {
    let it = serve(Database::new().await, 1, None).await;
    let (_, used) = it.issue(request("used")).await;
    let (_, asleep) = it.issue(request("asleep")).await;
    let database = it.stop().await;

    let it = serve(database, 2, Some(1)).await;
    assert!(knows(&it, &used).await);
    until(async || uses(&it).await.len() == 2).await;
    let (_, new) = it.issue(request("new")).await;
    assert!(knows(&it, &used).await && knows(&it, &new).await);
    let held: Vec<_> = uses(&it).await.iter().map(|held| held.keys).collect();
    assert_eq!(held, [1, 2]);
    let rotated: Vec<_> = it.audit().await.into_iter().map(|(event, _)| event).collect();
    assert_eq!(rotated.iter().filter(|event| *event == "SECRET_KEY_ROTATED").count(), 1);
    let database = it.stop().await;

    // Without the previous one, what has moved is known and what has not is not.
    let it = serve(database, 2, None).await;
    assert!(knows(&it, &used).await && knows(&it, &new).await);
    assert!(!knows(&it, &asleep).await);
    let database = it.stop().await;
    // With it again, nothing was lost.
    let it = serve(database, 2, Some(1)).await;
    assert!(knows(&it, &asleep).await);
    until(async || uses(&it).await.len() == 1).await;
    it.stop().await;
}

async fn load(database: &Database, secret: u8, previous: Option<u8>) -> Result<(), SecretKeyFault> {
    let config = with(database, secret, previous, 1000);
    let (store, clock) = (database.open().await, ManualClock::at(START));
    let started = async {
        let secrets = secret_key::load(&config, &*store, &SystemRandom).await?;
        secret_key::rotate(&secrets, &*store, &clock).await
    };
    let started = started.await;
    store.close().await;
    started
}

#[tokio::test]
async fn a_wrong_secret_key_is_refused_whatever_the_previous_one_is() {
    let it = serve(Database::new().await, 1, None).await;
    it.issue(request("a")).await;
    let database = it.stop().await;
    for (secret, previous) in [(2, None), (2, Some(3)), (3, Some(2))] {
        let refused = load(&database, secret, previous).await;
        assert!(matches!(refused, Err(SecretKeyFault::Another)), "{secret} {previous:?}");
    }
    load(&database, 1, Some(3)).await.expect("the right one");
    load(&database, 2, Some(1)).await.expect("rotated");
    assert!(matches!(load(&database, 1, None).await, Err(SecretKeyFault::Another)));
    // And back.
    load(&database, 1, Some(2)).await.expect("rotated back");
}

#[tokio::test]
async fn a_command_in_a_shell_with_other_settings_rotates_nothing() {
    let it = serve(Database::new().await, 1, None).await;
    it.issue(request("a")).await;
    let database = it.stop().await;
    load(&database, 2, Some(1)).await.expect("rotated");
    let store = database.open().await;
    let shell = with(&database, 1, Some(2), 1000);
    secret_key::load(&shell, &*store, &SystemRandom).await.expect("both are known");
    store.close().await;
    assert!(matches!(load(&database, 1, None).await, Err(SecretKeyFault::Another)));
    load(&database, 2, None).await.expect("still the one");
}

#[tokio::test]
async fn a_second_rotation_waits_for_the_keys_that_the_first_has_not_moved() {
    let it = serve(Database::new().await, 1, None).await;
    let (_, text) = it.issue(request("a")).await;
    let database = it.stop().await;
    load(&database, 2, Some(1)).await.expect("rotated");
    let refused = load(&database, 3, Some(2)).await;
    assert!(matches!(refused, Err(SecretKeyFault::WouldBeLost(1))), "{refused:?}");

    let it = serve(database, 2, Some(1)).await;
    assert!(knows(&it, &text).await);
    let current = it.service.verifier.lookup.name;
    until(async || uses(&it).await[0].secret == current).await;
    let database = it.stop().await;
    load(&database, 3, Some(2)).await.expect("rotated");
}

/// A fleet is changed one process after another: those that have the new secret key only as the
/// other one that they accept go on as before.
#[tokio::test]
async fn processes_with_the_two_secret_keys_the_other_way_round_know_each_others_keys() {
    let it = serve(Database::new().await, 1, Some(2)).await;
    let (_, old) = it.issue(request("old")).await;
    let database = it.database.copy_of_place();
    let other =
        TestService::start_on(database, with(&it.database, 2, Some(1), 1000), TestKeys::Off);
    let other = other.await;
    let (_, new) = other.issue(request("new")).await;
    for one in [&it, &other] {
        assert!(knows(one, &old).await && knows(one, &new).await);
    }
    // What counts is the one that the database names.
    let current = other.service.verifier.lookup.name;
    until(async || matches!(&uses(&it).await[..], [held] if held.secret == current)).await;
    for one in [&it, &other] {
        assert!(knows(one, &old).await && knows(one, &new).await);
    }
}

#[tokio::test]
async fn a_key_is_hashed_anew_when_hashes_have_become_dearer_and_never_when_cheaper() {
    let database = Database::new().await;
    let cheap = with(&database, 1, None, 1000);
    let it = TestService::start_on(database, cheap, TestKeys::Off).await;
    let (key, text) = it.issue(request("a")).await;
    assert_eq!(hash_of(&it, &key, &text).await, 1000);
    let database = it.stop().await;

    let dear = with(&database, 1, None, 3000);
    let it = TestService::start_on(database, dear, TestKeys::Off).await;
    let before = it.service.pool.hashed();
    assert!(knows(&it, &text).await);
    until(async || hash_of(&it, &key, &text).await == 3000).await;
    // One to verify, one to store, and one more for who looks after the row is there and before it
    // is remembered; from then on none.
    until(async || knows(&it, &text).await).await;
    let hashed = it.service.pool.hashed();
    assert!((before + 2..=before + 3).contains(&hashed), "{hashed} after {before}");
    assert!(knows(&it, &text).await);
    assert_eq!(it.service.pool.hashed(), hashed);
    let database = it.stop().await;

    let cheap = with(&database, 1, None, 1000);
    let it = TestService::start_on(database, cheap, TestKeys::Off).await;
    assert!(knows(&it, &text).await);
    let (other, other_text) = it.issue(request("b")).await;
    assert_eq!(hash_of(&it, &other, &other_text).await, 1000);
    assert_eq!(hash_of(&it, &key, &text).await, 3000);
    it.stop().await;
}

#[tokio::test]
async fn a_key_is_known_though_its_row_is_hashed_anew_while_it_is_verified() {
    let it = serve(Database::new().await, 1, None).await;
    let (_, text) = it.issue(request("a")).await;
    let verifier = &it.service.verifier;
    let key = Arc::new(PresentedKey::new(text.as_bytes()).expect("short enough"));
    let digest = verifier.lookup.lookup.lookup(key.expose());
    let old = it.service.store.look_up(&[digest]).await.expect("read");
    let old = old.first_of(&[digest]).expect("right").expect("found");
    let mut new = old.clone();
    new.secret.recipe = HashRecipe::current(Iterations::new(2000).expect("enough"), [3; 16]);
    new.secret.digest =
        it.service.pool.hash(Arc::clone(&key), new.secret.recipe).await.expect("hashed");
    // Those who have read the row before and after, at the same time and again and again.
    for _ in 0..20 {
        let (mut first, mut second) = (Compared::Not, Compared::Not);
        let both = tokio::join!(
            verifier.confirm(Instant::now(), &key, &old, &mut first),
            verifier.confirm(Instant::now(), &key, &new, &mut second)
        );
        assert!(matches!(both, (Ok(true), Ok(true))));
    }
}

#[tokio::test]
async fn a_flood_of_unknown_keys_and_of_wrong_secrets_for_known_ids_costs_no_hash() {
    for previous in [None, Some(1)] {
        let it = serve(Database::new().await, 2, previous).await;
        let (key, text) = it.issue(request("a")).await;
        let before = it.service.pool.hashed();
        let policy = key_policy::Policy::default();
        let fill = |bytes: &mut [u8]| crate::random::Random::fill(&SystemRandom, bytes);
        for _ in 0..500 {
            let made = policy.generate(key_policy::Environment::Live, &mut { fill });
            let unknown = made.expect("a key").text;
            assert_eq!(outcome(&it, &unknown).await, Outcome::Unknown);
            // The same id with another secret; its checksum does not matter here.
            let known_id = text.replacen(&text[25..], &unknown[25..], 1);
            assert!(known_id.contains(&key.key_id.to_string()));
            assert_eq!(outcome(&it, &known_id).await, Outcome::Unknown);
        }
        assert_eq!(it.service.pool.hashed(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_answered_in_time_while_health_and_verified_keys_go_on() {
    let database = Database::new().await;
    let slow = with(&database, 1, None, Iterations::MOST);
    let it = TestService::start_on(database, slow, TestKeys::Off).await;
    let (_, known) = it.issue(NewKeyRequest { scope: Scope::Admin, ..request("a") }).await;
    let (_, fresh) = it.issue(request("b")).await;
    let (_, busy) = it.issue(request("c")).await;
    assert!(knows(&it, &known).await);

    // One hash of seconds keeps the only thread.
    let service = Arc::clone(&it.service);
    let mut running = tokio::task::JoinSet::new();
    running.spawn(async move {
        let key = PresentedKey::new(busy.as_bytes()).expect("short enough");
        service.verifier.verify(key).await.map(drop)
    });
    until(async || it.service.pool.busy()).await;

    let started = Instant::now();
    let body = serde_json::json!({"key": fresh}).to_string();
    let ask = Request::post(edge_protocol::VERIFY_PATH)
        .header("authorization", format!("Bearer {EDGE_TOKEN}"))
        .header("content-type", "application/json")
        .body(Body::from(body))
        .expect("a request");
    let answer = send(&it.edge, ask).await;
    let took = started.elapsed();
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("1")));
    // What it decides within is held by the pool's own tests, by a clock that no load disturbs: this
    // is how long a filter waits.
    assert!(took < Duration::from_secs(1), "{took:?}");

    let health = Request::get("/health").body(Body::empty()).expect("a request");
    assert_eq!(send(&it.admin, health).await.status, 200);
    assert!(knows(&it, &known).await);
    let list = Request::get("/api/v1/admin/api-keys/").header("x-api-key", &known);
    let listed = send(&it.admin, list.body(Body::empty()).expect("a request")).await;
    assert_eq!(listed.status, 200);
    assert!(it.service.pool.busy(), "all that happened while the thread was taken");
}
