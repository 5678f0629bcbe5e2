//! Envoy's configuration, made from the very file that platform teams use.
//!
//! `envoy/standalone.yaml` is read, a few values in it are replaced (found by the names that the
//! file gives), and the result is handed to Envoy as JSON. So what is documented, what is tested
//! and what `cargo xtask up` runs cannot drift apart.

mod find;
mod upstream;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

pub use upstream::Upstream;
use upstream::authorities;

use crate::workspace;
use find::{at, is_named, named_mut, set};

/// The cluster in which the control plane is, and the name that the filter's configuration gives.
const CONTROL_PLANE: &str = "keygate_control_plane";
const UPSTREAM: &str = "upstream";
/// The gate's name among the HTTP filters, and where these stand in a listener.
const FILTER: &str = "keygate";
const HTTP_FILTERS: &str = "/filter_chains/0/filters/0/typed_config/http_filters";
const CREDENTIAL_SECRET: &str = "keygate_edge_token";
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// A configuration of Envoy that can be changed before it is used.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeConfig {
    document: Value,
}

impl EdgeConfig {
    /// What `envoy/standalone.yaml` says.
    ///
    /// # Errors
    /// When the file is missing or is no YAML.
    pub fn standalone() -> Result<Self> {
        Self::read(&workspace::root().join("envoy/standalone.yaml"))
    }

