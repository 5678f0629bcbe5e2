//! The configuration as the gate uses it: every value in its range, every name resolved.

use edge_protocol::{Algorithm, Deployment, OnOutage, Reach, Scope};
use key_policy::{Policy, Prefix};

use crate::{
    BacklogFull, ClientAddressFrom, ConfigFault, Document, IetfDraft, KeyPolicy, Layer, LayerSet,
    Limit, Per, SuccessEvents,
};

/// The longest window of a limit: 31 days, in seconds.
pub const MAX_WINDOW_SECONDS: u32 = 31 * 86_400;
/// The most requests in a window.
pub const MAX_REQUESTS: u32 = 1_000_000_000;
/// One bit of a 64-bit plan for each limit.
const MAX_LIMITS: usize = 64;
/// `shadow`'s name for the limits that keys bring along.
pub const KEY_LIMIT: &str = "key";

/// How the gate tells the upstream whose request it is: key, scope, owner.
pub const IDENTITY_HEADERS: [&str; 3] = ["x-keygate-key-id", "x-keygate-scope", "x-keygate-owner"];

/// A configuration that has been checked: [`Config::parse`] is the only way to one.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the document")]
pub struct Config {
    /// What kind of deployment the gate stands in.
    pub deployment: Deployment,
    /// How to reach the control plane.
    pub control_plane: ControlPlaneConfig,
    /// The name of the header with the key, in lower case.
    pub credential_header: String,
    /// Whether the upstream gets to see the key.
    pub forward_credential: bool,
    /// Where the client's address is taken from.
    pub client_address: ClientAddressSource,
    /// What a key must look like.
    pub policy: Policy,
    /// Whether bad credentials are answered with 401; else with 403.
    pub unauthorized: bool,
    /// How many failed credentials an address may send.
    pub failed_attempts: Quota,
    /// Routes that need no key.
    pub public: Vec<RouteMatch>,
    /// Which scope a request needs: the first that matches decides.
    pub scopes: Vec<ScopeRule>,
    /// The limits, at most 64, each of a name of its own.
    pub limits: Vec<LimitRule>,
    /// Whether the keys' own limits only count.
    pub key_limits_shadowed: bool,
    /// Whether clients get the `X-RateLimit-*` headers.
    pub x_ratelimit: bool,
    /// Whether they get the IETF's.
    pub ietf_headers: bool,
    /// How long answers are kept.
    pub cache: CacheConfig,
    /// What is recorded.
    pub audit: AuditConfig,
    /// Layers that only count.
    pub shadow: LayerSet,
}

/// How to reach the control plane.
#[derive(Clone, Debug)]
pub struct ControlPlaneConfig {
    /// The Envoy cluster of its edge API.
    pub cluster: String,
    /// How long to wait for an answer about a key, in milliseconds.
    pub timeout_ms: u32,
}

/// Where the client's address is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAddressSource {
    /// Envoy's own word on it.
    Connection,
    /// This header, which Envoy sets; lower case.
    Header(String),
}

/// So many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How they are counted.
    pub algorithm: Algorithm,
    /// How many, at least 1.
    pub requests: u32,
    /// How long, in seconds, at least 1.
    pub seconds: u32,
}

/// A set of requests.
#[derive(Clone, Debug)]
pub struct RouteMatch {
    /// The methods; none: any.
    pub methods: Vec<String>,
    /// Whole segments that the path begins with.
    pub path_prefix: String,
}

/// Which scope a set of requests needs.
#[derive(Clone, Debug)]
pub struct ScopeRule {
    /// The requests.
    pub route: RouteMatch,
    /// The scope.
    pub scope: Scope,
}

/// A rate limit.
#[derive(Clone, Debug)]
pub struct LimitRule {
    /// What clients and logs call it.
    pub name: String,
    /// Whose requests count together.
    pub per: Per,
    /// The requests.
    pub route: RouteMatch,
    /// How many.
    pub quota: Quota,
    /// Over what it counts.
    pub reach: Reach,
    /// What it answers when its counts cannot be had.
    pub on_outage: OnOutage,
    /// Whether it only counts.
    pub shadow: bool,
}

/// How long answers are kept, in milliseconds, and how many.
#[derive(Clone, Copy, Debug)]
pub struct CacheConfig {
    /// Without asking again.
    pub fresh_ms: u64,
    /// And so much longer when nobody can be asked.
    pub stale_if_error_ms: u64,
    /// Of how many keys.
    pub keys: usize,
}

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub struct AuditConfig {
    /// Which accepted requests.
    pub success: SuccessEvents,
    /// What happens to requests while there is no room.
    pub on_backlog_full: BacklogFull,
}

