//! `POST /api/v1/admin/api-keys/{key_id}/rotate`: makes a key that takes another one's place.

use axum::{extract::State, http::StatusCode, response::Response};
use secrecy::ExposeSecret;
use std::sync::Arc;

use super::{
    authenticate::Admin,
    create_key::CreateKeyError,
    idempotency::{Call, IdempotencyParameter, KeyMadeBeforeView, OptionalIdempotent, replay},
    path::{KeyIdParameter, KeyPath, located},
    precondition::{OptionalIfMatch, OptionalIfMatchParameter, Tagged},
    query::{Nothing, Parameters},
};
use crate::{
    http::problem::{Code, Problem},
    keys::{
        new_key::FieldError,
        once::Turn,
        rotate::{RotateError, RotateKeyRequest, RotatedKey, rotate},
        state::KeyState,
        view::{IssuedKeyView, KeyView, RotatedKeyView},
    },
    service::Service,
    store::RevokeGuard,
};

/// What names of requests belong to. The key's id is no part of it: a name that was used for one key
/// is refused for another.
const PLACE: &str = "POST /api/v1/admin/api-keys/{key_id}/rotate";

/// Why nothing was rotated.
#[derive(Debug, thiserror::Error)]
pub(super) enum RotateKeyError {
    #[error("some fields are not valid")]
    Invalid(Vec<FieldError>),
    #[error(transparent)]
    Rotate(#[from] RotateError),
}

impl From<RotateKeyError> for Problem {
    fn from(error: RotateKeyError) -> Self {
        let text = error.to_string();
        let error = match error {
            RotateKeyError::Invalid(errors) => {
                return Self::new(Code::InvalidFields).errors(errors);
            }
            RotateKeyError::Rotate(error) => error,
        };
        let code = match error {
            RotateError::NotFound => return Self::new(Code::NotFound),
            RotateError::Issue(error) => return CreateKeyError::from(error).into(),
            RotateError::NotActive(KeyState::Revoked) => Code::KeyRevoked,
            RotateError::NotActive(_) => Code::KeyNotActive,
            RotateError::Superseded(_) | RotateError::MadeBefore(_) => Code::KeySuperseded,
            RotateError::Outdated(_) => Code::PreconditionFailed,
            RotateError::LastAdmin => Code::LastAdminKey,
        };
        Self::new(code).detail(text)
    }
}

/// Rotates a key
///
/// Makes a key with all that the old one has, which takes its place. Both work for the overlap (a
/// day, unless another one is given), then only the new one. The answer is the only one that ever
/// shows the new key itself. An imported key is rotated into one of our own. With an
/// `Idempotency-Key` a call that is sent again makes no second successor, and its answer has null in
/// the place of the key.
#[utoipa::path(
    post,
    path = "/api/v1/admin/api-keys/{key_id}/rotate",
    tag = "keys",
    operation_id = "rotate_key",
    params(KeyIdParameter, OptionalIfMatchParameter, IdempotencyParameter),
    request_body = Option<RotateKeyRequest>,
    responses(
        (
            status = CREATED,
            description = "The new key was made",
            body = RotatedKeyView,
            headers(
                ("Location", description = "Where the new key is found."),
                ("ETag" = String, description = "The version of the new key."),
            ),
        ),
        (
            status = OK,
            description = "This call had made the new key before. Nothing was done, and the key cannot be shown again",
            body = KeyMadeBeforeView,
            headers(
                ("Location", description = "Where the new key is found."),
                ("Idempotent-Replayed", description = "`true`"),
            ),
        ),
        (
            status = CONFLICT,
            description = "`key_revoked`, `key_not_active`, `key_superseded`: the key cannot be rotated; `last_admin_key`: the last usable admin key needs an overlap; `idempotency_key_in_use`: the same call is under way",
        ),
        (status = PRECONDITION_FAILED, description = "`precondition_failed`: the key has been changed since"),
    )
)]
pub(super) async fn handler(
    admin: Admin,
    KeyPath(key_id): KeyPath,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
    OptionalIfMatch(expected): OptionalIfMatch,
    OptionalIdempotent(call): OptionalIdempotent<RotateKeyRequest>,
) -> Result<Response, Problem> {
    let (rotated_key, condition) = (key_id.to_string(), expected.text());
    let about = [rotated_key.as_str(), &condition];
    let (request, turn) = match call.begin(&service, &admin, PLACE, &about).await? {
        Call::Make(request, turn) => (request, turn),
        Call::Made(response) => return Ok(response),
    };
    let terms = request.unwrap_or_default().check(service.clock.now());
    let terms = terms.map_err(RotateKeyError::Invalid)?;
    let guard = RevokeGuard::KeepOneAdmin { test_keys: service.test_keys };
    let (rotating, actor) = (Arc::clone(&service), admin.actor());
    let (done, turn) = service
        .complete(async move {
            // The turn is held until it is done, even if nobody waits for it any more.
            let claim = turn.as_ref().map(Turn::claim);
            let issuer = &rotating.issuer;
            let done = rotate(issuer, key_id, &terms, &expected, guard, &actor, claim).await;
            (done, turn)
        })
        .await?;
    if let (Err(RotateError::MadeBefore(made)), Some(turn)) = (&done, &turn) {
        // Another control plane was faster.
        return replay(&service, turn.judge(made)?).await;
    }
    if let Err(RotateError::LastAdmin) = done {
        admin.record_denial(&service, key_id, "last_admin_key").await;
    }
    Ok(rotated(done.map_err(RotateKeyError::from)?))
}

