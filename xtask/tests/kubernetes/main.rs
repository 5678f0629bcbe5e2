//! The manifests in `envoy/kubernetes` have the form that Istio and Envoy Gateway ask for, and say the
//! same as each other and as Envoy's own files.
//!
//! The two modules say in types of ours which fields there are, after the CRDs that the projects
//! publish: a field that is not there, a word that is none, or a value of another kind is refused, as
//! a cluster would refuse it.

#[cfg(test)]
mod envoy_gateway;
#[cfg(test)]
mod istio;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use xtask::manifests;

/// What every manifest begins with.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest<S> {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: S,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
    namespace: String,
}

/// Which resource a policy is about.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct TargetRef {
    group: String,
    kind: String,
    name: String,
}

/// The manifests of this kind, read as what they are.
#[cfg(test)]
fn read<S: DeserializeOwned>(file: &str, api_version: &str, kind: &str) -> Vec<Manifest<S>> {
    let all = manifests::read(file).unwrap().into_iter().filter(|it| it["kind"] == kind);
    let read: Vec<Manifest<S>> = all
        .map(|it| {
            let shown = it["metadata"].to_string();
            serde_json::from_value(it).unwrap_or_else(|error| panic!("{kind} {shown}: {error}"))
        })
        .collect();
    assert!(!read.is_empty(), "{file} has no {kind}");
    assert!(
        read.iter().all(|it| it.api_version == api_version && it.kind == kind),
        "{file}: {kind}"
    );
    read
}

/// The kinds in a file, in their order.
#[cfg(test)]
fn kinds(file: &str) -> Vec<String> {
    let all = manifests::read(file).unwrap();
    all.iter().map(|it| it["kind"].as_str().unwrap().to_owned()).collect()
}

/// The gate takes this configuration, and asks the control plane there.
#[cfg(test)]
fn assert_configures_the_gate(configuration: &Value, cluster: &str) {
    let read = gate::Config::parse(configuration.to_string().as_bytes()).unwrap();
    assert_eq!(read.control_plane.cluster, cluster);
}

/// A digest in the form that both projects ask for.
#[cfg(test)]
fn assert_digest(sha256: &str) {
    let digits = sha256.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
    assert!(sha256.len() == 64 && digits, "{sha256}");
}
