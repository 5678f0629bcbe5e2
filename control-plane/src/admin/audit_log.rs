//! `GET /api/v1/admin/audit-log`

use axum::{Json, extract::State};
use edge_protocol::EventKind;
use key_policy::KeyId;
use serde::Deserialize;
use std::sync::Arc;

use super::{
    authenticate::Admin,
    list_keys::{ListError, Page, page},
    query::{Parameters, invalid, limit},
};
use crate::{
    audit::AuditView,
    http::problem::Problem,
    openapi::text::{CursorText, KeyIdText},
    service::Service,
    store::{
        AuditFilter,
        cursor::{decode_audit, encode_audit},
    },
};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditParameters {
    /// Only events of this kind.
    #[serde(default)]
    #[param(value_type = Option<EventKind>, nullable = false)]
    event: Option<String>,
    /// Only events about this key.
    #[serde(default)]
    #[param(value_type = Option<KeyIdText>, nullable = false)]
    key_id: Option<String>,
    /// How many items a page has at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<CursorText>, inline, nullable = false)]
    cursor: Option<String>,
}

impl AuditParameters {
    fn filter(&self) -> Result<AuditFilter, Problem> {
        let event = self.event.as_deref().map(str::parse::<EventKind>).transpose();
        let key_id = self.key_id.as_deref().map(str::parse::<KeyId>).transpose();
        Ok(AuditFilter {
            event: event.map_err(|error| invalid("event", error.to_string()))?,
            key_id: key_id.map_err(|_| invalid("key_id", "must be 16 lower-case hex digits"))?,
            before: self
                .cursor
                .as_deref()
                .map(decode_audit)
                .transpose()
                .map_err(ListError::from)?,
        })
    }
}

/// Reads the audit log, newest first
#[utoipa::path(
    get,
    path = "/api/v1/admin/audit-log",
    tag = "audit",
    operation_id = "list_audit_log",
    params(AuditParameters),
    responses((status = OK, description = "A page of the log", body = Page<AuditView>))
)]
pub(super) async fn handler(
    _admin: Admin,
    Parameters(parameters): Parameters<AuditParameters>,
    State(service): State<Arc<Service>>,
) -> Result<Json<Page<AuditView>>, Problem> {
    let limit = limit(parameters.limit.as_deref())?;
    let rows = service
        .store
        .audit_rows(&parameters.filter()?, limit + 1)
        .await
        .map_err(ListError::from)?;
    Ok(Json(page(rows, limit, |row| encode_audit(row.id))))
}

#[cfg(test)]
mod tests {
    use crate::{
        admin::tests::call,
        testing::{TestService, request, send},
    };

    const PATH: &str = "/api/v1/admin/audit-log";

    #[tokio::test]
    async fn entries_are_read_newest_first_by_event_and_by_key() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let revoke = format!("/api/v1/admin/api-keys/{}", key.key_id);
        send(&it.admin, call("DELETE", &revoke, &good, None)).await;
        let get = async |query: &str| {
            let page =
                send(&it.admin, call("GET", &format!("{PATH}{query}"), &good, None)).await.json();
            let events: Vec<_> = page["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| item["event"].clone())
                .collect();
            (events, page)
        };
        let (events, page) = get("").await;
        assert_eq!(events, ["KEY_REVOKED", "KEY_CREATED", "KEY_CREATED"]);
        let entry = &page["items"][0];
        assert_eq!(entry["timestamp"], "2026-11-25T12:00:00Z");
        assert_eq!(entry["key_id"], key.key_id.to_string());
        assert_eq!(entry["actor"], admin.key_id.to_string());
        assert_eq!(entry["client_ip"], "192.0.2.7");
        assert_eq!(entry["source"], "control-plane");

        assert_eq!(get("?event=KEY_REVOKED").await.0, ["KEY_REVOKED"]);
        assert_eq!(get(&format!("?key_id={}", admin.key_id)).await.0, ["KEY_CREATED"]);
        let (first, page) = get("?limit=2").await;
        assert_eq!(first, ["KEY_REVOKED", "KEY_CREATED"]);
        let cursor = page["next_cursor"].as_str().expect("a cursor");
        let (rest, page) = get(&format!("?limit=2&cursor={cursor}")).await;
        assert_eq!(rest, ["KEY_CREATED"]);
        assert!(page["next_cursor"].is_null());
    }

    #[tokio::test]
    async fn a_filter_that_means_nothing_is_refused() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for query in ["event=NOTHING", "key_id=x", "cursor=x", "limit=0", "evnt=KEY_CREATED"] {
            let answer =
                send(&it.admin, call("GET", &format!("{PATH}?{query}"), &good, None)).await;
            assert_eq!(answer.problem(), (400, "invalid_query".to_owned()));
        }
    }
}