fn rotated(RotatedKey { issued, superseded }: RotatedKey) -> Response {
    let (key_id, version) = (issued.key.key_id, issued.key.version);
    let view = RotatedKeyView {
        issued: IssuedKeyView {
            key: KeyView::from(issued.key),
            api_key: issued.api_key.expose_secret(),
        },
        superseded: KeyView::from(superseded),
    };
    located(Tagged(StatusCode::CREATED, version, view), key_id)
}

#[cfg(test)]
mod tests {
    use edge_protocol::{ChangeKind, Scope};
    use serde_json::{Value, json};

    use crate::{
        admin::tests::call,
        keys::{Key, new_key::NewKeyRequest},
        store::Changes,
        testing::{Answer, TestService, request, send},
    };

    const PATH: &str = "/api/v1/admin/api-keys/";

    async fn rotate(it: &TestService, key_id: &str, with: &str, body: Option<&str>) -> Answer {
        send(&it.admin, call("POST", &format!("{PATH}{key_id}/rotate"), with, body)).await
    }

    async fn get(it: &TestService, key_id: &str, with: &str) -> Value {
        send(&it.admin, call("GET", &format!("{PATH}{key_id}"), with, None)).await.json()
    }

    async fn works(it: &TestService, key: &str) -> bool {
        send(&it.admin, call("GET", PATH, key, None)).await.status == 200
    }

    /// An admin key, so that whether it works is seen at the API itself.
    async fn full(it: &TestService) -> (Key, String) {
        it.issue(NewKeyRequest {
            description: Some("nightly".to_owned()),
            owner: Some("Team A".to_owned()),
            scope: Scope::Admin,
            allowed_ips: Some(vec!["192.0.2.0/24".to_owned()]),
            metadata: Some([("ticket".to_owned(), 7.into())].into_iter().collect()),
            expires_at: Some("2027-01-01T00:00:00Z".to_owned()),
            ..request("billing")
        })
        .await
    }

    #[tokio::test]
    async fn both_keys_work_during_the_overlap_and_only_the_new_one_after_it() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let (old, old_text) = full(&it).await;
        let old_id = old.key_id.to_string();
        let before = get(&it, &old_id, &good).await;

