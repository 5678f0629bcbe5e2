//! `cargo xtask soak kills`: parts are killed at random moments under load, and nothing that was
//! acknowledged may be gone.

mod check;
mod report;
mod rounds;

use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use super::admin::{self, Book};
use super::ground::{Ground, without_limits};
use super::load;
use super::scene::Scene;
use super::{Given, Store};
use crate::client::Client;
use crate::progress;
use crate::stack::Binaries;

pub use report::KillReport;
use rounds::Rounds;

/// Clients of the gate, and administrators.
const CLIENTS: u64 = 4;
const ADMINS: u64 = 2;
/// Between two changes of an administrator.
const PACE: Duration = Duration::from_millis(20);

/// How much is killed, and from which seed.
#[derive(Clone, Debug)]
pub struct KillPlan {
    /// The store to do it on.
    pub store: Store,
    /// How many rounds.
    pub rounds: u32,
    /// What moments, victims, changes and requests are drawn from.
    pub seed: u64,
    /// Servers that are there already.
    pub given: Given,
}

/// Kills, restarts and checks, round by round.
///
/// # Errors
/// When something does not hold; the folder of the run is kept then, and named.
pub fn run(plan: &KillPlan, binaries: Binaries) -> Result<KillReport> {
    let mut ground = Ground::start(plan.store, binaries, &plan.given, without_limits())?;
    let gateway = ground.stack.gateway_address();
    let admin = ground.stack.control_plane.admin_address();
    let scene = Scene::new(gateway, admin, ground.admin_key.clone());
    let names = (0..ADMINS).map(|number| format!("admin{number}"));
    let books: Vec<_> = names.map(|name| Mutex::new(Book::new(&name))).collect();
    let done = std::thread::scope(|threads| {
        for (number, book) in (0..).zip(&books) {
            let scene = &scene;
            threads.spawn(move || admin::run(scene, book, PACE, plan.seed ^ (number << 32)));
        }
        for number in 0..CLIENTS {
            let scene = &scene;
            threads.spawn(move || load::run(scene, plan.seed ^ (number << 40)));
        }
        let mut rounds = Rounds {
            stack: &mut ground.stack,
            scene: &scene,
            books: &books,
            client: Client::new(admin),
            random: fastrand::Rng::with_seed(plan.seed),
            ends: Vec::new(),
            report: KillReport::new(plan),
        };
        let done = rounds.all(plan.rounds);
        scene.end();
        done.map(|()| rounds.report)
    });
    done.map_err(|error| {
        let folder = ground.keep();
        progress::note(&format!("all of the run is left in {folder}"));
        let (store, seed, count) = (plan.store, plan.seed, plan.rounds);
        let value = store.to_possible_value();
        let name = value.as_ref().map_or("", |it| it.get_name());
        error.context(format!(
            "{store}, seed {seed}: try again with \
             `cargo xtask soak kills --store {name} --seed {seed} --rounds {count}`"
        ))
    })
}
