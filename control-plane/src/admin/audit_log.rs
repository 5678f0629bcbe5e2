//! `GET /api/v1/admin/audit-log`

use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use edge_protocol::EventKind;
use key_policy::KeyId;
use serde::Deserialize;
use std::{io, sync::Arc};

use super::{
    authenticate::Admin,
    list_keys::{ListError, Page, page},
    ndjson::{self, Lines},
    query::{Parameters, TIME, invalid, limit, parse},
};
use crate::{
    audit::{AuditView, pages::Pages},
    http::problem::Problem,
    openapi::text::{AddressText, CursorText, KeyIdText, MAX_WORD_CHARS, WordText},
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
    /// Only what this client did.
    #[serde(default)]
    #[param(value_type = Option<AddressText>, inline, nullable = false)]
    client_ip: Option<String>,
    /// Only what this administrator did: an admin key's id, or `cli`.
    #[serde(default)]
    #[param(value_type = Option<WordText>, inline, nullable = false)]
    actor: Option<String>,
    /// Only what this filter reported, or `control-plane`.
    #[serde(default)]
    #[param(value_type = Option<WordText>, inline, nullable = false)]
    source: Option<String>,
    /// Only what happened at this time or later.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    since: Option<String>,
    /// Only what happened before this time.
    #[serde(default)]
    #[param(value_type = Option<String>, format = DateTime, nullable = false)]
    until: Option<String>,
    /// How many items a page has at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<CursorText>, inline, nullable = false)]
    cursor: Option<String>,
}

/// A name that is compared and nothing else.
fn word(name: &str, text: Option<&str>) -> Result<Option<String>, Problem> {
    let is_one = |text: &str| {
        (1..=MAX_WORD_CHARS).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
    };
    match text {
        Some(text) if !is_one(text) => Err(invalid(
            name,
            format!("must be 1 to {MAX_WORD_CHARS} printable ASCII characters, without spaces"),
        )),
        text => Ok(text.map(str::to_owned)),
    }
}

impl AuditParameters {
    fn filter(&self) -> Result<AuditFilter, Problem> {
        let event = self.event.as_deref().map(str::parse::<EventKind>).transpose();
        let cursor = self.cursor.as_deref().map(decode_audit).transpose();
        Ok(AuditFilter {
            event: event.map_err(|error| invalid("event", error.to_string()))?,
            key_id: parse::<KeyId>(
                "key_id",
                self.key_id.as_deref(),
                "must be 16 lower-case hex digits",
            )?,
            client_ip: parse(
                "client_ip",
                self.client_ip.as_deref(),
                "must be an IPv4 or IPv6 address",
            )?,
            actor: word("actor", self.actor.as_deref())?,
            source: word("source", self.source.as_deref())?,
            since: parse("since", self.since.as_deref(), TIME)?,
            until: parse("until", self.until.as_deref(), TIME)?,
            before: cursor.map_err(ListError::from)?,
            within: None,
        })
    }
}

/// Reads the audit log, newest first
///
/// With `Accept: application/x-ndjson` all of it at once, an entry a line: `limit` may be left out
/// then, and the answer has no cursor.
#[utoipa::path(
    get,
    path = "/api/v1/admin/audit-log",
    tag = "audit",
    operation_id = "list_audit_log",
    params(AuditParameters),
    responses((
        status = OK,
        description = "A page of the log, or an entry a line",
        content((Page<AuditView> = "application/json"), (AuditView = "application/x-ndjson")),
    ))
)]
pub(super) async fn handler(
    _admin: Admin,
    headers: HeaderMap,
    Parameters(parameters): Parameters<AuditParameters>,
    State(service): State<Arc<Service>>,
) -> Result<Response, Problem> {
    let filter = parameters.filter()?;
    let most = limit(parameters.limit.as_deref())?;
    if ndjson::is_wanted(&headers) {
        let most = parameters.limit.is_some().then_some(u64::from(most));
        return Ok(export(&service, Pages::new(filter, most)));
    }
    let rows = service.store.audit_rows(&filter, most + 1).await.map_err(ListError::from)?;
    let page: Page<AuditView> = page(rows, most, |row| encode_audit(row.id));
    Ok(Json(page).into_response())
}

