//! What every store must hold to, whatever is behind it.
//!
//! A backend runs all of it with `store::conformance::suite!(fresh)`, where `fresh().await` gives
//! an empty store and something that keeps it alive.

mod changes;
mod counts;
mod credentials;
mod filters;
mod jobs;
mod once;
mod rotation;
pub(crate) mod tampering;
mod totp;
mod usage;

pub(crate) use changes::*;
pub(crate) use counts::*;
pub(crate) use credentials::*;
pub(crate) use filters::*;
pub(crate) use jobs::*;
pub(crate) use once::*;
pub(crate) use rotation::*;
pub(crate) use totp::*;
pub(crate) use usage::*;

use edge_protocol::{
    Algorithm, ChangeKind, EventKind, KeyEnvironment, KeyLimit, OnOutage, Reach, Scope,
};
use jiff::Timestamp;
use key_policy::KeyId;
use std::sync::Arc;

use super::{
    AuditFilter, BatchOutcome, Changes, FilterBatch, Revocation, RevokeGuard, RevokeRequest, Store,
    cursor::KeyCursor,
    key_filter::{KeyFilter, KeyQuery},
};
use crate::{
    audit::{Actor, AuditEntry, OWN_SOURCE},
    keys::{
        Key, StoredKey,
        digest::SecretName,
        hashing::{HashAlgorithm, HashRecipe, SecretHash},
        import::PolicyOverride,
    },
};

/// Makes a test of each guarantee.
macro_rules! suite {
    ($fresh:path) => {
        $crate::store::conformance::suite!(@ $fresh:
            a_key_comes_back_as_it_was_added,
            a_key_is_found_by_its_digest_and_by_no_other,
            adding_a_key_logs_and_publishes_it_or_does_nothing_at_all,
            a_revocation_is_once_and_for_good,
            the_last_usable_admin_key_is_kept_when_asked_for,
            a_change_is_made_to_the_version_it_was_decided_on,
            a_revoked_key_is_changed_no_more,
            of_concurrent_changes_to_one_version_one_is_made,
            no_change_ends_the_last_usable_admin_key,
            two_admins_who_end_each_other_at_once_leave_one,
            a_rotation_is_made_as_a_whole_and_once,
            a_revoked_key_is_not_rotated,
            of_concurrent_rotations_one_is_made,
            the_last_usable_admin_key_does_not_end_as_it_is_rotated,
            a_successor_that_nobody_used_is_no_other_admin_key,
            a_filter_gives_the_keys_that_meet_all_of_it,
            a_text_is_found_alike_by_every_database,
            pages_of_a_filter_have_no_gaps_and_no_repeats,
            keys_are_listed_newest_first_without_gaps_or_repeats,
            last_use_only_moves_forward,
            keys_are_counted_by_their_state,
            its_pools_are_shown_within_their_bounds,
            the_audit_log_is_read_newest_first_and_by_filter,
            a_batch_is_stored_exactly_once,
            concurrent_repeats_of_a_batch_store_it_once,
            the_feed_has_no_holes_under_concurrent_changes,
            the_feed_tells_what_followed_a_position,
            the_first_value_of_a_setting_stays,
            a_key_is_found_by_either_of_two_digests,
            a_key_moves_only_to_the_secret_key_that_the_database_names,
            a_hash_gives_way_only_to_a_dearer_one,
            keys_are_counted_by_the_secret_key_they_need,
            the_secret_keys_name_changes_once_and_is_logged,
            a_run_is_given_to_one_of_many,
            a_job_that_is_done_is_not_run_before_it_is_due_again,
            who_has_lost_a_run_can_neither_keep_nor_end_it,
            what_is_given_back_is_due_at_once,
            a_factor_waits_until_it_is_confirmed_once,
            each_code_is_accepted_once_however_many_come_at_once,
            a_code_that_only_waits_to_be_confirmed_opens_nothing,
            codes_that_come_at_once_are_counted_before_they_are_looked_at,
            a_factor_is_taken_away_with_an_entry_if_it_was_in_force,
            a_secret_is_sealed_anew_only_where_it_is_as_it_was_read,
            usage_adds_up_by_interval_method_and_outcome,
            a_batch_counts_its_usage_once_however_often_it_comes,
            filters_that_count_the_same_at_the_same_time_lose_nothing,
            a_batch_that_cannot_be_stored_leaves_neither_events_nor_usage,
            old_usage_goes_by_whole_days_and_the_rest_stays,
            a_request_makes_one_key_however_often_it_is_sent,
            a_key_that_is_not_made_leaves_its_request_unmade,
            those_who_send_a_request_at_once_make_one_key,
            a_request_is_forgotten_in_time,
            a_request_rotates_a_key_once_and_leaves_no_note_when_it_cannot,
            a_key_that_takes_the_place_of_another_shares_its_factor,
            a_factor_that_waits_is_not_shared,
        );
    };
    (@ $fresh:path: $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (store, _alive) = $fresh().await;
                $crate::store::conformance::$name(store).await;
            }
        )+
    };
}
pub(crate) use suite;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).expect("in range")
}

