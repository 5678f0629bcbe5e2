//! Settings on `SQLite`.

use async_trait::async_trait;

use super::{SqliteStore, StoreError};
use crate::store::{SettingsStore, pools::PoolState};

#[async_trait]
impl SettingsStore for SqliteStore {
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(sqlx::query_scalar("SELECT value FROM settings WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await?)
    }

    async fn setting_or_insert(&self, name: &str, value: &str) -> Result<String, StoreError> {
        // The update changes nothing; it makes RETURNING give the row that was there.
        Ok(sqlx::query_scalar(
            "INSERT INTO settings (name, value) VALUES (?, ?)
             ON CONFLICT (name) DO UPDATE SET value = value RETURNING value",
        )
        .bind(name)
        .bind(value)
        .fetch_one(&self.writer)
        .await?)
    }

    fn writes_fail(&self) -> bool {
        self.writes.is_failing()
    }

    fn pools(&self) -> Vec<PoolState> {
        vec![PoolState::of("writer", &self.writer), PoolState::of("readers", &self.readers)]
    }

    async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1 FROM settings LIMIT 1").execute(&self.readers).await?;
        Ok(())
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
