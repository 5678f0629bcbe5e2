//! `POST /api/v1/admin/api-keys/`

use axum::{extract::State, http::StatusCode, response::Response};
use secrecy::ExposeSecret;
use std::sync::Arc;

use super::{
    authenticate::Admin,
    idempotency::{Call, IdempotencyParameter, Idempotent, KeyMadeBeforeView, replay},
    path::located,
    precondition::Tagged,
    query::{Nothing, Parameters},
};
use crate::{
    http::problem::{Code, Problem},
    keys::{
        issue::{IssueError, IssuedKey, IssuedOnce},
        new_key::{FieldError, NewKeyRequest},
        view::{IssuedKeyView, KeyView},
    },
    service::Service,
};

/// What names of requests belong to.
const PLACE: &str = "POST /api/v1/admin/api-keys/";

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CreateKeyError {
    #[error("some fields are not valid")]
    Invalid(Vec<FieldError>),
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl From<CreateKeyError> for Problem {
    fn from(error: CreateKeyError) -> Self {
        match error {
            CreateKeyError::Invalid(errors) => Self::new(Code::InvalidFields).errors(errors),
            CreateKeyError::Issue(IssueError::Store(error)) => error.into(),
            CreateKeyError::Issue(IssueError::Overloaded(_)) => Self::new(Code::Overloaded),
            CreateKeyError::Issue(error @ (IssueError::Random(_) | IssueError::TooLong)) => {
                tracing::error!(%error, "no key could be made");
                Self::new(Code::Internal)
            }
        }
    }
}

/// Makes a key
///
/// The answer is the only one that ever shows the key itself. With an `Idempotency-Key` a call that is
/// sent again makes no second key, and its answer has null in the place of the key.
#[utoipa::path(
    post,
    path = "/api/v1/admin/api-keys/",
    tag = "keys",
    operation_id = "create_key",
    params(IdempotencyParameter),
    request_body = NewKeyRequest,
    responses(
        (
            status = CREATED,
            description = "The key was made",
            body = IssuedKeyView,
            headers(
                ("Location", description = "Where the key is found."),
                ("ETag" = String, description = "The version of the key."),
            ),
        ),
        (
            status = OK,
            description = "This call had made the key before. Nothing was done, and the key cannot be shown again",
            body = KeyMadeBeforeView,
            headers(
                ("Location", description = "Where the key is found."),
                ("Idempotent-Replayed", description = "`true`"),
            ),
        ),
        (status = CONFLICT, description = "`idempotency_key_in_use`: the same call is under way"),
    )
)]
pub(super) async fn handler(
    admin: Admin,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
    call: Idempotent<NewKeyRequest>,
) -> Result<Response, Problem> {
    let (request, turn) = match call.begin(&service, &admin, PLACE, &[]).await? {
        Call::Make(request, turn) => (request, turn),
        Call::Made(response) => return Ok(response),
    };
    let new = request.check(service.clock.now()).map_err(CreateKeyError::Invalid)?;
    let (issuing, actor) = (Arc::clone(&service), admin.actor());
    let issued = service
        .complete(async move {
            // The turn is held until the key is made, even if nobody waits for it any more.
            let Some(turn) = turn else {
                return issuing.issuer.issue(new, &actor).await.map(Ok);
            };
            Ok(match issuing.issuer.issue_once(new, &actor, turn.claim()).await? {
                IssuedOnce::Now(issued) => Ok(issued),
                IssuedOnce::Before(made) => Err(turn.judge(&made)),
            })
        })
        .await?
        .map_err(CreateKeyError::from)?;
    match issued {
        Ok(issued) => Ok(created(issued)),
        // Another control plane was faster.
        Err(made) => replay(&service, made?).await,
    }
}

