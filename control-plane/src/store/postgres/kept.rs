//! Connections that are kept from one statement to the next.
//!
//! A connection that comes back to its pool is asked whether it is alive, by us and once more by sqlx.
//! For most work that is little. A look-up of keys is a single statement, and the most frequent one of
//! all: the questions would take twice as many trips to the server as the statements.

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

use super::DOUBT_AFTER;

/// As many look-ups as there may be at a time (`keys/verify/rows.rs`).
const MOST: u32 = 2;
/// A connection goes back after this, so that the pool can replace what has become old.
const KEEP_FOR: Duration = Duration::from_mins(1);

/// Some of a pool's connections, which count there as being in use.
pub(super) struct KeptConnections {
    pool: PgPool,
    /// How many are kept at most: most of the pool is for all others who read.
    most: usize,
    waiting: Mutex<Vec<Kept>>,
}

/// A connection for one statement. It goes back to the pool unless it is [kept](KeptConnections::keep) after that:
/// what a statement that failed or was let go of has left behind is the pool's to find out.
pub(super) struct Kept {
    connection: PoolConnection<Postgres>,
    since: Instant,
    used: Instant,
}

impl KeptConnections {
    pub(super) fn of(pool: PgPool) -> Self {
        let most = (pool.options().get_max_connections() / 4).min(MOST);
        let most = usize::try_from(most).unwrap_or(0);
        Self { pool, most, waiting: Mutex::default() }
    }

    /// One that waits, or else one of the pool's. Those that are old or doubtful go back first.
    ///
    /// # Errors
    /// When the pool has none in time.
    pub(super) async fn take(&self) -> Result<Kept, sqlx::Error> {
        let now = Instant::now();
        let waiting = {
            let mut waiting = self.waiting();
            waiting.retain(|kept| kept.is_good(now));
            waiting.pop()
        };
        match waiting {
            Some(kept) => Ok(kept),
            None => Ok(Kept { connection: self.pool.acquire().await?, since: now, used: now }),
        }
    }

    /// Keeps one for the next statement.
    pub(super) fn keep(&self, mut kept: Kept) {
        let mut waiting = self.waiting();
        if waiting.len() < self.most && !self.pool.is_closed() {
            kept.used = Instant::now();
            waiting.push(kept);
        }
    }

    /// How many wait for work.
    pub(super) fn idle(&self) -> usize {
        self.waiting().len()
    }

    /// Gives all of them back. To be called once the pool takes no more work: it ends when it has them.
    pub(super) fn give_back(&self) {
        self.waiting().clear();
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeptConnections {
    /// Those that were not given back end here: the way to the pool takes a runtime.
    fn drop(&mut self) {
        for kept in self.waiting().drain(..) {
            drop(kept.connection.detach());
        }
    }
}

impl Kept {
    fn is_good(&self, now: Instant) -> bool {
        now - self.used < DOUBT_AFTER && now - self.since < KEEP_FOR
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Executor;

    use super::*;
    use crate::{
        config::DatabaseUrl,
        store::{KeyStore, SettingsStore, postgres::PostgresStore},
        testing::Database,
    };

    async fn store(database: &Database) -> PostgresStore {
        let DatabaseUrl::Postgres(config) = &database.url else { panic!("another database") };
        PostgresStore::open(config).await.expect("open")
    }

    async fn backend(connection: &mut PgConnection) -> i32 {
        sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(connection).await.expect("a number")
    }

    #[tokio::test]
    async fn a_connection_stays_until_it_is_doubtful_or_old() {
        let database = Database::postgres().await;
        let store = store(&database).await;
        let first = {
            let mut kept = store.lookups.take().await.expect("a connection");
            let backend = backend(kept.connection()).await;
            store.lookups.keep(kept);
            backend
        };
        assert_eq!(store.lookups.idle(), 1);
        let mut kept = store.lookups.take().await.expect("a connection");
        assert_eq!(backend(kept.connection()).await, first);
        kept.since -= KEEP_FOR;
        store.lookups.keep(kept);
        let young = store.lookups.take().await.expect("a connection");
        assert!(young.since.elapsed() < KEEP_FOR);
        store.lookups.keep(young);
        if let Some(waiting) = store.lookups.waiting().first_mut() {
            waiting.used -= DOUBT_AFTER;
        }
        let fresh = store.lookups.take().await.expect("a connection");
        assert!(fresh.used.elapsed() < DOUBT_AFTER);
        assert_eq!(store.lookups.idle(), 0);
    }

    #[tokio::test]
    async fn what_is_kept_counts_as_idle_and_holds_up_no_end() {
        let database = Database::postgres().await;
        let store = store(&database).await;
        let (one, two, three) =
            tokio::join!(store.look_up(&[]), store.look_up(&[]), store.look_up(&[]));
        for answer in [one, two, three] {
            answer.expect("an answer");
        }
        assert_eq!(store.lookups.idle(), 2);
        // The third comes back in its own time.
        let readers =
            || store.pools().into_iter().find(|it| it.name == "readers").expect("readers");
        let idle = async {
            while readers().in_use > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), idle).await.expect("idle");
        tokio::time::timeout(Duration::from_secs(10), store.close()).await.expect("closed");
        assert_eq!(store.lookups.idle(), 0);
    }

    #[test]
    fn a_store_that_was_not_closed_can_go_when_its_runtime_has_gone() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let (database, store) = runtime.block_on(async {
            let database = Database::postgres().await;
            let store = store(&database).await;
            store.look_up(&[]).await.expect("an answer");
            (database, store)
        });
        assert_eq!(store.lookups.idle(), 1);
        drop(runtime);
        drop(store);
        drop(database);
    }

    #[tokio::test]
    async fn a_connection_that_has_failed_is_not_kept() {
        let database = Database::postgres().await;
        let store = store(&database).await;
        store.look_up(&[]).await.expect("an answer");
        assert_eq!(store.lookups.idle(), 1);
        let mut other = database.connect_to_postgres().await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()";
        other.execute(end).await.expect("ended");
        assert!(store.look_up(&[]).await.is_err());
        assert_eq!(store.lookups.idle(), 0);
        let again = async { while store.look_up(&[]).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(10), again).await.expect("an answer");
    }
}
