//! `DELETE /api/v1/admin/api-keys/{key_id}`: revokes. The key stays in the list, and doing it
//! again changes nothing.

use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;

use super::{
    authenticate::Admin,
    path::{KeyIdParameter, KeyPath},
    precondition::Tagged,
    query::{Parameters, invalid},
};
use crate::{
    http::problem::{Code, Problem},
    keys::{
        revoke::{InvalidReason, MAX_REASON_CHARS, reason, revoke},
        view::KeyView,
    },
    openapi::text::Line,
    service::Service,
    store::{Revocation, RevokeGuard, StoreError},
};

type ReasonText = Line<MAX_REASON_CHARS>;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeParameters {
    /// Why. It is kept with the key.
    #[serde(default)]
    #[param(value_type = Option<ReasonText>, inline, nullable = false)]
    reason: Option<String>,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub(super) enum RevokeKeyError {
    #[error("the reason {0}")]
    Reason(#[from] InvalidReason),
    #[error("there is no such key")]
    NotFound,
    #[error("it is the last usable admin key")]
    LastAdmin,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RevokeKeyError> for Problem {
    fn from(error: RevokeKeyError) -> Self {
        match error {
            RevokeKeyError::Reason(error) => invalid("reason", error.to_string()),
            RevokeKeyError::NotFound => Self::new(Code::NotFound),
            RevokeKeyError::LastAdmin => Self::new(Code::LastAdminKey)
                .detail("make another admin key first, or revoke it with `keygate keys revoke`"),
            RevokeKeyError::Store(error) => error.into(),
        }
    }
}

/// Revokes a key
///
/// At once and for good. The key stays in the list; doing it again changes nothing.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/api-keys/{key_id}",
    tag = "keys",
    operation_id = "revoke_key",
    params(KeyIdParameter, RevokeParameters),
    responses(
        (
            status = OK,
            description = "The key, which is revoked",
            body = KeyView,
            headers(("ETag" = String, description = "The version of the key.")),
        ),
        (status = CONFLICT, description = "`last_admin_key`: one usable admin key must remain"),
    )
)]
pub(super) async fn handler(
    admin: Admin,
    KeyPath(key_id): KeyPath,
    State(service): State<Arc<Service>>,
    Parameters(parameters): Parameters<RevokeParameters>,
) -> Result<Tagged<KeyView>, Problem> {
    let reason =
        parameters.reason.as_deref().map(reason).transpose().map_err(RevokeKeyError::from)?;
    let guard = RevokeGuard::KeepOneAdmin { test_keys: service.test_keys };
    let (revoking, actor) = (Arc::clone(&service), admin.actor());
    let done = service
        .complete(async move {
            let (store, clock) = (&*revoking.store, &*revoking.clock);
            revoke(store, clock, key_id, reason, guard, &actor).await
        })
        .await?
        .map_err(RevokeKeyError::from)?;
    match done {
        Revocation::Revoked(key) | Revocation::AlreadyRevoked(key) => Ok(Tagged::key(key)),
        Revocation::NotFound => Err(RevokeKeyError::NotFound.into()),
        Revocation::LastAdmin => {
            admin.record_denial(&service, key_id, "last_admin_key").await;
            Err(RevokeKeyError::LastAdmin.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
    use tokio::task::JoinSet;

    use crate::{
        admin::tests::call,
        testing::{TestService, request, send},
    };

    const PATH: &str = "/api/v1/admin/api-keys/";

    #[tokio::test]
    async fn revoking_is_for_good_and_doing_it_again_changes_nothing() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let path = format!("{PATH}{}", key.key_id);
        let first =
            send(&it.admin, call("DELETE", &format!("{path}?reason=laptop%20stolen"), &good, None))
                .await;
        assert_eq!(first.status, 200);
        let body = first.json();
        assert_eq!(
            (&body["is_active"], &body["revoked_at"]),
            (&false.into(), &"2026-11-25T12:00:00Z".into())
        );
        it.clock.advance_ms(5000);
        let again = send(&it.admin, call("DELETE", &path, &good, None)).await;
        assert_eq!(body["revoked_reason"], "laptop stolen");
        assert_eq!((again.status, again.json()), (first.status, body));

        let audit = it.audit().await;
        let (event, details) = audit.last().expect("an entry");
        assert_eq!(event, "KEY_REVOKED");
        assert_eq!(details, &format!("actor={} client_ip=192.0.2.7 reason=given", admin.key_id));
        assert_eq!(audit.iter().filter(|(event, _)| event == "KEY_REVOKED").count(), 1);
        let kept = it.service.store.key(key.key_id).await.expect("read").expect("there");
        assert_eq!(kept.revoked_reason.as_deref(), Some("laptop stolen"));
    }

    #[tokio::test]
    async fn the_last_admin_key_cannot_lock_everyone_out() {
        let it = TestService::start().await;
        let (one, one_text) = it.issue_admin().await;
        let path = format!("{PATH}{}", one.key_id);
        let refused = send(&it.admin, call("DELETE", &path, &one_text, None)).await;
        assert_eq!(refused.problem(), (409, "last_admin_key".to_owned()));
        let audit = it.audit().await;
        assert_eq!(audit.last().expect("an entry").0, "ADMIN_DENIED");

        let (_, other_text) = it.issue_admin().await;
        assert_eq!(send(&it.admin, call("DELETE", &path, &one_text, None)).await.status, 200);
        // At once: the next call with it is refused.
        assert_eq!(send(&it.admin, call("GET", PATH, &one_text, None)).await.problem().0, 401);
        assert_eq!(send(&it.admin, call("GET", PATH, &other_text, None)).await.status, 200);
    }

    #[tokio::test]
    async fn a_change_that_was_begun_is_completed_though_its_caller_has_gone() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let mut news = it.service.store.watch();
        let options = SqliteConnectOptions::new().filename(&it.database.path);
        let mut other = SqliteConnection::connect_with(&options).await.expect("a connection");
        other.execute("BEGIN IMMEDIATE").await.expect("locked");

        let admin = it.admin.clone();
        let revoke = call("DELETE", &format!("{PATH}{}", key.key_id), &good, None);
        let create = call("POST", PATH, &good, Some(r#"{"name":"b"}"#));
        let mut callers = JoinSet::new();
        for request in [revoke, create] {
            let admin = admin.clone();
            callers.spawn(async move { send(&admin, request).await });
        }
        while it.service.changes.len() < 2 {
            tokio::task::yield_now().await;
        }
        callers.shutdown().await;
        other.execute("ROLLBACK").await.expect("unlocked");
        it.service.changes.close();
        it.service.changes.wait().await;
        assert_eq!(*news.borrow_and_update(), 4);
        let kept = it.service.store.key(key.key_id).await.expect("read").expect("there");
        assert!(!kept.is_active);
    }

    #[tokio::test]
    async fn a_bad_reason_or_key_revokes_nothing() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let long = "x".repeat(201);
        for reason in ["", "%0A", long.as_str()] {
            let path = format!("{PATH}{}?reason={reason}", admin.key_id);
            let answer = send(&it.admin, call("DELETE", &path, &good, None)).await;
            assert_eq!(answer.problem(), (400, "invalid_query".to_owned()));
        }
        let unknown = format!("{PATH}0123456789abcdef");
        let answer = send(&it.admin, call("DELETE", &unknown, &good, None)).await;
        assert_eq!(answer.problem(), (404, "not_found".to_owned()));
        assert_eq!(it.audit().await.len(), 1);
    }
}
