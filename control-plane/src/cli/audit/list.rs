//! `keygate audit list`

use edge_protocol::EventKind;
use key_policy::KeyId;
use std::str::FromStr;

use super::super::{
    offline,
    output::{answer, answer_json},
    table,
};
use crate::{audit::AuditView, config::Settings, store::AuditFilter};

#[expect(clippy::doc_markdown, reason = "clap shows it as it stands")]
#[derive(clap::Args)]
pub(in super::super) struct Arguments {
    /// Only this event, such as INVALID_KEY
    #[arg(long, value_parser = EventKind::from_str)]
    event: Option<EventKind>,
    /// Only entries about this key
    #[arg(long)]
    key_id: Option<KeyId>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, settings: &Settings) -> anyhow::Result<()> {
    let Arguments { event, key_id, limit, json } = arguments;
    let (_, store) = offline::open(settings).await?;
    let filter = AuditFilter { event, key_id, before: None };
    let rows = store.audit_rows(&filter, limit).await?;
    let views: Vec<_> = rows.into_iter().map(AuditView::from).collect();
    if json {
        return answer_json(&views);
    }
    let rows: Vec<_> = views
        .iter()
        .map(|view| {
            let [event, key_id, client_ip, actor, details] = view.columns();
            [view.timestamp().to_string(), event, key_id, client_ip, actor, details]
        })
        .collect();
    let head = ["TIME", "EVENT", "KEY ID", "CLIENT", "ACTOR", "DETAILS"];
    Ok(answer(&table::render(head, &rows))?)
}
