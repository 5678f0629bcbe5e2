//! `envoy/compose.yaml` is `envoy/standalone.yaml` in a container.

use serde_json::Value;
use xtask::edge_config::EdgeConfig;
use xtask::workspace;

fn read(name: &str) -> EdgeConfig {
    EdgeConfig::read(&workspace::root().join("envoy").join(name)).unwrap()
}

/// Takes the entries of these names out of a list.
fn take(list: &mut Value, names: &[&str]) {
    let list = list.as_array_mut().unwrap();
    let before = list.len();
    list.retain(|entry| !names.iter().any(|name| entry["name"] == *name));
    assert_eq!(list.len() + names.len(), before, "{names:?}");
}

#[test]
fn it_differs_from_the_file_that_is_tested_only_where_a_container_needs_it() {
    let mut standalone = read("standalone.yaml");
    standalone.set_control_plane("control-plane", 8081).unwrap();
    let mut compose = read("compose.yaml");
    let resources = &mut compose.document_mut()["static_resources"];
    take(&mut resources["listeners"], &["watch", "demo"]);
    take(&mut resources["clusters"], &["envoy_admin"]);
    assert_eq!(compose.document(), standalone.document());
}

#[test]
fn of_the_admin_interface_others_reach_only_what_is_read() {
    let compose = read("compose.yaml");
    assert_eq!(compose.document()["admin"]["address"]["socket_address"]["address"], "127.0.0.1");
    let listeners = compose.document()["static_resources"]["listeners"].as_array().unwrap();
    let watch = listeners.iter().find(|it| it["name"] == "watch").unwrap();
    let manager = &watch["filter_chains"][0]["filters"][0]["typed_config"];
    let hosts = manager["route_config"]["virtual_hosts"].as_array().unwrap();
    let routes = hosts[0]["routes"].as_array().unwrap();
    let paths: Vec<_> = routes.iter().filter_map(|it| it["match"]["path"].as_str()).collect();
    assert_eq!(paths, ["/stats/prometheus", "/ready"]);
    assert_eq!((hosts.len(), routes.len()), (1, 2));
}