/// Answers with everything, read while it is sent. An answer that breaks off half-way is told from
/// a whole one by its missing end.
fn export(service: &Arc<Service>, mut pages: Pages) -> Response {
    let (lines, response) = Lines::answer();
    let exporting = Arc::clone(service);
    service.changes.spawn(async move {
        let copying = async {
            loop {
                match pages.next(&*exporting.store).await {
                    Ok(Some(rows)) => {
                        let views: Vec<_> = rows.into_iter().map(AuditView::from).collect();
                        if !lines.add(&views).await {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => {
                        tracing::error!(%error, "an export of the audit log broke off");
                        lines.break_off(io::Error::other("the database failed")).await;
                        return;
                    }
                }
            }
        };
        tokio::select! {
            () = copying => {}
            () = exporting.stop.cancelled() => {
                lines.break_off(io::Error::other("the service ends")).await;
            }
        }
    });
    response
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use edge_protocol::EventKind;

    use crate::{
        admin::tests::call,
        audit::AuditEntry,
        clock::Clock,
        testing::{TestService, request, send},
    };

    const PATH: &str = "/api/v1/admin/audit-log";
    /// Before the reads of a test, which have entries of their own.
    const BEFORE: &str = "until=2026-11-25T12:00:02Z";

    #[tokio::test]
    async fn entries_are_read_newest_first_by_event_and_by_key() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        let (key, _) = it.issue(request("a")).await;
        let revoke = format!("/api/v1/admin/api-keys/{}", key.key_id);
        send(&it.admin, call("DELETE", &revoke, &good, None)).await;
        it.clock.advance_ms(5000);
        let get = async |query: &str| {
            let path = format!("{PATH}?{BEFORE}{query}");
            let page = send(&it.admin, call("GET", &path, &good, None)).await.json();
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

        assert_eq!(get("&event=KEY_REVOKED").await.0, ["KEY_REVOKED"]);
        assert_eq!(get(&format!("&key_id={}", admin.key_id)).await.0, ["KEY_CREATED"]);
        let (first, page) = get("&limit=2").await;
        assert_eq!(first, ["KEY_REVOKED", "KEY_CREATED"]);
        let cursor = page["next_cursor"].as_str().expect("a cursor");
        let (rest, page) = get(&format!("&limit=2&cursor={cursor}")).await;
        assert_eq!(rest, ["KEY_CREATED"]);
        assert!(page["next_cursor"].is_null());
    }

    #[tokio::test]
    async fn entries_are_found_by_address_actor_source_and_time() {
        let it = TestService::start().await;
        let (admin, good) = it.issue_admin().await;
        it.clock.advance_ms(1000);
        let path = "/api/v1/admin/api-keys/";
        let body = Some(r#"{"name": "a"}"#);
        send(&it.admin, call("POST", path, &good, body)).await;
        it.clock.advance_ms(5000);
        let id = admin.key_id;
        for (query, count) in [
            (format!("client_ip=192.0.2.7&{BEFORE}"), 1),
            ("client_ip=2001:db8::1".to_owned(), 0),
            (format!("actor={id}&{BEFORE}"), 1),
            ("actor=cli".to_owned(), 1),
            (format!("source=control-plane&{BEFORE}"), 2),
            (format!("since=2026-11-25T12:00:01Z&{BEFORE}"), 1),
            ("until=2026-11-25T12:00:01Z".to_owned(), 1),
            (format!("actor={id}&until=2026-11-25T12:00:01Z"), 0),
        ] {
            let page = send(&it.admin, call("GET", &format!("{PATH}?{query}"), &good, None)).await;
            let items = page.json()["items"].as_array().map(Vec::len);
            assert_eq!(items, Some(count), "{query}");
        }
    }

    #[tokio::test]
    async fn all_of_it_is_exported_an_entry_a_line() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let entry = |n: usize| AuditEntry::of(EventKind::DbError, it.clock.now(), format!("n={n}"));
        let entries: Vec<_> = (0..2500).map(entry).collect();
        it.service.store.append(&entries).await.expect("written");
        it.clock.advance_ms(5000);
        let get = async |query: &str| {
            let mut asked = call("GET", &format!("{PATH}{query}"), &good, None);
            asked.headers_mut().insert("accept", HeaderValue::from_static("application/x-ndjson"));
            let answer = send(&it.admin, asked).await;
            assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
            let text = String::from_utf8(answer.body.to_vec()).expect("text");
            let lines = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
            lines.collect::<Vec<serde_json::Value>>()
        };
        let all = get(&format!("?{BEFORE}")).await;
        let ids: Vec<_> = all.iter().map(|line| line["id"].as_i64().expect("an id")).collect();
        assert_eq!(ids, (1..=2501).rev().collect::<Vec<_>>());
        assert_eq!(get("?event=KEY_CREATED").await.len(), 1);
        assert_eq!(get("?since=2026-11-25T12:00:00Z&limit=3").await.len(), 3);
        assert_eq!(get("?since=2027-01-01T00:00:00Z").await.len(), 0);
    }

    #[tokio::test]
    async fn a_filter_that_means_nothing_is_refused() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for query in [
            "event=NOTHING",
            "key_id=x",
            "client_ip=localhost",
            "actor=",
            "source=a%20b",
            "since=yesterday",
            "until=2026-11-25",
            "cursor=x",
            "limit=0",
            "evnt=KEY_CREATED",
        ] {
            let answer =
                send(&it.admin, call("GET", &format!("{PATH}?{query}"), &good, None)).await;
            assert_eq!(answer.problem(), (400, "invalid_query".to_owned()));
        }
    }
}
