//! Keys on `PostgreSQL`.

use async_trait::async_trait;
use edge_protocol::ChangeKind;
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::{PgConnection, Postgres, QueryBuilder, Transaction};

use super::{PostgresStore, StoreError, audit, chain, feed, once, totp};
use crate::{
    audit::AuditEntry,
    keys::{Key, StoredKey, digest::LookupDigest},
    store::{
        KeyStore, Lookup, Revocation, RevokeRequest, RotateRequest, Rotation, Update,
        UpdateRequest,
        key_filter::KeyQuery,
        pools::KeyCounts,
        row::{self, key_columns, signed, to_json},
    },
};

pub(super) async fn insert(
    connection: &mut PgConnection,
    stored: &StoredKey,
) -> Result<(), StoreError> {
    let StoredKey { key, lookup, lookup_secret, secret } = stored;
    sqlx::query(
        "INSERT INTO api_keys
            (key_id, lookup, lookup_secret, hash_algorithm, hash_iterations, hash_salt, hash, name, description,
             owner, scope, environment, is_active, allowed_ips, rate_limit, metadata, created_at_ms,
             expires_at_ms, last_used_at_ms, revoked_at_ms, revoked_reason, version, supersedes,
              policy_override)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                 $19, $20, $21, $22, $23, $24)",
    )
    .bind(key.key_id.to_string())
    .bind(lookup.as_slice())
    .bind(lookup_secret.to_string())
    .bind(secret.recipe.algorithm().as_str())
    .bind(i64::from(secret.recipe.iterations()))
    .bind(secret.recipe.salt().as_slice())
    .bind(secret.digest.as_slice())
    .bind(&key.name)
    .bind(&key.description)
    .bind(&key.owner)
    .bind(key.scope.as_str())
    .bind(key.environment.as_str())
    .bind(key.is_active)
    .bind(to_json(&key.allowed_ips)?)
    .bind(key.rate_limit.as_ref().map(to_json).transpose()?)
    .bind(to_json(&key.metadata)?)
    .bind(key.created_at.as_millisecond())
    .bind(key.expires_at.map(Timestamp::as_millisecond))
    .bind(key.last_used_at.map(Timestamp::as_millisecond))
    .bind(key.revoked_at.map(Timestamp::as_millisecond))
    .bind(&key.revoked_reason)
    .bind(signed(key.version, "version")?)
    .bind(key.supersedes.map(|it| it.to_string()))
    .bind(key.policy_override.as_ref().map(to_json).transpose()?)
    .execute(connection)
    .await?;
    Ok(())
}

/// The key's row, which nobody else changes until the transaction ends.
async fn lock(connection: &mut PgConnection, key_id: KeyId) -> Result<Option<Key>, StoreError> {
    sqlx::query(concat!("SELECT ", key_columns!(), " FROM api_keys WHERE key_id = $1 FOR UPDATE"))
        .bind(key_id.to_string())
        .fetch_optional(connection)
        .await?
        .map(|row| row::key(&row))
        .transpose()
}

/// Whether an admin key other than this one could still be used, and goes on to be: one that
/// another has taken the place of ends by itself, and one that has taken a place counts once it was
/// used, since nobody may have got it. Two who revoke each other at the
/// same time come one after the other here: the end of the log is taken before it is looked.
async fn another_admin(
    connection: &mut PgConnection,
    key_id: KeyId,
    at: Timestamp,
    test_keys: bool,
) -> Result<bool, StoreError> {
    chain::take_head(connection).await?;
    let others: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM api_keys
         WHERE scope = 'admin' AND is_active AND key_id <> $1
           AND (expires_at_ms IS NULL OR expires_at_ms > $2) AND (environment = 'live' OR $3)
           AND superseded_by IS NULL AND (supersedes IS NULL OR last_used_at_ms IS NOT NULL)",
    )
    .bind(key_id.to_string())
    .bind(at.as_millisecond())
    .bind(test_keys)
    .fetch_one(connection)
    .await?;
    Ok(others > 0)
}

impl PostgresStore {
    /// Ends a unit of work: its audit entry, its place in the feed, the commit, and the news.
    pub(super) async fn commit(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        key_id: KeyId,
        kind: ChangeKind,
        at: Timestamp,
        entry: &AuditEntry,
    ) -> Result<(), StoreError> {
        audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        let sequence = feed::append(&mut transaction, key_id, kind, at).await?;
        self.finish(transaction).await?;
        self.news.publish(sequence);
        Ok(())
    }

    async fn try_add(&self, key: &StoredKey, audit: &AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        insert(&mut transaction, key).await?;
        self.commit(transaction, key.key.key_id, ChangeKind::Created, key.key.created_at, audit)
            .await
    }

