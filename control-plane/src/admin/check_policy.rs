//! `POST /api/v1/admin/api-keys/check-policy`: what would come of importing a key, as far as the
//! policy goes. Nothing is stored, logged or looked up.

use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::Arc;

use super::{
    authenticate::KeyHolder,
    body,
    query::{Nothing, Parameters},
};
use crate::{
    http::problem::Problem,
    keys::{key_text::KeyText, policy_report::PolicyReportView},
    service::Service,
};

#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = KeyToCheck)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckPolicyRequest {
    #[schema(inline)]
    api_key: KeyText,
}

/// Judges a key by the policy
///
/// A dry run: nothing is stored or logged, and the key is not looked for. The policy is the one
/// that keys are made and imported by here; each filter has its own in its configuration, which
/// may be stricter or more lenient.
#[utoipa::path(
    post,
    path = "/api/v1/admin/api-keys/check-policy",
    tag = "keys",
    operation_id = "check_policy",
    request_body = CheckPolicyRequest,
    responses((status = OK, description = "What the policy says of it", body = PolicyReportView))
)]
pub(super) async fn handler(
    _holder: KeyHolder,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
    body::Json(request): body::Json<CheckPolicyRequest>,
) -> Result<Json<PolicyReportView>, Problem> {
    Ok(Json(PolicyReportView::of(&service.issuer.policy, request.api_key.expose())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{
        admin::tests::call,
        testing::{Answer, TestService, request, send},
    };

    const PATH: &str = "/api/v1/admin/api-keys/check-policy";

    async fn check(it: &TestService, admin: &str, key: &str) -> Answer {
        let body = json!({ "api_key": key }).to_string();
        send(&it.admin, call("POST", PATH, admin, Some(&body))).await
    }

    #[tokio::test]
    async fn every_rule_that_a_key_breaks_is_told_with_its_layer() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let answer = check(&it, &good, "passwordpassword").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let report = answer.json();
        assert_eq!(report["verdict"], "overridable");
        let faults: Vec<_> = report["faults"].as_array().expect("faults").iter().collect();
        let codes: Vec<_> = faults.iter().map(|it| (&it["code"], &it["layer"])).collect();
        assert_eq!(
            codes,
            [
                (&json!("too_short"), &json!(3)),
                (&json!("too_few_kinds"), &json!(3)),
                (&json!("too_little_entropy"), &json!(3)),
                (&json!("repeat"), &json!(4)),
            ]
        );
        assert_eq!(report["fragments"][0]["start"], 0);
        assert_eq!((&report["length"], &report["kinds"]), (&json!(16), &json!(1)));
        assert_eq!(report["policy"]["min_entropy_bits"], 96.0);
        assert!(report["form"].is_null());
    }

    #[tokio::test]
    async fn a_key_made_here_passes_and_says_which_environment_it_is_for() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (_, key) = it.issue(request("a")).await;
        let report = check(&it, &good, &key).await.json();
        assert_eq!(
            (&report["verdict"], &report["form"], &report["environment"]),
            (&json!("passes"), &json!("own"), &json!("live"))
        );
        // With a typo it is none of ours, and nothing can be done about that.
        let typo = key.replace("kg_live_", "kg_test_");
        let report = check(&it, &good, &typo).await.json();
        assert_eq!(report["verdict"], "refused");
        assert_eq!(report["faults"][0]["code"], "checksum");
    }

    #[tokio::test]
    async fn the_key_stays_behind_nowhere() {
        const CANARY: &str = "canary-Zq8Xw3Lp-0b7Nf5-abcdefgh-R2t";
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let before = it.audit().await;
        let answer = check(&it, &good, CANARY).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
        for body in [json!({ "api_key": [CANARY] }), json!({ "api-key": CANARY })] {
            let answer = send(&it.admin, call("POST", PATH, &good, Some(&body.to_string()))).await;
            assert_eq!(answer.problem(), (422, "invalid_fields".to_owned()));
            assert!(!String::from_utf8_lossy(&answer.body).contains("canary"));
        }
        assert_eq!(it.audit().await, before);
        let folder = it.stop().await.folder;
        for entry in std::fs::read_dir(folder.path()).expect("a folder") {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
            assert!(!bytes.windows(6).any(|window| window == b"canary"));
        }
    }

    #[tokio::test]
    async fn only_administrators_may_ask() {
        let it = TestService::start().await;
        let (_, reader) = it.issue(request("a")).await;
        assert_eq!(check(&it, &reader, "x").await.problem(), (403, "scope_denied".to_owned()));
        assert_eq!(check(&it, "nobody", "x").await.problem().0, 401);
    }
}
