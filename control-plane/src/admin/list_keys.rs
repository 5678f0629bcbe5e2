//! `GET /api/v1/admin/api-keys/`

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::{
    authenticate::Admin,
    query::{Parameters, invalid, limit},
};
use crate::{
    http::problem::Problem,
    keys::view::KeyView,
    openapi::text::CursorText,
    service::Service,
    store::{
        StoreError,
        cursor::{InvalidCursor, KeyCursor},
    },
};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    /// How many items a page has at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50, nullable = false)]
    limit: Option<String>,
    /// The `next_cursor` of the page before.
    #[serde(default)]
    #[param(value_type = Option<CursorText>, inline, nullable = false)]
    cursor: Option<String>,
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
    let after =
        parameters.cursor.as_deref().map(KeyCursor::decode).transpose().map_err(ListError::from)?;
    let keys = service.store.keys(after, limit + 1).await.map_err(ListError::from)?;
    Ok(Json(page(keys, limit, |key| {
        KeyCursor { created_at: key.created_at, key_id: key.key_id }.encode()
    })))
}

#[cfg(test)]
mod tests {
    use crate::{
        admin::tests::call,
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
    async fn a_bad_parameter_is_named() {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("cursor=x", "cursor"),
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
