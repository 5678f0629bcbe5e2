//! `keygate audit list`

use super::{
    super::{
        offline,
        output::{answer, answer_json},
        table,
    },
    filter::Filter,
};
use crate::{audit::AuditView, config::Settings};

#[derive(clap::Args)]
pub(in super::super) struct Arguments {
    #[command(flatten)]
    filter: Filter,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, settings: &Settings) -> anyhow::Result<()> {
    let Arguments { filter, limit, json } = arguments;
    let (_, store) = offline::open(settings).await?;
    let rows = store.audit_rows(&filter.into(), limit).await?;
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
