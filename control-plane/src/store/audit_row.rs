//! Rows of the audit log and of its chain, as they are read.

use edge_protocol::Event;
use std::borrow::Cow;

use super::{
    StoreError,
    row::{Cells, bytes, parse, unsigned},
};
use crate::audit::{
    AuditEntry, AuditRow,
    chain::{
        ChainHash,
        batch::{Batch, ChainHead},
        checkpoint::{Checkpoint, PublicKey, Statement},
        row::ChainedRow,
    },
};

// The columns of each table. With `*` in its place, a statement that PostgreSQL has prepared fails
// once a newer version has added a column.

/// Those of a row of the log.
macro_rules! log_columns {
    () => {
        "id, recorded_at_ms, at_ms, event, key_id, key_hash, client_ip, actor, details, shadow, \
         source, batch"
    };
}
/// Those of the chain's end.
macro_rules! head_columns {
    () => {
        "database_id, sequence, last_id, hash, recorded_at_ms"
    };
}
/// Those of a batch.
macro_rules! batch_columns {
    () => {
        "sequence, first_id, last_id, count, recorded_at_ms, previous_hash, hash, digests"
    };
}
/// Those of a checkpoint.
macro_rules! checkpoint_columns {
    () => {
        "number, sequence, last_id, hash, at_ms, reason, database_id, public_key, signature"
    };
}
pub(super) use {batch_columns, checkpoint_columns, head_columns, log_columns};

/// Reads a row for those who look through the log.
pub(super) fn read(row: &impl Cells) -> Result<AuditRow, StoreError> {
    let optional = |column| Ok::<_, StoreError>(row.optional_text(column)?.map(str::to_owned));
    let client_ip = row.optional_text("client_ip")?;
    let event = Event {
        at_ms: unsigned(row.integer("at_ms")?, "at_ms")?,
        kind: parse(row.text("event")?, "event")?,
        key_hash: optional("key_hash")?,
        key_id: optional("key_id")?,
        client_ip: client_ip.map(|ip| parse(ip, "client_ip")).transpose()?,
        details: row.text("details")?.to_owned(),
        shadow: row.flag("shadow")?,
    };
    Ok(AuditRow {
        id: row.integer("id")?,
        entry: AuditEntry { event, actor: optional("actor")? },
        source: row.text("source")?.to_owned(),
    })
}

/// Reads a row as it stands, whatever it holds: what is wrong with it is for the chain to say.
pub(super) fn chained(row: &impl Cells) -> Result<ChainedRow<'static>, StoreError> {
    let optional = |column| Ok::<_, StoreError>(row.any_text(column)?.map(Cow::from));
    let text = |column| optional(column).map(Option::unwrap_or_default);
    Ok(ChainedRow {
        id: row.integer("id")?,
        recorded_at_ms: row.integer("recorded_at_ms")?,
        at_ms: row.integer("at_ms")?,
        event: text("event")?,
        key_id: optional("key_id")?,
        key_hash: optional("key_hash")?,
        client_ip: optional("client_ip")?,
        actor: optional("actor")?,
        details: text("details")?,
        shadow: row.flag("shadow")?,
        source: text("source")?,
        batch: row.optional_integer("batch")?,
    })
}

/// Reads where the chain ends.
pub(super) fn head(row: &impl Cells) -> Result<ChainHead, StoreError> {
    let database_id = row.text("database_id")?.to_owned();
    let begun = row.optional_blob("hash")?.is_some();
    let hash = if begun { bytes(row, "hash")?.into() } else { ChainHash::genesis(&database_id) };
    Ok(ChainHead {
        sequence: unsigned(row.integer("sequence")?, "audit_head.sequence")?,
        last_id: row.integer("last_id")?,
        hash,
        recorded_at_ms: row.integer("recorded_at_ms")?,
        database_id,
    })
}

/// Reads a batch.
pub(super) fn batch(row: &impl Cells) -> Result<Batch, StoreError> {
    Ok(Batch {
        sequence: unsigned(row.integer("sequence")?, "audit_batches.sequence")?,
        first_id: row.integer("first_id")?,
        last_id: row.integer("last_id")?,
        count: unsigned(row.integer("count")?, "audit_batches.count")?,
        recorded_at_ms: row.integer("recorded_at_ms")?,
        previous_hash: bytes(row, "previous_hash")?.into(),
        hash: bytes(row, "hash")?.into(),
        digests: row.blob("digests")?.to_owned(),
    })
}

/// Reads a checkpoint.
pub(super) fn checkpoint(row: &impl Cells) -> Result<Checkpoint, StoreError> {
    let statement = Statement {
        database_id: row.text("database_id")?.to_owned(),
        number: unsigned(row.integer("number")?, "audit_checkpoints.number")?,
        sequence: unsigned(row.integer("sequence")?, "audit_checkpoints.sequence")?,
        last_id: row.integer("last_id")?,
        hash: bytes(row, "hash")?.into(),
        at_ms: row.integer("at_ms")?,
        reason: parse(row.text("reason")?, "audit_checkpoints.reason")?,
    };
    let public_key = PublicKey::from(bytes(row, "public_key")?);
    Ok(Checkpoint { statement, public_key, signature: bytes(row, "signature")? })
}
