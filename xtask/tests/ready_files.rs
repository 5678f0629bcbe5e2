//! What the ready configurations of `envoy/` have in common is the same in all of them.

use serde_json::Value;
use xtask::edge_config::EdgeConfig;
use xtask::workspace;

const CLUSTER: &str = "keygate_control_plane";
const ENDPOINTS: &str = "/load_assignment/endpoints";
const OPTIONS: &str = "/typed_extension_protocol_options/\
     envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

#[cfg(test)]
fn read(name: &str) -> EdgeConfig {
    EdgeConfig::read(&workspace::root().join("envoy").join(name)).unwrap()
}

/// The control plane's cluster without its addresses.
#[cfg(test)]
fn cluster(name: &str) -> Value {
    let mut cluster = read(name).cluster_mut(CLUSTER).unwrap().take();
    cluster.pointer_mut(ENDPOINTS).unwrap().take();
    cluster
}

/// A connection manager without what each file is there for: its routes, its name, its log, and
/// the filter's configuration.
#[cfg(test)]
fn connection_manager(name: &str) -> Value {
    let mut config = read(name);
    config.set_filter_configuration_text("").unwrap();
    let mut manager = config.connection_manager_mut().unwrap().take();
    for own in ["route_config", "stat_prefix", "access_log"] {
        manager.as_object_mut().unwrap().remove(own);
    }
    manager
}

#[test]
fn each_has_the_hardening_and_the_filters_of_the_stand_alone_edge() {
    for name in ["sidecar.yaml", "gateway.yaml"] {
        assert_eq!(connection_manager(name), connection_manager("standalone.yaml"), "{name}");
        assert_eq!(cluster(name), cluster("standalone.yaml"), "{name}");
        let file = read(name);
        let admin = &file.document()["admin"]["address"]["socket_address"];
        assert_eq!(admin["address"], "127.0.0.1", "{name}");
    }
}

#[test]
fn the_cluster_of_two_control_planes_sends_the_same_credential_as_that_of_one() {
    let part = |name: &str, part: &str| {
        let cluster = cluster(name);
        cluster.pointer(&format!("{OPTIONS}/{part}")).unwrap().clone()
    };
    for same in ["http_filters", "explicit_http_config"] {
        assert_eq!(part("two-control-planes.yaml", same), part("standalone.yaml", same), "{same}");
    }
}

#[test]
fn a_sidecars_application_is_called_on_loopback() {
    let mut sidecar = read("sidecar.yaml");
    let application = sidecar.cluster_mut("application").unwrap();
    let address = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    assert_eq!(application.pointer(address).unwrap()["address"], "127.0.0.1");
}

/// A route on which the filter does not run lets through what the filter would have taken away.
#[test]
fn routes_without_the_filter_take_its_headers_away_themselves() {
    let mut gateway = read("gateway.yaml");
    let manager = gateway.connection_manager_mut().unwrap();
    let routes = manager["route_config"]["virtual_hosts"][0]["routes"].as_array().unwrap().clone();
    let without: Vec<_> =
        routes.iter().filter(|it| it["typed_per_filter_config"].is_object()).collect();
    assert_eq!(without.len(), 1);
    for route in without {
        let removed: Vec<_> = route["request_headers_to_remove"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it.as_str().unwrap())
            .collect();
        let mut expected: Vec<_> = gate::IDENTITY_HEADERS.to_vec();
        expected.push("x-api-key");
        for header in expected {
            assert!(removed.contains(&header), "{header}: {removed:?}");
        }
    }
}
