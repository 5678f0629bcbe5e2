//! The filter's configuration: one versioned JSON document, checked into a [`Config`] that
//! cannot be wrong.

mod checked;

pub use checked::{
    AuditConfig, CacheConfig, ClientAddressSource, Config, ControlPlaneConfig, IDENTITY_HEADERS,
    LimitRule, OnBacklogFull, Quota, RouteMatch, ScopeRule, SuccessAudit,
};
pub(crate) use checked::{
    FAILED_ATTEMPTS, KEY_LIMIT, MAX_REQUESTS, MAX_WINDOW_SECONDS, OWN_LIMIT, REAL_KEY,
};
pub use filter_config::{ConfigFault, Per};
