//! `POST /api/v1/admin/api-keys/import`

use axum::{extract::State, http::StatusCode, response::Response};
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
        import::{ImportError, ImportRequest, ImportedKeyView, ImportedOnce},
        new_key::FieldError,
    },
    service::Service,
};

/// What names of requests belong to.
const PLACE: &str = "POST /api/v1/admin/api-keys/import";

/// Why no key was imported.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImportKeyError {
    #[error("some fields are not valid")]
    Invalid(Vec<FieldError>),
    #[error(transparent)]
    Import(#[from] ImportError),
}

impl From<ImportKeyError> for Problem {
    fn from(error: ImportKeyError) -> Self {
        let error = match error {
            ImportKeyError::Invalid(errors) => {
                return Self::new(Code::InvalidFields).errors(errors);
            }
            ImportKeyError::Import(error) => error,
        };
        let said = error.to_string();
        match error {
            ImportError::Refused(faults) => {
                let about = |fault: key_policy::Fault| {
                    let more = if fault.is_hard() { "; cannot be overridden" } else { "" };
                    FieldError {
                        field: "api_key".to_owned(),
                        message: format!("{}: {fault}{more}", fault.as_str()),
                    }
                };
                Self::new(Code::PolicyRefused).errors(faults.into_iter().map(about).collect())
            }
            ImportError::Environment(_) => {
                let error = FieldError { field: "environment".to_owned(), message: said };
                Self::new(Code::InvalidFields).errors(vec![error])
            }
            ImportError::Known(_) | ImportError::IdTaken(_) => {
                Self::new(Code::KeyExists).detail(said)
            }
            ImportError::Store(error) => error.into(),
            ImportError::Overloaded(_) => Self::new(Code::Overloaded),
            ImportError::Random(error) => {
                tracing::error!(%error, "no key could be imported");
                Self::new(Code::Internal)
            }
        }
    }
}

