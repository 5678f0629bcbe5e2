//! `cargo xtask up`: a whole Keygate on this machine, until Ctrl-C.

mod first_keys;
mod ready;
mod settings;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::stack::{Binaries, Build, ControlPlaneProcess, Stack, StackOptions};
use crate::{interrupt, private_file, progress};
use first_keys::FirstKeys;
use ready::Ready;

/// Between two looks at whether all parts still run.
const WATCH: Duration = Duration::from_millis(100);

/// What to run, and where.
#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Keep database, secrets, keys and logs here
    #[arg(long, default_value = ".keygate")]
    dir: PathBuf,
    /// Port of the gate
    #[arg(long, default_value_t = 10000, value_parser = clap::value_parser!(u16).range(1..))]
    gateway_port: u16,
    /// Port of the control plane's admin API [default: that of `KEYGATE_LISTEN`, or 8080]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    admin_port: Option<u16>,
    /// Service behind the gate, as http://host:port [default: a built-in echo server]
    #[arg(long)]
    upstream: Option<String>,
    /// sqlite://… or postgres://… [default: `SQLite` in DIR]
    #[arg(long, env = "KEYGATE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// redis://… for limits that a fleet shares [default: the control plane's memory]
    #[arg(long, env = "KEYGATE_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// The filter's configuration, see docs/filter-configuration.md
    #[arg(long)]
    filter_config: Option<PathBuf>,
    /// Envoy's worker threads
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    concurrency: u32,
}

/// Starts everything, says where it is, and runs until the tool is interrupted or a part ends.
pub(crate) fn run(up: &Up) -> Result<()> {
    private_file::folder(&up.dir)?;
    let _lock = lock(&up.dir)?;
    let ready = Ready::in_folder(&up.dir);
    ready.remove()?;
    let settings = settings::read(up)?;
    settings.require_free_ports()?;

    let binaries = match Binaries::given()? {
        Some(given) => given,
        None => Binaries::build(Build::Release)?,
    };
    let options = settings.into_stack(up, binaries)?;
    let mut running = start(up, options)?;
    ready.write(&running)?;
    announce(up, &running);
    let ended = watch(&mut running.stack);
    ready.remove()?;
    progress::step("stopping");
    drop(running);
    ended
}

/// A stack that is ready for use.
struct Running {
    stack: Stack,
    keys: FirstKeys,
}

fn start(up: &Up, options: StackOptions) -> Result<Running> {
    progress::step("starting the control plane");
    let control_plane = options.control_plane();
    control_plane.keygate().run(&["migrate"])?;
    let keys = first_keys::make(&control_plane.keygate(), &up.dir)?;
    let control_plane = ControlPlaneProcess::start(control_plane)?;
    progress::step("starting Envoy");
    let stack = Stack::start_before(control_plane, options)?;
    stack.wait_gate()?;
    Ok(Running { stack, keys })
}

/// Until someone ends the tool, or a part ends by itself.
fn watch(stack: &mut Stack) -> Result<()> {
    while !interrupt::requested() {
        for process in [stack.envoy.process_mut(), stack.control_plane.process_mut()] {
            if let Some(status) = process.exit_status()? {
                bail!(
                    "{} has ended by itself ({status}): see {}",
                    process.name(),
                    process.log_file().display()
                );
            }
        }
        std::thread::sleep(WATCH);
    }
    Ok(())
}

fn announce(up: &Up, running: &Running) {
    let Running { stack, keys } = running;
    let dir = up.dir.display();
    println!("\nKeygate is up.");
    println!("  gate       {} -> {}", stack.gateway_url(), stack.upstream_url());
    println!("  admin API  {}", stack.admin_url());
    println!("  Envoy      {}", stack.envoy.admin_url());
    println!("  logs       {}", stack.logs().display());
    if let Some(admin_key) = &keys.admin {
        println!("  admin key  {admin_key}");
        println!("             (shown this once; also in {dir}/{})", first_keys::ADMIN_FILE);
    }
    let demo = up.dir.join(first_keys::DEMO_FILE);
    let key =
        if demo.is_file() { format!("$(cat {})", demo.display()) } else { "YOUR_KEY".to_owned() };
    println!("\n  curl -H \"X-API-Key: {key}\" {}/\n", stack.gateway_url());
    println!("Ctrl-C ends it.");
}

/// Two runs in one folder would take each other's files.
fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            bail!(
                "`cargo xtask up` already runs in {}; end it, or give another --dir",
                dir.display()
            )
        }
        Err(fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}
