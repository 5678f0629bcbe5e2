//! Importing keys that were made elsewhere: judged by the same policy, stored the same way.
//!
//! A fault that some filter can be told to leave out may be overridden, with a reason that stays
//! with the key and in the audit log. The others never: no filter would let such a key pass.

mod request;
mod view;

#[cfg(test)]
mod tests;

use edge_protocol::{EventKind, KeyEnvironment};
use jiff::Timestamp;
use key_policy::{Fault, Form, KeyId, Policy, Report};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub use request::{ForeignKey, ImportRequest, OverrideRequest};
pub use view::{FilterPolicyView, ImportedKeyView};

use super::{
    Key, StoredKey,
    digest::{PresentedKey, audit_hash},
    hashing::{HashRecipe, SecretHash},
    issue::Issuer,
    policy_report::stored_environment,
    pool::Overloaded,
};
use crate::{
    audit::{Actor, AuditEntry},
    random::{self, RandomError},
    store::{
        StoreError,
        once::{Claim, MadeRequest},
    },
};

/// That a key was imported though the policy refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PolicyOverride {
    /// Why.
    #[schema(example = "belongs to a partner who cannot change it before March")]
    pub reason: String,
    /// The rules that it breaks.
    #[schema(example = json!(["too_little_entropy"]))]
    pub faults: Vec<String>,
}

/// Why no key was imported; nothing has been stored then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The policy refuses it, and that was not overridden or cannot be.
    #[error("the policy refuses the key: {}", codes(.0))]
    Refused(Vec<Fault>),
    /// Its own text says that it is for another environment.
    #[error("the key itself says that its environment is {}", .0.as_str())]
    Environment(KeyEnvironment),
    /// It is known already.
    #[error("it is the key {0}")]
    Known(KeyId),
    /// Its own text holds the name of another key.
    #[error("another key has its key id, {0}")]
    IdTaken(KeyId),
    /// The database refused, or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is too much to hash.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The faults by their names, with commas.
pub(super) fn codes(faults: &[Fault]) -> String {
    faults.iter().map(|fault| fault.as_str()).collect::<Vec<_>>().join(",")
}

/// A key that was just imported.
#[derive(Debug)]
pub struct Imported {
    /// What is known about it.
    pub key: Key,
    /// How it was judged.
    pub report: Report,
}

/// What came of importing a key, unless the request had done it before.
#[derive(Debug)]
pub enum ImportedOnce {
    /// It was imported.
    Now(Box<Imported>),
    /// The request had been made, and had imported this one.
    Before(MadeRequest),
}

/// All that is stored of a key that is imported.
struct Prepared {
    stored: StoredKey,
    audit: AuditEntry,
    report: Report,
    presented: Arc<PresentedKey>,
}

/// A key that may be imported, as far as can be told without writing.
struct Accepted {
    foreign: ForeignKey,
    report: Report,
    /// A key of our own form brings its name along.
    key_id: Option<KeyId>,
}

impl Prepared {
    /// It is stored.
    fn imported(self) -> Imported {
        self.audit.log();
        Imported { key: self.stored.key, report: self.report }
    }
}

impl Issuer {
    /// Says whether [`Self::import`] would take the key, and writes nothing.
    ///
    /// # Errors
    /// What it would be refused for.
    pub async fn try_import(&self, foreign: ForeignKey) -> Result<(), ImportError> {
        let accepted = self.accept(foreign).await?;
        match accepted.key_id {
            Some(key_id) if self.store.key(key_id).await?.is_some() => {
                Err(ImportError::IdTaken(key_id))
            }
            _ => Ok(()),
        }
    }

    /// Stores what is needed to recognise a key that was made elsewhere, with its audit entry.
    ///
    /// # Errors
    /// As [`ImportError`] says; nothing has been stored then.
    pub async fn import(&self, foreign: ForeignKey, by: &Actor) -> Result<Imported, ImportError> {
        let prepared = self.prepare(foreign, by).await?;
        match self.store.add_key(&prepared.stored, &prepared.audit).await {
            Ok(()) => Ok(prepared.imported()),
            Err(error) => Err(self.not_added(&prepared, error).await),
        }
    }

    /// As [`Self::import`], if the request has not been made before.
    ///
    /// # Errors
    /// As [`ImportError`] says; nothing has been stored then.
    pub async fn import_once(
        &self,
        foreign: ForeignKey,
        by: &Actor,
        claim: &Claim,
    ) -> Result<ImportedOnce, ImportError> {
        let prepared = match self.prepare(foreign, by).await {
            // Another control plane may just have done it for the same request.
            Err(ImportError::Known(known)) => {
                let made = self.store.made_request(&claim.name, claim.forgotten_before).await?;
                return made.map(ImportedOnce::Before).ok_or(ImportError::Known(known));
            }
            prepared => prepared?,
        };
        match self.store.add_key_once(&prepared.stored, &prepared.audit, claim).await {
            Ok(None) => Ok(ImportedOnce::Now(Box::new(prepared.imported()))),
            Ok(Some(before)) => Ok(ImportedOnce::Before(before)),
            Err(error) => Err(self.not_added(&prepared, error).await),
        }
    }

