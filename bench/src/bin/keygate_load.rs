//! `keygate-load`: sends requests and says, in JSON, what came of them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bench::load::{self, Plan, Protocol};
use clap::Parser;

/// Sends requests and prints, as JSON, what came of them
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to
    address: SocketAddr,
    /// A JSON list of requests, sent in turn: `[{"method": "GET", "path": "/", "headers": [["name", "value"]]}]`
    requests: PathBuf,
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
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let file = arguments.requests.display();
    let text = fs::read(&arguments.requests).with_context(|| format!("cannot read {file}"))?;
    let requests: Vec<_> = serde_json::from_slice(&text).with_context(|| file.to_string())?;
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
        requests,
    };
    // One thread: it is meant to have one core. It looks for answers between any two requests.
    let runtime =
        tokio::runtime::Builder::new_current_thread().event_interval(8).enable_all().build()?;
    let outcome = runtime.block_on(load::run(plan))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
