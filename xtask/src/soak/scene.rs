//! What those who make load, those who change keys and those who check have between them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use crate::wait::Stopwatch;

/// How long a key may still pass after its end was acknowledged, while the control plane is there
/// to be heard. A hundred milliseconds is what is usual; this is for a machine that is busy.
pub(super) const REVOKED_WITHIN: Duration = Duration::from_secs(3);
/// Clients do not try keys for ever that ended long ago.
const MOST_HELD: usize = 1000;
/// As many faults are enough to see what is wrong.
const MOST_FAULTS: usize = 20;

/// A key that clients use.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: String,
    pub(super) text: String,
    /// Someone has begun to end it; whether it is over is not known.
    pub(super) ending: bool,
    /// When its end was acknowledged.
    pub(super) ended: Option<Duration>,
}

/// A refusal that a client has seen. It is an event that must be stored once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The client's address, which nobody else has.
    pub(super) client: Ipv4Addr,
    /// Which of all the Envoys that there were has refused it.
    pub(super) life: u32,
    /// When.
    pub(super) at: Duration,
}

/// What they have between them.
pub(super) struct Scene {
    clock: Stopwatch,
    pub(super) gateway: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) admin_key: String,
    stop: AtomicBool,
    /// Since when the control plane is there; none while it is not.
    up_since: Mutex<Option<Duration>>,
    /// How often Envoy was ended.
    life: AtomicU32,
    /// Held for reading by every request through the gate.
    pub(super) traffic: RwLock<()>,
    keys: Mutex<Vec<Held>>,
    told: Mutex<Vec<Told>>,
    faults: Mutex<BTreeSet<String>>,
    clients: AtomicU32,
    /// Requests that were answered.
    pub(super) answered: AtomicU64,
}

/// Poisoned or not: who panicked has said so.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scene {
    pub(super) fn new(gateway: SocketAddr, admin: SocketAddr, admin_key: String) -> Self {
        Self {
            clock: Stopwatch::start(),
            gateway,
            admin,
            admin_key,
            stop: AtomicBool::new(false),
            up_since: Mutex::new(Some(Duration::ZERO)),
            life: AtomicU32::new(0),
            traffic: RwLock::new(()),
            keys: Mutex::default(),
            told: Mutex::default(),
            faults: Mutex::default(),
            clients: AtomicU32::new(1),
            answered: AtomicU64::new(0),
        }
    }

    /// The time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Tells everyone to end.
    pub(super) fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Whether everyone is to end.
    pub(super) fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Since when the control plane is there.
    pub(super) fn up_since(&self) -> Option<Duration> {
        *lock(&self.up_since)
    }

    /// The control plane is there from now on, or will not be from now on.
    pub(super) fn set_up(&self, is_up: bool) {
        *lock(&self.up_since) = is_up.then(|| self.now());
    }

    /// Which Envoy there is.
    pub(super) fn life(&self) -> u32 {
        self.life.load(Ordering::SeqCst)
    }

    /// This Envoy has ended; what is answered from now on is the next one's. (An answer of the next
    /// one may be taken for this one's, by a client that began to ask before. Never the other way.)
    pub(super) fn end_life(&self) {
        self.life.fetch_add(1, Ordering::SeqCst);
    }

    /// An address that no client had before, of `10.0.0.0/8` or another network as large.
    pub(super) fn fresh_client(&self, network: u8) -> Ipv4Addr {
        let number = self.clients.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff;
        Ipv4Addr::from_bits(u32::from(network) << 24 | number)
    }

    /// A key that clients use from now on.
    pub(super) fn hold(&self, id: &str, text: &str) {
        let held = Held { id: id.to_owned(), text: text.to_owned(), ending: false, ended: None };
        let mut keys = lock(&self.keys);
        keys.push(held);
        if keys.len() > MOST_HELD {
            let old = keys.len() / 2;
            let mut place = 0..;
            keys.retain(|held| place.next().is_none_or(|at| at >= old) || held.ended.is_none());
        }
    }

    /// Notes something about a key.
    pub(super) fn note(&self, id: &str, change: impl FnOnce(&mut Held)) {
        if let Some(held) = lock(&self.keys).iter_mut().find(|held| held.id == id) {
            change(held);
        }
    }

    /// One of the keys, chosen by `pick` from so many; the latest are asked for most.
    pub(super) fn pick(&self, pick: impl FnOnce(usize) -> usize) -> Option<Held> {
        let keys = lock(&self.keys);
        keys.get(pick(keys.len())).cloned()
    }

    /// One of the keys that have not ended, chosen likewise.
    pub(super) fn pick_good(&self, pick: impl FnOnce(usize) -> usize) -> Option<Held> {
        let keys = lock(&self.keys);
        let good: Vec<_> =
            keys.iter().filter(|held| !held.ending && held.ended.is_none()).collect();
        good.get(pick(good.len())).copied().cloned()
    }

    /// What is known of a key now.
    pub(super) fn held(&self, id: &str) -> Option<Held> {
        lock(&self.keys).iter().find(|held| held.id == id).cloned()
    }

    /// The keys whose end was acknowledged, the latest first.
    pub(super) fn ended(&self, most: usize) -> Vec<Held> {
        let keys = lock(&self.keys);
        keys.iter().rev().filter(|held| held.ended.is_some()).take(most).cloned().collect()
    }

    /// A client was refused.
    pub(super) fn tell(&self, told: Told) {
        lock(&self.told).push(told);
    }

    /// All refusals so far.
    pub(super) fn told(&self) -> Vec<Told> {
        lock(&self.told).clone()
    }

    /// Something is not as it must be.
    pub(super) fn fault(&self, what: String) {
        let mut faults = lock(&self.faults);
        if faults.len() < MOST_FAULTS {
            faults.insert(what);
        }
    }

    /// All that is not as it must be.
    pub(super) fn faults(&self) -> Vec<String> {
        lock(&self.faults).iter().cloned().collect()
    }
}