    /// What a YAML file says.
    ///
    /// # Errors
    /// When the file is missing or is no YAML.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let document = serde_saphyr::from_str(&text)
            .with_context(|| format!("{} is no valid YAML", file.display()))?;
        Ok(Self { document })
    }

    /// The whole document, for changes that have no method here.
    pub fn document_mut(&mut self) -> &mut Value {
        &mut self.document
    }

    /// The whole document.
    #[must_use]
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// Where clients connect to.
    ///
    /// # Errors
    /// As for all of these methods: when the file has not what is to be replaced.
    pub fn set_gateway(&mut self, address: &str, port: u16) -> Result<()> {
        set(self.gateway_mut()?, "/address/socket_address", socket_address(address, port))
    }

    /// Where clients connect to: address and port.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn gateway(&mut self) -> Result<(String, u16)> {
        let place = at(self.gateway_mut()?, "/address/socket_address")?;
        let address = place.get("address").and_then(Value::as_str).context("no address")?;
        let port = place.get("port_value").and_then(Value::as_u64).context("no port")?;
        Ok((address.to_owned(), u16::try_from(port)?))
    }

    /// The port of Envoy's own admin interface, on loopback.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_admin_port(&mut self, port: u16) -> Result<()> {
        set(&mut self.document, "/admin/address/socket_address/port_value", port.into())
    }

    /// How many entries from the right of `X-Forwarded-For` are proxies of our own.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_trusted_hops(&mut self, hops: u32) -> Result<()> {
        set(self.connection_manager_mut()?, "/xff_num_trusted_hops", hops.into())
    }

    /// The service behind the gate.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_upstream(&mut self, upstream: &Upstream) -> Result<()> {
        let cluster = self.cluster_mut(UPSTREAM)?;
        set_endpoint(cluster, &upstream.host, upstream.port)?;
        if !upstream.is_address() {
            // `localhost` is often two addresses, and the service listens on one of them: with
            // these Envoy tries the second when the first refuses.
            set(cluster, "/type", "LOGICAL_DNS".into())?;
            set(cluster, "/dns_lookup_family", "ALL".into())?;
        }
        if upstream.tls {
            let cluster = self.cluster_mut(UPSTREAM)?;
            set(cluster, "/transport_socket", upstream.transport_socket(&authorities()?))?;
            let manager = self.connection_manager_mut()?;
            let route = "/route_config/virtual_hosts/0/routes/0/route/auto_host_rewrite";
            set(manager, route, true.into())?;
        }
        Ok(())
    }

    /// Where the control plane listens for filters.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_control_plane(&mut self, host: &str, port: u16) -> Result<()> {
        set_endpoint(self.cluster_mut(CONTROL_PLANE)?, host, port)
    }

    /// The file that tells Envoy the filter's credential (see [`credential_file`]).
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_credential_file(&mut self, file: &Path) -> Result<()> {
        let cluster = self.cluster_mut(CONTROL_PLANE)?;
        let options = at(cluster, "/typed_extension_protocol_options")?;
        let filters = at(at(options, &format!("/{HTTP_OPTIONS}"))?, "/http_filters")?;
        let injector = named_mut(filters, "envoy.filters.http.credential_injector")?;
        let path =
            "/typed_config/credential/typed_config/credential/sds_config/path_config_source/path";
        set(injector, path, path_value(file))
    }

    /// The filter's module.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_filter_module(&mut self, file: &Path) -> Result<()> {
        set(self.filter_mut()?, "/vm_config/code/local/filename", path_value(file))
    }

    /// The filter's configuration as the file has it.
    ///
    /// # Errors
    /// When the file has none, or it is no JSON.
    pub fn filter_configuration(&mut self) -> Result<Value> {
        let text = at(self.filter_mut()?, "/configuration/value")?
            .as_str()
            .context("the filter's configuration is no text")?;
        serde_json::from_str(text).context("the filter's configuration is no JSON")
    }

    /// Replaces the filter's configuration.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_filter_configuration(&mut self, configuration: &Value) -> Result<()> {
        self.set_filter_configuration_text(&configuration.to_string())
    }

    /// As [`set_filter_configuration`](Self::set_filter_configuration), with any text: tests need
    /// wrong ones too.
    ///
    /// # Errors
    /// When the file has no such place.
    pub fn set_filter_configuration_text(&mut self, configuration: &str) -> Result<()> {
        set(self.filter_mut()?, "/configuration/value", configuration.into())
    }

    /// The HTTP connection manager of the gateway listener.
    ///
    /// # Errors
    /// When the file has none.
    pub fn connection_manager_mut(&mut self) -> Result<&mut Value> {
        at(self.gateway_mut()?, "/filter_chains/0/filters/0/typed_config")
    }

    /// A filter of the connection manager: its whole entry.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn http_filter_mut(&mut self, name: &str) -> Result<&mut Value> {
        named_mut(at(self.connection_manager_mut()?, "/http_filters")?, name)
    }

    /// A cluster.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn cluster_mut(&mut self, name: &str) -> Result<&mut Value> {
        named_mut(at(&mut self.document, "/static_resources/clusters")?, name)
    }

    /// The plug-in configuration of the Keygate filter (`name`, `vm_config`, `failure_policy`, …).
    ///
    /// # Errors
    /// When the file has none.
    pub fn filter_mut(&mut self) -> Result<&mut Value> {
        at(self.http_filter_mut(FILTER)?, "/typed_config/config")
    }

    /// The listener with the gate in it, whatever its name.
    fn gateway_mut(&mut self) -> Result<&mut Value> {
        let listeners = at(&mut self.document, "/static_resources/listeners")?;
        let mut listeners = listeners.as_array_mut().into_iter().flatten();
        listeners.find(|it| is_gated(it)).context("no listener has a filter named keygate")
    }
}

/// The content of the file that tells Envoy the filter's credential: `envoy/keygate_edge_token.yaml`
/// with the place of the token in it.
///
/// # Errors
/// When that file is missing or has no such place.
pub fn credential_file(token: &Path) -> Result<Value> {
    let template = workspace::root().join("envoy/keygate_edge_token.yaml");
    let mut config = EdgeConfig::read(&template)?;
    let resources = at(&mut config.document, "/resources")?;
    let secret = named_mut(resources, CREDENTIAL_SECRET)?;
    set(secret, "/generic_secret/secret/filename", path_value(token))?;
    Ok(config.document)
}

fn set_endpoint(cluster: &mut Value, host: &str, port: u16) -> Result<()> {
    let place = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    set(cluster, place, socket_address(host, port))
}

