//! `keygate keys list`

use clap::Args;
use edge_protocol::Scope;
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
    keys::{Key, view::KeyView},
    store::cursor::KeyCursor,
};

const PAGE: u32 = 200;

#[derive(Args)]
pub(in crate::cli) struct List {
    /// At most so many
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// Only those of this scope: read, write or admin
    #[arg(long, value_parser = Scope::from_str)]
    scope: Option<Scope>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(list: List, settings: &Settings) -> anyhow::Result<()> {
    let List { limit, scope, json } = list;
    let (_, store) = offline::open(settings).await?;
    let mut keys: Vec<Key> = Vec::new();
    let mut after = None;
    while keys.len() < limit {
        let page = store.keys(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(KeyCursor { created_at: last.created_at, key_id: last.key_id });
        keys.extend(page.into_iter().filter(|key| scope.is_none_or(|scope| key.scope == scope)));
    }
    keys.truncate(limit);
    if json {
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
