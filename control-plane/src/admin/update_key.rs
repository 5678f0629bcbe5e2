//! `PUT /api/v1/admin/api-keys/{key_id}`: changes what is named in the body.

use axum::extract::State;
use serde_json::{Map, Value};
use std::sync::Arc;

use super::{
    authenticate::Admin,
    body,
    path::{KeyIdParameter, KeyPath},
    precondition::{IfMatch, IfMatchParameter, Tagged},
    query::{Nothing, Parameters},
};
use crate::{
    http::problem::{Code, Problem},
    keys::{
        Key,
        new_key::FieldError,
        update::{Precondition, UpdateError, UpdateKeyRequest, update},
        view::KeyView,
    },
    service::Service,
    store::RevokeGuard,
};

/// What of a key can be changed.
const WRITABLE: [&str; 9] = [
    "name",
    "description",
    "owner",
    "scope",
    "is_active",
    "allowed_ips",
    "rate_limit",
    "metadata",
    "expires_at",
];
/// How often a change of whatever is there is tried again when another one comes in between.
const MAX_ATTEMPTS: u32 = 5;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpdateKeyError {
    #[error("some fields are not valid")]
    Invalid(Vec<FieldError>),
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl From<UpdateKeyError> for Problem {
    fn from(error: UpdateKeyError) -> Self {
        let text = error.to_string();
        match error {
            UpdateKeyError::Invalid(errors) => Self::new(Code::InvalidFields).errors(errors),
            UpdateKeyError::Update(UpdateError::NotFound) => Self::new(Code::NotFound),
            UpdateKeyError::Update(UpdateError::Revoked) => Self::new(Code::KeyRevoked),
            UpdateKeyError::Update(UpdateError::Superseded(_)) => {
                Self::new(Code::KeySuperseded).detail(text)
            }
            UpdateKeyError::Update(UpdateError::Outdated(_)) => {
                Self::new(Code::PreconditionFailed).detail(text)
            }
            UpdateKeyError::Update(UpdateError::LastAdmin) => Self::new(Code::LastAdminKey)
                .detail("make another admin key first, or change it with `keygate keys update`"),
            UpdateKeyError::Update(UpdateError::Store(error)) => error.into(),
        }
    }
}

/// Changes a key
///
/// What is left out stays as it is. What a key keeps for good (its id, its environment, what has
/// happened to it) may be sent as it is, so that what `GET` has answered can be changed and sent
/// back; anything else there is refused. A change that changes nothing makes no new version.
#[utoipa::path(
    put,
    path = "/api/v1/admin/api-keys/{key_id}",
    tag = "keys",
    operation_id = "update_key",
    params(KeyIdParameter, IfMatchParameter),
    request_body = UpdateKeyRequest,
    responses(
        (
            status = OK,
            description = "The key as it is now",
            body = KeyView,
            headers(("ETag" = String, description = "The version of the key.")),
        ),
        (
            status = CONFLICT,
            description = "`key_revoked`: a revoked key stays as it is; `key_superseded`: a key that was rotated cannot end later; `last_admin_key`: one usable admin key must remain",
        ),
        (status = PRECONDITION_FAILED, description = "`precondition_failed`: the key has been changed since"),
        (status = PRECONDITION_REQUIRED, description = "`precondition_required`: `If-Match` is missing"),
    )
)]
pub(super) async fn handler(
    admin: Admin,
    KeyPath(key_id): KeyPath,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
    IfMatch(expected): IfMatch,
    body::Json(named): body::Json<Map<String, Value>>,
) -> Result<Tagged<KeyView>, Problem> {
    let guard = RevokeGuard::KeepOneAdmin { test_keys: service.test_keys };
    let mut attempts = 0;
    let done = loop {
        let key = service.store.key(key_id).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
        let version = key.version;
        let (request, fixed) = whole(named.clone(), key)?;
        let change = request.check().map_err(UpdateKeyError::Invalid)?;
        // Before what cannot be changed is compared: who decided on another version saw other values.
        if !expected.holds(version) {
            break Err(UpdateError::Outdated(version));
        }
        if !fixed.is_empty() {
            return Err(UpdateKeyError::Invalid(fixed).into());
        }
        // What was filled in is of this version.
        let of_this = expected.at(version);
        let (updating, actor) = (Arc::clone(&service), admin.actor());
        let done = service
            .complete(async move {
                let (store, clock) = (&*updating.store, &*updating.clock);
                update(store, clock, key_id, change, &of_this, guard, &actor).await
            })
            .await?;
        attempts += 1;
        let overtaken = matches!(done, Err(UpdateError::Outdated(_)));
        if !(overtaken && expected == Precondition::Any && attempts < MAX_ATTEMPTS) {
            break done;
        }
    };
    if let Err(UpdateError::LastAdmin) = done {
        admin.record_denial(&service, key_id, "last_admin_key").await;
    }
    Ok(Tagged::key(done.map_err(UpdateKeyError::from)?))
}

