//! What `/metrics` shows, against the page that describes it and Prometheus' own tool.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

use keygate::metrics::{
    self,
    catalogue::{Kind, Metric},
};

use crate::process::{Keygate, Service, TOKEN, http};

/// A service that has done a little of everything.
fn exercised(it: &Keygate) -> Service {
    let (_, root) = it.make_key(&["--scope", "admin"]);
    let (id, key) = it.make_key(&[]);
    let service = it.serve(&[]);
    let admin = |method: &str, path: &str, key: &str| {
        http(&service.admin, method, path, &format!("x-api-key: {key}\r\n"), "").0
    };
    let edge = |method: &str, path: &str, body: &str| {
        http(&service.edge, method, path, &format!("authorization: Bearer {TOKEN}\r\n"), body)
    };
    assert_eq!(admin("GET", "/api/v1/admin/api-keys/", &root), 200);
    assert_eq!(admin("GET", "/api/v1/admin/api-keys/", "no key"), 401);
    for key in [&key, &key, "unknown"] {
        let body = serde_json::json!({"key": key}).to_string();
        assert_eq!(edge("POST", "/edge/v1/verify", &body).0, 200);
    }
    let event = serde_json::json!({
        "at_ms": 1, "kind": "INVALID_FORMAT", "details": "reason=checksum"
    });
    let used = serde_json::json!({
        "key_id": id, "minute_ms": 0, "method": "GET", "outcome": "allowed", "count": 1
    });
    let batch = serde_json::json!({
        "source": "ab".repeat(16), "batch": 1, "events": [event], "usage": [used]
    });
    assert_eq!(edge("POST", "/edge/v1/events", &batch.to_string()).0, 200);
    let call = serde_json::json!({
        "envoy": "ab".repeat(8),
        "presence": {"number": 1, "holds": 0, "now_ms": 1},
        "asks": [{
            "limit": "a", "subject": "address:192.0.2.1", "algorithm": "fixed_window",
            "requests": 10, "window_seconds": 60, "slice": 1, "epoch": 1, "granted": 0, "used": 0,
            "want": 1, "holds": 0,
        }],
    });
    assert_eq!(edge("POST", "/edge/v1/leases", &call.to_string()).0, 200);
    let (_, first) = edge("GET", "/edge/v1/changes", "");
    let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    let epoch = first["position"]["epoch"].as_str().expect("an epoch");
    assert_eq!(admin("DELETE", &format!("/api/v1/admin/api-keys/{id}"), &root), 200);
    let since = first["position"]["sequence"].as_u64().expect("a number");
    let poll = format!("/edge/v1/changes?epoch={epoch}&since={since}&wait_ms=5000");
    assert!(edge("GET", &poll, "").1.contains("revoked"));
    service
}

fn shown(service: &Service) -> String {
    http(&service.admin, "GET", "/metrics", "", "").1
}

/// The types and the labels of all metrics in the text format.
fn read(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut metrics = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP")) {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').expect("a type");
            name.clone_into(&mut current);
            let new = metrics.insert(current.clone(), (kind.to_owned(), BTreeSet::new()));
            assert!(new.is_none(), "{name} is there twice");
            continue;
        }
        let (series, _) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        assert!(name.starts_with(&current), "{line} has no type");
        let labels = labels.split("\",").filter_map(|label| label.split_once("=\""));
        let (_, seen) = metrics.get_mut(&current).expect("a type");
        seen.extend(labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
    }
    metrics
}

fn described() -> impl Iterator<Item = &'static Metric> {
    metrics::ALL.iter().chain(metrics::process::ALL)
}

#[test]
fn every_metric_is_described_as_it_is_and_every_one_that_is_described_is_there() {
    let it = Keygate::migrated();
    let service = exercised(&it);
    let conditional = |metric: &&Metric| metric.only.is_some_and(|only| only != "on Linux");
    // Some are set by jobs that begin with the service and take their time on a slow disk.
    let mut there = BTreeMap::new();
    for metric in described().filter(|metric| !conditional(metric)) {
        there = service.eventually(metric.name, || {
            Some(read(&shown(&service))).filter(|there| there.contains_key(metric.name))
        });
    }
    for (name, (kind, labels)) in &there {
        let known = described().find(|metric| metric.name == name);
        let known = known.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        assert_eq!(kind, known.kind.as_str(), "{name}");
        let listed: BTreeSet<_> = known.labels.iter().map(|&label| label.to_owned()).collect();
        assert_eq!(*labels, listed, "the labels of {name}");
    }
}

#[test]
fn the_page_is_the_catalogue_and_histograms_have_buckets() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("docs/metrics.md");
    let it = Keygate::new();
    let printed = it.run(&["metrics"]).output;
    assert!(page.contains(&printed), "docs/metrics.md is out of date: cargo xtask codegen");
    let names: BTreeSet<_> = described().map(|metric| metric.name).collect();
    assert_eq!(names.len(), described().count(), "a name is there twice");
    for metric in described().filter(|metric| metric.kind == Kind::Histogram) {
        let has_buckets =
            ["_duration_seconds", "_lag_seconds"].iter().any(|end| metric.name.ends_with(end));
        assert!(has_buckets, "{} would be a summary", metric.name);
    }
}

#[test]
fn prometheus_own_tool_finds_nothing_to_mend() {
    let it = Keygate::migrated();
    let text = shown(&exercised(&it));
    let promtool = xtask::install::program("promtool", "prometheus").expect("promtool");
    let mut check = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    check.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let done = check.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.is_empty(), "{said}{text}");
}
