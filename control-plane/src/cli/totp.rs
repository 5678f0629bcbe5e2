//! `keygate totp …`

use clap::Subcommand;
use jiff::Timestamp;
use key_policy::KeyId;

use super::{
    NoSuchKey, offline,
    output::{answer, answer_json},
    table,
};
use crate::{
    audit::Actor,
    clock::SystemClock,
    config::Settings,
    store::totp::{Removal, StoredFactor},
    totp::{Proof, remove},
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List the admin keys that have a second factor
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a key's second factor away, also from keys that share it: when the authenticator and
    /// the recovery codes are lost
    Reset {
        /// The key's 16 hex digits
        key_id: KeyId,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// A factor as it is shown.
#[derive(serde::Serialize)]
struct FactorView {
    key_id: String,
    active: bool,
    enrolled_at: Timestamp,
    active_since: Option<Timestamp>,
    recovery_codes_left: u32,
}

impl FactorView {
    fn new(key_id: KeyId, factor: &StoredFactor) -> Self {
        Self {
            key_id: key_id.to_string(),
            active: factor.is_confirmed(),
            enrolled_at: factor.enrolled_at,
            active_since: factor.confirmed_at,
            recovery_codes_left: factor.recovery_codes,
        }
    }
}

pub(super) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::List { json } => list(json, settings).await,
        Command::Reset { key_id, json } => reset(key_id, json, settings).await,
    }
}

async fn list(json: bool, settings: &Settings) -> anyhow::Result<()> {
    let (_, store) = offline::open(settings).await?;
    let factors = store.factors().await?;
    let views: Vec<_> =
        factors.iter().map(|(key_id, factor)| FactorView::new(*key_id, factor)).collect();
    if json {
        return answer_json(&serde_json::json!({ "items": views }));
    }
    let rows: Vec<_> = views
        .into_iter()
        .map(|view| {
            let state = if view.active { "active" } else { "pending" };
            let since = view.active_since.unwrap_or(view.enrolled_at);
            let since = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            [view.key_id, state.to_owned(), since, view.recovery_codes_left.to_string()]
        })
        .collect();
    Ok(answer(&table::render(["KEY ID", "STATE", "SINCE", "RECOVERY CODES"], &rows))?)
}

async fn reset(key_id: KeyId, json: bool, settings: &Settings) -> anyhow::Result<()> {
    let (_, store) = offline::open(settings).await?;
    if store.key(key_id).await?.is_none() {
        return Err(NoSuchKey(key_id.to_string()).into());
    }
    // Whoever has the database needs no code.
    let done = remove(&*store, &SystemClock, &Actor::CommandLine, key_id, Proof::Shown).await?;
    store.close().await;
    let was_there = done != Removal::Nothing;
    if json {
        return answer_json(
            &serde_json::json!({ "key_id": key_id.to_string(), "reset": was_there }),
        );
    }
    let text = if was_there { "has no second factor any more" } else { "has no second factor" };
    Ok(answer(&format!("{key_id} {text}\n"))?)
}