    /// Why it could not be added.
    async fn not_added(&self, prepared: &Prepared, error: StoreError) -> ImportError {
        if !error.is_duplicate() {
            return error.into();
        }
        // Somebody else was faster, with this key or with its name.
        match self.find(&prepared.presented).await {
            Ok(Some(known)) => ImportError::Known(known),
            Ok(None) => ImportError::IdTaken(prepared.stored.key.key_id),
            Err(error) => error.into(),
        }
    }

    /// Judges and hashes a key. Nothing is stored.
    async fn prepare(&self, foreign: ForeignKey, by: &Actor) -> Result<Prepared, ImportError> {
        let Accepted { foreign, report, key_id } = self.accept(foreign).await?;
        let ForeignKey { new, key: presented, override_reason } = foreign;
        let presented = Arc::new(presented);
        let recipe = HashRecipe::current(self.iterations, random::bytes(&*self.random)?);
        let lookup = self.secret.lookup.lookup(presented.expose());
        let key_hash = audit_hash(presented.expose());
        let digest = self.pool.hash(Arc::clone(&presented), recipe).await?;
        let key_id = match key_id {
            Some(key_id) => key_id,
            None => KeyId::from_u64(u64::from_be_bytes(random::bytes(&*self.random)?)),
        };
        let now = self.clock.now();
        let mut key = new.into_key(key_id, now);
        key.policy_override =
            override_reason.filter(|_| !report.passes()).map(|reason| PolicyOverride {
                reason,
                faults: report.faults.iter().map(|fault| fault.as_str().to_owned()).collect(),
            });
        let audit = entry(&key, by, now).with_key_hash(Some(key_hash));
        let secret = SecretHash { recipe, digest };
        let stored = StoredKey { key, lookup, lookup_secret: self.secret.name, secret };
        Ok(Prepared { stored, audit, report, presented })
    }

    async fn accept(&self, foreign: ForeignKey) -> Result<Accepted, ImportError> {
        let report = self.policy.report(foreign.key.expose());
        let overridden = foreign.override_reason.is_some();
        if report.faults.iter().any(|fault| fault.is_hard() || !overridden) {
            return Err(ImportError::Refused(report.faults));
        }
        let key_id = match lenient(&self.policy).check(foreign.key.expose()) {
            Ok(Form::Own { environment, key_id }) => {
                let says = stored_environment(environment);
                if says != foreign.new.environment {
                    return Err(ImportError::Environment(says));
                }
                Some(key_id)
            }
            Ok(Form::Foreign) => None,
            Err(fault) => return Err(ImportError::Refused(vec![fault])),
        };
        match self.find(&foreign.key).await? {
            Some(known) => Err(ImportError::Known(known)),
            None => Ok(Accepted { foreign, report, key_id }),
        }
    }

    /// The name under which a key is known, by either secret key.
    async fn find(&self, key: &PresentedKey) -> Result<Option<KeyId>, StoreError> {
        let secrets = std::iter::once(&self.secret).chain(&self.previous_secret);
        let digests: Vec<_> = secrets.map(|it| it.lookup.lookup(key.expose())).collect();
        let found = self.store.look_up(&digests).await?.first_of(&digests)?;
        Ok(found.map(|stored| stored.key.key_id))
    }
}

/// The policy without all that can be overridden.
fn lenient(policy: &Policy) -> Policy {
    Policy {
        min_length: 0,
        min_entropy_bits: 0.0,
        min_kinds: 0,
        weak_patterns: false,
        ..policy.clone()
    }
}

fn entry(key: &Key, by: &Actor, now: Timestamp) -> AuditEntry {
    let overridden = key.policy_override.as_ref().map(|PolicyOverride { reason, faults }| {
        format!(" overridden={} override_reason={}", faults.join(","), quoted(reason))
    });
    let (scope, environment) = (key.scope, key.environment.as_str());
    let overridden = overridden.unwrap_or_default();
    let details = format!("scope={scope} environment={environment} imported=true{overridden}");
    AuditEntry::by(by, EventKind::KeyCreated, key.key_id, now, &details)
}

/// Free text as a field of a log line: a JSON string without the line's own separator, so that it
/// cannot be taken for another field.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('|', "\\u007c")
}
