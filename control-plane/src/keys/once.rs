//! Making a key once, however often the request is sent (`Idempotency-Key`,
//! draft-ietf-httpapi-idempotency-key-header).
//!
//! The note that a request was made is written in the transaction that makes its key, so two
//! services cannot both make one. Within one service whoever comes while the first is still at it
//! is told so at once.

use jiff::SignedDuration;
use key_policy::KeyId;
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    clock::Clock,
    secret_key::{Secret, Secrets},
    store::{
        Store, StoreError,
        once::{BodyDigest, Claim, MadeRequest, RequestName},
    },
};

/// How long a request is remembered.
pub const REMEMBERED_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Why a request is not made.
#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    /// The same one is being made right now.
    #[error("a request with this Idempotency-Key is under way")]
    UnderWay,
    /// It is called like another one that was made.
    #[error("another request was made with this Idempotency-Key")]
    Reused,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Begun {
    /// It is to be made.
    Turn(Turn),
    /// It was made, and made this key.
    MadeBefore(KeyId),
}

/// Knows which requests were made, and which are under way here.
pub struct Once {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    current: Secret,
    previous: Option<Secret>,
    under_way: Arc<Mutex<HashSet<RequestName>>>,
}

impl Once {
    /// Nothing is under way yet.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, secrets: &Secrets) -> Self {
        let Secrets { current, previous } = secrets.clone();
        Self { store, clock, current, previous, under_way: Arc::default() }
    }

    /// Takes the turn of making the request that `by` calls `word`, at that place of the API.
    ///
    /// # Errors
    /// When it is under way, or another one was called so.
    pub async fn begin(
        &self,
        by: KeyId,
        place: &str,
        word: &str,
        body: &[u8],
    ) -> Result<Begun, OnceError> {
        let name = name(by, place, word);
        let place = Place::take(&self.under_way, name).ok_or(OnceError::UnderWay)?;
        let now = self.clock.now();
        let forgotten_before = now.checked_sub(REMEMBERED_FOR).unwrap_or(jiff::Timestamp::MIN);
        let previous = self.previous.as_ref().map(|secret| secret.lookup.digest(body));
        let body = self.current.lookup.digest(body);
        let claim = Claim { name, body, at: now, forgotten_before };
        let turn = Turn { claim, previous, _place: place };
        match self.store.made_request(&name, forgotten_before).await? {
            Some(made) => turn.judge(&made).map(Begun::MadeBefore),
            None => Ok(Begun::Turn(turn)),
        }
    }

    /// Deletes what is no longer remembered; says how much that was.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget(&self) -> Result<u64, StoreError> {
        match self.clock.now().checked_sub(REMEMBERED_FOR) {
            Ok(before) => self.store.forget_requests(before).await,
            Err(_) => Ok(0),
        }
    }
}

/// Who it is that calls it so is part of the name: nobody meets another's requests.
fn name(by: KeyId, place: &str, word: &str) -> RequestName {
    let mut hash = Sha256::new();
    for part in [by.to_string().as_str(), place, word] {
        // With its length, so that parts cannot be taken for one another's.
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// The turn of making a request. While it is held, nobody else here makes the same one.
#[derive(Debug)]
pub struct Turn {
    claim: Claim,
    /// What was asked for, as it was digested before the secret key changed.
    previous: Option<BodyDigest>,
    _place: Place,
}

impl Turn {
    /// What is written with the key.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// The key that the request made, if it asked for the same.
    ///
    /// # Errors
    /// When it asked for something else.
    pub fn judge(&self, made: &MadeRequest) -> Result<KeyId, OnceError> {
        if made.body == self.claim.body || Some(made.body) == self.previous {
            Ok(made.key_id)
        } else {
            Err(OnceError::Reused)
        }
    }
}

/// A place among the requests that are under way; it is given up when this is dropped.
#[derive(Debug)]
struct Place {
    all: Arc<Mutex<HashSet<RequestName>>>,
    name: RequestName,
}

impl Place {
    fn take(all: &Arc<Mutex<HashSet<RequestName>>>, name: RequestName) -> Option<Self> {
        let is_new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        is_new.then(|| Self { all: Arc::clone(all), name })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}
