//! The alert rules, judged by Prometheus' own tool.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::Result;
use serde_json::Value;
use xtask::{install, process, workspace};

fn promtool(args: &[&str]) -> Result<String> {
    let program = install::program("promtool", "prometheus")?;
    let mut command = Command::new(program);
    command.args(args).current_dir(workspace::root().join("ops/prometheus"));
    process::capture(command)
}

fn rules() -> Result<String> {
    Ok(fs::read_to_string(workspace::root().join("ops/prometheus/keygate-rules.yml"))?)
}

#[test]
fn the_alert_rules_are_sound_and_fire_when_and_only_when_they_should() {
    promtool(&["check", "rules", "keygate-rules.yml"]).unwrap();
    promtool(&["test", "rules", "keygate-rules-test.yml"]).unwrap();
}

/// The page of metrics.
struct Page(String);

impl Page {
    fn read() -> Result<Self> {
        Ok(Self(fs::read_to_string(workspace::root().join("docs/metrics.md"))?))
    }

    fn has(&self, metric: &str) -> bool {
        let is_there = |name: &str| self.0.contains(&format!("| `{name}` |"));
        let ends = ["_bucket", "_count", "_sum"];
        is_there(metric) || ends.iter().filter_map(|end| metric.strip_suffix(end)).any(is_there)
    }

    /// Fails the test when the text names a metric of ours that there is not.
    fn assert_has_all(&self, text: &str) {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let of_ours = |word: &&str| word.starts_with("keygate_") || word.starts_with("process_");
        for metric in words.filter(of_ours) {
            assert!(self.has(metric), "there is no metric {metric}: {text}");
        }
    }
}

#[test]
fn every_metric_of_the_rules_is_one_that_the_control_plane_has() {
    let rules = rules().unwrap();
    assert!(rules.contains("keygate_"));
    Page::read().unwrap().assert_has_all(&rules);
}

#[test]
fn every_alert_has_a_section_in_the_runbook() {
    let runbook = fs::read_to_string(workspace::root().join("docs/incident-runbook.md")).unwrap();
    let rules = rules().unwrap();
    let alerts: Vec<_> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(runbook.contains(&format!("## {alert}\n")), "{alert} has no section");
        let link = format!("runbook: docs/incident-runbook.md#{}", alert.to_lowercase());
        assert!(rules.contains(&link), "{alert} has no link to its section");
    }
}

/// Every expression of the dashboard.
fn dashboard() -> Result<Vec<String>> {
    fn gather(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let asked = ["expr", "definition"].map(|name| fields.get(name));
                found.extend(
                    asked.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned),
                );
                fields.values().for_each(|value| gather(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| gather(value, found)),
            _ => {}
        }
    }
    let file = workspace::root().join("ops/grafana/keygate.json");
    let document = serde_json::from_str(&fs::read_to_string(file)?)?;
    let mut found = Vec::new();
    gather(&document, &mut found);
    assert!(found.len() > 30, "{found:?}");
    Ok(found)
}

#[test]
fn every_metric_of_the_dashboard_is_one_that_there_is() {
    let page = Page::read().unwrap();
    for expression in dashboard().unwrap() {
        page.assert_has_all(&expression);
    }
}

#[test]
fn prometheus_understands_every_expression_of_the_dashboard() {
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (n, expression) in dashboard().unwrap().iter().enumerate() {
        if expression.starts_with("label_values(") {
            continue;
        }
        // What Grafana fills in.
        let expression = expression.replace("$__rate_interval", "5m").replace("$instance", ".*");
        let quoted = serde_json::to_string(&expression).unwrap();
        writeln!(rules, "  - record: dashboard:{n}\n    expr: {quoted}").unwrap();
    }
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("dashboard.yml");
    fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]).unwrap();
}

#[test]
fn the_configuration_of_prometheus_is_sound_and_has_the_rules() {
    promtool(&["check", "config", "prometheus.yml"]).unwrap();
    let text = fs::read_to_string(workspace::root().join("ops/prometheus/prometheus.yml")).unwrap();
    assert!(
        text.contains("rule_files: [keygate-rules.yml]") && text.contains("job_name: keygate\n")
    );
}
