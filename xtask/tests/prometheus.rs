//! The alert rules, judged by Prometheus' own tool.

use std::fs;
use std::process::Command;

use anyhow::Result;
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

#[test]
fn every_metric_of_the_rules_is_one_that_the_control_plane_has() {
    let code = fs::read_to_string(workspace::root().join("control-plane/src/metrics.rs")).unwrap();
    let rules = rules().unwrap();
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics: Vec<_> = words.filter(|word| word.starts_with("keygate_")).collect();
    assert!(!metrics.is_empty());
    for metric in metrics {
        assert!(code.contains(&format!("\"{metric}\"")), "there is no metric {metric}");
    }
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
