//! Whoever changes the audit log behind the service's back is found out.
//!
//! A backend runs all of it with `tampering::suite!(fresh)`, where `fresh().await` gives an empty
//! store and an [`Attacker`] who has its database.

mod hashes;
mod retention;
mod rows;

pub(crate) use hashes::*;
pub(crate) use retention::*;
pub(crate) use rows::*;

use async_trait::async_trait;
use edge_protocol::EventKind;
use std::sync::Arc;

use super::{at, batch_of};
use crate::{
    audit::{
        AuditEntry,
        chain::{
            check::{Anchors, Trust, Verified},
            checkpoint::{Checkpoint, Reason},
            fault::Fault,
        },
        keeper::Keeper,
        signer::AuditSigner,
        verify::{Scope, verify},
    },
    clock::testing::ManualClock,
    config::AuditConfig,
    store::Store,
};

/// Someone with all rights on the database.
#[async_trait]
pub(crate) trait Attacker: Send + Sync {
    /// Runs a statement under the rules that everybody is under.
    async fn try_run(&self, statement: &str) -> Result<u64, sqlx::Error>;

    /// Takes the rules away.
    async fn disarm(&self);

    /// Bytes as a literal.
    fn blob(&self, bytes: &[u8]) -> String;

    /// Runs a statement, which must change something.
    async fn run(&self, statement: &str) {
        let changed = self.try_run(statement).await;
        assert!(changed.as_ref().is_ok_and(|rows| *rows > 0), "{statement}: {changed:?}");
    }
}

/// Makes a test of each guarantee.
macro_rules! suite {
    ($fresh:path) => {
        $crate::store::conformance::tampering::suite!(@ $fresh:
            an_untouched_log_is_found_whole,
            an_edited_row_is_named_whichever_column_it_is,
            a_deleted_row_is_named,
            an_inserted_row_is_named,
            swapped_rows_are_named,
            what_was_slipped_in_hides_no_rows,
            a_cut_off_end_is_found_though_the_head_is_set_back,
            an_edited_end_and_a_checkpoint_of_what_is_not_kept_are_told_apart,
            a_cut_off_beginning_is_found,
            a_rewritten_batch_does_not_fit_the_next_one,
            a_log_rewritten_to_its_end_contradicts_the_checkpoint,
            forged_edited_and_deleted_checkpoints_are_found,
            the_rules_forbid_changes_to_log_batches_and_checkpoints,
            what_is_retired_goes_and_the_rest_still_verifies,
            nothing_is_retired_that_was_tampered_with,
            nothing_goes_because_of_a_mark_that_is_not_ours,
            keys_that_signed_before_are_believed_when_they_are_named,
            a_forged_checkpoint_does_not_keep_the_log_from_being_signed,
            nothing_is_put_where_something_was_retired,
            writers_at_the_same_time_make_one_chain,
            many_events_are_stored_and_looked_through_whole,
        );
    };
    (@ $fresh:path: $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (store, attacker) = $fresh().await;
                $crate::store::conformance::tampering::$name(store, &attacker).await;
            }
        )+
    };
}
pub(crate) use suite;

fn clock() -> ManualClock {
    ManualClock::at("2027-01-15T12:00:00Z")
}

fn signer(seed: u8) -> AuditSigner {
    AuditSigner::from_seed([seed; 32])
}

fn keeper(store: &Arc<dyn Store>, clock: &ManualClock, seed: u8) -> Keeper {
    let clock = Arc::new(clock.clone());
    Keeper::new(Arc::clone(store), clock, signer(seed), Vec::new(), AuditConfig::default())
}

async fn checkpoint(store: &Arc<dyn Store>) -> Checkpoint {
    let made = keeper(store, &clock(), 1).checkpoint(Reason::Periodic).await.expect("made");
    made.expect("news")
}

async fn append(store: &dyn Store, batch: u64, millis: i64, details: &[&str]) {
    let entry = |details: &&str| {
        let mut entry = AuditEntry::of(EventKind::InvalidKey, at(millis), *details);
        entry.event.client_ip = Some("192.0.2.1".parse().expect("an address"));
        entry
    };
    let entries: Vec<_> = details.iter().map(entry).collect();
    store.append_batch(&batch_of("filter", batch, at(millis), &entries)).await.expect("written");
}

/// Batches 1 to 4 of three rows each, and a checkpoint after the third.
async fn filled(store: &Arc<dyn Store>) -> Checkpoint {
    for (number, millis) in (1..=3).zip(0..) {
        append(&**store, number, millis, &["a", "b", "c"]).await;
    }
    let made = checkpoint(store).await;
    append(&**store, 4, 9, &["a", "b", "c"]).await;
    made
}

async fn look(store: &Arc<dyn Store>, anchor: Option<&Checkpoint>) -> Result<Verified, Fault> {
    let known = anchor.map(|it| (it.statement.sequence, it.statement.hash));
    let scope = Scope {
        trust: Trust::Keys(vec![signer(1).public_key()]),
        anchors: known.into_iter().collect::<Anchors>(),
        up_to: None,
    };
    verify(&**store, &scope, &mut |_| {}).await.expect("it can be read")
}
