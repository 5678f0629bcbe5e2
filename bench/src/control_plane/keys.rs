//! Keys to ask about, and many that nobody asks about.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use edge_protocol::VerifyRequest;
use hyper::body::Bytes;
use key_policy::{Environment, Policy};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::client::Client;
use super::database::Database;
use super::ground::Ground;

const KEYS: &str = "/api/v1/admin/api-keys/";
/// Rows made at once: meanwhile nobody else can write to a file.
const ROWS_AT_ONCE: u32 = 25_000;

/// Has the control plane issue keys, two at a time.
pub(super) async fn issue(ground: &Ground, count: usize) -> Result<Vec<String>> {
    let issued = Arc::new(Mutex::new(Vec::new()));
    let mut callers = JoinSet::new();
    for part in [count / 2, count - count / 2] {
        let mut client = Client::connect(&ground.admin).await?;
        let issued = Arc::clone(&issued);
        callers.spawn(async move {
            for number in 0..part {
                let key = json!({"name": format!("bench {number}"), "owner": "acme"});
                let answer = client.post(KEYS, Bytes::from(key.to_string())).await?;
                let answer: Value = serde_json::from_slice(&answer)?;
                let key = answer.get("api_key").and_then(Value::as_str);
                let key = key.context("no key was issued")?.to_owned();
                issued.lock().unwrap_or_else(PoisonError::into_inner).push(key);
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = callers.join_next().await {
        done??;
    }
    Ok(std::mem::take(&mut issued.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// Well-formed keys that nobody has issued.
pub(super) fn unknown(count: usize) -> Result<Vec<String>> {
    let policy = Policy::default();
    let one = |_| policy.generate(Environment::Live, &mut |bytes| getrandom::fill(bytes));
    (0..count).map(one).map(|key| Ok(key.context("no random numbers")?.text)).collect()
}

/// What a filter sends to ask about a key.
pub(super) fn question(key: &str) -> Result<Bytes> {
    Ok(serde_json::to_vec(&VerifyRequest { key: key.to_owned() })?.into())
}

/// Adds rows of keys that nobody has, until there are so many.
pub(super) async fn fill(database: &Database, until: u32) -> Result<()> {
    let present = database.number("SELECT count(*) FROM api_keys").await?;
    let mut from = u32::try_from(present)?;
    while from < until {
        let to = until.min(from + ROWS_AT_ONCE);
        database.run(&rows(database, from, to)).await?;
        from = to;
    }
    let tidy = match database {
        Database::Sqlite(_) => "PRAGMA wal_checkpoint(TRUNCATE)",
        Database::Postgres(_) => "VACUUM ANALYZE api_keys",
    };
    database.run(tidy).await
}

fn rows(database: &Database, from: u32, to: u32) -> String {
    const COLUMNS: &str = "key_id, name, lookup, lookup_secret, hash_algorithm, hash_iterations,
        hash_salt, hash, owner, scope, environment, is_active, allowed_ips, metadata, created_at_ms";
    match database {
        Database::Sqlite(_) => format!(
            "WITH RECURSIVE numbers (n) AS
                (SELECT {from} UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {to})
             INSERT INTO api_keys ({COLUMNS})
             SELECT lower(hex(randomblob(8))), 'filler ' || n, randomblob(16), '',
                    'pbkdf2-hmac-sha256', 100000, randomblob(16), randomblob(32),
                    'owner ' || n % 1000, 'read', 'live', 1, '[]', '{{}}', 1700000000000 + n
             FROM numbers"
        ),
        Database::Postgres(_) => format!(
            "INSERT INTO api_keys ({COLUMNS})
             SELECT left(md5('id' || n), 16), 'filler ' || n, decode(md5('lookup' || n), 'hex'), '',
                    'pbkdf2-hmac-sha256', 100000, decode(md5('salt' || n), 'hex'),
                    decode(md5('hash' || n) || md5(n || 'hash'), 'hex'),
                    'owner ' || n % 1000, 'read', 'live', true, '[]', '{{}}', 1700000000000 + n
             FROM generate_series({from}, {to} - 1) AS n"
        ),
    }
}