/// The change, with what was left out as it is in the key; and what of it would change what cannot be
/// changed.
fn whole(
    mut named: Map<String, Value>,
    key: Key,
) -> Result<(UpdateKeyRequest, Vec<FieldError>), Problem> {
    let unreadable = |_| Problem::new(Code::Internal);
    let Value::Object(is) = serde_json::to_value(KeyView::from(key)).map_err(unreadable)? else {
        return Err(Problem::new(Code::Internal));
    };
    let mut errors = Vec::new();
    for (field, value) in is {
        if WRITABLE.contains(&field.as_str()) {
            named.entry(field).or_insert(value);
        } else if named.remove(&field).is_some_and(|sent| sent != value)
            // A key in use is used between the question and the change.
            && field != "last_used_at"
        {
            let message = "cannot be changed; leave it out, or as it is".to_owned();
            errors.push(FieldError { field, message });
        }
    }
    Ok((body::parse(&serde_json::to_vec(&named).map_err(unreadable)?)?, errors))
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use edge_protocol::{ChangeKind, Scope};
    use serde_json::{Value, json};

    use super::WRITABLE;
    use crate::{
        admin::tests::call,
        keys::{Key, new_key::NewKeyRequest},
        store::Changes,
        testing::{Answer, TestService, request, send},
    };

    const PATH: &str = "/api/v1/admin/api-keys/";

    fn put(key: &Key, with: &str, if_match: Option<&str>, body: &Value) -> Request<Body> {
        let mut request =
            call("PUT", &format!("{PATH}{}", key.key_id), with, Some(&body.to_string()));
        if let Some(tag) = if_match {
            request.headers_mut().insert("if-match", tag.parse().expect("a value"));
        }
        request
    }

    /// What can be changed of a key, as it is.
    async fn writable(it: &TestService, key: &Key, with: &str) -> (Value, String) {
        let answer =
            send(&it.admin, call("GET", &format!("{PATH}{}", key.key_id), with, None)).await;
        let tag = answer.header("etag").expect("a tag").to_owned();
        let mut body = answer.json();
        body.as_object_mut().expect("an object").retain(|field, _| WRITABLE.contains(&&**field));
        (body, tag)
    }

    async fn changes(it: &TestService) -> Vec<(String, ChangeKind)> {
        let (_, changes) = it.service.store.changes(0, 100).await.expect("read");
        let Changes::Since(changes) = changes else { panic!("unknown") };
        changes.into_iter().map(|change| (change.key_id, change.kind)).collect()
    }

    #[tokio::test]
    async fn what_was_got_can_be_changed_and_put_back() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("billing")).await;
        let (mut body, tag) = writable(&it, &key, &good).await;
        assert_eq!(tag, "\"1\"");
        body["name"] = json!("nightly billing");
        body["scope"] = json!("write");
        body["allowed_ips"] = json!(["10.0.0.1/8"]);
        body["expires_at"] = json!("2027-01-01T00:00:00Z");
        body["metadata"] = json!({"ticket": 7});
        let answer = send(&it.admin, put(&key, &good, Some(&tag), &body)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("etag"), Some("\"2\""));
        let changed = answer.json();
        assert_eq!(changed["name"], "nightly billing");
        assert_eq!(changed["allowed_ips"], json!(["10.0.0.0/8"]));
        assert_eq!((&changed["version"], &changed["is_active"]), (&json!(2), &json!(true)));
        let (now, tag) = writable(&it, &key, &good).await;
        body["allowed_ips"] = json!(["10.0.0.0/8"]);
        assert_eq!((now, tag.as_str()), (body.clone(), "\"2\""));

        let audit = it.audit().await;
        assert_eq!(
            audit.last().expect("an entry"),
            &(
                "KEY_UPDATED".to_owned(),
                format!(
                    "actor={} client_ip=192.0.2.7 version=2 scope=read->write \
                     expires_at=never->2027-01-01T00:00:00Z allowed_ips=anywhere->10.0.0.0/8 \
                     name=\"billing\"->\"nightly billing\" metadata=changed",
                    admin.key_id
                )
            )
        );
        // Filters are told to forget what they know of it.
        let id = key.key_id.to_string();
        assert_eq!(changes(&it).await.last(), Some(&(id, ChangeKind::Updated)));

        // Doing it again changes nothing, and says so to nobody.
        let again = send(&it.admin, put(&key, &good, Some(&tag), &body)).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (200, Some("\"2\"")));
        assert_eq!(it.audit().await.len(), audit.len());
    }

    #[tokio::test]
    async fn a_change_names_the_version_it_was_decided_on() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let (mut body, tag) = writable(&it, &key, &good).await;
        body["name"] = json!("b");
        let refused = async |tag: Option<&str>| -> (u16, String) {
            send(&it.admin, put(&key, &good, tag, &body)).await.problem()
        };
        assert_eq!(refused(None).await, (428, "precondition_required".to_owned()));
        assert_eq!(refused(Some("1")).await, (400, "invalid_header".to_owned()));
        for other in ["\"2\"", "W/\"1\"", "\"0\"", "\"x\""] {
            assert_eq!(refused(Some(other)).await, (412, "precondition_failed".to_owned()));
        }
        assert_eq!(send(&it.admin, put(&key, &good, Some(&tag), &body)).await.status, 200);
        // Who decided on the first version comes too late.
        assert_eq!(refused(Some(&tag)).await, (412, "precondition_failed".to_owned()));
        body["name"] = json!("c");
        assert_eq!(send(&it.admin, put(&key, &good, Some("*"), &body)).await.status, 200);
        let one_of = "\"7\", \"3\"";
        body["name"] = json!("d");
        assert_eq!(send(&it.admin, put(&key, &good, Some(one_of), &body)).await.status, 200);
    }

    #[tokio::test]
    async fn of_many_changes_to_one_version_exactly_one_is_made() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let (body, tag) = writable(&it, &key, &good).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (admin, mut body) = (it.admin.clone(), body.clone());
            body["name"] = json!(format!("name {number}"));
            let request = put(&key, &good, Some(&tag), &body);
            tasks.spawn(async move { send(&admin, request).await.status.as_u16() });
        }
        let mut statuses = tasks.join_all().await;
        statuses.sort_unstable();
        assert_eq!((statuses[0], &statuses[1..]), (200, &[412; 19][..]));
        let updates = it.audit().await.iter().filter(|(event, _)| event == "KEY_UPDATED").count();
        assert_eq!(updates, 1);
    }

    #[tokio::test]
    async fn a_key_can_be_switched_off_and_on_again_until_it_is_revoked() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, text) = it.issue(NewKeyRequest { scope: Scope::Admin, ..request("a") }).await;
        let (mut body, _) = writable(&it, &key, &good).await;
        let works = async || send(&it.admin, call("GET", PATH, &text, None)).await.status == 200;
        for active in [false, true, false] {
            body["is_active"] = json!(active);
            let answer = send(&it.admin, put(&key, &good, Some("*"), &body)).await;
            assert_eq!(
                (answer.status.as_u16(), &answer.json()["is_active"]),
                (200, &json!(active))
            );
            assert_eq!(works().await, active);
        }
        let path = format!("{PATH}{}", key.key_id);
        let revoked = send(&it.admin, call("DELETE", &path, &good, None)).await;
        assert_eq!(revoked.json()["version"], 5);
        body["is_active"] = json!(true);
        let answer = send(&it.admin, put(&key, &good, Some("*"), &body)).await;
        assert_eq!(answer.problem(), (409, "key_revoked".to_owned()));
        assert!(!works().await);
    }

    #[tokio::test]
    async fn no_change_takes_the_last_usable_admin_key_away() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let (body, tag) = writable(&it, &admin, &good).await;
        let harm = [
            ("scope", json!("write")),
            ("is_active", json!(false)),
            ("expires_at", json!("2026-11-25T12:00:00Z")),
        ];
        for (field, value) in harm.clone() {
            let mut body = body.clone();
            body[field] = value;
            let answer = send(&it.admin, put(&admin, &good, Some(&tag), &body)).await;
            assert_eq!(answer.problem(), (409, "last_admin_key".to_owned()), "{field}");
            let audit = it.audit().await;
            let (event, details) = audit.last().expect("an entry");
            assert_eq!(event, "ADMIN_DENIED");
            assert!(details.contains("reason=last_admin_key"), "{details}");
        }
        // What leaves it usable may be changed, and with another one there, the rest too.
        let mut harmless = body.clone();
        harmless["name"] = json!("root");
        harmless["expires_at"] = json!("2026-11-25T12:00:01Z");
        assert_eq!(send(&it.admin, put(&admin, &good, Some(&tag), &harmless)).await.status, 200);
        let (_, other) = it.issue_admin().await;
        for (field, value) in harm {
            let mut body = body.clone();
            body[field] = value;
            let answer = send(&it.admin, put(&admin, &other, Some("*"), &body)).await;
            assert_eq!(answer.status, 200, "{field}");
        }
    }

    #[tokio::test]
    async fn a_key_that_was_rotated_cannot_be_given_a_later_end() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let rotate = call("POST", &format!("{PATH}{}/rotate", key.key_id), &good, None);
        let new = send(&it.admin, rotate).await.json();
        let successor = new["key_id"].as_str().expect("an id");
        let end = &new["superseded"]["expires_at"];
        for later in [json!(null), json!("2026-11-26T12:00:01Z")] {
            let body = json!({ "expires_at": later });
            let answer = send(&it.admin, put(&key, &good, Some("*"), &body)).await;
            assert_eq!(answer.problem(), (409, "key_superseded".to_owned()), "{later}");
            assert!(answer.json()["detail"].as_str().is_some_and(|it| it.contains(successor)));
        }
        // The rest of it may be changed, and so may its end be, to an earlier one.
        let renamed = json!({ "name": "b", "expires_at": end });
        assert_eq!(send(&it.admin, put(&key, &good, Some("*"), &renamed)).await.status, 200);
        let earlier = json!({ "expires_at": "2026-11-26T11:00:00Z" });
        assert_eq!(send(&it.admin, put(&key, &good, Some("*"), &earlier)).await.status, 200);
    }

    #[tokio::test]
    async fn what_is_left_out_stays_and_what_cannot_be_changed_may_be_sent_as_it_is() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let allowed_ips = Some(vec!["10.0.0.0/8".to_owned()]);
        let (key, _) = it.issue(NewKeyRequest { allowed_ips, ..request("a") }).await;
        let path = format!("{PATH}{}", key.key_id);
        let before = send(&it.admin, call("GET", &path, &good, None)).await.json();
        let answer = send(&it.admin, put(&key, &good, Some("*"), &json!({"name": "b"}))).await;
        let mut expected = before.clone();
        expected["name"] = json!("b");
        expected["version"] = json!(2);
        assert_eq!((answer.status.as_u16(), answer.json()), (200, expected.clone()));
        // All of what was got, and one thing in it changed.
        let mut whole = expected.clone();
        whole["description"] = json!("c");
        let answer = send(&it.admin, put(&key, &good, Some("\"2\""), &whole)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["version"]), (200, &json!(3)));
        assert_eq!(answer.json()["allowed_ips"], json!(["10.0.0.0/8"]));
        // It is used meanwhile, which makes no other version.
        let mut used = answer.json();
        used["last_used_at"] = json!("2020-01-01T00:00:00Z");
        used["description"] = json!("d");
        let answer = send(&it.admin, put(&key, &good, Some("\"3\""), &used)).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["last_used_at"]), (200, &Value::Null));
        // What was got earlier is of another version, and is told so if it asks.
        let refused = send(&it.admin, put(&key, &good, Some("\"2\""), &whole)).await;
        assert_eq!(refused.problem(), (412, "precondition_failed".to_owned()));
        let refused = send(&it.admin, put(&key, &good, Some("*"), &whole)).await;
        assert_eq!(refused.problem(), (422, "invalid_fields".to_owned()));
        assert_eq!(refused.json()["errors"][0]["pointer"], "#/version");
    }

    #[tokio::test]
    async fn what_cannot_be_changed_or_is_unknown_is_refused_by_name() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let refused = async |body: Value| -> Value {
            let answer: Answer = send(&it.admin, put(&key, &good, Some("*"), &body)).await;
            assert_eq!(answer.problem(), (422, "invalid_fields".to_owned()), "{body}");
            answer.json()["errors"][0]["pointer"].clone()
        };
        let path = format!("{PATH}{}", key.key_id);
        let is = send(&it.admin, call("GET", &path, &good, None)).await.json();
        for field in is.as_object().expect("an object").keys() {
            if !WRITABLE.contains(&&**field) && field != "last_used_at" {
                assert_eq!(refused(json!({ field: "other" })).await, format!("#/{field}"));
            }
        }
        for field in ["api_key", "nmae"] {
            assert_eq!(refused(json!({ field: null })).await, format!("#/{field}"));
        }
        for field in ["name", "is_active", "allowed_ips", "metadata"] {
            assert_eq!(refused(json!({ field: null })).await, format!("#/{field}"));
        }
        let bad = json!({"allowed_ips": ["10.0.0.0/8", "x"]});
        assert_eq!(refused(bad).await, "#/allowed_ips/1");
        assert_eq!(it.audit().await.len(), 2);

        let unknown = Key { key_id: key_policy::KeyId::from_u64(7), ..key };
        let answer = send(&it.admin, put(&unknown, &good, Some("*"), &json!({}))).await;
        assert_eq!(answer.problem(), (404, "not_found".to_owned()));
    }
}