fn is_gated(listener: &Value) -> bool {
    let filters = listener.pointer(HTTP_FILTERS).and_then(Value::as_array);
    filters.is_some_and(|filters| filters.iter().any(|it| is_named(it, FILTER)))
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"address": address, "port_value": port})
}

fn path_value(path: &Path) -> Value {
    path.to_string_lossy().into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::{EdgeConfig, Upstream, credential_file};
    use std::path::Path;

    fn standalone() -> EdgeConfig {
        EdgeConfig::standalone().unwrap()
    }

    #[test]
    fn every_place_that_is_changed_is_in_the_file() {
        let mut config = standalone();
        config.set_gateway("127.0.0.1", 1).unwrap();
        config.set_admin_port(2).unwrap();
        config.set_trusted_hops(3).unwrap();
        config.set_upstream(&Upstream::parse("http://[::1]:4").unwrap()).unwrap();
        config.set_control_plane("127.0.0.1", 5).unwrap();
        config.set_credential_file(Path::new("/credential.yaml")).unwrap();
        config.set_filter_module(Path::new("/filter.wasm")).unwrap();
        config.set_filter_configuration(&serde_json::json!({"version": 1})).unwrap();
        let text = config.document().to_string();
        for changed in [
            r#"{"address":"127.0.0.1","port_value":1}"#,
            r#""port_value":2"#,
            r#""xff_num_trusted_hops":3"#,
            r#"{"address":"::1","port_value":4}"#,
            r#"{"address":"127.0.0.1","port_value":5}"#,
            r#""path":"/credential.yaml""#,
            r#""filename":"/filter.wasm""#,
            r#"{\"version\":1}"#,
        ] {
            assert!(text.contains(changed), "{changed} in {text}");
        }
    }

    #[test]
    fn the_filter_never_fails_open() {
        let mut config = standalone();
        assert_eq!(config.filter_mut().unwrap()["failure_policy"], "FAIL_RELOAD");
    }

    #[test]
    fn the_admin_interface_is_on_loopback_only() {
        assert_eq!(
            standalone().document()["admin"]["address"]["socket_address"]["address"],
            "127.0.0.1"
        );
    }

    #[test]
    fn the_file_trusts_no_proxy_until_told() {
        let mut config = standalone();
        let manager = config.connection_manager_mut().unwrap();
        assert_eq!(
            (&manager["use_remote_address"], &manager["xff_num_trusted_hops"]),
            (&true.into(), &0.into())
        );
    }

    #[test]
    fn the_filters_configuration_is_json_and_takes_the_address_from_the_connection() {
        let configuration = standalone().filter_configuration().unwrap();
        assert_eq!(configuration["version"], 1);
        assert!(configuration.get("client_address").is_none());
    }

    #[test]
    fn an_https_upstream_is_verified_under_its_name() {
        let socket = |url: &str| {
            let upstream = Upstream::parse(url).unwrap();
            upstream.transport_socket(Path::new("/ca.pem"))["typed_config"].take()
        };
        let by_name = socket("https://example.test");
        let trusted = &by_name["common_tls_context"]["validation_context"];
        assert_eq!(
            (&by_name["sni"], &trusted["trusted_ca"]["filename"]),
            (&"example.test".into(), &"/ca.pem".into())
        );
        assert_eq!(trusted["match_typed_subject_alt_names"][0]["matcher"]["exact"], "example.test");
        let by_address = socket("https://[::1]");
        assert!(by_address.get("sni").is_none(), "{by_address}");
    }

    #[test]
    fn an_upstream_by_name_is_tried_on_all_its_addresses() {
        let mut config = standalone();
        config.set_upstream(&Upstream::parse("http://localhost:3000").unwrap()).unwrap();
        assert_eq!(config.cluster_mut("upstream").unwrap()["dns_lookup_family"], "ALL");
    }

    #[test]
    fn the_credential_is_named_by_file() {
        let document = credential_file(Path::new("/run/token")).unwrap();
        let secret = &document["resources"][0];
        assert_eq!(secret["generic_secret"]["secret"]["filename"], "/run/token");
    }
}