fn created(issued: IssuedKey) -> Response {
    let (key_id, version) = (issued.key.key_id, issued.key.version);
    let view =
        IssuedKeyView { key: KeyView::from(issued.key), api_key: issued.api_key.expose_secret() };
    located(Tagged(StatusCode::CREATED, version, view), key_id)
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};

    use crate::{
        admin::tests::call,
        testing::{Answer, TestService, send},
    };

    const PATH: &str = "/api/v1/admin/api-keys/";

    async fn create(it: &TestService, key: &str, body: &str) -> Answer {
        send(&it.admin, call("POST", PATH, key, Some(body))).await
    }

    #[tokio::test]
    async fn a_key_gets_what_was_asked_for_and_is_shown_once() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let body = r#"{"name": "billing", "description": "nightly", "owner": "Team A", "scope": "write",
            "environment": "test", "allowed_ips": ["10.1.2.3", "10.0.0.0/8"],
            "rate_limit": {"requests": 5, "window_seconds": 60}, "metadata": {"ticket": 7},
            "expires_at": "2027-01-01T01:00:00+01:00"}"#;
        let answer = create(&it, &good, body).await;
        assert_eq!(answer.status, 201);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("etag"), Some("\"1\""));
        let mut key = answer.json();
        let id = key["key_id"].as_str().expect("an id").to_owned();
        assert_eq!(answer.header("location"), Some(format!("{PATH}{id}").as_str()));
        let text = key["api_key"].as_str().expect("a key").to_owned();
        assert!(text.starts_with(&format!("kg_test_{id}_")), "{text}");
        key.as_object_mut().expect("an object").remove("api_key");
        assert_eq!(
            key,
            serde_json::json!({
                "key_id": id,
                "name": "billing",
                "description": "nightly",
                "owner": "Team A",
                "scope": "write",
                "environment": "test",
                "is_active": true,
                "allowed_ips": ["10.1.2.3/32", "10.0.0.0/8"],
                "rate_limit": {"requests": 5, "window_seconds": 60},
                "metadata": {"ticket": 7},
                "created_at": "2026-11-25T12:00:00Z",
                "expires_at": "2027-01-01T00:00:00Z",
                "last_used_at": null,
                "revoked_at": null,
                "revoked_reason": null,
                "version": 1,
                "supersedes": null,
                "superseded_by": null,
                "rotated_at": null,
                "policy_override": null,
            })
        );
        let again = send(&it.admin, call("GET", &format!("{PATH}{id}"), &good, None)).await;
        assert_eq!(again.json(), key);
        let audit = it.audit().await;
        let (event, details) = audit.last().expect("an entry");
        assert_eq!(event, "KEY_CREATED");
        let actor = admin.key_id;
        assert_eq!(
            details,
            &format!("actor={actor} client_ip=192.0.2.7 scope=write environment=test")
        );
    }

    #[tokio::test]
    async fn the_least_is_a_name_and_gives_a_key_that_only_reads() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        // Without the slash at the end, too.
        let body = Some(r#"{"name": "a"}"#);
        let answer = send(&it.admin, call("POST", PATH.trim_end_matches('/'), &good, body)).await;
        assert_eq!(answer.status, 201);
        let key = answer.json();
        assert_eq!((&key["scope"], &key["environment"]), (&"read".into(), &"live".into()));
        assert_eq!(key["metadata"], serde_json::json!({}));
        assert!(
            key["rate_limit"].is_null() && key["owner"].is_null() && key["expires_at"].is_null()
        );
    }

    #[tokio::test]
    async fn a_bad_field_is_named_and_nothing_is_made() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for (body, field) in [
            ("{}", "name"),
            (r#"{"name": 7}"#, "name"),
            (r#"{"name": ""}"#, "name"),
            (r#"{"name": "a", "name": "b"}"#, "name"),
            (r#"{"name": "a", "scopes": []}"#, "scopes"),
            (r#"{"name": "a", "scope": "root"}"#, "scope"),
            (r#"{"name": "a", "environment": "prod"}"#, "environment"),
            (r#"{"name": "a", "owner": "a\nb"}"#, "owner"),
            (r#"{"name": "a", "metadata": []}"#, "metadata"),
            (r#"{"name": "a", "allowed_ips": ["x"]}"#, "allowed_ips[0]"),
            (r#"{"name": "a", "allowed_ips": [7]}"#, "allowed_ips[0]"),
            (r#"{"name": "a", "rate_limit": {"requests": 1}}"#, "rate_limit"),
            (
                r#"{"name": "a", "rate_limit": {"requests": -1, "window_seconds": 1}}"#,
                "rate_limit.requests",
            ),
            (
                r#"{"name": "a", "rate_limit": {"requests": 1, "window_seconds": 1, "burst": 1}}"#,
                "rate_limit.burst",
            ),
            (
                r#"{"name": "a", "rate_limit": {"requests": 1, "window_seconds": 1, "reach": "world"}}"#,
                "rate_limit.reach",
            ),
            (r#"{"name": "a", "rate_limit": [1, 1]}"#, "rate_limit"),
            (r#"{"name": "a", "expires_at": "2020-01-01T00:00:00Z"}"#, "expires_at"),
        ] {
            let answer = create(&it, &good, body).await;
            assert_eq!(answer.problem(), (422, "invalid_fields".to_owned()), "{body}");
            let error = &answer.json()["errors"][0];
            assert_eq!(error["field"], field, "{body}");
            assert!(error["pointer"].as_str().is_some_and(|it| it.starts_with("#/")), "{error}");
        }
        assert_eq!(it.audit().await.len(), 1);
    }

    #[tokio::test]
    async fn a_body_that_is_no_json_is_refused_by_what_it_is() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for body in ["", "{", "{\"name\":\"a\"} x", "\u{0}"] {
            assert_eq!(
                create(&it, &good, body).await.problem(),
                (400, "malformed_body".to_owned())
            );
        }
        let list = create(&it, &good, r#"["a"]"#).await;
        assert_eq!(list.problem(), (422, "invalid_fields".to_owned()));
        assert_eq!(list.json()["errors"][0]["message"], "invalid type, expected an object");
        let form = Request::post(PATH)
            .header("x-api-key", &good)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from("name=a"))
            .expect("a request");
        assert_eq!(
            send(&it.admin, form).await.problem(),
            (415, "unsupported_media_type".to_owned())
        );
        let long = format!(r#"{{"name": "{}"}}"#, "a".repeat(65 * 1024));
        assert_eq!(create(&it, &good, &long).await.problem(), (413, "body_too_large".to_owned()));
        let query = call("POST", &format!("{PATH}?dry_run=1"), &good, Some(r#"{"name":"a"}"#));
        assert_eq!(send(&it.admin, query).await.problem(), (400, "invalid_query".to_owned()));
    }
}
