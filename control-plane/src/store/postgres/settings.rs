//! Settings on `PostgreSQL`.

use async_trait::async_trait;

use super::{PostgresStore, StoreError};
use crate::store::{SettingsStore, pools::PoolState};

#[async_trait]
impl SettingsStore for PostgresStore {
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?)
    }

    async fn setting_or_insert(&self, name: &str, value: &str) -> Result<String, StoreError> {
        // The update changes nothing; it makes RETURNING give the row that was there.
        Ok(sqlx::query_scalar(
            "INSERT INTO settings AS known (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = known.value RETURNING value",
        )
        .bind(name)
        .bind(value)
        .fetch_one(&self.writers)
        .await?)
    }

    fn writes_fail(&self) -> bool {
        self.writes.is_failing()
    }

    fn pools(&self) -> Vec<PoolState> {
        vec![
            PoolState::of("readers", &self.pool).with_idle(self.lookups.idle()),
            PoolState::of("writers", &self.writers),
            PoolState::of("changes", &self.ears),
        ]
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM settings LIMIT 1").execute(&self.pool).await?;
        Ok(())
    }

    async fn close(&self) {
        self.ears.close().await;
        self.writers.close().await;
        let closed = self.pool.close();
        self.lookups.give_back();
        closed.await;
    }
}