fn key_id(number: u64) -> KeyId {
    KeyId::from_u64(number)
}

fn digest(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

/// A key with something in every field.
fn stored(number: u64) -> StoredKey {
    let recipe = HashRecipe::new(HashAlgorithm::Pbkdf2HmacSha256, 1234, [7; 16]).expect("a recipe");
    StoredKey {
        key: Key {
            key_id: key_id(number),
            name: format!("key {number} – ключ"),
            description: Some("for the tests".to_owned()),
            owner: Some("team a".to_owned()),
            scope: Scope::Write,
            environment: KeyEnvironment::Test,
            is_active: true,
            allowed_ips: vec![
                "10.0.0.0/8".parse().expect("net"),
                "2001:db8::/32".parse().expect("net"),
            ],
            rate_limit: Some(KeyLimit {
                requests: 5,
                window_seconds: 60,
                algorithm: Algorithm::FixedWindow,
                reach: Reach::Envoy,
                on_outage: OnOutage::Allow,
            }),
            metadata: serde_json::from_str(r#"{"cost centre": 12, "tags": ["a", null]}"#)
                .expect("object"),
            created_at: at(0),
            expires_at: Some(at(1_000_000)),
            last_used_at: None,
            revoked_at: None,
            revoked_reason: None,
            version: 1,
            supersedes: None,
            superseded_by: None,
            rotated_at: None,
            policy_override: Some(PolicyOverride {
                reason: "a partner's key – \"as it is\"".to_owned(),
                faults: vec!["too_short".to_owned()],
            }),
        },
        lookup: digest(number),
        lookup_secret: SecretName::from_stored("00112233445566778899aabbccddeeff"),
        secret: SecretHash { recipe, digest: [9; 32] },
    }
}

fn admin(number: u64) -> StoredKey {
    let mut stored = stored(number);
    stored.key.scope = Scope::Admin;
    stored.key.environment = KeyEnvironment::Live;
    stored.key.expires_at = None;
    stored
}

fn entry(kind: EventKind, number: u64) -> AuditEntry {
    AuditEntry::by(&Actor::CommandLine, kind, key_id(number), at(0), "x=1")
}

async fn add(store: &dyn Store, stored: &StoredKey) {
    let entry = AuditEntry::by(
        &Actor::CommandLine,
        EventKind::KeyCreated,
        stored.key.key_id,
        stored.key.created_at,
        "",
    );
    store.add_key(stored, &entry).await.expect("added");
}

fn revoke(number: u64, guard: RevokeGuard) -> RevokeRequest {
    RevokeRequest { key_id: key_id(number), at: at(500), reason: Some("leaked".to_owned()), guard }
}

/// A filter's batch without usage.
pub(crate) fn batch_of(
    source: &str,
    batch: u64,
    at: Timestamp,
    entries: &[AuditEntry],
) -> FilterBatch {
    let (source, entries) = (source.to_owned(), entries.to_vec());
    FilterBatch { source, batch, at, entries, usage: Vec::new() }
}

async fn events(store: &dyn Store) -> Vec<EventKind> {
    let rows = store.audit_rows(&AuditFilter::default(), 1000).await.expect("rows");
    rows.iter().rev().map(|row| row.entry.event.kind).collect()
}

async fn key(store: &dyn Store, number: u64) -> Key {
    store.key(key_id(number)).await.expect("read").expect("there")
}

/// Keys, newest first, as they are at `at(0)`.
async fn page(
    store: &dyn Store,
    filter: KeyFilter,
    after: Option<KeyCursor>,
    limit: u32,
) -> Vec<Key> {
    store.keys(&KeyQuery { filter, now: at(0), after, limit }).await.expect("a page")
}

/// What the feed has told so far.
async fn told(store: &dyn Store) -> Vec<(String, ChangeKind)> {
    let (_, Changes::Since(changes)) = store.changes(0, 100).await.expect("read") else {
        panic!("unknown")
    };
    changes.into_iter().map(|change| (change.key_id, change.kind)).collect()
}

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
    let before = store.look_up(&digest(1)).await.expect("read");
    assert!(before.found.is_none());
    add(&*store, &key).await;
    let after = store.look_up(&digest(1)).await.expect("read");
    let found = after.found.expect("found");
    assert_eq!((found.key, found.lookup, found.secret), (key.key, key.lookup, key.secret));
    // The position is of the same moment as the row.
    assert_eq!((before.as_of.sequence, after.as_of.sequence), (0, 1));
    assert_eq!(before.as_of.epoch, after.as_of.epoch);
    assert!(store.look_up(&digest(2)).await.expect("read").found.is_none());
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

pub(crate) async fn the_audit_log_is_read_newest_first_and_by_filter(store: Arc<dyn Store>) {
    let mut full = entry(EventKind::IpDenied, 1);
    full.event.key_hash = Some("0123456789abcdef".to_owned());
    full.event.client_ip = Some("2001:db8::1".parse().expect("an address"));
    full.event.shadow = true;
    let bare = AuditEntry::of(EventKind::MissingApiKey, at(3), "");
    let entries = [full.clone(), bare.clone(), entry(EventKind::IpDenied, 2)];
    store.append(&entries).await.expect("written");

    let read = async |filter: AuditFilter, limit| {
        let rows = store.audit_rows(&filter, limit).await.expect("rows");
        rows.into_iter().map(|row| (row.id, row.entry)).collect::<Vec<_>>()
    };
    let all = read(AuditFilter::default(), 10).await;
    assert_eq!(
        all.iter().map(|(_, entry)| entry).rev().collect::<Vec<_>>(),
        entries.iter().collect::<Vec<_>>()
    );
    assert!(all.is_sorted_by(|one, other| one.0 > other.0));

    let by =
        |event, key_id, before| AuditFilter { event, key_id, before, ..AuditFilter::default() };
    assert_eq!(read(by(Some(EventKind::IpDenied), None, None), 10).await.len(), 2);
    assert_eq!(read(by(None, Some(key_id(1)), None), 10).await, [all[2].clone()]);
    assert_eq!(
        read(by(Some(EventKind::IpDenied), Some(key_id(2)), None), 10).await,
        [all[0].clone()]
    );
    assert_eq!(read(by(None, None, Some(all[0].0)), 1).await, [all[1].clone()]);
    assert_eq!(read(by(Some(EventKind::RateLimited), None, None), 10).await, []);
    let rows = store.audit_rows(&AuditFilter::default(), 1).await.expect("rows");
    assert_eq!(rows[0].source, OWN_SOURCE);

    store.append_batch(&batch_of("f", 1, at(9), &[bare])).await.expect("written");
    let none = AuditFilter::default();
    for (filter, count) in [
        (AuditFilter { client_ip: full.event.client_ip, ..none.clone() }, 1),
        (AuditFilter { client_ip: "192.0.2.9".parse().ok(), ..none.clone() }, 0),
        (AuditFilter { actor: Some("cli".to_owned()), ..none.clone() }, 2),
        (AuditFilter { source: Some("f".to_owned()), ..none.clone() }, 1),
        (AuditFilter { since: Some(at(3)), ..none.clone() }, 2),
        (AuditFilter { until: Some(at(3)), ..none.clone() }, 2),
        (AuditFilter { since: Some(at(1)), until: Some(at(3)), ..none.clone() }, 0),
        (AuditFilter { since: Some(at(0)), until: Some(at(4)), ..none.clone() }, 4),
        (AuditFilter { since: Some(at(3)), source: Some("f".to_owned()), ..none }, 1),
    ] {
        assert_eq!(read(filter.clone(), 10).await.len(), count, "{filter:?}");
    }
}

pub(crate) async fn a_batch_is_stored_exactly_once(store: Arc<dyn Store>) {
    let one = [entry(EventKind::InvalidKey, 1), entry(EventKind::InvalidKey, 2)];
    let append = async |source: &str, batch| {
        store.append_batch(&batch_of(source, batch, at(0), &one)).await.expect("taken")
    };
    assert_eq!(append("a", 1).await, BatchOutcome::Stored);
    assert_eq!(append("a", 1).await, BatchOutcome::Repeated);
    assert_eq!(append("b", 1).await, BatchOutcome::Stored);
    assert_eq!(append("a", 3).await, BatchOutcome::Stored);
    assert_eq!(append("a", 2).await, BatchOutcome::Repeated);
    let empty = batch_of("a", 4, at(0), &[]);
    assert_eq!(store.append_batch(&empty).await.expect("taken"), BatchOutcome::Stored);
    assert_eq!(events(&*store).await.len(), 6);
    let rows = store.audit_rows(&AuditFilter::default(), 1).await.expect("rows");
    assert_eq!(rows[0].source, "a");
}

pub(crate) async fn concurrent_repeats_of_a_batch_store_it_once(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let entries = [entry(EventKind::InvalidKey, 1)];
            store.append_batch(&batch_of("a", 1, at(0), &entries)).await.expect("taken")
        });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|it| **it == BatchOutcome::Stored).count(), 1);
    assert_eq!(events(&*store).await.len(), 1);
}

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

pub(crate) async fn the_first_value_of_a_setting_stays(store: Arc<dyn Store>) {
    assert_eq!(store.setting("x").await.expect("read"), None);
    assert_eq!(store.setting_or_insert("x", "1").await.expect("written"), "1");
    assert_eq!(store.setting_or_insert("x", "2").await.expect("written"), "1");
    assert_eq!(store.setting("x").await.expect("read").as_deref(), Some("1"));
    store.ping().await.expect("it answers");
}
