//! What Envoy gets of the manifests in `envoy/kubernetes`, in a real Envoy: the filter's configuration, and the
//! way to the control plane with the filter's credential. What a cluster's controllers make of the
//! rest cannot be tried here.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Certificates, Gate, fresh_address, patiently, unknown_key, within};
use xtask::edge_config::EdgeConfig;
use xtask::manifests;

const CLUSTER: &str = "keygate_control_plane";
const HTTP_OPTIONS: &str = "/typed_extension_protocol_options/\
     envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const SDS_PATH: &str = "/http_filters/0/typed_config/credential/typed_config/credential/\
     sds_config/path_config_source";

/// The manifest of this kind and name.
fn manifest(file: &str, kind: &str, name: &str) -> Value {
    let all = manifests::read(file).unwrap();
    let found = all.into_iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("{file} has no {kind} {name}"))
}

/// A key is asked for, found out about, and its end is heard of.
fn assert_works(gate: &Gate) {
    let key = gate.admin().key_of_scope("read");
    let get = || gate.get("/").client(fresh_address());
    get().send().assert_problem(403, "missing_api_key");
    get().key(unknown_key()).send().assert_problem(403, "invalid_api_key");
    let seen = get().key(&key).send().upstream();
    assert_eq!(seen.header("x-keygate-key-id"), [key.id.as_str()]);
    let mut workers = [0, 1].map(|worker| gate.connect_to_worker(worker));
    for worker in &mut workers {
        assert_eq!(get().key(&key).send_on(worker).status, 200);
    }
    gate.admin().revoke(&key.id);
    for worker in &mut workers {
        within(Duration::from_secs(5), "a worker refuses the revoked key", || {
            (get().key(&key).send_on(worker).status == 403).then_some(())
        });
    }
    gate.audited("MISSING_API_KEY", |row| row["key_id"].is_null());
}

/// As Istio: the filter's name and configuration from the plug-in, the address from the connection.
fn as_istio(config: &mut EdgeConfig) -> Result<()> {
    let plugin = manifest("istio.yaml", "WasmPlugin", "keygate")["spec"].take();
    let patch = manifest("istio.yaml", "EnvoyFilter", "keygate-edge-token");
    let patch = &patch["spec"]["configPatches"][0];
    let service = &patch["match"]["cluster"];
    // How Istio names the cluster of a service.
    let name = format!(
        "outbound|{}||{}",
        service["portNumber"],
        service["service"].as_str().context("no service")?
    );
    let filter = config.filter_mut()?;
    filter["name"] = "ingress.keygate".into();
    filter["root_id"] = plugin["pluginName"].clone();
    filter["failure_policy"] = plugin["failStrategy"].clone();
    let own = filter.as_object_mut().context("no filter")?;
    own.remove("reload_config");
    config.set_filter_configuration(&patiently(&plugin["pluginConfig"]))?;

    let cluster = config.cluster_mut(CLUSTER)?;
    let mut options = patch["patch"]["value"].clone();
    let token = cluster
        .pointer(&format!("{HTTP_OPTIONS}{SDS_PATH}/path"))
        .context("no credential")?
        .clone();
    let place = options.pointer_mut(&format!("{HTTP_OPTIONS}{SDS_PATH}")).context("no path")?;
    let folder = Path::new(token.as_str().context("no path")?).parent().context("no folder")?;
    place["watched_directory"]["path"] = folder.to_string_lossy().into_owned().into();
    place["path"] = token;
    let value = options["typed_extension_protocol_options"].take();
    cluster["typed_extension_protocol_options"] = value;
    cluster["name"] = name.as_str().into();
    cluster["load_assignment"]["cluster_name"] = name.into();
    Ok(())
}

#[test]
fn what_istio_hands_to_envoy_works() {
    assert_works(&Gate::builder().edit_envoy(as_istio).start());
}

/// As Envoy Gateway: the cluster as it is, but for the address, and with the secrets in files, since
/// nobody serves them here.
fn as_envoy_gateway(config: &mut EdgeConfig, certificates: &Path) -> Result<()> {
    let policy = manifest("envoy-gateway.yaml", "EnvoyExtensionPolicy", "keygate");
    let wasm = &policy["spec"]["wasm"][0];
    let reload = manifest("envoy-gateway.yaml", "EnvoyPatchPolicy", "keygate-reload");
    let filter = config.filter_mut()?;
    filter["name"] = wasm["name"].clone();
    filter["root_id"] = wasm["rootID"].clone();
    let own = filter.as_object_mut().context("no filter")?;
    own.remove("reload_config");
    let operation = &reload["spec"]["jsonPatches"][0]["operation"];
    assert_eq!(operation["path"], "/failure_policy");
    own.insert("failure_policy".to_owned(), operation["value"].clone());
    config.set_filter_configuration(&patiently(&wasm["config"]))?;

    let patches = manifest("envoy-gateway.yaml", "EnvoyPatchPolicy", "keygate-control-plane");
    let patches = patches["spec"]["jsonPatches"].as_array().context("no patches")?;
    let (cluster, secrets) = patches.split_first().context("no cluster")?;
    let mut text = cluster["operation"]["value"].to_string();
    for secret in secrets {
        let file = certificates.join(format!("{}.json", secret["name"].as_str().context("name")?));
        let mut resource = secret["operation"]["value"].clone();
        resource["@type"] = secret["type"].clone();
        let folder = certificates.join("client").to_string_lossy().into_owned();
        let resource = json!({"resources": [resource]}).to_string();
        fs::write(&file, resource.replace("/etc/keygate/tls", &folder))?;
        let name = &secret["name"];
        let served = format!(r#""name":{name},"sds_config":{{"ads":{{}},"#);
        assert!(text.contains(&served), "{served} in {text}");
        let read =
            format!(r#""name":{name},"sds_config":{{"path_config_source":{{"path":{file:?}}},"#);
        text = text.replace(&served, &read);
    }
    let mut cluster: Value = serde_json::from_str(&text)?;
    let place = config.cluster_mut(CLUSTER)?;
    cluster["load_assignment"] = place["load_assignment"].take();
    *place = cluster;
    Ok(())
}

#[test]
fn what_envoy_gateway_hands_to_envoy_works() {
    let certificates = Certificates::new();
    // By the names that a Kubernetes secret has.
    for (own, kubernetes) in [("tls.pem", "tls.crt"), ("ca.pem", "ca.crt")] {
        let file = certificates.path("client", own);
        fs::copy(file, certificates.path("client", kubernetes)).unwrap();
    }
    let folder = certificates.folder().to_path_buf();
    let gate = Gate::builder().edit_envoy(move |config| as_envoy_gateway(config, &folder));
    assert_works(&certificates.asked_for_by(gate).start());
}
