//! `GET /api/v1/admin/api-keys/`

use axum::{Json, extract::State};
use edge_protocol::{KeyEnvironment, Scope};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::{
    authenticate::Admin,
    query::{Parameters, invalid, limit, parse},
};
use crate::{
    http::problem::Problem,
    keys::{
        new_key::{OwnerText, check_owner},
        state::KeyState,
        view::KeyView,
    },
    openapi::text::{CursorText, Text},
    service::Service,
    store::{
        StoreError,
        cursor::{InvalidCursor, KeyCursor},
        key_filter::{KeyFilter, KeyQuery},
    },
};

/// Ten years.
const MAX_DAYS: u32 = 3660;
const DAYS: &str = "must be 1 to 3660";
const MAX_SEARCH_CHARS: usize = 100;
type SearchText = Text<MAX_SEARCH_CHARS>;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// Only keys in this state. A key that is revoked counts as that and nothing else, then one
    /// that is switched off as `disabled`, then one whose time is up as `expired`.
    #[serde(default)]
    #[param(value_type = Option<KeyState>, inline, nullable = false)]
    state: Option<String>,
    /// Only keys of exactly this scope.
    #[serde(default)]
    #[param(value_type = Option<Scope>, nullable = false)]
    scope: Option<String>,
    /// Only keys that belong to exactly this owner.
    #[serde(default)]
    #[param(value_type = Option<OwnerText>, inline, nullable = false)]
    owner: Option<String>,
    /// Only keys of this environment.
    #[serde(default)]
    #[param(value_type = Option<KeyEnvironment>, nullable = false)]
    environment: Option<String>,
    /// Only keys that can be used now, and will have ended by themselves in so many days.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 3660, nullable = false)]
    expiring_within_days: Option<String>,
    /// Only keys with this text in their name, description or owner, or at the beginning of their
    /// id. ASCII letters match in either case. Never a key itself: queries are logged on the way.
    #[serde(default)]
    #[param(value_type = Option<SearchText>, inline, nullable = false)]
    q: Option<String>,
    /// How many items a page has at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<CursorText>, inline, nullable = false)]
    cursor: Option<String>,
}

impl ListParameters {
    fn filter(&self) -> Result<KeyFilter, Problem> {
        if let Some(Err(error)) = self.owner.as_deref().map(check_owner) {
            return Err(invalid("owner", error.message));
        }
        let days = parse("expiring_within_days", self.expiring_within_days.as_deref(), DAYS)?;
        if days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
            return Err(invalid("expiring_within_days", DAYS));
        }
        let text = self.q.as_deref().map(search_text).transpose();
        Ok(KeyFilter {
            state: parse(
                "state",
                self.state.as_deref(),
                "must be active, disabled, revoked or expired",
            )?,
            scope: parse("scope", self.scope.as_deref(), "must be read, write or admin")?,
            owner: self.owner.clone(),
            environment: parse("environment", self.environment.as_deref(), "must be live or test")?,
            expiring_within_days: days,
            text: text.map_err(|message| invalid("q", message))?,
        })
    }
}

/// A text to search for.
fn search_text(text: &str) -> Result<String, String> {
    let fits = (1..=MAX_SEARCH_CHARS).contains(&text.chars().count());
    if fits && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!("must be 1 to {MAX_SEARCH_CHARS} characters, without control characters"))
    }
}

/// One page, newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Page<T> {
    /// What is on it.
    pub(super) items: Vec<T>,
    /// Asks for the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListError {
    #[error(transparent)]
    Cursor(#[from] InvalidCursor),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ListError> for Problem {
    fn from(error: ListError) -> Self {
        match error {
            ListError::Cursor(error) => invalid("cursor", error.to_string()),
            ListError::Store(error) => error.into(),
        }
    }
}

/// Makes a page of one item more than fits on it, if there is one.
pub(super) fn page<T, V: From<T>>(
    mut rows: Vec<T>,
    limit: u32,
    cursor: impl Fn(&T) -> String,
) -> Page<V> {
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > size;
    rows.truncate(size);
    let next_cursor = rows.last().filter(|_| more).map(cursor);
    Page { items: rows.into_iter().map(V::from).collect(), next_cursor }
}

/// Lists keys, newest first
#[utoipa::path(
    get,
    path = "/api/v1/admin/api-keys/",
    tag = "keys",
    operation_id = "list_keys",
    params(ListParameters),
    responses((status = OK, description = "A page of keys", body = Page<KeyView>))
)]
pub(super) async fn handler(
    _admin: Admin,
    Parameters(parameters): Parameters<ListParameters>,
    State(service): State<Arc<Service>>,
) -> Result<Json<Page<KeyView>>, Problem> {
    let limit = limit(parameters.limit.as_deref())?;
    let filter = parameters.filter()?;
    let after = parameters.cursor.as_deref().map(|text| KeyCursor::decode(text, &filter));
    let after = after.transpose().map_err(ListError::from)?;
    let query = KeyQuery { filter, now: service.clock.now(), after, limit: limit + 1 };
    let keys = service.store.keys(&query).await.map_err(ListError::from)?;
    Ok(Json(page(keys, limit, |key| {
        KeyCursor { created_at: key.created_at, key_id: key.key_id }.encode(&query.filter)
    })))
}

