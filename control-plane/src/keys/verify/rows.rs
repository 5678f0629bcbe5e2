//! Reading the rows of presented keys: of all that are asked about while the database answers, in one
//! statement.

use edge_protocol::Position;
use std::{sync::Arc, time::Duration};

use crate::{
    gather::{AnswersMany, Bounds, Gather, Spare},
    keys::{StoredKey, digest::LookupDigest},
    store::{Store, StoreError},
};

/// As many questions fit into a statement that takes a millisecond or two. One that takes far longer
/// does not hold up everybody.
const BOUNDS: Bounds =
    Bounds { weight: 64, spare: Some(Spare { after: Duration::from_millis(20), rounds: 2 }) };
/// A round that takes longer has lost its connection on the network; filters wait no longer than
/// this for the answer.
const LOST_AFTER: Duration = Duration::from_secs(1);

/// A key's row, and where the feed stood when it was read.
pub(super) struct Found {
    /// The feed's position, of the same snapshot as the row.
    pub as_of: Position,
    /// The key, if there is one.
    pub stored: Option<StoredKey>,
}

/// The rows of keys, for many who ask at once.
pub(super) struct Rows(Gather<Reader>);

impl Rows {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(Gather::new(Reader(store), BOUNDS))
    }

    /// The key of the first of these digests that there is a key of.
    ///
    /// # Errors
    /// When the database does not say.
    pub(super) async fn read(&self, digests: Vec<LookupDigest>) -> Result<Found, StoreError> {
        self.0.ask(digests).await?
    }
}

struct Reader(Arc<dyn Store>);

impl AnswersMany for Reader {
    type Question = Vec<LookupDigest>;
    type Answer = Result<Found, StoreError>;

    async fn answer(&self, questions: Vec<Self::Question>) -> Vec<Self::Answer> {
        let digests = questions.concat();
        let lookup = tokio::time::timeout(LOST_AFTER, self.0.look_up(&digests)).await;
        let lookup = lookup.unwrap_or_else(|_| Err(StoreError::lost()));
        let answer = |digests: &Vec<LookupDigest>| {
            let lookup = lookup.as_ref().map_err(Clone::clone)?;
            Ok(Found { as_of: lookup.as_of.clone(), stored: lookup.first_of(digests)? })
        };
        questions.iter().map(answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;
    use std::io::ErrorKind;

    use super::*;
    use crate::testing::Database;

    #[tokio::test]
    async fn statements_that_take_too_long_are_let_go_and_the_next_is_told() {
        let database = Database::postgres().await;
        let rows = Rows::new(database.open().await);
        let mut other = database.connect_to_postgres().await;
        let held = "BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE";
        other.execute(held).await.expect("held");
        // In each of the rounds one: the second does not wait for the end of the first.
        let asked = tokio::time::Instant::now();
        let (one, two) = tokio::join!(rows.read(vec![[1; 16]]), rows.read(vec![[2; 16]]));
        for told in [one, two] {
            let Some(StoreError::Database(error)) = told.err() else { panic!("told") };
            // Here, before the server gives up.
            let is_ours =
                matches!(&*error, sqlx::Error::Io(it) if it.kind() == ErrorKind::TimedOut);
            assert!(is_ours, "{error}");
        }
        assert!(asked.elapsed() < 2 * LOST_AFTER);
        other.execute("COMMIT").await.expect("let go");
        assert!(rows.read(vec![[3; 16]]).await.expect("told").stored.is_none());
    }
}
