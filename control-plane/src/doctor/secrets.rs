//! Whether the secrets are strong, and each is for one thing.

use secrecy::ExposeSecret;
use std::collections::HashSet;

use super::finding::{Check, Finding};
use crate::config::{Config, SecretKey, ServeConfig};

/// 128 bits in hex; a token is not slowed down by anything, so it must not be guessed.
const TOKEN_CHARS: usize = 32;
/// Of 32 random hex digits some 14 are different; fewer than 8 are in one of 10^7.
const TOKEN_DIFFERENT_CHARS: usize = 8;
const MAKE_ONE: &str = "make a new one: openssl rand -hex 32";

pub(super) fn examine(config: &Config, serving: Option<&ServeConfig>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |what: &str, mend: &str| {
        findings.push(Finding::warning(Check::Secrets, what, mend));
    };
    match config.secret_key.as_ref().map(SecretKey::weakness) {
        Some(None) => {}
        Some(Some(weakness)) => warn(
            &format!("KEYGATE_SECRET_KEY is weak: {weakness}; production would refuse it"),
            MAKE_ONE,
        ),
        None => warn(
            "KEYGATE_SECRET_KEY is not set: one is drawn, and kept in the database beside what it \
             protects",
            "before production set one: openssl rand -hex 32",
        ),
    }
    if config.audit.signing_key.as_ref().is_some_and(|key| key.weakness().is_some()) {
        warn("KEYGATE_AUDIT_SIGNING_KEY is weak; production would refuse it", MAKE_ONE);
    }
    let token = serving.and_then(|it| it.edge_token.as_ref()).map(ExposeSecret::expose_secret);
    if token.is_some_and(|token| !is_strong(token)) {
        warn(
            "KEYGATE_EDGE_TOKEN is short or has few different characters: it could be guessed",
            "make a new one (openssl rand -hex 32), and give it to Envoy too",
        );
    }
    for (one, other) in shared(config, token) {
        findings.push(Finding::failed(
            Check::Secrets,
            format!("{one} and {other} are the same secret: who learns one of them has both"),
            format!("set another one as {other}: openssl rand -hex 32"),
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Check::Secrets, "all are strong, and each is for one thing"));
    }
    findings
}

fn is_strong(token: &str) -> bool {
    token.len() >= TOKEN_CHARS
        && token.bytes().collect::<HashSet<_>>().len() >= TOKEN_DIFFERENT_CHARS
}

/// Pairs of settings with the same bytes.
fn shared(config: &Config, token: Option<&str>) -> Vec<(&'static str, &'static str)> {
    let token = token.and_then(|token| SecretKey::parse(token).ok());
    let all = [
        ("KEYGATE_SECRET_KEY", config.secret_key.as_ref()),
        ("KEYGATE_SECRET_KEY_PREVIOUS", config.previous_secret_key.as_ref()),
        ("KEYGATE_AUDIT_SIGNING_KEY", config.audit.signing_key.as_ref()),
        ("KEYGATE_EDGE_TOKEN", token.as_ref()),
    ];
    let set: Vec<_> = all.iter().filter_map(|(name, key)| Some((*name, (*key)?))).collect();
    let pairs = set
        .iter()
        .enumerate()
        .flat_map(|(n, one)| set.iter().skip(n + 1).map(move |other| (one, other)));
    pairs
        .filter(|((_, one), (_, other))| one.expose() == other.expose())
        .map(|((one, _), (other, _))| (*one, *other))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::Status,
        tests::{KEY, settings},
    };

    fn found(variables: &[(&str, &str)]) -> Vec<(Status, String)> {
        let settings = settings(variables);
        let config = Config::new(&settings).expect("config");
        let serving = ServeConfig::new(&settings, &config).expect("config");
        let found = examine(&config, Some(&serving));
        for it in &found {
            assert!(!format!("{it:?}").contains(KEY), "{it:?}");
        }
        found.into_iter().map(|it| (it.status, it.what)).collect()
    }

    #[test]
    fn strong_secrets_of_their_own_are_well() {
        assert_eq!(found(&[])[0].0, Status::Ok);
    }

    #[test]
    fn one_secret_for_two_things_is_a_failure() {
        for other in
            ["KEYGATE_EDGE_TOKEN", "KEYGATE_AUDIT_SIGNING_KEY", "KEYGATE_SECRET_KEY_PREVIOUS"]
        {
            let found = found(&[(other, KEY)]);
            assert!(found[0].0 == Status::Failed && found[0].1.contains(other), "{found:?}");
        }
    }

    #[test]
    fn a_token_that_could_be_guessed_is_told() {
        for token in ["0123456789abcdef", "abababababababababababababababab"] {
            let found = found(&[("KEYGATE_EDGE_TOKEN", token)]);
            assert_eq!(found[0].0, Status::Warning, "{found:?}");
        }
    }

    #[test]
    fn what_production_would_refuse_is_told_elsewhere_too() {
        let zeros = "0".repeat(64);
        for key in ["", &zeros] {
            let found =
                found(&[("KEYGATE_ENVIRONMENT", "development"), ("KEYGATE_SECRET_KEY", key)]);
            assert_eq!(found[0].0, Status::Warning, "{found:?}");
        }
    }
}
