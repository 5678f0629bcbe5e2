//! `keygate audit …`

mod export;
mod filter;
mod list;
mod verify;

use clap::Subcommand;
use std::sync::Arc;

use super::{offline, output::answer};
use crate::{
    audit::{
        chain::checkpoint::Reason,
        keeper::Keeper,
        signer::{AuditSigner, configured_keys},
    },
    clock::SystemClock,
    config::{Config, Settings},
    random::SystemRandom,
    secret_key,
    store::Store,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List entries, newest first
    List(list::Arguments),
    /// Write entries as one JSON object a line
    Export(export::Arguments),
    /// Look through the whole log, and name the first row that is not as it was written; exit code
    /// 1 then
    Verify(verify::Arguments),
    /// Sign where the log stands now
    Checkpoint,
    /// Show the key that checkpoints are signed with, for `audit verify --public-key` elsewhere
    PublicKey,
}

pub(super) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        Command::List(arguments) => list::run(arguments, settings).await,
        Command::Export(arguments) => export::run(arguments, settings).await,
        Command::Verify(arguments) => verify::run(arguments, settings).await,
        Command::Checkpoint => checkpoint(settings).await,
        Command::PublicKey => public_key(settings).await,
    }
}

async fn checkpoint(settings: &Settings) -> anyhow::Result<()> {
    let (config, store) = offline::open(settings).await?;
    let signer = signer(&config, &*store).await?;
    let others = configured_keys(&config);
    let keeper = Keeper::new(store, Arc::new(SystemClock), signer, others, config.audit);
    match keeper.checkpoint(Reason::Manual).await? {
        Some(checkpoint) => Ok(answer(&format!("{checkpoint}\n"))?),
        None => Ok(answer("nothing new since the last checkpoint\n")?),
    }
}

async fn public_key(settings: &Settings) -> anyhow::Result<()> {
    let (config, store) = offline::open(settings).await?;
    Ok(answer(&format!("{}\n", signer(&config, &*store).await?.public_key()))?)
}

async fn signer(config: &Config, store: &dyn Store) -> anyhow::Result<AuditSigner> {
    let secrets = secret_key::load(config, store, &SystemRandom).await?;
    Ok(AuditSigner::new(config, &secrets))
}
