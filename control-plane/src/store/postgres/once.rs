//! Requests that are made once, on `PostgreSQL`.

use async_trait::async_trait;
use edge_protocol::ChangeKind;
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::{PgConnection, postgres::PgRow};

use super::{PostgresStore, StoreError, keys};
use crate::{
    audit::AuditEntry,
    keys::StoredKey,
    store::{
        once::{Claim, MadeRequest, OnceStore, RequestName},
        row::{self, Cells},
    },
};

const MADE: &str = "SELECT body, key_id FROM requests_made_once WHERE name = $1 AND at_ms >= $2";

fn read(row: &PgRow) -> Result<MadeRequest, StoreError> {
    Ok(MadeRequest {
        body: row::bytes(row, "body")?,
        key_id: row::parse(row.text("key_id")?, "key_id")?,
    })
}

/// Notes that the request makes this key, in the transaction that makes it. If it was made before,
/// nothing is noted, and what it made is told.
pub(super) async fn claim(
    connection: &mut PgConnection,
    claim: &Claim,
    key_id: KeyId,
) -> Result<Option<MadeRequest>, StoreError> {
    let noted = sqlx::query(
        "INSERT INTO requests_made_once AS made (name, body, key_id, at_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE
         SET body = excluded.body, key_id = excluded.key_id, at_ms = excluded.at_ms
         WHERE made.at_ms < $5",
    )
    .bind(claim.name.as_slice())
    .bind(claim.body.as_slice())
    .bind(key_id.to_string())
    .bind(claim.at.as_millisecond())
    .bind(claim.forgotten_before.as_millisecond())
    .execute(&mut *connection)
    .await?;
    if noted.rows_affected() == 1 {
        return Ok(None);
    }
    let made = sqlx::query(MADE)
        .bind(claim.name.as_slice())
        .bind(claim.forgotten_before.as_millisecond())
        .fetch_one(connection)
        .await?;
    read(&made).map(Some)
}

impl PostgresStore {
    async fn try_add_once(
        &self,
        key: &StoredKey,
        audit: &AuditEntry,
        asked: &Claim,
    ) -> Result<Option<MadeRequest>, StoreError> {
        let mut transaction = self.begin().await?;
        let before = claim(&mut transaction, asked, key.key.key_id).await?;
        if before.is_some() {
            return Ok(before);
        }
        keys::insert(&mut transaction, key).await?;
        let (key_id, at) = (key.key.key_id, key.key.created_at);
        self.commit(transaction, key_id, ChangeKind::Created, at, audit).await?;
        Ok(None)
    }
}

#[async_trait]
impl OnceStore for PostgresStore {
    async fn made_request(
        &self,
        name: &RequestName,
        since: Timestamp,
    ) -> Result<Option<MadeRequest>, StoreError> {
        let row = sqlx::query(MADE)
            .bind(name.as_slice())
            .bind(since.as_millisecond())
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(read).transpose()
    }

    async fn add_key_once(
        &self,
        key: &StoredKey,
        audit: &AuditEntry,
        claim: &Claim,
    ) -> Result<Option<MadeRequest>, StoreError> {
        self.writes.noted(self.try_add_once(key, audit, claim).await)
    }

    async fn forget_requests(&self, before: Timestamp) -> Result<u64, StoreError> {
        let deleted = sqlx::query("DELETE FROM requests_made_once WHERE at_ms < $1")
            .bind(before.as_millisecond())
            .execute(&self.writers)
            .await;
        self.writes.settled(deleted.map(|done| done.rows_affected()))
    }
}
