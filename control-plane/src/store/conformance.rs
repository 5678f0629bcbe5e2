//! What every store must hold to, whatever is behind it.
//!
//! A backend runs all of it with `store::conformance::suite!(fresh)`, where `fresh().await` gives
//! an empty store and something that keeps it alive.

mod audit;
mod changes;
mod counts;
mod credentials;
mod feed;
mod filters;
mod jobs;
mod keys;
mod once;
mod rotation;
pub(crate) mod tampering;
mod totp;
mod usage;

pub(crate) use audit::*;
pub(crate) use changes::*;
pub(crate) use counts::*;
pub(crate) use credentials::*;
pub(crate) use feed::*;
pub(crate) use filters::*;
pub(crate) use jobs::*;
pub(crate) use keys::*;
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
    AuditFilter, Changes, FilterBatch, Revocation, RevokeGuard, RevokeRequest, Store,
    cursor::KeyCursor,
    key_filter::{KeyFilter, KeyQuery},
};
use crate::{
    audit::{Actor, AuditEntry},
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
            many_keys_are_found_at_once,
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
            rows_of_a_key_or_a_client_are_found_wherever_they_are_in_the_log,
            a_batch_is_stored_exactly_once,
            concurrent_repeats_of_a_batch_store_it_once,
            the_feed_has_no_holes_under_concurrent_changes,
            the_feed_tells_what_followed_a_position,
            who_asks_for_changes_that_were_dropped_starts_anew,
            a_filter_that_is_gone_is_forgotten,
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
            a_factor_is_drawn_and_taken_away_with_an_entry,
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

pub(crate) fn entry(kind: EventKind, number: u64) -> AuditEntry {
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

/// The key that is looked up by the digest of this number.
async fn found_at(store: &dyn Store, number: u64) -> Option<StoredKey> {
    let lookup = store.look_up(&[digest(number)]).await.expect("read");
    lookup.first_of(&[digest(number)]).expect("right")
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

pub(crate) async fn the_first_value_of_a_setting_stays(store: Arc<dyn Store>) {
    assert_eq!(store.setting("x").await.expect("read"), None);
    assert_eq!(store.setting_or_insert("x", "1").await.expect("written"), "1");
    assert_eq!(store.setting_or_insert("x", "2").await.expect("written"), "1");
    assert_eq!(store.setting("x").await.expect("read").as_deref(), Some("1"));
    store.ping().await.expect("it answers");
}