        let answer = rotate(&it, &old_id, &good, Some(r#"{"overlap_seconds": 60}"#)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("etag"), Some("\"1\""));
        let mut new = answer.json();
        let new_id = new["key_id"].as_str().expect("an id").to_owned();
        let new_text = new["api_key"].as_str().expect("a key").to_owned();
        assert_eq!(answer.header("location"), Some(format!("{PATH}{new_id}").as_str()));
        assert_ne!(new_id, old_id);
        assert!(new_text.starts_with(&format!("kg_live_{new_id}_")));

        // The old one is told what has happened to it, the new one has all else of it.
        let superseded = new.as_object_mut().expect("an object").remove("superseded");
        assert_eq!(superseded, Some(get(&it, &old_id, &good).await));
        let superseded = superseded.expect("the old key");
        assert_eq!(superseded["superseded_by"], new_id);
        assert_eq!(superseded["rotated_at"], "2026-11-25T12:00:00Z");
        assert_eq!(superseded["expires_at"], "2026-11-25T12:01:00Z");
        assert_eq!((&superseded["version"], &superseded["is_active"]), (&json!(2), &json!(true)));
        new.as_object_mut().expect("an object").remove("api_key");
        assert_eq!(new, get(&it, &new_id, &good).await);
        for (field, value) in before.as_object().expect("an object") {
            match field.as_str() {
                "key_id" => {}
                "supersedes" => assert_eq!(new[field], old_id),
                _ => assert_eq!(&new[field], value, "{field}"),
            }
        }

        it.clock.advance_ms(59_999);
        assert!(works(&it, &old_text).await && works(&it, &new_text).await);
        it.clock.advance_ms(1);
        assert!(!works(&it, &old_text).await && works(&it, &new_text).await);

        let actor = format!("actor={} client_ip=192.0.2.7", admin.key_id);
        let audit = it.audit().await;
        assert_eq!(
            audit[2..4],
            [
                (
                    "KEY_ROTATED".to_owned(),
                    format!(
                        "{actor} superseded_by={new_id} overlap_seconds=60 ends_at=2026-11-25T12:01:00Z"
                    )
                ),
                (
                    "KEY_CREATED".to_owned(),
                    format!("{actor} scope=admin environment=live supersedes={old_id}")
                ),
            ]
        );
        let (_, changes) = it.service.store.changes(2, 10).await.expect("read");
        let Changes::Since(changes) = changes else { panic!("unknown") };
        let told: Vec<_> = changes.into_iter().map(|it| (it.key_id, it.kind)).collect();
        assert_eq!(told, [(new_id, ChangeKind::Created), (old_id, ChangeKind::Updated)]);
    }

    #[tokio::test]
    async fn without_a_body_the_overlap_is_a_day_and_the_new_key_ends_as_the_old_one_would_have() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for body in [None, Some("{}"), Some("null")] {
            let (old, _) = full(&it).await;
            let new = rotate(&it, &old.key_id.to_string(), &good, body).await.json();
            assert_eq!(new["expires_at"], "2027-01-01T00:00:00Z");
            assert_eq!(new["superseded"]["expires_at"], "2026-11-26T12:00:00Z");
        }
        let (old, _) = full(&it).await;
        let never = Some(r#"{"expires_at": null}"#);
        assert!(
            rotate(&it, &old.key_id.to_string(), &good, never).await.json()["expires_at"].is_null()
        );
        let (old, _) = full(&it).await;
        let later = Some(r#"{"expires_at": "2030-01-01T00:00:00Z"}"#);
        let new = rotate(&it, &old.key_id.to_string(), &good, later).await.json();
        assert_eq!(new["expires_at"], "2030-01-01T00:00:00Z");
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_rotated_says_why() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let refused = async |key_id: &str, body: Option<&str>| {
            rotate(&it, key_id, &good, body).await.problem()
        };
        let conflict = |code: &str| (409, code.to_owned());

        let (rotated, _) = it.issue(request("rotated")).await;
        let id = rotated.key_id.to_string();
        let new = rotate(&it, &id, &good, None).await.json();
        assert_eq!(refused(&id, None).await, conflict("key_superseded"));
        // The one that has taken its place can be rotated.
        let new_id = new["key_id"].as_str().expect("an id");
        assert_eq!(rotate(&it, new_id, &good, None).await.status, 201);

        let (revoked, _) = it.issue(request("revoked")).await;
        let id = revoked.key_id.to_string();
        send(&it.admin, call("DELETE", &format!("{PATH}{id}"), &good, None)).await;
        assert_eq!(refused(&id, None).await, conflict("key_revoked"));

        let soon = Some("2026-11-25T12:00:01Z".to_owned());
        let (expired, _) = it.issue(NewKeyRequest { expires_at: soon, ..request("a") }).await;
        it.clock.advance_ms(1000);
        assert_eq!(refused(&expired.key_id.to_string(), None).await, conflict("key_not_active"));

        let unknown = "0123456789abcdef";
        assert_eq!(refused(unknown, None).await, (404, "not_found".to_owned()));
        let (key, _) = it.issue(request("a")).await;
        let id = key.key_id.to_string();
        for body in [
            r#"{"overlap_seconds": 7776001}"#,
            r#"{"overlap_seconds": -1}"#,
            r#"{"expires_at": "2020-01-01T00:00:00Z"}"#,
            r#"{"overlap": 1}"#,
        ] {
            assert_eq!(
                refused(&id, Some(body)).await,
                (422, "invalid_fields".to_owned()),
                "{body}"
            );
        }
        let mut stale = call("POST", &format!("{PATH}{id}/rotate"), &good, None);
        stale.headers_mut().insert("if-match", "\"2\"".parse().expect("a value"));
        let answer = send(&it.admin, stale).await;
        assert_eq!(answer.problem(), (412, "precondition_failed".to_owned()));
        assert_eq!(get(&it, &id, &good).await["version"], 1);
    }

    #[tokio::test]
    async fn the_last_admin_key_is_not_exchanged_for_one_that_nobody_has_yet() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let id = admin.key_id.to_string();
        let at_once = Some(r#"{"overlap_seconds": 0}"#);
        let refused = rotate(&it, &id, &good, at_once).await;
        assert_eq!(refused.problem(), (409, "last_admin_key".to_owned()));
        assert_eq!(it.audit().await.last().expect("an entry").0, "ADMIN_DENIED");

        let new = rotate(&it, &id, &good, Some(r#"{"overlap_seconds": 1}"#)).await.json();
        let new_text = new["api_key"].as_str().expect("a key");
        it.clock.advance_ms(1000);
        assert!(!works(&it, &good).await && works(&it, new_text).await);
        // With another admin key there, it may end at once.
        it.issue_admin().await;
        let new_id = new["key_id"].as_str().expect("an id");
        assert_eq!(rotate(&it, new_id, new_text, at_once).await.status, 201);
        assert!(!works(&it, new_text).await);
    }

    #[tokio::test]
    async fn of_many_rotations_of_one_key_exactly_one_is_made() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let path = format!("{PATH}{}/rotate", key.key_id);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (admin, call) = (it.admin.clone(), call("POST", &path, &good, None));
            tasks.spawn(async move { send(&admin, call).await.status.as_u16() });
        }
        let mut statuses = tasks.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
        let all = send(&it.admin, call("GET", PATH, &good, None)).await.json();
        assert_eq!(all["items"].as_array().map(Vec::len), Some(3));
    }
}
