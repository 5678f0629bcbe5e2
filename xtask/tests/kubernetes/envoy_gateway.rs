//! Envoy Gateway: the fields are those of the CRDs of Envoy Gateway 1.9 (`EnvoyExtensionPolicy` and
//! `EnvoyPatchPolicy`).

use serde::Deserialize;
use serde_json::Value;
use xtask::edge_config::EdgeConfig;
use xtask::workspace;

use super::{Manifest, TargetRef, assert_configures_the_gate, assert_digest, read};

const FILE: &str = "envoy-gateway.yaml";
const API: &str = "gateway.envoyproxy.io/v1alpha1";
const CLUSTER: &str = "keygate_control_plane";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvoyExtensionPolicy {
    target_refs: Vec<TargetRef>,
    wasm: Vec<Wasm>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wasm {
    name: String,
    #[serde(rename = "rootID")]
    root_id: String,
    fail_open: bool,
    code: Code,
    /// Anything.
    config: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, tag = "type")]
enum Code {
    #[serde(rename = "HTTP")]
    Http {
        http: Source,
    },
    Image {
        image: Source,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    url: String,
    sha256: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EnvoyPatchPolicy {
    target_ref: TargetRef,
    r#type: PatchType,
    json_patches: Vec<JsonPatch>,
}

#[derive(Debug, Deserialize)]
enum PatchType {
    #[serde(rename = "JSONPatch")]
    JsonPatch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPatch {
    r#type: Resource,
    name: String,
    operation: Operation,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
enum Resource {
    #[serde(rename = "type.googleapis.com/envoy.config.listener.v3.Listener")]
    Listener,
    #[serde(rename = "type.googleapis.com/envoy.config.cluster.v3.Cluster")]
    Cluster,
    #[serde(rename = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret")]
    Secret,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Operation {
    op: Op,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    json_path: Option<String>,
    value: Value,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Op {
    Add,
    Remove,
    Replace,
    Move,
    Copy,
    Test,
}

fn policy() -> Manifest<EnvoyExtensionPolicy> {
    let [policy] = <[_; 1]>::try_from(read(FILE, API, "EnvoyExtensionPolicy")).unwrap();
    policy
}

fn patches() -> [Manifest<EnvoyPatchPolicy>; 2] {
    <[_; 2]>::try_from(read(FILE, API, "EnvoyPatchPolicy")).unwrap()
}

fn gateway() -> TargetRef {
    TargetRef {
        group: "gateway.networking.k8s.io".to_owned(),
        kind: "Gateway".to_owned(),
        name: "edge".to_owned(),
    }
}

#[test]
fn the_policy_has_envoy_gateways_form_and_never_fails_open() {
    let policy = policy();
    assert_eq!(policy.spec.target_refs, [gateway()]);
    let [wasm] = <[_; 1]>::try_from(policy.spec.wasm).unwrap();
    assert!(!wasm.fail_open);
    assert_eq!((wasm.name.as_str(), wasm.root_id.as_str()), ("keygate", "keygate"));
    let (Code::Http { http: source } | Code::Image { image: source }) = wasm.code;
    assert_digest(&source.sha256);
    assert!(source.url.ends_with("/keygate/filter:0.1.0"), "{}", source.url);
    assert_configures_the_gate(&wasm.config, CLUSTER);
}

#[test]
fn the_patched_cluster_is_that_of_mtls_yaml() {
    let [control_plane, _] = patches();
    assert_eq!(control_plane.spec.target_ref, gateway());
    assert!(matches!(control_plane.spec.r#type, PatchType::JsonPatch));
    let resources = control_plane.spec.json_patches;
    // A new resource has no path, and its own name.
    for resource in &resources {
        let operation = &resource.operation;
        assert_eq!(
            (&operation.op, &operation.path, &operation.json_path),
            (&Op::Add, &None, &None)
        );
        assert_eq!(operation.value["name"], resource.name.as_str());
    }
    let [cluster, certificate, authority] = <[_; 3]>::try_from(resources).unwrap();
    assert_eq!(
        [&cluster.r#type, &certificate.r#type, &authority.r#type],
        [&Resource::Cluster, &Resource::Secret, &Resource::Secret]
    );
    let file = workspace::root().join("envoy/mtls.yaml");
    let mut of_file = EdgeConfig::read(&file).unwrap().cluster_mut(CLUSTER).unwrap().take();
    let mut patched = cluster.operation.value;
    let tls = "/transport_socket/typed_config/common_tls_context";
    for cluster in [&mut of_file, &mut patched] {
        cluster["load_assignment"].take();
        // Where the secrets come from is another thing; which they are is not.
        let tls = cluster.pointer_mut(tls).unwrap();
        tls["tls_certificate_sds_secret_configs"][0]["sds_config"].take();
        tls["combined_validation_context"]["validation_context_sds_secret_config"]["sds_config"]
            .take();
    }
    assert_eq!(patched, of_file);
}

#[test]
fn a_crashed_filter_is_loaded_anew() {
    let [_, reload] = patches();
    let [patch] = <[_; 1]>::try_from(reload.spec.json_patches).unwrap();
    assert_eq!((patch.r#type, patch.name.as_str()), (Resource::Listener, "tcp-80"));
    assert_eq!(patch.operation.value, "FAIL_RELOAD");
    // As Envoy Gateway names the filter of a policy's first module.
    let policy = policy();
    let name = format!(
        "envoy.filters.http.wasm/envoyextensionpolicy/{}/{}/wasm/0",
        policy.metadata.namespace, policy.metadata.name
    );
    assert!(patch.operation.json_path.unwrap().contains(&format!("'{name}'")));
}
