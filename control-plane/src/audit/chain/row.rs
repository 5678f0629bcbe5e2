//! A row as the chain sees it, and its one encoding.

use edge_protocol::Event;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

use super::ChainHash;
use crate::audit::AuditEntry;

/// How many bytes of a row's hash are kept beside its batch, to say which row was changed. That
/// some row was changed is what the batch's whole hash says.
pub const DIGEST_BYTES: usize = 8;

/// A row of the log, column for column. Both what is stored and what is hashed are made from it,
/// so the two cannot differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainedRow<'a> {
    /// Its place in the log, counted up from 1 without holes.
    pub id: i64,
    /// When it was stored, in milliseconds since the Unix epoch; the same for all of a batch.
    pub recorded_at_ms: i64,
    /// When it happened.
    pub at_ms: i64,
    /// What happened.
    pub event: Cow<'a, str>,
    /// About which key.
    pub key_id: Option<Cow<'a, str>>,
    /// What was presented, hashed.
    pub key_hash: Option<Cow<'a, str>>,
    /// From where.
    pub client_ip: Option<Cow<'a, str>>,
    /// Who acted.
    pub actor: Option<Cow<'a, str>>,
    /// The rest, as `name=value`.
    pub details: Cow<'a, str>,
    /// Whether it was only counted.
    pub shadow: bool,
    /// Who reported it.
    pub source: Cow<'a, str>,
    /// In which of the reporter's batches.
    pub batch: Option<i64>,
}

impl<'a> ChainedRow<'a> {
    /// The row that an entry becomes; its place and time of recording come later.
    pub(super) fn new(entry: &'a AuditEntry, source: &'a str, batch: Option<i64>) -> Option<Self> {
        let AuditEntry { event, actor } = entry;
        let Event { at_ms, kind, key_hash, key_id, client_ip, details, shadow } = event;
        Some(Self {
            id: 0,
            recorded_at_ms: 0,
            at_ms: i64::try_from(*at_ms).ok()?,
            event: kind.as_str().into(),
            key_id: key_id.as_deref().map(Cow::from),
            key_hash: key_hash.as_deref().map(Cow::from),
            client_ip: client_ip.map(|ip| ip.to_string().into()),
            actor: actor.as_deref().map(Cow::from),
            details: details.into(),
            shadow: *shadow,
            source: source.into(),
            batch,
        })
    }

    /// The row's hash. Every text is preceded by its length, and what may be missing by whether
    /// it is there: no two rows have the same encoding.
    #[must_use]
    pub fn hash(&self) -> ChainHash {
        let mut hasher = Sha256::new();
        hasher.update(b"keygate audit row 1\0");
        for number in [self.id, self.recorded_at_ms, self.at_ms] {
            hasher.update(number.to_be_bytes());
        }
        let optional = |hasher: &mut Sha256, field: &Option<Cow<'_, str>>| match field {
            Some(value) => {
                hasher.update([1]);
                text(hasher, value);
            }
            None => hasher.update([0]),
        };
        text(&mut hasher, &self.event);
        optional(&mut hasher, &self.key_id);
        optional(&mut hasher, &self.key_hash);
        optional(&mut hasher, &self.client_ip);
        optional(&mut hasher, &self.actor);
        text(&mut hasher, &self.details);
        hasher.update([u8::from(self.shadow)]);
        text(&mut hasher, &self.source);
        match self.batch {
            Some(batch) => {
                hasher.update([1]);
                hasher.update(batch.to_be_bytes());
            }
            None => hasher.update([0]),
        }
        ChainHash(hasher.finalize().into())
    }
}

/// A text with its length in front.
pub(super) fn text(hasher: &mut Sha256, text: &str) {
    let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
    hasher.update(bytes.to_be_bytes());
    hasher.update(text.as_bytes());
}

/// What of a row's hash is kept beside its batch.
#[must_use]
pub fn digest(hash: &ChainHash) -> [u8; DIGEST_BYTES] {
    let mut short = [0; DIGEST_BYTES];
    for (to, from) in short.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    short
}
