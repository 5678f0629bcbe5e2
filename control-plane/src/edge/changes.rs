//! `GET /edge/v1/changes`: the change feed, as a long poll.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use edge_protocol::{Change, ChangeKind, ChangesAnswer, ChangesQuery, Position};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

use super::fault::Fault;
use crate::{clock::unix_ms, http::wording, metrics, service::Service, store::Changes};

/// As the protocol has it.
const MAX_CHANGES: u32 = 1000;
/// A poll that waits longer might be taken for dead on the way.
const MAX_WAIT: Duration = Duration::from_secs(20);

pub(super) async fn handler(
    State(service): State<Arc<Service>>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Result<Json<ChangesAnswer>, Fault> {
    let Query(query) = query
        .map_err(|rejection| Fault::Malformed(wording::without_input(&rejection.body_text())))?;
    if query.epoch.is_none() {
        return reset(&service).await;
    }
    let poll = service.followers.polls(query.since);
    // Watched before the database is read: a change in between is not missed.
    let mut news = service.store.watch();
    let deadline = Instant::now() + Duration::from_millis(query.wait_ms).min(MAX_WAIT);
    let mut waiting = None;
    loop {
        news.mark_unchanged();
        let (position, changes) = service.store.changes(query.since, MAX_CHANGES).await?;
        let same_feed = query.epoch.as_ref() == Some(&position.epoch);
        let changes = match changes {
            Changes::Since(changes) if same_feed => changes,
            Changes::Since(_) | Changes::Unknown => return reset(&service).await,
        };
        if !changes.is_empty() || Instant::now() >= deadline || service.stop.is_cancelled() {
            drop(poll);
            service.followers.told(position.sequence);
            observe_lag(&changes, service.clock.now());
            return Ok(Json(ChangesAnswer { position, reset: false, changes }));
        }
        waiting.get_or_insert_with(|| {
            metrics::InFlight::enter(::metrics::gauge!(metrics::LONG_POLLS))
        });
        tokio::select! {
            // The store outlives its watchers, so this is news and nothing else.
            _ = news.changed() => {}
            // That there is no news is for the database to say: a filter takes it for the word that
            // all it remembers is good.
            () = tokio::time::sleep_until(deadline) => {}
            () = service.stop.cancelled() => {}
        }
    }
}

/// How long it took until a filter is told of what has changed.
fn observe_lag(changes: &[Change], now: Timestamp) {
    for change in changes {
        let kind = match change.kind {
            ChangeKind::Created => "created",
            ChangeKind::Updated => "updated",
            ChangeKind::Revoked => "revoked",
        };
        // Another machine's clock may have made the change.
        let lag = Duration::from_millis(unix_ms(now).saturating_sub(change.at_ms));
        ::metrics::histogram!(metrics::FEED_LAG, "kind" => kind).record(lag);
    }
}

/// The filter starts anew from here.
async fn reset(service: &Service) -> Result<Json<ChangesAnswer>, Fault> {
    let position: Position = service.store.position().await?;
    service.followers.told(position.sequence);
    Ok(Json(ChangesAnswer { position, reset: true, changes: Vec::new() }))
}
