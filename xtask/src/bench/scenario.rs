//! What is compared: Envoys that differ in their HTTP filters, and what is sent to them.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::edge_config::EdgeConfig;

/// For how long an answer about a key is fresh as the filter is shipped, in seconds.
const FRESH_SECONDS: u32 = 60;
/// The same for all who count: nobody is refused for it.
pub(super) const PLENTY: u32 = 1_000_000_000;
/// Rules of which nobody is meant to get more than one request through.
pub(super) const NARROW_PATH: &str = "/narrow";

/// An Envoy, by what stands before its router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Gateway {
    /// Nothing: the floor.
    Plain,
    /// Envoy's own `api_key_auth` and `local_ratelimit`, with one bucket for all.
    Native,
    /// The same, with a bucket for each client address and one for each client.
    NativePerClient,
    /// A filter in WebAssembly that does nothing.
    NoopWasm,
    /// `ext_authz` to a server that allows everything at once.
    ExtAuthzIdle,
    /// `ext_authz` to the control plane, which looks at each key.
    ExtAuthzKeygate,
    /// The filter with everything on.
    Keygate,
    /// The same with the three headers about limits that Envoy's own filter sends, and not five.
    KeygateThreeHeaders,
}

/// Which headers tell clients about their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Headers {
    All,
    Three,
}

impl Gateway {
    pub(super) const ALL: [Self; 8] = [
        Self::Plain,
        Self::Native,
        Self::NativePerClient,
        Self::NoopWasm,
        Self::ExtAuthzIdle,
        Self::ExtAuthzKeygate,
        Self::Keygate,
        Self::KeygateThreeHeaders,
    ];

    fn keygate_headers(self) -> Option<Headers> {
        match self {
            Self::Keygate => Some(Headers::All),
            Self::KeygateThreeHeaders => Some(Headers::Three),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "no-filter",
            Self::Native => "native",
            Self::NativePerClient => "native-per-client",
            Self::NoopWasm => "noop-wasm",
            Self::ExtAuthzIdle => "ext-authz-idle",
            Self::ExtAuthzKeygate => "ext-authz-keygate",
            Self::Keygate => "keygate",
            Self::KeygateThreeHeaders => "keygate-three-headers",
        }
    }
}

/// What is measured: an Envoy, and what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scenario {
    pub(super) gateway: Gateway,
    pub(super) traffic: Traffic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Traffic {
    /// Known keys in turn.
    Keys,
    /// No key.
    Without,
    /// Keys with a mistyped letter.
    Malformed,
    /// A key in order that nobody has given out.
    Unknown,
    /// A known key that is over its limit.
    OverLimit,
}

impl Traffic {
    pub(super) const ALL: [Self; 5] =
        [Self::Keys, Self::Without, Self::Malformed, Self::Unknown, Self::OverLimit];
}

impl Scenario {
    /// In the order of the page.
    pub(super) fn all() -> Vec<Self> {
        let accepted = Gateway::ALL.map(|gateway| Self { gateway, traffic: Traffic::Keys });
        let refused = [Traffic::Without, Traffic::Malformed, Traffic::Unknown, Traffic::OverLimit]
            .map(|traffic| Self { gateway: Gateway::Keygate, traffic });
        accepted.into_iter().chain(refused).collect()
    }

    /// Those that have one of these for their name, or else in it, and the floor; all, when nothing is
    /// named.
    pub(super) fn named(parts: &[String]) -> Vec<Self> {
        let mut all = Self::all();
        let whole: Vec<_> = all.iter().map(|scenario| scenario.name()).collect();
        let names = |name: &str, part: &String| {
            name == part || !whole.contains(part) && name.contains(part)
        };
        all.retain(|scenario| {
            let name = scenario.name();
            let is_named = parts.is_empty() || parts.iter().any(|part| names(&name, part));
            is_named || scenario.gateway == Gateway::Plain
        });
        all
    }

    pub(super) fn name(self) -> String {
        let gateway = self.gateway.name();
        match self.traffic {
            Traffic::Keys => gateway.to_owned(),
            Traffic::Without => format!("{gateway}-refuses-no-key"),
            Traffic::Malformed => format!("{gateway}-refuses-malformed"),
            Traffic::Unknown => format!("{gateway}-refuses-unknown"),
            Traffic::OverLimit => format!("{gateway}-refuses-over-limit"),
        }
    }

    /// The status that every answer must have.
    pub(super) fn expected_status(self) -> u16 {
        match self.traffic {
            Traffic::Keys => 200,
            Traffic::OverLimit => 429,
            Traffic::Without | Traffic::Malformed | Traffic::Unknown => 403,
        }
    }
}

/// What the configurations are made from.
pub(super) struct Parts<'a> {
    pub(super) keys: &'a [String],
    pub(super) noop_module: &'a Path,
    pub(super) idle: SocketAddr,
    pub(super) verifying: SocketAddr,
    /// How many kinds of traffic take turns.
    pub(super) turns: u32,
}

