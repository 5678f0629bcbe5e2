//! `keygate keys …`: one command, one file.

mod check;
mod create;
mod fields;
mod import;
mod list;
mod revoke;
mod rotate;
mod show;
mod update;
mod usage;

use clap::Subcommand;
use key_policy::KeyId;

use crate::config::Settings;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make a key, and show it: once, and never again
    Create(create::Create),
    /// List keys, newest first
    List(list::List),
    /// Show one key
    Show {
        /// Its 16 hex digits
        key_id: KeyId,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show how often a key was used
    Usage(usage::Arguments),
    /// Judge a key by the policy; it is stored nowhere. Ends with 1 when the policy refuses it
    Check(check::Check),
    /// Bring keys in that were made elsewhere; ends with 1 when one of them was not taken
    Import(import::Import),
    /// Change a key; what is not named stays as it is
    Update(Box<update::Update>),
    /// Make a key that takes another one's place, and show it: once, and never again
    Rotate(rotate::Rotate),
    /// End a key, at once and for good
    Revoke {
        /// Its 16 hex digits
        key_id: KeyId,
        /// Why; kept with the key
        #[arg(long)]
        reason: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::Create(create) => create::run(create, settings).await,
        Command::List(list) => list::run(list, settings).await,
        Command::Show { key_id, json } => show::run(key_id, json, settings).await,
        Command::Usage(arguments) => usage::run(arguments, settings).await,
        Command::Check(check) => check::run(&check, settings),
        Command::Import(import) => import::run(&import, settings).await,
        Command::Update(update) => update::run(*update, settings).await,
        Command::Rotate(rotate) => rotate::run(rotate, settings).await,
        Command::Revoke { key_id, reason, json } => {
            revoke::run(key_id, reason, json, settings).await
        }
    }
}
