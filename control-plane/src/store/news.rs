//! What this process knows of the change feed, and tells those who watch.

use edge_protocol::Position;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// The feed as it was last seen.
#[derive(Debug)]
pub(super) struct News {
    /// The epoch; answers take theirs from their own snapshot of the database.
    epoch: Mutex<String>,
    sequence: watch::Sender<u64>,
}

impl News {
    /// Begins with what the database says.
    pub(super) fn new(position: Position) -> Self {
        let (sequence, _) = watch::channel(position.sequence);
        Self { epoch: Mutex::new(position.epoch), sequence }
    }

    /// For those who watch.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    /// The last change that is known of.
    pub(super) fn known(&self) -> u64 {
        *self.sequence.borrow()
    }

    /// Tells those who watch, after a commit.
    pub(super) fn publish(&self, sequence: u64) {
        self.sequence.send_if_modified(|known| {
            let news = sequence > *known;
            if news {
                *known = sequence;
            }
            news
        });
    }

    /// Takes over what the database says now; `known` is what was [known](Self::known) before it
    /// was asked, so that our own commits in between only raise what it says. When it has gone
    /// back, this gives the epoch that must not go on: an older copy was put in place, and its next
    /// changes would be taken for those that were told already.
    #[must_use]
    pub(super) fn take(&self, known: u64, position: &Position) -> Option<String> {
        let held = self.epoch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if position.epoch != held {
            tracing::warn!(before = known, now = position.sequence, "the database is another one");
            self.begin_anew(position.clone());
        } else if position.sequence < known {
            tracing::warn!(
                before = known,
                now = position.sequence,
                "the database is older than it was; filters start anew"
            );
            return Some(held);
        } else {
            self.publish(position.sequence);
        }
        None
    }

    /// Goes on from a position of another epoch.
    pub(super) fn begin_anew(&self, position: Position) {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) = position.epoch;
        self.sequence.send_replace(position.sequence);
    }
}