#[cfg(test)]
mod tests {
    use edge_protocol::KeyEnvironment;

    use crate::{
        admin::tests::call,
        keys::new_key::NewKeyRequest,
        testing::{TestService, request, send},
    };

    #[tokio::test]
    async fn pages_follow_one_another_from_the_newest_to_the_oldest() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for number in 0..6 {
            it.clock.advance_ms(number % 2);
            it.issue(request(&format!("key {number}"))).await;
        }
        let mut path = "/api/v1/admin/api-keys?limit=3".to_owned();
        let mut seen = Vec::new();
        loop {
            let page = send(&it.admin, call("GET", &path, &good, None)).await.json();
            let items = page["items"].as_array().expect("items").clone();
            assert!(items.iter().all(|item| item.get("api_key").is_none()));
            seen.extend(
                items.iter().map(|item| item["key_id"].as_str().expect("an id").to_owned()),
            );
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            assert_eq!(items.len(), 3);
            path = format!("/api/v1/admin/api-keys/?limit=3&cursor={cursor}");
        }
        let all = send(&it.admin, call("GET", "/api/v1/admin/api-keys/", &good, None)).await.json();
        let all: Vec<_> = all["items"]
            .as_array()
            .expect("items")
            .iter()
            .map(|item| item["key_id"].as_str().expect("an id").to_owned())
            .collect();
        assert_eq!(seen, all);
        assert_eq!(seen.len(), 7);
    }

    #[tokio::test]
    async fn a_list_is_of_the_keys_that_meet_every_filter() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let soon = NewKeyRequest {
            owner: Some("team b".to_owned()),
            environment: KeyEnvironment::Test,
            expires_at: Some("2026-11-26T12:00:00Z".to_owned()),
            ..request("Nightly Billing")
        };
        it.clock.advance_ms(1);
        it.issue(soon).await;
        it.clock.advance_ms(1);
        let (revoked, _) = it.issue(request("old")).await;
        let path = format!("/api/v1/admin/api-keys/{}", revoked.key_id);
        send(&it.admin, call("DELETE", &path, &good, None)).await;
        let found = async |query: &str| -> Vec<String> {
            let path = format!("/api/v1/admin/api-keys/?{query}");
            let answer = send(&it.admin, call("GET", &path, &good, None)).await;
            assert_eq!(answer.status, 200, "{query}: {answer:?}");
            let items = answer.json()["items"].clone();
            let names = items.as_array().expect("items").iter();
            names.map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
        };
        for (query, names) in [
            ("", &["old", "Nightly Billing", "admin"][..]),
            ("state=active", &["Nightly Billing", "admin"]),
            ("state=revoked", &["old"]),
            ("state=disabled", &[]),
            ("state=expired", &[]),
            ("scope=admin", &["admin"]),
            ("owner=team%20b", &["Nightly Billing"]),
            ("owner=team+b&state=revoked", &[]),
            ("environment=test", &["Nightly Billing"]),
            ("expiring_within_days=1", &["Nightly Billing"]),
            ("q=BILL&scope=read", &["Nightly Billing"]),
            ("q=nothing", &[]),
        ] {
            assert_eq!(found(query).await, names, "{query}");
        }
        // A state comes with time.
        it.clock.advance_ms(86_400_000 - 2);
        assert_eq!(found("state=expired").await, ["Nightly Billing"]);
        assert_eq!(found("expiring_within_days=1").await, [""; 0]);
    }

    #[tokio::test]
    async fn a_cursor_is_of_the_list_that_gave_it() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        it.issue_admin().await;
        let get = async |query: &str| {
            let path = format!("/api/v1/admin/api-keys/?limit=1&{query}");
            send(&it.admin, call("GET", &path, &good, None)).await
        };
        let page = get("scope=admin").await.json();
        let cursor = page["next_cursor"].as_str().expect("more").to_owned();
        assert_eq!(get(&format!("scope=admin&cursor={cursor}")).await.status, 200);
        for other in ["", "scope=read", "scope=admin&state=active"] {
            let answer = get(&format!("{other}&cursor={cursor}")).await;
            assert_eq!(answer.problem(), (400, "invalid_query".to_owned()), "{other}");
            assert_eq!(answer.json()["errors"][0]["field"], "cursor");
        }
    }

    #[tokio::test]
    async fn a_bad_parameter_is_named() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("cursor=x", "cursor"),
            ("state=gone", "state"),
            ("scope=root", "scope"),
            ("owner=", "owner"),
            ("owner=a%0Ab", "owner"),
            ("environment=prod", "environment"),
            ("expiring_within_days=0", "expiring_within_days"),
            ("expiring_within_days=3661", "expiring_within_days"),
            ("expiring_within_days=soon", "expiring_within_days"),
            ("q=", "q"),
            ("q=%00", "q"),
        ] {
            let path = format!("/api/v1/admin/api-keys/?{query}");
            let answer = send(&it.admin, call("GET", &path, &good, None)).await;
            assert_eq!(answer.problem(), (400, "invalid_query".to_owned()));
            assert_eq!(answer.json()["errors"][0]["field"], field);
        }
        let answer =
            send(&it.admin, call("GET", "/api/v1/admin/api-keys/?page=2", &good, None)).await;
        assert_eq!(answer.problem(), (400, "invalid_query".to_owned()));
    }
}