/// Edits the ready configuration into a gateway's. All answer by themselves: what an upstream costs
/// would be the same for each, and hide what is to be seen.
pub(super) fn configure(
    gateway: Gateway,
    config: &mut EdgeConfig,
    parts: &Parts<'_>,
) -> Result<()> {
    if let Some(headers) = gateway.keygate_headers() {
        let mut filter = config.filter_configuration()?;
        let fields = filter.as_object_mut().context("the filter's configuration is no object")?;
        fields.extend(filter_fields(headers, parts.turns));
        config.set_filter_configuration(&filter)?;
    }
    answer_directly(config)?;
    let filters = config.connection_manager_mut()?.pointer_mut("/http_filters");
    let filters = filters.and_then(Value::as_array_mut).context("the file has HTTP filters")?;
    if gateway.keygate_headers().is_none() {
        let router = filters.pop().context("the file has a router")?;
        *filters = own_filters(gateway, parts);
        filters.push(router);
    }
    if let Some(server) = server_of(gateway, parts) {
        let clusters = config.document_mut().pointer_mut("/static_resources/clusters");
        let clusters = clusters.and_then(Value::as_array_mut).context("the file has clusters")?;
        clusters.push(json!({
            "name": "authz",
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": "authz", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": {"socket_address":
                    {"address": server.ip().to_string(), "port_value": server.port()}}}}
            ]}]}
        }));
    }
    Ok(())
}

/// Has Envoy answer by itself, and write no line for each request, which costs more than what is to be
/// measured.
pub(super) fn answer_directly(config: &mut EdgeConfig) -> Result<()> {
    let manager = config.connection_manager_mut()?;
    let fields = manager.as_object_mut().context("the connection manager is no object")?;
    fields.remove("access_log");
    let routes = manager.pointer_mut("/route_config/virtual_hosts/0/routes");
    *routes.context("the file has routes")? = json!([
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
    ]);
    Ok(())
}

/// What the filter's configuration has that the ready one has not: an address limit and a key limit
/// that count each request, and one that lets nobody through. Freshness passes only while the gate is under
/// load: else all keys would have to be asked about at each of its turns, and not one in some hundred
/// requests, as under a load without pauses. All else is as it is shipped.
fn filter_fields(headers: Headers, turns: u32) -> serde_json::Map<String, Value> {
    let ietf = if headers == Headers::All { "draft-10" } else { "off" };
    let fields = json!({
        "rate_limit_headers": {"x_ratelimit": true, "ietf": ietf},
        "environment": "development",
        "cache": {"fresh_seconds": FRESH_SECONDS * turns},
        "failed_attempts": {"requests": PLENTY, "window_seconds": 60},
        "limits": [
            {"name": "address", "per": "address", "requests": PLENTY, "window_seconds": 60},
            {"name": "key", "per": "key", "requests": PLENTY, "window_seconds": 60},
            {"name": "narrow", "per": "key", "path_prefix": NARROW_PATH, "requests": 1, "window_seconds": 86_400},
        ],
    });
    match fields {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}

fn own_filters(gateway: Gateway, parts: &Parts<'_>) -> Vec<Value> {
    match gateway {
        Gateway::Plain | Gateway::Keygate | Gateway::KeygateThreeHeaders => Vec::new(),
        Gateway::Native => vec![api_key_auth(parts.keys), local_ratelimit(&json!([]), &json!([]))],
        Gateway::NativePerClient => {
            let descriptor =
                |key: &str| json!({"entries": [{"key": key}], "token_bucket": bucket()});
            let actions = json!([
                {"actions": [{"remote_address": {}}]},
                {"actions": [{"request_headers": {"header_name": "x-client", "descriptor_key": "client"}}]},
            ]);
            let descriptors = json!([descriptor("remote_address"), descriptor("client")]);
            vec![api_key_auth(parts.keys), local_ratelimit(&actions, &descriptors)]
        }
        Gateway::NoopWasm => vec![json!({
            "name": "noop",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": "noop",
                    "failure_policy": "FAIL_RELOAD",
                    "vm_config": {
                        "vm_id": "noop",
                        "runtime": "envoy.wasm.runtime.v8",
                        "code": {"local": {"filename": parts.noop_module.to_string_lossy()}},
                    },
                },
            },
        })],
        Gateway::ExtAuthzIdle | Gateway::ExtAuthzKeygate => vec![json!({
            "name": "envoy.filters.http.ext_authz",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
                "transport_api_version": "V3",
                "failure_mode_allow": false,
                "http_service": {
                    "server_uri": {"uri": "http://authz", "cluster": "authz", "timeout": "2s"},
                },
                "allowed_headers": {"patterns": [{"exact": "x-api-key"}]},
            },
        })],
    }
}

fn server_of(gateway: Gateway, parts: &Parts<'_>) -> Option<SocketAddr> {
    match gateway {
        Gateway::ExtAuthzIdle => Some(parts.idle),
        Gateway::ExtAuthzKeygate => Some(parts.verifying),
        _ => None,
    }
}

fn api_key_auth(keys: &[String]) -> Value {
    let credentials: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(number, key)| json!({"key": key, "client": format!("client-{number}")}))
        .collect();
    json!({
        "name": "envoy.filters.http.api_key_auth",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
            "credentials": credentials,
            "key_sources": [{"header": "x-api-key"}],
            "forwarding": {"header": "x-client", "hide_credentials": true},
        },
    })
}

fn local_ratelimit(actions: &Value, descriptors: &Value) -> Value {
    let always = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "limit",
            "token_bucket": bucket(),
            "filter_enabled": always,
            "filter_enforced": always,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "rate_limits": actions,
            "descriptors": descriptors,
        },
    })
}

fn bucket() -> Value {
    json!({"max_tokens": PLENTY, "tokens_per_fill": PLENTY, "fill_interval": "60s"})
}

#[cfg(test)]
mod tests {
    use super::Scenario;

    #[test]
    fn a_whole_name_means_only_itself_and_a_part_all_that_have_it() {
        let named = |part: &str| {
            Scenario::named(&[part.to_owned()]).into_iter().map(Scenario::name).collect::<Vec<_>>()
        };
        assert_eq!(named("keygate"), ["no-filter", "keygate"]);
        assert_eq!(named("ext"), ["no-filter", "ext-authz-idle", "ext-authz-keygate"]);
    }
}
