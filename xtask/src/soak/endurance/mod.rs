//! `cargo xtask soak load`: mixed load for a long time, while nothing grows that must not.

mod gauges;
mod report;
mod traffic;
mod trend;

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::admin::{self, Book};
use super::ground::Ground;
use super::scene::Scene;
use super::{Given, Store};
use crate::stack::Binaries;
use crate::{interrupt, progress, wait};
use gauges::Gauges;
pub use report::LoadReport;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);
/// Clients of the gate.
const CLIENTS: u32 = 6;
/// Between two changes by the administrator.
const CHANGES: Duration = Duration::from_millis(400);
/// How long queues may take to be empty when nothing is asked any more.
const EMPTY_WITHIN: Duration = Duration::from_secs(30);

/// What load, and for how long.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The store to do it on.
    pub store: Store,
    /// For how long.
    pub length: Duration,
    /// Requests a second.
    pub rate: u32,
    /// What requests and changes are drawn from.
    pub seed: u64,
    /// Servers that are there already.
    pub given: Given,
}

/// Every kind of limit; some are met, some are not.
fn filter() -> Value {
    json!({
        "limits": [
            {"name": "address", "per": "address", "requests": 60, "window_seconds": 10},
            {"name": "key", "per": "key", "requests": 2000, "window_seconds": 60},
            {"name": "both", "per": "address_and_key", "methods": ["POST"], "requests": 5, "window_seconds": 1},
            {"name": "below", "per": "address", "path_prefix": "/soak/few", "requests": 1, "window_seconds": 60},
        ],
        "public": [{"methods": ["GET"], "path_prefix": "/open"}],
        "scopes": [{"path_prefix": "/admin", "scope": "admin"}],
    })
}

/// Makes the load, and looks every ten seconds.
///
/// # Errors
/// When a part ends, or the queues do not empty afterwards. Whether the trends are within their
/// bounds, the report says.
pub fn run(plan: &LoadPlan, binaries: Binaries) -> Result<LoadReport> {
    let mut ground = Ground::start(plan.store, binaries, &plan.given, filter())?;
    let admin = ground.stack.control_plane.admin_address();
    let scene = Scene::new(ground.stack.gateway_address(), admin, ground.admin_key.clone());
    let book = Mutex::new(Book::new("admin"));
    let pace = Duration::from_secs(1) * CLIENTS / plan.rate.max(1);
    std::thread::scope(|threads| {
        threads.spawn(|| admin::run(&scene, &book, CHANGES, plan.seed));
        for number in 1..=CLIENTS {
            let (scene, seed) = (&scene, plan.seed ^ (u64::from(number) << 40));
            threads.spawn(move || traffic::run(scene, pace, seed));
        }
        let looked = watch(plan, &mut ground, &scene);
        scene.end();
        looked
    })
    .and_then(|report| {
        wait_empty(&ground)?;
        Ok(report)
    })
}

fn watch(plan: &LoadPlan, ground: &mut Ground, scene: &Scene) -> Result<LoadReport> {
    let mut report = LoadReport::new(plan);
    let mut next = EVERY;
    while scene.now() < plan.length {
        interrupt::check()?;
        if scene.now() < next {
            wait::pause();
            continue;
        }
        next += EVERY;
        for process in [ground.stack.envoy.process_mut(), ground.stack.control_plane.process_mut()]
        {
            if let Some(status) = process.exit_status()? {
                bail!("{} has ended by itself ({status})", process.name());
            }
        }
        let gauges = Gauges::read(ground)?;
        progress::note(&report.add(scene.now(), scene.answered.load(Ordering::Relaxed), &gauges));
    }
    let faults = scene.faults();
    if !faults.is_empty() {
        bail!("what must hold does not:\n{}", faults.join("\n"));
    }
    Ok(report)
}

fn wait_empty(ground: &Ground) -> Result<()> {
    let empty =
        wait::until(EMPTY_WITHIN, || Ok(Gauges::read(ground)?.queues_are_empty().then_some(())))?;
    if empty.is_none() {
        bail!("queues do not empty: {:?}", Gauges::read(ground)?);
    }
    Ok(())
}
