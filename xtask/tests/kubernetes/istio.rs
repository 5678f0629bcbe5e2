//! Istio: the fields are those of the CRDs of Istio 1.30 (`WasmPlugin` and the cluster's part of
//! `EnvoyFilter`).

use serde::Deserialize;
use serde_json::Value;

use super::{TargetRef, assert_configures_the_gate, assert_digest, kinds, read};

const FILE: &str = "istio.yaml";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "most fields are only there to be allowed")]
struct WasmPlugin {
    #[serde(default)]
    selector: Option<Selector>,
    #[serde(default)]
    target_refs: Vec<TargetRef>,
    url: String,
    #[serde(default)]
    sha256: String,
    #[serde(default)]
    image_pull_policy: Option<PullPolicy>,
    #[serde(default)]
    image_pull_secret: Option<String>,
    #[serde(default)]
    phase: Option<Phase>,
    #[serde(default)]
    priority: Option<i32>,
    #[serde(default, rename = "type")]
    kind: Option<PluginType>,
    #[serde(default)]
    plugin_name: String,
    #[serde(default)]
    fail_strategy: Option<FailStrategy>,
    /// Any object.
    plugin_config: serde_json::Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
enum PullPolicy {
    IfNotPresent,
    Always,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Phase {
    Authn,
    Authz,
    Stats,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum PluginType {
    Http,
    Network,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "they are Istio's")]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum FailStrategy {
    FailClose,
    FailOpen,
    FailReload,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvoyFilter {
    workload_selector: Labels,
    config_patches: Vec<ConfigPatch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ConfigPatch {
    apply_to: String,
    r#match: Match,
    patch: Patch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    context: String,
    cluster: ClusterMatch,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClusterMatch {
    service: String,
    port_number: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    operation: String,
    value: Value,
}

#[test]
fn the_plugin_has_istios_form_and_never_fails_open() {
    let [plugin] =
        <[_; 1]>::try_from(read::<WasmPlugin>(FILE, "extensions.istio.io/v1alpha1", "WasmPlugin"))
            .unwrap();
    let spec = plugin.spec;
    assert_eq!(spec.fail_strategy, Some(FailStrategy::FailReload));
    assert_eq!((spec.phase, spec.kind), (Some(Phase::Authn), Some(PluginType::Http)));
    // Only one of these may be there.
    assert!(spec.selector.is_some_and(|it| it.match_labels.len() == 1));
    assert!(spec.target_refs.is_empty());
    assert!(spec.url.starts_with("oci://"), "{}", spec.url);
    assert_digest(&spec.sha256);
    let filter = read::<EnvoyFilter>(FILE, "networking.istio.io/v1alpha3", "EnvoyFilter");
    let cluster = &filter[0].spec.config_patches[0].r#match.cluster;
    // Direction, port, subset, host: as Istio names the cluster of a service.
    let name = format!("outbound|{}||{}", cluster.port_number, cluster.service);
    assert_configures_the_gate(&Value::Object(spec.plugin_config), &name);
}

#[test]
fn the_service_is_the_cluster_that_the_filter_calls() {
    let all = xtask::manifests::read(FILE).unwrap();
    let service = all.iter().find(|it| it["kind"] == "Service").unwrap();
    let (name, namespace) = (&service["metadata"]["name"], &service["metadata"]["namespace"]);
    let host =
        format!("{}.{}.svc.cluster.local", name.as_str().unwrap(), namespace.as_str().unwrap());
    let filter = read::<EnvoyFilter>(FILE, "networking.istio.io/v1alpha3", "EnvoyFilter");
    let patch = &filter[0].spec.config_patches[0];
    assert_eq!(patch.r#match.cluster.service, host);
    assert_eq!(service["spec"]["ports"][0]["port"], patch.r#match.cluster.port_number);
    assert_eq!(
        (patch.apply_to.as_str(), patch.r#match.context.as_str(), patch.patch.operation.as_str()),
        ("CLUSTER", "GATEWAY", "MERGE")
    );
    assert!(patch.patch.value["typed_extension_protocol_options"].is_object());
    // The plug-in and the credential are for the same pods.
    let plugin =
        &read::<WasmPlugin>(FILE, "extensions.istio.io/v1alpha1", "WasmPlugin")[0].spec.selector;
    let labels = &filter[0].spec.workload_selector.labels;
    assert_eq!(plugin.as_ref().map(|it| &it.match_labels), Some(labels));
}

#[test]
fn the_control_planes_pods_are_for_the_mesh_alone() {
    let all = xtask::manifests::read(FILE).unwrap();
    let of = |kind: &str| all.iter().find(|it| it["kind"] == kind).unwrap();
    assert_eq!(of("PeerAuthentication")["spec"]["mtls"]["mode"], "STRICT");
    let policy = &of("AuthorizationPolicy")["spec"];
    let labels = |spec: &Value| spec["selector"]["matchLabels"].clone();
    assert_eq!(policy["action"], "ALLOW");
    assert_eq!(labels(policy), labels(&of("PeerAuthentication")["spec"]));
    assert_eq!(labels(policy), of("Service")["spec"]["selector"]);
    assert_eq!(kinds("istio-control-plane-outside.yaml"), ["ServiceEntry", "DestinationRule"]);
}
