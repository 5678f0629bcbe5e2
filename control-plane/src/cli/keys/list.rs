//! `keygate keys list`

use clap::Args;
use edge_protocol::{KeyEnvironment, Scope};
use std::str::FromStr;

use super::show::{or_dash, seconds};
use crate::{
    cli::{
        offline,
        output::{answer, answer_json},
        table,
    },
    clock::{Clock, SystemClock},
    config::Settings,
    keys::{Key, state::KeyState, view::KeyView},
    store::{
        cursor::KeyCursor,
        key_filter::{KeyFilter, KeyQuery},
    },
};

const PAGE: usize = 200;

#[derive(Args)]
pub(in crate::cli) struct List {
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Only those in this state: active, disabled, revoked or expired
    #[arg(long, value_parser = KeyState::from_str)]
    state: Option<KeyState>,
    /// Only those of this scope: read, write or admin
    #[arg(long, value_parser = Scope::from_str)]
    scope: Option<Scope>,
    /// Only those that belong to exactly this owner
    #[arg(long)]
    owner: Option<String>,
    /// Only those of this environment: live or test
    #[arg(long, value_parser = KeyEnvironment::from_str)]
    environment: Option<KeyEnvironment>,
    /// Only those that can be used now and end by themselves in so many days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    expiring_within_days: Option<u32>,
    /// Only those with this text in their name, description or owner, or at the beginning of their id
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(list: List, settings: &Settings) -> anyhow::Result<()> {
    let (_, store) = offline::open(settings).await?;
    let mut query = KeyQuery {
        filter: KeyFilter {
            state: list.state,
            scope: list.scope,
            owner: list.owner,
            environment: list.environment,
            expiring_within_days: list.expiring_within_days,
            text: list.search,
        },
        now: SystemClock.now(),
        after: None,
        limit: 0,
    };
    let mut keys: Vec<Key> = Vec::new();
    while keys.len() < list.limit {
        let wanted = PAGE.min(list.limit.saturating_sub(keys.len()));
        query.limit = u32::try_from(wanted).unwrap_or(u32::MAX);
        let page = store.keys(&query).await?;
        let Some(end) = page.last() else { break };
        query.after = Some(KeyCursor { created_at: end.created_at, key_id: end.key_id });
        keys.extend(page);
    }
    if list.json {
        let items: Vec<_> = keys.into_iter().map(KeyView::from).collect();
        return answer_json(&serde_json::json!({ "items": items }));
    }
    Ok(answer(&as_table(&keys))?)
}

fn as_table(keys: &[Key]) -> String {
    let now = SystemClock.now();
    let rows: Vec<_> = keys
        .iter()
        .map(|key| {
            [
                key.key_id.to_string(),
                key.state(now).to_string(),
                key.scope.to_string(),
                key.environment.as_str().to_owned(),
                or_dash(key.owner.as_deref()),
                or_dash(key.expires_at.map(seconds).as_deref()),
                or_dash(key.last_used_at.map(seconds).as_deref()),
                key.name.clone(),
            ]
        })
        .collect();
    let head = ["KEY ID", "STATE", "SCOPE", "ENV", "OWNER", "EXPIRES", "LAST USED", "NAME"];
    table::render(head, &rows)
}
