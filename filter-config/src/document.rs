//! The configuration as it is written. Doc comments here are the reference that users read.

use edge_protocol::{Algorithm, Deployment, OnOutage, Reach, Scope};
use serde::Deserialize;

/// The configuration of the Keygate filter: one JSON document. Every field but `version` may be
/// left out; unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of this format. Always 1.
    pub version: u32,
    /// What kind of deployment the gate stands in. Keys of the `test` environment are refused in
    /// `production`.
    #[serde(default)]
    pub environment: Deployment,
    /// How to reach the control plane.
    #[serde(default)]
    pub control_plane: ControlPlane,
    /// Where the key stands in a request.
    #[serde(default)]
    pub credential: CredentialHeader,
    /// Where the client's address is taken from.
    #[serde(default)]
    pub client_address: ClientAddressFrom,
    /// What a key must look like.
    #[serde(default)]
    pub policy: KeyPolicy,
    /// The HTTP status for a missing or bad credential: 403, or 401, which then carries
    /// `WWW-Authenticate` (RFC 9110, section 11.6.1).
    #[serde(default = "status_403")]
    pub credential_failure_status: u16,
    /// How many failed credentials one client address (IPv6: one /64) may send before its unknown
    /// keys are refused without a look. Keys that the filter knows still pass.
    #[serde(default)]
    pub failed_attempts: FailedAttempts,
    /// Routes that need no key. Limits per address still count there.
    #[serde(default)]
    pub public: Vec<Route>,
    /// Which scope a request needs: the first rule that matches decides. Where none does, GET,
    /// HEAD and OPTIONS need `read`, all else `write`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<ScopeNeeded>,
    /// Rate limits. Every one that matches a request counts it; at most 64.
    #[serde(default = "default_limits")]
    pub limits: Vec<Limit>,
    /// Which headers tell clients about their limits.
    #[serde(default)]
    pub rate_limit_headers: RateLimitHeaderNames,
    /// How long answers about keys are kept.
    #[serde(default)]
    pub cache: Cache,
    /// What is recorded, and what happens when it cannot be.
    #[serde(default)]
    pub audit: Audit,
    /// Layers and limits that only count and log what they would refuse: `credential`,
    /// `presence`, `environment`, `format`, `weak_patterns`, `known`, `expiry`, `address`,
    /// `scope`, `failed_attempts`, `key` (the keys' own limits), or the name of a limit.
    #[serde(default)]
    pub shadow: Vec<String>,
}

/// How to reach the control plane.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct ControlPlane {
    /// The name of the Envoy cluster of the control plane's edge API.
    pub cluster: String,
    /// How long to wait for an answer about a key, or about a limit that the fleet shares, in
    /// milliseconds, 1 to 60000.
    pub timeout_ms: u32,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self { cluster: "keygate_control_plane".into(), timeout_ms: 1000 }
    }
}

/// Where the key stands in a request.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct CredentialHeader {
    /// The request header that carries the key; case does not matter.
    pub header: String,
    /// Whether the upstream gets to see the key.
    pub forward: bool,
}

impl Default for CredentialHeader {
    fn default() -> Self {
        Self { header: "x-api-key".into(), forward: false }
    }
}

/// Where the client's address is taken from.
#[derive(Clone, Debug, Default, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum ClientAddressFrom {
    /// From Envoy itself (`source.address`, which follows `use_remote_address` and
    /// `xff_num_trusted_hops`).
    #[default]
    Connection,
    /// From this request header, which Envoy must set itself and overwrite whatever a client
    /// sends in it: with a `header_mutation` filter before this one. (An early header mutation of the
    /// connection manager runs before `X-Forwarded-For` is looked at.)
    Header(String),
}

/// What a key must look like.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct KeyPolicy {
    /// The first part of the keys that Keygate issues: 1 to 16 lower-case letters and digits, a
    /// letter first.
    pub prefix: String,
    /// Characters, at least; at most 61 more than the prefix has, or Keygate's own keys would
    /// not do.
    pub min_length: u16,
    /// Characters, at most; from 61 more than the prefix has up to 256.
    pub max_length: u16,
    /// Bits of Shannon entropy (entropy per character, times the length), at least; 0 to 128.
    pub min_entropy_bits: f64,
    /// How many of the four kinds of characters (lower case, upper case, digit, other), at
    /// least; 0 to 4. Keygate's own keys have three.
    pub min_kinds: u8,
    /// Whether keys with weak patterns (sequences, repeats, common words) are refused.
    pub weak_patterns: bool,
}

impl Default for KeyPolicy {
    fn default() -> Self {
        Self {
            prefix: "kg".into(),
            min_length: 32,
            max_length: 256,
            min_entropy_bits: 96.0,
            min_kinds: 3,
            weak_patterns: true,
        }
    }
}

/// How many failed credentials an address may send.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct FailedAttempts {
    /// Failures in a window, 1 to 1000000000.
    pub requests: u32,
    /// The window's length in seconds, 1 to 2678400 (31 days).
    pub window_seconds: u32,
}