/// Imports a key
///
/// Takes a key that was made elsewhere. It must keep the policy's rules; those that can be
/// overridden are overridden by `policy_override`, with a reason that stays with the key. What
/// has to be changed in the filters' own configuration then is in the answer. A key of our own
/// form, from another Keygate with the same prefix, keeps its key id. With an `Idempotency-Key` a
/// call that is sent again is answered with the key that it imported.
#[utoipa::path(
    post,
    path = "/api/v1/admin/api-keys/import",
    tag = "keys",
    operation_id = "import_key",
    params(IdempotencyParameter),
    request_body = ImportRequest,
    responses(
        (
            status = CREATED,
            description = "The key was imported",
            body = ImportedKeyView,
            headers(
                ("Location", description = "Where the key is found."),
                ("ETag" = String, description = "The version of the key."),
            ),
        ),
        (
            status = OK,
            description = "This call had imported the key before. Nothing was done",
            body = KeyMadeBeforeView,
            headers(
                ("Location", description = "Where the key is found."),
                ("Idempotent-Replayed", description = "`true`"),
            ),
        ),
        (
            status = CONFLICT,
            description = "`key_exists`: it is known already, or its key id is another's; `idempotency_key_in_use`: the same call is under way",
        ),
    )
)]
pub(super) async fn handler(
    admin: Admin,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
    call: Idempotent<ImportRequest>,
) -> Result<Response, Problem> {
    let (request, turn) = match call.begin(&service, &admin, PLACE, &[]).await? {
        Call::Make(request, turn) => (request, turn),
        Call::Made(response) => return Ok(response),
    };
    let foreign = request.check(service.clock.now()).map_err(ImportKeyError::Invalid)?;
    let (importing, actor) = (Arc::clone(&service), admin.actor());
    let imported = service
        .complete(async move {
            // The turn is held until it is done, even if nobody waits for it any more.
            let Some(turn) = turn else {
                return importing.issuer.import(foreign, &actor).await.map(Ok);
            };
            Ok(match importing.issuer.import_once(foreign, &actor, turn.claim()).await? {
                ImportedOnce::Now(imported) => Ok(*imported),
                ImportedOnce::Before(made) => Err(turn.judge(&made)),
            })
        })
        .await?
        .map_err(ImportKeyError::from)?;
    let imported = match imported {
        Ok(imported) => imported,
        // Another control plane was faster.
        Err(made) => return replay(&service, made?).await,
    };
    let (key_id, version) = (imported.key.key_id, imported.key.version);
    let view = ImportedKeyView::from(imported);
    Ok(located(Tagged(StatusCode::CREATED, version, view), key_id))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{
        admin::tests::call,
        testing::{Answer, TestService, request, send},
    };

    const PATH: &str = "/api/v1/admin/api-keys/import";
    const LIST: &str = "/api/v1/admin/api-keys/";
    const GOOD: &str = "p9X-mQ2v_Lr7Tz4Wk8Hc3Yb6Nf1Js5Dg0";

    async fn import(it: &TestService, admin: &str, body: &Value) -> Answer {
        send(&it.admin, call("POST", PATH, admin, Some(&body.to_string()))).await
    }

    #[tokio::test]
    async fn a_call_that_is_sent_again_is_told_what_it_imported() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let send_as = async |word: &str, name: &str| {
            let body = json!({"api_key": GOOD, "name": name}).to_string();
            let mut request = call("POST", PATH, &good, Some(&body));
            request.headers_mut().insert("idempotency-key", word.parse().expect("a value"));
            send(&it.admin, request).await
        };
        let first = send_as("one", "partner").await;
        assert_eq!(first.status, 201, "{first:?}");
        let again = send_as("one", "partner").await;
        assert_eq!(
            (again.status.as_u16(), again.header("idempotent-replayed")),
            (200, Some("true"))
        );
        assert_eq!(again.json()["key_id"], first.json()["key_id"]);
        assert_eq!(again.header("location"), first.header("location"));
        assert!(!String::from_utf8_lossy(&again.body).contains(GOOD));
        let other = send_as("one", "another").await;
        assert_eq!(other.problem(), (422, "idempotency_key_reused".to_owned()));
        assert_eq!(send_as("two", "partner").await.problem(), (409, "key_exists".to_owned()));
    }

    #[tokio::test]
    async fn an_imported_key_works_and_is_not_shown() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let body = json!({"api_key": GOOD, "name": "console", "scope": "admin", "owner": "ops"});
        let answer = import(&it, &good, &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(GOOD));
        let mut key = answer.json();
        let id = key["key_id"].as_str().expect("an id").to_owned();
        assert_eq!(answer.header("location"), Some(format!("{LIST}{id}").as_str()));
        assert_eq!((&key["filter_policy"], &key["policy_override"]), (&Value::Null, &Value::Null));
        key.as_object_mut().expect("an object").remove("filter_policy");
        let shown = send(&it.admin, call("GET", &format!("{LIST}{id}"), &good, None)).await.json();
        assert_eq!(shown, key);
        assert_eq!(send(&it.admin, call("GET", LIST, GOOD, None)).await.status, 200);

        let again = import(&it, &good, &body).await;
        assert_eq!(again.problem(), (409, "key_exists".to_owned()));
        assert_eq!(again.json()["detail"], format!("it is the key {id}"));
    }

    #[tokio::test]
    async fn a_refused_key_is_told_every_fault_and_an_override_what_filters_need() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let mut body = json!({"api_key": "aB3x9Kq7", "name": "a"});
        let refused = import(&it, &good, &body).await;
        assert_eq!(refused.problem(), (422, "policy_refused".to_owned()));
        let errors = refused.json()["errors"].clone();
        let told: Vec<_> = errors.as_array().expect("errors").iter().collect();
        assert!(told.iter().all(|it| it["field"] == "api_key"));
        assert!(told[0]["message"].as_str().is_some_and(|it| it.starts_with("too_short: ")));

        body["policy_override"] = json!({"reason": "until March"});
        let answer = import(&it, &good, &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let key = answer.json();
        let expected = json!({
            "reason": "until March",
            "faults": ["too_short", "too_little_entropy", "too_little_left"],
        });
        assert_eq!(key["policy_override"], expected);
        assert_eq!(
            key["filter_policy"],
            json!({"min_length": 8, "min_entropy_bits": 24.0, "weak_patterns": false})
        );

        let hard = json!({"api_key": "p9X,mQ2v_Lr7Tz4Wk8Hc3Yb6Nf1Js5Dg0", "name": "a",
            "policy_override": {"reason": "please"}});
        let refused = import(&it, &good, &hard).await;
        assert_eq!(refused.problem(), (422, "policy_refused".to_owned()));
        let message = refused.json()["errors"][0]["message"].clone();
        assert!(message.as_str().is_some_and(|it| it.ends_with("cannot be overridden")));
    }

    #[tokio::test]
    async fn bad_fields_are_named_and_never_repeat_the_key() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (_, own) = it.issue(request("a")).await;
        for (body, field) in [
            (json!({"name": "a"}), "api_key"),
            (json!({"api_key": "", "name": "a"}), "api_key"),
            (json!({"api_key": GOOD}), "name"),
            (json!({"api_key": GOOD, "name": GOOD}), "name"),
            (json!({"api_key": GOOD, "name": "a", "key": 1}), "key"),
            (json!({"api_key": {"x": GOOD}, "name": "a"}), "api_key"),
            (json!({"api_key": GOOD, "name": "a", "policy_override": {}}), "policy_override"),
            (
                json!({"api_key": GOOD, "name": "a", "policy_override": {"reason": " "}}),
                "policy_override.reason",
            ),
            (json!({"api_key": own, "name": "a", "environment": "test"}), "environment"),
        ] {
            let answer = import(&it, &good, &body).await;
            assert_eq!(answer.problem(), (422, "invalid_fields".to_owned()), "{body}");
            assert_eq!(answer.json()["errors"][0]["field"], field, "{body}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(GOOD), "{body}");
        }
        assert_eq!(it.audit().await.len(), 2);
    }
}