impl Config {
    /// Reads a configuration document.
    ///
    /// # Errors
    /// The first field that is wrong, and what was expected of it.
    // Never inlined: it is made for size here, and its caller for speed.
    #[inline(never)]
    pub fn parse(json: &[u8]) -> Result<Self, ConfigFault> {
        Self::check(Document::read(json)?)
    }

    fn check(document: Document) -> Result<Self, ConfigFault> {
        if document.version != 1 {
            let problem = format!("this filter understands version 1, not {}", document.version);
            return Err(ConfigFault::new("version", problem));
        }
        let unauthorized = match document.credential_failure_status {
            401 => true,
            403 => false,
            other => {
                let problem = format!("expected 401 or 403, got {other}");
                return Err(ConfigFault::new("credential_failure_status", problem));
            }
        };
        let cluster = document.control_plane.cluster;
        if cluster.is_empty() {
            return Err(ConfigFault::new(
                "control_plane.cluster",
                "expected the name of a cluster",
            ));
        }
        let timeout_ms = document.control_plane.timeout_ms;
        in_range("control_plane.timeout_ms", timeout_ms, 1, 60_000)?;
        let credential_header = header_name("credential.header", &document.credential.header)?;
        let client_address = match document.client_address {
            ClientAddressFrom::Connection => ClientAddressSource::Connection,
            ClientAddressFrom::Header(name) => {
                ClientAddressSource::Header(header_name("client_address.header", &name)?)
            }
        };
        if client_address == ClientAddressSource::Header(credential_header.clone()) {
            let problem = "expected another header than that of the key";
            return Err(ConfigFault::new("client_address.header", problem));
        }
        let failed = document.failed_attempts;
        let failed_attempts = quota(
            "failed_attempts",
            Algorithm::FixedWindow,
            failed.requests,
            failed.window_seconds,
        )?;
        let public = document
            .public
            .into_iter()
            .enumerate()
            .map(|(i, r)| route(&format!("public[{i}]"), r.methods, r.path_prefix))
            .collect::<Result<_, _>>()?;
        let scopes = document
            .scopes
            .into_iter()
            .enumerate()
            .map(|(i, r)| {
                let route = route(&format!("scopes[{i}]"), r.methods, r.path_prefix)?;
                Ok(ScopeRule { route, scope: r.scope })
            })
            .collect::<Result<_, _>>()?;
        let mut limits = limits(document.limits)?;
        let shadowed = Shadowed::read(&document.shadow, &mut limits)?;
        let cache = document.cache;
        in_range("cache.fresh_seconds", cache.fresh_seconds, 1, 86_400)?;
        in_range("cache.stale_if_error_seconds", cache.stale_if_error_seconds, 0, 604_800)?;
        in_range("cache.keys", cache.keys, 1, 1_000_000)?;
        Ok(Self {
            deployment: document.environment,
            control_plane: ControlPlaneConfig { cluster, timeout_ms },
            credential_header,
            forward_credential: document.credential.forward,
            client_address,
            policy: policy(&document.policy)?,
            unauthorized,
            failed_attempts,
            public,
            scopes,
            limits,
            key_limits_shadowed: shadowed.key_limits,
            x_ratelimit: document.rate_limit_headers.x_ratelimit,
            ietf_headers: document.rate_limit_headers.ietf == IetfDraft::Draft10,
            cache: CacheConfig {
                fresh_ms: u64::from(cache.fresh_seconds) * 1000,
                stale_if_error_ms: u64::from(cache.stale_if_error_seconds) * 1000,
                keys: usize::try_from(cache.keys).unwrap_or(usize::MAX),
            },
            audit: AuditConfig {
                success: document.audit.success,
                on_backlog_full: document.audit.on_backlog_full,
            },
            shadow: shadowed.layers,
        })
    }
}

/// What only counts and logs.
#[derive(Default)]
struct Shadowed {
    layers: LayerSet,
    key_limits: bool,
}

impl Shadowed {
    /// Resolves the names; those of limits are noted with the limits.
    fn read(names: &[String], limits: &mut [LimitRule]) -> Result<Self, ConfigFault> {
        let mut shadowed = Self::default();
        for (i, name) in names.iter().enumerate() {
            let layer = Layer::named(name);
            let is_key_limit = name == KEY_LIMIT;
            let limit = limits.iter_mut().find(|limit| limit.name == *name);
            if (layer.is_some() || is_key_limit) && limit.is_some() {
                let problem = format!("`{name}` is a limit and more; give the limit another name");
                return Err(ConfigFault::new(format!("shadow[{i}]"), problem));
            }
            if let Some(layer) = layer {
                shadowed.layers.insert(layer);
            } else if is_key_limit {
                shadowed.key_limits = true;
            } else if let Some(limit) = limit {
                limit.shadow = true;
            } else {
                let layers = Layer::ALL.map(Layer::as_str).join(", ");
                let problem =
                    format!("`{name}` is neither a limit nor one of {layers}, {KEY_LIMIT}");
                return Err(ConfigFault::new(format!("shadow[{i}]"), problem));
            }
        }
        Ok(shadowed)
    }
}