impl Default for FailedAttempts {
    fn default() -> Self {
        Self { requests: 5, window_seconds: 60 }
    }
}

/// A set of requests.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The methods, case-sensitive (RFC 9110, section 9.1); empty or left out: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The path begins with these whole segments: `/v1` matches `/v1` and `/v1/users`, not
    /// `/v10`.
    #[serde(default = "root")]
    pub path_prefix: String,
}

/// Which scope a set of requests needs.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct ScopeNeeded {
    /// The methods, case-sensitive; empty or left out: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// The path begins with these whole segments.
    #[serde(default = "root")]
    pub path_prefix: String,
    /// The scope that a key needs.
    pub scope: Scope,
}

/// Whose requests a limit counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Those of one client address (IPv6: one /64).
    Address,
    /// Those with one key.
    Key,
    /// Those with one key from one client address.
    AddressAndKey,
}

/// A rate limit.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// What clients, logs and `shadow` call it: 1 to 64 of `a-z`, `0-9`, `-`, `_`; unique.
    pub name: String,
    /// Whose requests count together.
    pub per: Per,
    /// The methods it counts, case-sensitive; empty or left out: any.
    #[serde(default)]
    pub methods: Vec<String>,
    /// It counts paths that begin with these whole segments.
    #[serde(default = "root")]
    pub path_prefix: String,
    /// How it counts.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Requests in a window, 1 to 1000000000.
    pub requests: u32,
    /// The window's length in seconds, 1 to 2678400 (31 days). Fixed windows start at multiples of
    /// it since the Unix epoch.
    pub window_seconds: u32,
    /// Over what it counts.
    #[serde(default)]
    pub reach: Reach,
    /// What it answers when its counts cannot be had, or when nothing is heard of the control plane
    /// and this Envoy's part of a fleet's limit is used up.
    #[serde(default)]
    pub on_outage: OnOutage,
}

/// Which headers tell clients about their limits.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitHeaderNames {
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (Unix seconds).
    pub x_ratelimit: bool,
    /// `RateLimit-Policy` and `RateLimit` of the IETF draft of that number
    /// (draft-ietf-httpapi-ratelimit-headers).
    pub ietf: IetfDraft,
}

impl Default for RateLimitHeaderNames {
    fn default() -> Self {
        Self { x_ratelimit: true, ietf: IetfDraft::Draft10 }
    }
}

/// A version of the IETF's rate limit headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
pub enum IetfDraft {
    /// draft-ietf-httpapi-ratelimit-headers-10.
    #[serde(rename = "draft-10")]
    Draft10,
    /// None of these headers.
    #[serde(rename = "off")]
    Off,
}

/// How long answers about keys are kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    /// How long a verified key is taken for good without asking again, in seconds, 1 to 86400.
    pub fresh_seconds: u32,
    /// How much longer it is when the control plane cannot be reached, in seconds, 0 to 604800.
    pub stale_if_error_seconds: u32,
    /// How many keys a worker remembers, 1 to 1000000.
    pub keys: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self { fresh_seconds: 60, stale_if_error_seconds: 3600, keys: 100_000 }
    }
}

/// What is recorded, and what happens when it cannot be.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Which accepted requests are recorded: `none`, `first_seen` (each time a worker has had the
    /// key confirmed), or `all`. Refusals always are.
    pub success: SuccessEvents,
    /// What happens to requests while there is no room for more events: `drop` lets them pass
    /// and counts what was lost, `deny` refuses them.
    pub on_backlog_full: BacklogFull,
}

impl Default for Audit {
    fn default() -> Self {
        Self { success: SuccessEvents::FirstSeen, on_backlog_full: BacklogFull::Drop }
    }
}

/// Which accepted requests are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum SuccessEvents {
    /// None.
    None,
    /// Those on which the key was confirmed by the control plane.
    FirstSeen,
    /// Every one.
    All,
}

/// What happens when the backlog of events is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema, serde::Serialize))]
#[serde(rename_all = "snake_case")]
pub enum BacklogFull {
    /// Events are dropped, and counted.
    Drop,
    /// Requests are refused.
    Deny,
}

fn status_403() -> u16 {
    403
}

fn root() -> String {
    "/".into()
}

fn default_scopes() -> Vec<ScopeNeeded> {
    let methods = ["GET", "HEAD", "OPTIONS"].map(String::from).to_vec();
    vec![
        ScopeNeeded { methods, path_prefix: root(), scope: Scope::Read },
        ScopeNeeded { methods: Vec::new(), path_prefix: root(), scope: Scope::Write },
    ]
}

fn default_limits() -> Vec<Limit> {
    [("address-get", "GET", 100), ("address-post", "POST", 50)]
        .map(|(name, method, requests)| Limit {
            name: name.into(),
            per: Per::Address,
            methods: vec![method.into()],
            path_prefix: root(),
            algorithm: Algorithm::FixedWindow,
            requests,
            window_seconds: 60,
            reach: Reach::Envoy,
            on_outage: OnOutage::Deny,
        })
        .into()
}
