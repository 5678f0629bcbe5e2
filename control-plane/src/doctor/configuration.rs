//! Whether the settings can be used, and go together.

use edge_protocol::Deployment;

use super::finding::{Check, Finding};
use crate::config::{Config, ConfigError, ServeConfig, Settings, TestKeys};

const WHERE: &str = "set it right where it was set (a KEYGATE_* variable, the TOML file or a flag); \
                     `keygate serve --help` lists every setting";

/// The settings, as far as they can be used.
pub(super) struct Examined {
    pub(super) config: Option<Config>,
    pub(super) serving: Option<ServeConfig>,
    pub(super) findings: Vec<Finding>,
}

/// A setting that cannot be used: each one that is found is told, not only the first.
pub(super) fn unusable(error: &ConfigError) -> Finding {
    Finding::failed(Check::Configuration, error.to_string(), WHERE)
}

pub(super) fn examine(settings: &Settings) -> Examined {
    let mut findings = Vec::new();
    let config = Config::new(settings).inspect_err(|error| findings.push(unusable(error))).ok();
    let serving = config.as_ref().and_then(|config| {
        ServeConfig::new(settings, config).inspect_err(|error| findings.push(unusable(error))).ok()
    });
    if let Some(config) = &config {
        findings.extend(environment(config.environment, config.test_keys(settings)));
    }
    Examined { config, serving, findings }
}

fn environment(environment: Deployment, test_keys: TestKeys) -> Vec<Finding> {
    let found = match environment {
        Deployment::Production => "the settings can be used; this is production".to_owned(),
        other => format!(
            "the settings can be used; this is {other}, where weak secrets pass, and test keys {}",
            if test_keys == TestKeys::On { "do too" } else { "do not" }
        ),
    };
    let mut findings = vec![Finding::ok(Check::Configuration, found)];
    if test_keys == TestKeys::RefusedInProduction {
        findings.push(Finding::warning(
            Check::Configuration,
            "KEYGATE_ENABLE_TEST_API_KEYS asks for test keys in production; they are refused",
            "unset it; and see who set it: this looks like the settings of another environment",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{finding::Status, tests::settings};

    fn statuses(variables: &[(&str, &str)]) -> Vec<(Status, String)> {
        let found = examine(&settings(variables)).findings;
        found.into_iter().map(|it| (it.status, it.what)).collect()
    }

    #[test]
    fn a_setting_that_cannot_be_used_is_named() {
        for (name, value) in [
            ("KEYGATE_SECRET_KEY", "deadbeef"),
            ("KEYGATE_EDGE_TOKEN", "short"),
            ("KEYGATE_LISTEN", "localhost"),
            ("KEYGATE_TLS_CERT_FILE", "only-one.pem"),
        ] {
            let found = statuses(&[(name, value)]);
            let failed = found.iter().find(|(status, _)| *status == Status::Failed);
            let base = name.trim_end_matches("CERT_FILE");
            assert!(failed.is_some_and(|(_, what)| what.contains(base)), "{name}: {found:?}");
        }
    }

    #[test]
    fn production_without_a_secret_key_is_found() {
        let found = statuses(&[("KEYGATE_SECRET_KEY", "")]);
        assert!(found.iter().any(|(status, what)| *status == Status::Failed
            && what.contains("KEYGATE_SECRET_KEY: is not set")));
    }

    #[test]
    fn test_keys_asked_for_in_production_are_told() {
        let found = statuses(&[("KEYGATE_ENABLE_TEST_API_KEYS", "true")]);
        assert_eq!(found[1].0, Status::Warning, "{found:?}");
        let found = statuses(&[
            ("KEYGATE_ENABLE_TEST_API_KEYS", "true"),
            ("KEYGATE_ENVIRONMENT", "staging"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].1.contains("staging"), "{found:?}");
    }

    #[test]
    fn good_settings_are_well() {
        assert_eq!(examine(&settings(&[])).findings.len(), 1);
    }
}
