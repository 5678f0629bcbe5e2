//! A round: a part ends at a random moment, comes back, and what must hold is looked at.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};

use super::report::{KillReport, Victim};
use crate::client::{Ask, Client};
use crate::soak::admin::Book;
use crate::soak::scene::{Scene, lock};
use crate::stack::Stack;
use crate::{interrupt, progress};

/// How long a round goes on before something ends, in milliseconds.
const QUIET_MS: std::ops::Range<u64> = 150..1500;
/// How long a part may stay away, in milliseconds.
const AWAY_MS: std::ops::Range<u64> = 0..700;
/// Every so many rounds the whole of the log is looked through.
const DEEP_EVERY: u32 = 10;
/// How long an Envoy goes on after the last request before it is told to end: the time that an
/// operator gives it to drain. Its filter reports every 200 ms, and asks again after 8 s at most.
const DRAIN: Duration = Duration::from_secs(10);

/// An Envoy that has ended.
pub(super) struct End {
    /// When it was killed; none: it was told to end.
    pub(super) killed_at: Option<Duration>,
    /// Since when the control plane had been there; none: it was not.
    pub(super) up_since: Option<Duration>,
}

/// All rounds, while load and changes go on.
pub(super) struct Rounds<'a> {
    pub(super) stack: &'a mut Stack,
    pub(super) scene: &'a Scene,
    pub(super) books: &'a [Mutex<Book>],
    pub(super) client: Client,
    pub(super) random: fastrand::Rng,
    /// Each Envoy that has ended, in their order.
    pub(super) ends: Vec<End>,
    pub(super) report: KillReport,
}

impl<'a> Rounds<'a> {
    pub(super) fn all(&mut self, count: u32) -> Result<()> {
        for round in 1..=count {
            interrupt::check()?;
            let victim = self.draw(round);
            self.round(victim)?;
            let deep = round % DEEP_EVERY == 0 || round == count;
            let books = self.hold();
            self.look(books, deep)?;
            self.report.count(victim, self.scene.answered.load(Ordering::Relaxed));
            progress::note(&format!("{round:4}/{count}  {}", self.report.line(victim, deep)));
        }
        Ok(())
    }

    /// Each of them is met in the first rounds, whatever the seed.
    fn draw(&mut self, round: u32) -> Victim {
        let at = usize::try_from(round.saturating_sub(1)).unwrap_or(usize::MAX);
        let drawn = self.random.u8(..20);
        Victim::ALL.get(at).copied().unwrap_or(match drawn {
            0..=9 => Victim::ControlPlane,
            10..=14 => Victim::Envoy,
            15..=17 => Victim::Both,
            18 => Victim::ControlPlaneInOrder,
            _ => Victim::EnvoyInOrder,
        })
    }

    fn round(&mut self, victim: Victim) -> Result<()> {
        self.sleep(QUIET_MS);
        match victim {
            Victim::ControlPlane => {
                self.kill_control_plane()?;
                self.sleep(AWAY_MS);
                self.restart_control_plane()
            }
            Victim::Envoy => {
                self.kill_envoy()?;
                self.sleep(AWAY_MS);
                self.stack.envoy.restart()
            }
            Victim::Both => {
                if self.random.bool() {
                    self.kill_control_plane()?;
                    self.kill_envoy()?;
                } else {
                    self.kill_envoy()?;
                    self.kill_control_plane()?;
                }
                self.restart_control_plane()?;
                self.stack.envoy.restart()
            }
            Victim::ControlPlaneInOrder => {
                self.scene.set_up(false);
                let status = self.stack.control_plane.process_mut().stop()?;
                if !status.success() {
                    bail!("the control plane, told to end, ended with {status}");
                }
                self.restart_control_plane()
            }
            Victim::EnvoyInOrder => self.end_envoy_in_order(),
        }?;
        self.stack.wait_gate().map(drop)
    }

    fn kill_control_plane(&mut self) -> Result<()> {
        self.scene.set_up(false);
        self.stack.control_plane.process_mut().kill().map(drop)
    }

    fn restart_control_plane(&mut self) -> Result<()> {
        self.stack.control_plane.restart()?;
        self.scene.set_up(true);
        Ok(())
    }

    fn kill_envoy(&mut self) -> Result<()> {
        let up_since = self.scene.up_since();
        self.ends.push(End { killed_at: Some(self.scene.now()), up_since });
        self.stack.envoy.process_mut().kill()?;
        self.scene.end_life();
        Ok(())
    }

    /// As an orchestrator does it: no more requests, time to drain, SIGTERM.
    fn end_envoy_in_order(&mut self) -> Result<()> {
        let _no_requests = self.scene.traffic.write().unwrap_or_else(PoisonError::into_inner);
        let admin = self.stack.options().envoy_admin_port;
        let mut client = Client::new((std::net::Ipv4Addr::LOCALHOST, admin).into());
        let path = "/drain_listeners?graceful";
        let drained = client.send(&Ask { method: "POST", path, ..Ask::default() });
        if !drained.is_ok_and(|answer| answer.is_success()) {
            bail!("Envoy does not drain");
        }
        std::thread::sleep(DRAIN);
        self.ends.push(End { killed_at: None, up_since: None });
        let status = self.stack.envoy.process_mut().stop()?;
        self.scene.end_life();
        if !status.success() {
            bail!("Envoy, told to end, ended with {status}");
        }
        self.stack.envoy.restart()
    }

    /// Keeps all administrators from changing anything.
    fn hold(&self) -> Vec<MutexGuard<'a, Book>> {
        let books: &'a [Mutex<Book>] = self.books;
        books.iter().map(lock).collect()
    }

    fn sleep(&mut self, range_ms: std::ops::Range<u64>) {
        std::thread::sleep(Duration::from_millis(self.random.u64(range_ms)));
    }
}
