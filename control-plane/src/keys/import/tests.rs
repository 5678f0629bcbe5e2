//! Which keys are imported, and what is said of them.

use key_policy::Policy;
use proptest::prelude::*;

use super::*;
use crate::{
    clock::Clock,
    testing::{TestService, request},
};

const GOOD: &str = "p9X-mQ2v_Lr7Tz4Wk8Hc3Yb6Nf1Js5Dg0";
const WEAK: &str = "ThisIsMyCompanyProductionApiKey2024";

fn asked(key: &str) -> ImportRequest {
    let body = serde_json::json!({ "api_key": key, "name": "from elsewhere" });
    serde_json::from_value(body).expect("a request")
}

fn overriding(key: &str) -> ImportRequest {
    let policy_override = Some(OverrideRequest { reason: "a | partner's \"key\"".to_owned() });
    ImportRequest { policy_override, ..asked(key) }
}

async fn import(it: &TestService, request: ImportRequest) -> Result<Imported, ImportError> {
    let foreign = request.check(it.clock.now()).expect("valid");
    it.service.issuer.import(foreign, &Actor::CommandLine).await
}

#[tokio::test]
async fn an_imported_key_is_recognised_like_any_other() {
    let it = TestService::start().await;
    let Imported { key, report } = import(&it, asked(GOOD)).await.expect("imported");
    assert!(report.passes() && key.policy_override.is_none());
    let presented = PresentedKey::new(GOOD).expect("short enough");
    let word = it.service.verifier.verify(presented).await.expect("told");
    assert_eq!(word.outcome, crate::keys::verify::Outcome::Known(Box::new(key)));
}

#[tokio::test]
async fn a_weak_key_needs_a_reason_and_keeps_it() {
    let it = TestService::start().await;
    let refused = import(&it, asked(WEAK)).await.expect_err("refused");
    assert!(matches!(&refused, ImportError::Refused(faults) if codes(faults) == "too_little_left"));
    let Imported { key, .. } = import(&it, overriding(WEAK)).await.expect("imported");
    let kept = it.service.store.key(key.key_id).await.expect("read").expect("there");
    let PolicyOverride { reason, faults } = kept.policy_override.expect("kept");
    assert_eq!(
        (reason.as_str(), faults),
        ("a | partner's \"key\"", vec!["too_little_left".to_owned()])
    );
    // In the log it is one field, whatever stands in it.
    let (event, details) = it.audit().await.pop().expect("an entry");
    assert_eq!(event, "KEY_CREATED");
    assert_eq!(
        details,
        "actor=cli client_ip=- scope=read environment=live imported=true overridden=too_little_left \
         override_reason=\"a \\u007c partner's \\\"key\\\"\""
    );
}

