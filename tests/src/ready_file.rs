//! The ready configurations of `envoy/` other than `standalone.yaml`, for a test's own Envoy.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xtask::edge_config::EdgeConfig;
use xtask::workspace;

use crate::builder::{combine, patiently};

const CONTROL_PLANE: &str = "keygate_control_plane";
const FIRST_ENDPOINT: &str =
    "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
const CREDENTIAL: &str = "/typed_extension_protocol_options/\
     envoy.extensions.upstreams.http.v3.HttpProtocolOptions/http_filters/0/typed_config/credential/\
     typed_config/credential/sds_config/path_config_source/path";

/// A whole file of `envoy/`, used as it is but for addresses and paths, and patience:
/// `Gate::builder().edit_envoy(ReadyFile::new("sidecar.yaml").upstream("application").edit())`.
#[must_use = "it is an edit of Envoy's configuration"]
pub struct ReadyFile {
    name: String,
    upstreams: Vec<(String, Option<SocketAddr>)>,
    filter: Value,
}

impl ReadyFile {
    /// The file of this name.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), upstreams: Vec::new(), filter: Value::Null }
    }

    /// This cluster of the file is the gate's own echo upstream.
    pub fn upstream(mut self, cluster: &str) -> Self {
        self.upstreams.push((cluster.to_owned(), None));
        self
    }

    /// This cluster of the file is what listens there.
    pub fn upstream_at(mut self, cluster: &str, address: SocketAddr) -> Self {
        self.upstreams.push((cluster.to_owned(), Some(address)));
        self
    }

    /// Changes the filter's configuration that the file has (RFC 7396).
    pub fn filter(mut self, changes: Value) -> Self {
        self.filter = changes;
        self
    }

    /// The change to Envoy's configuration that puts the file in its place.
    pub fn edit(self) -> impl Fn(&mut EdgeConfig) -> Result<()> + Send + Sync + 'static {
        move |config| {
            let mut ready = EdgeConfig::read(&workspace::root().join("envoy").join(&self.name))?;
            self.adapt(config, &mut ready)?;
            *config = ready;
            Ok(())
        }
    }

    /// Gives the file the addresses and paths of a configuration that was made for a test.
    fn adapt(&self, made: &mut EdgeConfig, ready: &mut EdgeConfig) -> Result<()> {
        let (gateway, port) = made.gateway()?;
        ready.set_gateway(&gateway, port)?;
        let admin = "/admin/address/socket_address/port_value";
        *place(ready.document_mut(), admin)? = place(made.document_mut(), admin)?.take();
        let hops = "xff_num_trusted_hops";
        ready.connection_manager_mut()?[hops] = made.connection_manager_mut()?[hops].take();
        let module = "/vm_config/code/local/filename";
        *place(ready.filter_mut()?, module)? = place(made.filter_mut()?, module)?.take();
        for part in [FIRST_ENDPOINT, CREDENTIAL] {
            let value = place(made.cluster_mut(CONTROL_PLANE)?, part)?.take();
            *place(ready.cluster_mut(CONTROL_PLANE)?, part)? = value;
        }
        let echo = place(made.cluster_mut("upstream")?, FIRST_ENDPOINT)?.clone();
        for (cluster, address) in &self.upstreams {
            let address = address.map_or(
                echo.clone(),
                |it| json!({"address": it.ip().to_string(), "port_value": it.port()}),
            );
            *place(ready.cluster_mut(cluster)?, FIRST_ENDPOINT)? = address;
        }
        let mut filter = patiently(&ready.filter_configuration()?);
        combine(&mut filter, self.filter.clone());
        ready.set_filter_configuration(&filter)
    }
}

/// The change to Envoy's configuration that puts the cluster of a file of `envoy/` in the place of
/// the control plane's: its first endpoint is the gate's own control plane, the others are these.
pub fn control_planes_of(
    name: &str,
    others: &[SocketAddr],
) -> impl Fn(&mut EdgeConfig) -> Result<()> + Send + Sync + 'static {
    let file = workspace::root().join("envoy").join(name);
    let others = others.to_vec();
    move |config| {
        let mut ready = EdgeConfig::read(&file)?.cluster_mut(CONTROL_PLANE)?.take();
        let cluster = config.cluster_mut(CONTROL_PLANE)?;
        for part in [FIRST_ENDPOINT, CREDENTIAL] {
            *place(&mut ready, part)? = place(cluster, part)?.take();
        }
        for (n, other) in others.iter().enumerate() {
            let endpoint =
                FIRST_ENDPOINT.replace("/lb_endpoints/0", &format!("/lb_endpoints/{}", n + 1));
            *place(&mut ready, &endpoint)? =
                json!({"address": other.ip().to_string(), "port_value": other.port()});
        }
        *cluster = ready;
        Ok(())
    }
}

fn place<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    value.pointer_mut(pointer).with_context(|| format!("the configuration has no {pointer}"))
}
