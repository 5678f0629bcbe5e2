//! What filters follow.

use async_trait::async_trait;
use edge_protocol::{Change, Position};
use jiff::Timestamp;
use tokio::sync::watch;

use super::StoreError;

/// Changes after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These, oldest first; empty: none.
    Since(Vec<Change>),
    /// They cannot be told any more, or that position has never been.
    Unknown,
}

/// The change feed.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// Where the feed stands.
    async fn position(&self) -> Result<Position, StoreError>;

    /// At most `limit` changes after `since`, and where the feed stands, of one snapshot.
    async fn changes(&self, since: u64, limit: u32) -> Result<(Position, Changes), StoreError>;

    /// Drops the oldest changes, a portion of them: up to the first of `before` or later, and all but
    /// the newest `most`. The last change stays in any case. Whoever asks for what was dropped is
    /// told [`Changes::Unknown`]. Says how many it dropped.
    async fn drop_changes(&self, before: Timestamp, most: u32) -> Result<u64, StoreError>;

    /// The sequence of the last change that this process knows of. It is told of its own changes
    /// as they are committed, of others' by [`ChangeFeed::refresh`].
    fn watch(&self) -> watch::Receiver<u64>;

    /// Looks for changes that other processes have made, also for another database in the place
    /// of the one before: when the sequence has fallen, the feed gets a new epoch.
    async fn refresh(&self) -> Result<(), StoreError>;

    /// Follows what the database itself tells of changes, for as long as that works; one that
    /// tells nothing is waited for without an end. It is faster than looking again and again, and
    /// nothing depends on it.
    async fn listen(&self) -> Result<(), StoreError> {
        std::future::pending().await
    }
}
