//! Whether this secret key is the one that the keys need, and whether somebody can administrate.

use edge_protocol::{KeyEnvironment, Scope};
use jiff::Timestamp;

use super::finding::{Check, Finding};
use crate::{
    config::Config,
    keys::{digest::SecretName, state::KeyState},
    secret_key::Secret,
    store::{
        Store, StoreError,
        credentials::{SECRET_NAME, SecretUse},
        key_filter::{KeyFilter, KeyQuery},
    },
};

pub(super) async fn examine(
    config: &Config,
    store: &dyn Store,
    now: Timestamp,
    test_keys: bool,
) -> Vec<Finding> {
    let failed = |check, error: &StoreError| {
        Finding::failed(check, error.to_string(), "see the database's own log")
    };
    let secret = match secret_key(config, store, now).await {
        Ok(findings) => findings,
        Err(error) => vec![failed(Check::SecretKey, &error)],
    };
    let admin = match admin_key(store, now, test_keys).await {
        Ok(found) => judge_admin(found),
        Err(error) => failed(Check::AdminKeys, &error),
    };
    secret.into_iter().chain([admin]).collect()
}

async fn secret_key(
    config: &Config,
    store: &dyn Store,
    now: Timestamp,
) -> Result<Vec<Finding>, StoreError> {
    let Some(current) = &config.secret_key else {
        return Ok(vec![Finding::skipped(Check::SecretKey, "the database keeps its own")]);
    };
    let named = store.setting(SECRET_NAME).await?.map(|text| SecretName::from_stored(&text));
    let facts = Facts {
        current: Secret::new(current).name,
        previous: config.previous_secret_key.as_ref().map(|key| Secret::new(key).name),
        named,
        held: store.secret_use(now).await?,
    };
    Ok(judge_secret(&facts))
}

struct Facts {
    current: SecretName,
    previous: Option<SecretName>,
    /// The one that the database names; none before the first start.
    named: Option<SecretName>,
    held: Vec<SecretUse>,
}

fn judge_secret(facts: &Facts) -> Vec<Finding> {
    let usable = |is_it: &dyn Fn(&SecretName) -> bool| -> u64 {
        facts.held.iter().filter(|held| is_it(&held.secret)).map(|held| held.usable).sum()
    };
    let previous = facts.previous.filter(|it| *it != facts.current);
    match facts.named {
        Some(named) if named != facts.current && previous != Some(named) => {
            return vec![Finding::failed(
                Check::SecretKey,
                "the database's keys were issued with another KEYGATE_SECRET_KEY: none would be \
                 recognised",
                "set the one that was used before; to change it, set that one as \
                 KEYGATE_SECRET_KEY_PREVIOUS (docs/upgrade-and-rollback.md)",
            )];
        }
        _ => {}
    }
    let mut findings = Vec::new();
    let lost = usable(&|name| *name != facts.current && Some(*name) != previous);
    if lost > 0 {
        findings.push(Finding::failed(
            Check::SecretKey,
            format!("{lost} usable key(s) need a secret key that is not set, and are refused"),
            "set it as KEYGATE_SECRET_KEY_PREVIOUS until they have been used, or revoke them",
        ));
    }
    if let Some(previous) = previous {
        let waiting = usable(&|name| *name == previous);
        findings.push(if facts.named == Some(previous) {
            Finding::warning(
                Check::SecretKey,
                "the secret key is to change, and no service has been started with the new one yet",
                "start it; the audit log then has SECRET_KEY_ROTATED",
            )
        } else if waiting > 0 {
            Finding::ok(
                Check::SecretKey,
                format!("{waiting} usable key(s) still need KEYGATE_SECRET_KEY_PREVIOUS; each moves when it is used"),
            )
        } else {
            Finding::warning(
                Check::SecretKey,
                "no usable key needs KEYGATE_SECRET_KEY_PREVIOUS any more",
                "unset it, and destroy it",
            )
        });
    }
    if findings.is_empty() {
        findings.push(Finding::ok(Check::SecretKey, "it is the one that the database's keys need"));
    }
    findings
}

/// Whether there is a usable admin key.
async fn admin_key(store: &dyn Store, now: Timestamp, test_keys: bool) -> Result<bool, StoreError> {
    let filter = KeyFilter {
        state: Some(KeyState::Active),
        scope: Some(Scope::Admin),
        environment: (!test_keys).then_some(KeyEnvironment::Live),
        ..KeyFilter::default()
    };
    let found = store.keys(&KeyQuery { filter, now, after: None, limit: 1 }).await?;
    Ok(!found.is_empty())
}

fn judge_admin(found: bool) -> Finding {
    if found {
        Finding::ok(Check::AdminKeys, "there is a usable admin key")
    } else {
        Finding::failed(
            Check::AdminKeys,
            "there is no usable admin key",
            "keygate keys create --name admin --scope admin",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        config::SecretKey,
        doctor::finding::Status,
        keys::new_key::NewKeyRequest,
        testing::{TestService, request},
    };

    fn name(byte: u8) -> SecretName {
        Secret::new(&SecretKey::from_random([byte; 32])).name
    }

    fn status(named: Option<u8>, previous: Option<u8>, held: &[(u8, u64)]) -> Status {
        let held = held.iter().map(|(byte, usable)| SecretUse {
            secret: name(*byte),
            keys: *usable,
            usable: *usable,
        });
        let facts = Facts {
            current: name(1),
            previous: previous.map(name),
            named: named.map(name),
            held: held.collect(),
        };
        judge_secret(&facts).into_iter().map(|it| it.status).max().expect("a finding")
    }

    #[test]
    fn the_secret_key_is_held_against_the_one_that_the_keys_need() {
        assert_eq!(status(None, None, &[]), Status::Ok);
        assert_eq!(status(Some(1), None, &[(1, 5)]), Status::Ok);
        assert_eq!(status(Some(2), None, &[(2, 5)]), Status::Failed, "another secret key");
        assert_eq!(status(Some(1), None, &[(1, 5), (2, 1)]), Status::Failed, "a key is lost");
        assert_eq!(status(Some(2), Some(2), &[(2, 5)]), Status::Warning, "not started yet");
        assert_eq!(status(Some(1), Some(2), &[(1, 4), (2, 1)]), Status::Ok, "on its way");
        assert_eq!(status(Some(1), Some(2), &[(1, 5), (2, 0)]), Status::Warning, "at its end");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn without_an_admin_key_that_is_usable_here_it_is_a_failure() {
        let it = TestService::start().await;
        let store = &*it.service.store;
        let now = it.clock.now();
        let test = NewKeyRequest {
            scope: Scope::Admin,
            environment: KeyEnvironment::Test,
            ..request("test")
        };
        it.issue(test).await;
        assert!(!admin_key(store, now, false).await.expect("an answer"));
        assert!(admin_key(store, now, true).await.expect("an answer"));
        it.issue_admin().await;
        assert!(admin_key(store, now, false).await.expect("an answer"));
        assert_eq!(judge_admin(false).status, Status::Failed);
        it.stop().await;
    }
}
