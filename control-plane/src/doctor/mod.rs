//! `keygate doctor`: what is amiss with this deployment, and how to mend it.
//!
//! Each check is a file: it gathers what it needs, and a pure function makes findings of it. A check
//! that another's failure leaves without ground is skipped, and says so. Looking changes nothing:
//! no setting is stored, no migration run.

mod audit_log;
mod certificates;
mod clock;
mod configuration;
mod database;
mod envoy;
pub mod finding;
mod keys;
mod listeners;
mod machine;
mod redis;
mod secret_files;
mod secrets;
mod service;

use jiff::Timestamp;
use std::path::PathBuf;

use self::clock::Reading;
use crate::{
    clock::Clock,
    config::{Config, ConfigError, Settings, TestKeys},
    store::Store,
};
use finding::{Check, Finding, Report};

/// What is asked beside the settings.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The TOML file that settings came from.
    pub toml: Option<PathBuf>,
    /// The URL of Envoy's admin interface.
    pub envoy_admin: Option<String>,
}

/// Looks at everything.
pub async fn examine(
    settings: Result<Settings, ConfigError>,
    asked: &Asked,
    clock: &dyn Clock,
) -> Report {
    let mut findings = vec![machine::open_files()];
    let mut readings = Vec::new();
    let mut newest = None;
    match &settings {
        Ok(settings) => {
            findings.extend(secret_files::examine(settings, asked.toml.as_ref()));
            let examined = configuration::examine(settings);
            findings.extend(examined.findings);
            let now = clock.now();
            if let Some(serving) = &examined.serving {
                findings.extend(listeners::examine(serving, settings.environment));
                findings.extend(certificates::examine(serving, now).await);
            }
            if let Some(config) = &examined.config {
                findings.extend(secrets::examine(config, examined.serving.as_ref()));
                findings.push(redis::examine(config.redis.as_ref()).await);
                findings.push(machine::hash_cost(config.iterations).await);
                let test_keys = config.test_keys(settings) == TestKeys::On;
                let stored = stored(config, test_keys, clock).await;
                findings.extend(stored.findings);
                readings.extend(stored.reading);
                newest = stored.newest;
            }
            let (found, reading) = service::examine(settings, clock).await;
            findings.extend(found);
            readings.extend(reading);
        }
        Err(error) => findings.push(configuration::unusable(error)),
    }
    if let Some(url) = &asked.envoy_admin {
        let (found, reading) = envoy::examine(url, clock).await;
        findings.extend(found);
        readings.extend(reading);
    }
    findings.extend(clock::judge(&readings, newest, clock.now()));
    findings.extend(not_looked_at(&findings));
    Report::new(findings)
}

/// What is in the database.
struct Stored {
    findings: Vec<Finding>,
    reading: Option<Reading>,
    /// When the newest entry of the audit log was recorded.
    newest: Option<Timestamp>,
}

async fn stored(config: &Config, test_keys: bool, clock: &dyn Clock) -> Stored {
    let database::Examined { mut findings, store, reading } =
        database::examine(config, clock).await;
    let Some(store) = store else { return Stored { findings, reading, newest: None } };
    let now = clock.now();
    findings.extend(keys::examine(config, &*store, now, test_keys).await);
    findings.push(audit_log::examine(config, &*store, now).await);
    let newest = newest_entry(&*store).await;
    store.close().await;
    Stored { findings, reading, newest }
}

async fn newest_entry(store: &dyn Store) -> Option<Timestamp> {
    let head = store.chain_head().await.ok().filter(|head| head.sequence > 0)?;
    Timestamp::from_millisecond(head.recorded_at_ms).ok()
}

/// Every check is told of, those too for which something was missing.
fn not_looked_at(findings: &[Finding]) -> Vec<Finding> {
    let missing = Check::ALL.iter().filter(|check| findings.iter().all(|it| it.check != **check));
    let why = |check: &Check| match check {
        Check::Envoy => "not asked for: name Envoy's admin interface with --envoy-admin",
        Check::DiskSpace | Check::SecretKey | Check::AdminKeys | Check::AuditLog => {
            "the database has to be mended first, or is on another machine"
        }
        _ => "the configuration has to be mended first",
    };
    missing.map(|check| Finding::skipped(*check, why(check))).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        config::{Flags, load},
        doctor::finding::Status,
    };
    use std::collections::HashMap;

    pub(crate) const KEY: &str = "3f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66";
    const TOKEN: &str = "b1946ac92492d2347c6235b4d2611184";

    /// Good settings, but for these.
    pub(crate) fn settings(variables: &[(&str, &str)]) -> Settings {
        let mut all = HashMap::from([("KEYGATE_SECRET_KEY", KEY), ("KEYGATE_EDGE_TOKEN", TOKEN)]);
        all.extend(variables.iter().copied());
        let variable = |name: &str| all.get(name).map(|value| (*value).into());
        load(&Flags::default(), false, &variable).expect("settings")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_check_is_told_of_even_when_there_is_nothing_to_look_at() {
        let broken = Err(ConfigError::Source("KEYGATE_ENVIRONMENT: `prod` is none".to_owned()));
        let report = examine(broken, &Asked::default(), &SystemClock).await;
        assert_eq!(report.status, Status::Failed);
        for check in Check::ALL {
            assert!(report.findings.iter().any(|it| it.check == *check), "{check:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_envoy_that_is_not_there_is_a_failure() {
        let asked = Asked { envoy_admin: Some("http://127.0.0.1:9".to_owned()), toml: None };
        let broken = Err(ConfigError::Source("no matter".to_owned()));
        let report = examine(broken, &asked, &SystemClock).await;
        let envoy = report.findings.iter().find(|it| it.check == Check::Envoy).expect("told");
        assert_eq!(envoy.status, Status::Failed, "{envoy:?}");
    }
}