    async fn try_revoke(
        &self,
        request: &RevokeRequest,
        audit: &AuditEntry,
    ) -> Result<Revocation, StoreError> {
        let mut transaction = self.begin().await?;
        let Some(mut key) = lock(&mut transaction, request.key_id).await? else {
            return Ok(Revocation::NotFound);
        };
        if key.revoked_at.is_some() {
            return Ok(Revocation::AlreadyRevoked(key));
        }
        if let Some(test_keys) = request.guard.wants_another_admin(&key, None, request.at)
            && !another_admin(&mut transaction, key.key_id, request.at, test_keys).await?
        {
            return Ok(Revocation::LastAdmin);
        }
        sqlx::query(
            "UPDATE api_keys
             SET is_active = false, revoked_at_ms = $1, revoked_reason = $2, version = version + 1
             WHERE key_id = $3",
        )
        .bind(request.at.as_millisecond())
        .bind(&request.reason)
        .bind(request.key_id.to_string())
        .execute(&mut *transaction)
        .await?;
        self.commit(transaction, request.key_id, ChangeKind::Revoked, request.at, audit).await?;
        key.is_active = false;
        key.revoked_at = Some(request.at);
        key.revoked_reason.clone_from(&request.reason);
        key.version += 1;
        Ok(Revocation::Revoked(key))
    }

    async fn try_update(
        &self,
        request: &UpdateRequest,
        audit: &AuditEntry,
    ) -> Result<Update, StoreError> {
        let UpdateRequest { key, at, guard } = request;
        let mut transaction = self.begin().await?;
        let before = match lock(&mut transaction, key.key_id).await? {
            Some(before) if before.version == key.version && before.revoked_at.is_none() => before,
            _ => return Ok(Update::Outdated),
        };
        if let Some(test_keys) = guard.wants_another_admin(&before, Some(key), *at)
            && !another_admin(&mut transaction, key.key_id, *at, test_keys).await?
        {
            return Ok(Update::LastAdmin);
        }
        let row = sqlx::query(concat!(
            "UPDATE api_keys
             SET name = $1, description = $2, owner = $3, scope = $4, is_active = $5,
                 allowed_ips = $6, rate_limit = $7, metadata = $8, expires_at_ms = $9,
                 version = version + 1
             WHERE key_id = $10 RETURNING ",
            key_columns!()
        ))
        .bind(&key.name)
        .bind(&key.description)
        .bind(&key.owner)
        .bind(key.scope.as_str())
        .bind(key.is_active)
        .bind(to_json(&key.allowed_ips)?)
        .bind(key.rate_limit.as_ref().map(to_json).transpose()?)
        .bind(to_json(&key.metadata)?)
        .bind(key.expires_at.map(Timestamp::as_millisecond))
        .bind(key.key_id.to_string())
        .fetch_one(&mut *transaction)
        .await?;
        let after = row::key(&row)?;
        self.commit(transaction, key.key_id, ChangeKind::Updated, *at, audit).await?;
        Ok(Update::Updated(after))
    }

    async fn try_rotate(
        &self,
        request: &RotateRequest,
        audit: &[AuditEntry],
    ) -> Result<Rotation, StoreError> {
        let RotateRequest { key_id, version, successor, ends_at, guard, claim } = request;
        let at = successor.key.created_at;
        let mut transaction = self.begin().await?;
        // First of all: what the request did itself is no reason to refuse it.
        if let Some(claim) = claim
            && let Some(made) = once::claim(&mut transaction, claim, successor.key.key_id).await?
        {
            return Ok(Rotation::MadeBefore(made));
        }
        let before = match lock(&mut transaction, *key_id).await? {
            Some(before) if before.version == *version && before.is_current() => before,
            _ => return Ok(Rotation::Outdated),
        };
        // Before the end of the log, as whoever takes the factor away does.
        totp::lock(&mut transaction, *key_id).await?;
        let after = Key { expires_at: Some(*ends_at), ..before.clone() };
        if let Some(test_keys) = guard.wants_another_admin(&before, Some(&after), at)
            && !another_admin(&mut transaction, *key_id, at, test_keys).await?
        {
            return Ok(Rotation::LastAdmin);
        }
        insert(&mut transaction, successor).await?;
        totp::share(&mut transaction, *key_id, successor.key.key_id).await?;
        let row = sqlx::query(concat!(
            "UPDATE api_keys
             SET superseded_by = $1, rotated_at_ms = $2, expires_at_ms = $3, version = version + 1
             WHERE key_id = $4 RETURNING ",
            key_columns!()
        ))
        .bind(successor.key.key_id.to_string())
        .bind(at.as_millisecond())
        .bind(ends_at.as_millisecond())
        .bind(key_id.to_string())
        .fetch_one(&mut *transaction)
        .await?;
        let after = row::key(&row)?;
        audit::insert(&mut transaction, audit).await?;
        feed::append(&mut transaction, successor.key.key_id, ChangeKind::Created, at).await?;
        let sequence = feed::append(&mut transaction, *key_id, ChangeKind::Updated, at).await?;
        self.finish(transaction).await?;
        self.news.publish(sequence);
        Ok(Rotation::Rotated(after))
    }
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn add_key(&self, key: &StoredKey, audit: &AuditEntry) -> Result<(), StoreError> {
        self.writes.noted(self.try_add(key, audit).await)
    }