#[tokio::test]
async fn what_no_filter_lets_pass_is_not_imported_whatever_the_reason() {
    let it = TestService::start().await;
    let (_, own) = it.issue(request("a")).await;
    let typo = format!("{}0", &own[..own.len() - 1]);
    let cut = &own[..own.len() - 1];
    for hard in
        ["two words p9X-mQ2v_Lr7Tz4Wk8Hc3Yb6", "p9X,mQ2v_Lr7Tz4Wk8Hc3Yb6Nf1Js5Dg0", &typo, cut]
    {
        let refused = import(&it, overriding(hard)).await.expect_err("refused");
        assert!(matches!(refused, ImportError::Refused(_)), "{hard}: {refused}");
    }
    assert_eq!(it.audit().await.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_known_is_not_imported_again_even_when_it_is_revoked() {
    let it = TestService::start().await;
    let (own, own_text) = it.issue(request("a")).await;
    let known = import(&it, asked(&own_text)).await.expect_err("known");
    assert!(matches!(known, ImportError::Known(id) if id == own.key_id));
    let Imported { key, .. } = import(&it, asked(GOOD)).await.expect("imported");
    let (store, clock) = (&*it.service.store, &*it.service.clock);
    let guard = crate::store::RevokeGuard::Unconditional;
    crate::keys::revoke::revoke(store, clock, key.key_id, None, guard, &Actor::CommandLine)
        .await
        .expect("revoked");
    let known = import(&it, asked(GOOD)).await.expect_err("known");
    assert!(matches!(known, ImportError::Known(id) if id == key.key_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_import_the_same_key_at_once_make_one() {
    let it = Arc::new(TestService::start().await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let it = Arc::clone(&it);
        tasks.spawn(async move { import(&it, asked(GOOD)).await.map(|it| it.key.key_id) });
    }
    let (made, refused): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(Result::is_ok);
    let made: Vec<_> = made.into_iter().flatten().collect();
    assert_eq!(made.len(), 1);
    for error in refused.into_iter().filter_map(Result::err) {
        // Or there was too much to hash at once, on a machine that has other things to do.
        let known = matches!(error, ImportError::Known(id) if [id] == made[..]);
        assert!(known || matches!(error, ImportError::Overloaded(_)), "{error}");
    }
}

#[tokio::test]
async fn a_key_of_our_own_form_keeps_its_name_and_its_environment() {
    let (it, elsewhere) = (TestService::start().await, TestService::start().await);
    let (key, text) = elsewhere.issue(request("a")).await;
    let for_tests = ImportRequest { environment: KeyEnvironment::Test, ..asked(&text) };
    let refused = import(&it, for_tests).await.expect_err("refused");
    assert!(matches!(refused, ImportError::Environment(KeyEnvironment::Live)));
    assert_eq!(import(&it, asked(&text)).await.expect("imported").key.key_id, key.key_id);
    // Another key with the same name in it.
    let forged = {
        let stem = format!("kg_live_{}_{}", key.key_id, "p9XmQ2vLr7Tz4Wk8Hc3Yb6Nf1Js5Dg0Q");
        let sum = key_policy::checksum(stem.as_bytes());
        format!("{stem}{}", String::from_utf8_lossy(&sum))
    };
    let refused = import(&it, asked(&forged)).await.expect_err("refused");
    assert!(matches!(refused, ImportError::IdTaken(id) if id == key.key_id), "{refused}");
}

#[tokio::test]
async fn a_trial_says_the_same_and_writes_nothing() {
    let it = TestService::start().await;
    let attempt = async |request: ImportRequest| {
        let foreign = request.check(it.clock.now()).expect("valid");
        it.service.issuer.try_import(foreign).await
    };
    assert!(attempt(asked(GOOD)).await.is_ok());
    assert!(it.audit().await.is_empty());
    assert!(matches!(attempt(asked(WEAK)).await, Err(ImportError::Refused(_))));
    import(&it, asked(GOOD)).await.expect("imported");
    assert!(matches!(attempt(asked(GOOD)).await, Err(ImportError::Known(_))));
}

#[tokio::test]
async fn no_field_that_is_shown_may_hold_the_key() {
    let it = TestService::start().await;
    let has = |field: &str| {
        let mut request = overriding(GOOD);
        let text = format!("it is {GOOD}");
        match field {
            "name" => request.name = text,
            "description" => request.description = Some(text),
            "owner" => request.owner = Some(text),
            "policy_override.reason" => {
                request.policy_override = Some(OverrideRequest { reason: text });
            }
            _ => {
                let metadata = serde_json::json!({ "a": [1, { "b": text }] });
                request.metadata = metadata.as_object().cloned();
            }
        }
        request.check(it.clock.now()).err().expect("refused")
    };
    for field in ["name", "description", "owner", "policy_override.reason", "metadata"] {
        let errors = has(field);
        assert_eq!(errors[0].field, field);
        assert!(!errors[0].message.contains(GOOD));
    }
}

proptest! {
    #[test]
    fn with_the_policy_it_is_told_a_filter_lets_an_overridden_key_pass(key in "[!-+\\--~]{1,80}") {
        let policy = Policy::default();
        let report = policy.report(key.as_bytes());
        prop_assume!(!report.faults.iter().any(|fault| fault.is_hard()));
        let mut relaxed = policy;
        if let Some(needed) = FilterPolicyView::of(&report) {
            relaxed.min_length = needed.min_length.unwrap_or(relaxed.min_length);
            relaxed.min_kinds = needed.min_kinds.unwrap_or(relaxed.min_kinds);
            relaxed.min_entropy_bits = needed.min_entropy_bits.unwrap_or(relaxed.min_entropy_bits);
            relaxed.weak_patterns = needed.weak_patterns.unwrap_or(relaxed.weak_patterns);
        }
        prop_assert!(relaxed.check(key.as_bytes()).is_ok(), "{report:?}");
        prop_assert!(relaxed.validate().is_ok());
    }
}
