//! `keygate-load`: sends requests and says, in JSON, what came of them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::load::{self, Pauses, Plan, Protocol};
use clap::Parser;

/// Sends requests and prints, as JSON, what came of them
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to
    address: SocketAddr,
    /// A JSON list of requests, sent in turn: `[{"method": "GET", "path": "/", "headers": [["name", "value"]]}]`
    requests: PathBuf,
    /// A file of keys, one a line, of which each request carries another as `X-API-Key`
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// What to speak
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    /// Over how many connections
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How many requests at a time on each connection of HTTP/2
    #[arg(long, default_value_t = 8)]
    streams: usize,
    /// For how many seconds
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How many requests at most [default: as many as the time allows]
    #[arg(long)]
    most: Option<u32>,
    /// Requests a second, whether answers come or not [default: as fast as they come]
    #[arg(long)]
    rate: Option<f64>,
    /// At a rate: after so many milliseconds under load, a pause
    #[arg(long, value_name = "MS", requires = "rate", requires = "pause")]
    pause_after: Option<u64>,
    /// For so many milliseconds
    #[arg(long, value_name = "MS", requires = "pause_after")]
    pause: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let file = arguments.requests.display();
    let text = read(&arguments.requests)?;
    let requests: Vec<_> = serde_json::from_str(&text).with_context(|| file.to_string())?;
    let keys = arguments.keys.as_deref().map(read).transpose()?.unwrap_or_default();
    ensure!(!requests.is_empty(), "{file} has no request");
    ensure!(arguments.rate.is_none_or(|rate| rate > 0.0), "--rate must be more than 0");
    let plan = Plan {
        address: arguments.address,
        protocol: arguments.protocol,
        connections: arguments.connections,
        streams: arguments.streams,
        duration: Duration::try_from_secs_f64(arguments.seconds).context("--seconds")?,
        most: arguments.most,
        rate: arguments.rate,
        pauses: arguments.pause_after.zip(arguments.pause).map(|(after, lasts)| Pauses {
            after: Duration::from_millis(after),
            lasts: Duration::from_millis(lasts),
        }),
        requests,
        keys: keys.lines().map(str::to_owned).collect(),
    };
    // One thread: it is meant to have one core. It looks for answers between any two requests.
    let runtime =
        tokio::runtime::Builder::new_current_thread().event_interval(8).enable_all().build()?;
    let outcome = runtime.block_on(load::run(plan))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}