    async fn revoke_key(
        &self,
        request: &RevokeRequest,
        audit: &AuditEntry,
    ) -> Result<Revocation, StoreError> {
        self.writes.noted(self.try_revoke(request, audit).await)
    }

    async fn update_key(
        &self,
        request: &UpdateRequest,
        audit: &AuditEntry,
    ) -> Result<Update, StoreError> {
        self.writes.noted(self.try_update(request, audit).await)
    }

    async fn rotate_key(
        &self,
        request: &RotateRequest,
        audit: &[AuditEntry],
    ) -> Result<Rotation, StoreError> {
        self.writes.noted(self.try_rotate(request, audit).await)
    }

    async fn key(&self, key_id: KeyId) -> Result<Option<Key>, StoreError> {
        sqlx::query(concat!("SELECT ", key_columns!(), " FROM api_keys WHERE key_id = $1"))
            .bind(key_id.to_string())
            .fetch_optional(&self.pool)
            .await?
            .map(|row| row::key(&row))
            .transpose()
    }

    async fn look_up(&self, digests: &[LookupDigest]) -> Result<Lookup, StoreError> {
        let mut digests: Vec<_> = digests.iter().map(<[u8; 16]>::as_slice).collect();
        if let Some(last) = digests.last().copied() {
            digests.resize(digests.len().max(PLANNED_FOR), last);
        }
        // One statement is one snapshot: the position and the rows belong together.
        let statement = sqlx::query(LOOK_UP).bind(digests);
        let mut kept = self.lookups.take().await?;
        let rows = statement.fetch_all(kept.connection()).await?;
        self.lookups.keep(kept);
        row::lookup(&rows)
    }

    async fn keys(&self, query: &KeyQuery) -> Result<Vec<Key>, StoreError> {
        let select = concat!("SELECT ", key_columns!(), " FROM api_keys");
        let mut sql = QueryBuilder::<Postgres>::new(select);
        // With this collation `lower` knows only ASCII.
        query.push_to(&mut sql, "strpos", |column| format!("lower({column} COLLATE \"C\")"));
        sql.build().fetch_all(&self.pool).await?.iter().map(row::key).collect()
    }

    async fn count_keys(&self, now: Timestamp, soon: Timestamp) -> Result<KeyCounts, StoreError> {
        let counts = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE state = 'active'),
                    count(*) FILTER (WHERE state = 'inactive'),
                    count(*) FILTER (WHERE state = 'expired'),
                    count(*) FILTER (WHERE state = 'revoked'),
                    count(*) FILTER (WHERE state = 'active' AND expires_at_ms < $2)
             FROM (SELECT expires_at_ms,
                          CASE WHEN revoked_at_ms IS NOT NULL THEN 'revoked'
                               WHEN NOT is_active THEN 'inactive'
                               WHEN expires_at_ms <= $1 THEN 'expired'
                               ELSE 'active' END AS state
                   FROM api_keys) AS keys",
        );
        let bound = counts.bind(now.as_millisecond()).bind(soon.as_millisecond());
        row::key_counts(bound.fetch_one(&self.pool).await?)
    }

    async fn touch(&self, used: &[(KeyId, Timestamp)]) -> Result<(), StoreError> {
        let (keys, times): (Vec<_>, Vec<_>) =
            used.iter().map(|(key_id, at)| (key_id.to_string(), at.as_millisecond())).unzip();
        // Rows are taken in one order: two control planes that write the same ones at once would
        // otherwise wait for each other.
        let written = sqlx::query(
            "WITH used AS (SELECT key_id, max(at_ms) AS at_ms
                           FROM unnest($1::text[], $2::bigint[]) AS it (key_id, at_ms) GROUP BY 1),
                  taken AS (SELECT api_keys.key_id, used.at_ms FROM api_keys JOIN used USING (key_id)
                            WHERE coalesce(last_used_at_ms < used.at_ms, true)
                            ORDER BY api_keys.key_id FOR NO KEY UPDATE OF api_keys)
             UPDATE api_keys SET last_used_at_ms = taken.at_ms
             FROM taken WHERE api_keys.key_id = taken.key_id",
        )
        .bind(keys)
        .bind(times)
        .execute(&self.writers)
        .await;
        self.writes.settled(written.map(|done| done.rows_affected())).map(drop)
    }
}

/// How many digests a plan is made for that is to do for any number. With fewer of them a plan of
/// their own would seem cheaper to `PostgreSQL`, and it would make one each time, which takes longer
/// than the look-up. One that is there several times is looked for once.
const PLANNED_FOR: usize = 10;

/// The look-up of keys by their digests, on which every first verification depends.
pub(in crate::store) const LOOK_UP: &str = concat!(
    "SELECT feed.epoch, feed.sequence, lookup, lookup_secret, hash_algorithm, hash_iterations,
            hash_salt, hash, ",
    key_columns!(),
    " FROM (SELECT sequence, (SELECT value FROM settings WHERE name = 'feed_epoch') AS epoch
            FROM feed_head) AS feed
     LEFT JOIN api_keys ON lookup = ANY($1)"
);
