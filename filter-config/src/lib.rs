//! The filter's configuration: one versioned JSON document ([`Document`]), read into a [`Config`] whose
//! every value has been checked.
//!
//! Reading happens once and makes much code, so it is a crate of its own, which `[profile.wasm]`
//! compiles for size.

mod checked;
mod document;
mod fault;
mod field;
mod layer;

pub use checked::{
    AuditConfig, CacheConfig, ClientAddressSource, Config, ControlPlaneConfig, IDENTITY_HEADERS,
    KEY_LIMIT, LimitRule, MAX_REQUESTS, MAX_WINDOW_SECONDS, Quota, RouteMatch, ScopeRule,
};
pub use document::{
    Audit, BacklogFull, Cache, ClientAddressFrom, ControlPlane, CredentialHeader, Document,
    FailedAttempts, IetfDraft, KeyPolicy, Limit, Per, RateLimitHeaderNames, Route, ScopeNeeded,
    SuccessEvents,
};
pub use fault::ConfigFault;
pub use layer::{Layer, LayerSet};

use serde_json::error::Category;

impl Document {
    /// Reads a document. Whether its values are in their ranges is still to be checked.
    ///
    /// # Errors
    /// The first field that is wrong, and what was expected of it.
    pub fn read(json: &[u8]) -> Result<Self, ConfigFault> {
        if json.iter().all(u8::is_ascii_whitespace) {
            return Err(ConfigFault::new(".", "it is empty; the least is {\"version\": 1}"));
        }
        let document = serde_json::from_slice(json).map_err(|error| {
            // A byte that cannot stand where it does may have been looked at already.
            let looked_at = usize::from(error.classify() != Category::Data);
            let end = field::offset(json, error.line(), error.column()).saturating_sub(looked_at);
            ConfigFault::new(field::at_end_of(json.get(..end).unwrap_or(json)), error.to_string())
        })?;
        match field::before_stray_list(json) {
            None => Ok(document),
            Some(before) => Err(ConfigFault::new(field::at_end_of(before), STRAY_LIST)),
        }
    }
}

const STRAY_LIST: &str = "expected an object, got a list";

/// The JSON Schema of the document (draft 2020-12).
#[cfg(feature = "schema")]
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}