fn in_range(field: &str, value: u32, min: u32, max: u32) -> Result<(), ConfigFault> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigFault::new(field, format!("expected {min} to {max}, got {value}")))
}

fn quota(
    field: &str,
    algorithm: Algorithm,
    requests: u32,
    seconds: u32,
) -> Result<Quota, ConfigFault> {
    in_range(&format!("{field}.requests"), requests, 1, MAX_REQUESTS)?;
    in_range(&format!("{field}.window_seconds"), seconds, 1, MAX_WINDOW_SECONDS)?;
    Ok(Quota { algorithm, requests, seconds })
}

/// A field name of RFC 9110, section 5.1, in lower case. The headers in which the gate introduces
/// a client to the upstream are not to be had.
fn header_name(field: &str, name: &str) -> Result<String, ConfigFault> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(token) {
        return Err(ConfigFault::new(
            field,
            format!("expected the name of a header, got `{name}`"),
        ));
    }
    let name = name.to_ascii_lowercase();
    if IDENTITY_HEADERS.contains(&name.as_str()) {
        let problem = format!("`{name}` is the gate's own; choose another header");
        return Err(ConfigFault::new(field, problem));
    }
    Ok(name)
}

fn route(
    field: &str,
    methods: Vec<String>,
    path_prefix: String,
) -> Result<RouteMatch, ConfigFault> {
    for (i, method) in methods.iter().enumerate() {
        let token = |b: u8| b.is_ascii_uppercase() || b == b'-' || b == b'_';
        if method.is_empty() || !method.bytes().all(token) {
            let problem = format!("expected a method such as GET, got `{method}`");
            return Err(ConfigFault::new(format!("{field}.methods[{i}]"), problem));
        }
    }
    let field = format!("{field}.path_prefix");
    if !path_prefix.starts_with('/') {
        let problem = format!("expected a path that begins with `/`, got `{path_prefix}`");
        return Err(ConfigFault::new(field, problem));
    }
    if path_prefix.contains(['?', '#', '%']) || !path_prefix.bytes().all(|b| b.is_ascii_graphic()) {
        let problem = format!("expected a plain path without `?`, `#`, `%`, got `{path_prefix}`");
        return Err(ConfigFault::new(field, problem));
    }
    Ok(RouteMatch { methods, path_prefix })
}

fn limits(limits: Vec<Limit>) -> Result<Vec<LimitRule>, ConfigFault> {
    if limits.len() > MAX_LIMITS {
        let problem = format!("expected at most {MAX_LIMITS} limits, got {}", limits.len());
        return Err(ConfigFault::new("limits", problem));
    }
    let mut rules: Vec<LimitRule> = Vec::with_capacity(limits.len());
    for (i, limit) in limits.into_iter().enumerate() {
        let field = format!("limits[{i}]");
        let name = limit.name;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            let problem = format!("expected 1 to 64 of a-z, 0-9, `-`, `_`, got `{name}`");
            return Err(ConfigFault::new(format!("{field}.name"), problem));
        }
        if rules.iter().any(|rule| rule.name == name) {
            let problem = format!("`{name}` is the name of another limit; choose another");
            return Err(ConfigFault::new(format!("{field}.name"), problem));
        }
        rules.push(LimitRule {
            per: limit.per,
            route: route(&field, limit.methods, limit.path_prefix)?,
            quota: quota(&field, limit.algorithm, limit.requests, limit.window_seconds)?,
            reach: limit.reach,
            on_outage: limit.on_outage,
            shadow: false,
            name,
        });
    }
    Ok(rules)
}

fn policy(policy: &KeyPolicy) -> Result<Policy, ConfigFault> {
    let prefix: Prefix = policy.prefix.parse().map_err(|_| {
        let problem = "expected 1 to 16 lower-case letters and digits, a letter first";
        ConfigFault::new("policy.prefix", problem)
    })?;
    let policy = Policy {
        prefix,
        min_length: policy.min_length.into(),
        max_length: policy.max_length.into(),
        min_entropy_bits: policy.min_entropy_bits,
        min_kinds: policy.min_kinds,
        weak_patterns: policy.weak_patterns,
    };
    policy.validate().map_err(|fault| {
        let problem = format!("expected {}", fault.expected());
        ConfigFault::new(format!("policy.{}", fault.field()), problem)
    })?;
    Ok(policy)
}
