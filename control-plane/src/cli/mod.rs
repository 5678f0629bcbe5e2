//! The command line.

mod audit;
mod backup;
mod doctor;
mod duration;
mod healthcheck;
mod keys;
mod offline;
mod output;
mod reference;
mod table;
mod totp;

use clap::{CommandFactory, Parser, Subcommand};
use std::{process::ExitCode, time::Duration};

use crate::{
    backup::BackupError,
    config::{self, Config, ConfigError, Flags, Settings},
    lifecycle, metrics, openapi,
    secret_key::SecretKeyFault,
    service::ServiceError,
    store, telemetry,
};

/// All went well.
const OK: u8 = 0;
/// It was tried, and failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was tried. clap's own code, too.
const USAGE: u8 = 2;
/// What was asked for does not exist.
const NOT_FOUND: u8 = 3;
/// It is there, and in a state or of a version that does not allow what was asked for.
const CONFLICT: u8 = 4;
/// How long threads that are still at work when all is done are waited for.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// API keys and rate limits for Envoy: the control plane.
///
/// Settings come from KEYGATE_* variables, then from a TOML file, then from flags; what comes
/// later wins.
#[derive(Parser)]
#[command(
    name = "keygate",
    version,
    after_help = "Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 3 not found, \
                  4 the key's state or version does not allow it."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Command,
}

#[expect(clippy::doc_markdown, reason = "clap shows it as it stands")]
#[derive(Subcommand)]
enum Command {
    /// Run the service: the admin API on one address, the API for filters on another
    #[command(after_long_help = config::WITHOUT_FLAG)]
    Serve {
        /// Bring the database up to date first, and make it if there is none [env: KEYGATE_MIGRATE]
        #[arg(long)]
        migrate: bool,
    },
    /// Bring the database up to date, and make it if there is none
    Migrate,
    /// Make, list, show, change, rotate and revoke keys, in the database itself; a running service notices at once
    #[command(subcommand)]
    Keys(keys::Command),
    /// Show which admin keys have a second factor, and take a lost one away
    #[command(subcommand)]
    Totp(totp::Command),
    /// Read the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Copy the database into one file, while the service runs
    Backup(backup::BackupArguments),
    /// Put the database in place that a backup holds, while no service runs
    Restore(backup::RestoreArguments),
    /// Print the description of the admin API, OpenAPI 3.1
    Openapi,
    /// Print a table of all metrics, Markdown
    #[command(hide = true)]
    Metrics,
    /// Ask the running service whether it is well
    Healthcheck,
    /// Look for what is amiss with the deployment, and say how to mend it
    Doctor(doctor::Arguments),
    /// Print the page of all commands, Markdown
    #[command(hide = true)]
    Reference,
}

/// What a command that found nothing ends with.
#[derive(Debug, thiserror::Error)]
#[error("there is no key {0}")]
struct NoSuchKey(String);

/// What a command ends with when the key does not allow it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Conflict(String);

/// An argument that cannot be used, found after clap had let it pass.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadArgument(String);

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    ExitCode::from(match run(cli) {
        Ok(()) => OK,
        Err(error) => {
            eprintln!("keygate: {}", message(&error));
            code(&error)
        }
    })
}

/// The error and what is behind it, without saying anything twice.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut text, cause| {
        if !text.contains(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        text
    })
}

fn code(error: &anyhow::Error) -> u8 {
    if secret_key_is_wrong(error)
        || error.is::<ConfigError>()
        || error.is::<BadArgument>()
        || error.is::<telemetry::BadFilter>()
        || error.downcast_ref::<BackupError>().is_some_and(BackupError::is_usage)
    {
        USAGE
    } else if error.is::<NoSuchKey>()
        || matches!(error.downcast_ref(), Some(BackupError::Missing(_)))
    {
        NOT_FOUND
    } else if error.is::<Conflict>() {
        CONFLICT
    } else {
        FAILED
    }
}

/// It is found out late, since the database has a say in it, and is a setting all the same.
fn secret_key_is_wrong(error: &anyhow::Error) -> bool {
    let fault = error.downcast_ref::<SecretKeyFault>().or_else(|| match error.downcast_ref() {
        Some(ServiceError::SecretKey(fault)) => Some(fault),
        _ => None,
    });
    matches!(
        fault,
        Some(SecretKeyFault::Missing | SecretKeyFault::Another | SecretKeyFault::WouldBeLost(_))
    )
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let migrate = matches!(cli.command, Command::Serve { migrate: true });
    let settings = config::load(&cli.flags, migrate, &|name| std::env::var_os(name));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (done, telemetry) = match cli.command {
        Command::Doctor(arguments) => {
            (runtime.block_on(doctor::run(arguments, settings, &cli.flags)), None)
        }
        command => {
            let settings = settings?;
            let serving = matches!(command, Command::Serve { .. });
            let telemetry = telemetry::start(&settings, serving)?;
            (runtime.block_on(dispatch(command, &settings)), Some(telemetry))
        }
    };
    // What blocks a thread (waiting for another process to migrate, say) must not keep us.
    runtime.shutdown_timeout(LAST_WORDS);
    if let Some(telemetry) = telemetry {
        telemetry.end();
    }
    done
}

async fn dispatch(command: Command, settings: &Settings) -> anyhow::Result<()> {
    match command {
        // It wants the settings also when they cannot be read.
        Command::Doctor(_) => Ok(()),
        Command::Serve { .. } => lifecycle::serve(settings).await,
        Command::Migrate => migrate(settings).await,
        Command::Keys(command) => keys::run(command, settings).await,
        Command::Totp(command) => totp::run(command, settings).await,
        Command::Audit(command) => audit::run(command, settings).await,
        Command::Backup(arguments) => backup::backup(arguments, settings).await,
        Command::Restore(arguments) => backup::restore(arguments, settings).await,
        Command::Openapi => Ok(output::answer(&openapi::text()?)?),
        Command::Metrics => Ok(output::answer(&metrics::page())?),
        Command::Healthcheck => healthcheck::run(settings).await,
        Command::Reference => {
            let mut root = Cli::command();
            root.build();
            Ok(output::answer(&reference::page(&root))?)
        }
    }
}

async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let config = Config::new(settings)?;
    match store::migrate(&config.database).await? {
        0 => output::answer(&format!("{} is up to date\n", config.database))?,
        done => output::answer(&format!(
            "{} is up to date: {done} migration(s) run\n",
            config.database
        ))?,
    }
    Ok(())
}
