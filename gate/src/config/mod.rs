//! The filter's configuration: one versioned JSON document, read into a [`Config`] that cannot
//! be wrong.

mod checked;
mod document;
mod fault;

pub use checked::{
    AuditConfig, CacheConfig, ClientAddressSource, Config, ControlPlaneConfig, IDENTITY_HEADERS,
    LimitRule, OnBacklogFull, Quota, RouteMatch, ScopeRule, SuccessAudit,
};
pub(crate) use checked::{
    FAILED_ATTEMPTS, KEY_LIMIT, MAX_REQUESTS, MAX_WINDOW_SECONDS, OWN_LIMIT, REAL_KEY,
};
pub use document::{Document, Per};
pub use fault::ConfigFault;

/// The JSON Schema of the configuration document (draft 2020-12).
#[cfg(feature = "schema")]
#[must_use]
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}
