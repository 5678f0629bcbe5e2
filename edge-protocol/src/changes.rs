//! The feed of what has changed about keys.

use serde::{Deserialize, Serialize};

/// A place in the change feed. Positions of different epochs cannot be compared: an epoch is the
/// life of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The database's own name, hex digits.
    pub epoch: String,
    /// How many changes there have been; the feed has no holes.
    pub sequence: u64,
}

/// The query of a long poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesQuery {
    /// The epoch that `since` belongs to; absent on the first poll, which is answered at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Changes after this sequence are wanted.
    #[serde(default)]
    pub since: u64,
    /// How long the control plane may hold the answer when there is no news, in milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What happened since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesAnswer {
    /// Where the feed stands after these changes.
    pub position: Position,
    /// True when the changes since the asked position cannot be told (another epoch, or too long
    /// ago): all that was cached must be dropped. `changes` is empty then.
    pub reset: bool,
    /// The changes, oldest first, at most 1000; more follow on the next poll.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its place in the feed.
    pub sequence: u64,
    /// The key it is about.
    pub key_id: String,
    /// What happened.
    pub kind: ChangeKind,
    /// When it was committed, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// A key that was unknown is known now.
    Created,
    /// Scope, limits, addresses, expiry or the like.
    Updated,
    /// The key is over.
    Revoked,
}
