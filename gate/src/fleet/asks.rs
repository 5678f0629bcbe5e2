//! What is asked of the control plane about limits that the fleet shares, and who waits for it.

use edge_protocol::leases::{Ask, MAX_ASKS, Slices};

use crate::limits::Place;

/// One call that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseCallId(u64);

/// At most so many calls at a time; what is wanted meanwhile goes together with the next.
const MAX_CALLS: usize = 4;
/// At most so many asks that are not yet sent.
const MAX_WANTED: usize = 4 * MAX_ASKS;
/// At most so many requests that wait, in all and for one of them.
const MAX_WAITERS: usize = 8192;
const MAX_WAITERS_OF_ASK: usize = 1024;

/// Where and when a grant is to be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) slices: Slices,
    pub(crate) slice: u64,
    pub(crate) epoch: u32,
}

/// More of a limit is wanted.
#[derive(Debug)]
pub(crate) struct Wanted<W> {
    pub(crate) target: Target,
    pub(crate) ask: Ask,
    pub(crate) waiters: Vec<W>,
    /// Whether the same is on its way: what was asked is asked again when it is answered, by all
    /// who came meanwhile together.
    blocked: bool,
}

/// All that is wanted, sent and not yet sent.
pub(crate) struct Asks<W> {
    wanted: Vec<Wanted<W>>,
    on_the_way: Vec<(LeaseCallId, Vec<Wanted<W>>)>,
    waiters: usize,
    /// How many of those that are not sent are not blocked.
    ready: usize,
    last_id: u64,
    last_epoch: u32,
}

impl<W> Asks<W> {
    /// Nothing is wanted yet. `seed` is this worker's own.
    pub(crate) fn new(seed: u32) -> Self {
        Self {
            wanted: Vec::new(),
            on_the_way: Vec::new(),
            waiters: 0,
            ready: 0,
            last_id: 0,
            last_epoch: seed,
        }
    }

    /// A number that no lease had before.
    pub(crate) fn epoch(&mut self) -> u32 {
        self.last_epoch = self.last_epoch.wrapping_add(1);
        self.last_epoch
    }

    /// Wants more ahead of time, unless it is wanted already.
    pub(crate) fn want(&mut self, target: Target, ask: impl FnOnce() -> Ask) {
        let sent = self.on_the_way.iter().flat_map(|(_, wanted)| wanted);
        let known = sent.chain(&self.wanted).any(|wanted| wanted.target == target);
        if !known && self.wanted.len() < MAX_WANTED {
            self.add(target, ask(), Vec::new());
        }
    }

    /// Wants one more for a request, and says whether it may wait for that: not when too many do.
    pub(crate) fn wait(&mut self, target: Target, ask: impl FnOnce() -> Ask, waiter: W) -> bool {
        if self.waiters >= MAX_WAITERS {
            return false;
        }
        if let Some(wanted) = self.wanted.iter_mut().find(|wanted| wanted.target == target) {
            if wanted.waiters.len() >= MAX_WAITERS_OF_ASK {
                return false;
            }
            if !wanted.waiters.is_empty() {
                wanted.ask.want = wanted.ask.want.saturating_add(1);
            }
            wanted.waiters.push(waiter);
            self.waiters += 1;
            return true;
        }
        if self.wanted.len() >= MAX_WANTED {
            return false;
        }
        self.add(target, ask(), vec![waiter]);
        true
    }

    /// Whether there is something to send, and may be sent.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready > 0 && self.on_the_way.len() < MAX_CALLS
    }

    fn add(&mut self, target: Target, ask: Ask, waiters: Vec<W>) {
        let mut sent = self.on_the_way.iter().flat_map(|(_, wanted)| wanted);
        let blocked = sent.any(|it| it.target == target);
        self.ready += usize::from(!blocked);
        self.waiters += waiters.len();
        self.wanted.push(Wanted { target, ask, waiters, blocked });
    }

    /// Sends what is wanted: as much of it as a call can hold.
    pub(crate) fn send(&mut self) -> (LeaseCallId, Vec<Ask>) {
        self.last_id += 1;
        let id = LeaseCallId(self.last_id);
        let (mut sent, mut kept) = (Vec::new(), Vec::new());
        for wanted in std::mem::take(&mut self.wanted) {
            let goes = sent.len() < MAX_ASKS && !wanted.blocked;
            if goes { sent.push(wanted) } else { kept.push(wanted) }
        }
        self.ready -= sent.len();
        self.wanted = kept;
        let asks = sent.iter().map(|wanted| wanted.ask.clone()).collect();
        self.on_the_way.push((id, sent));
        (id, asks)
    }

    /// A call has been answered: what it was about.
    pub(crate) fn land(&mut self, id: LeaseCallId) -> Vec<Wanted<W>> {
        let at = self.on_the_way.iter().position(|(sent, _)| *sent == id);
        let landed = at.map(|at| self.on_the_way.swap_remove(at).1).unwrap_or_default();
        for wanted in self.wanted.iter_mut().filter(|it| it.blocked) {
            wanted.blocked = !landed.iter().any(|it| it.target == wanted.target);
            self.ready += usize::from(!wanted.blocked);
        }
        self.waiters -= landed.iter().map(|wanted| wanted.waiters.len()).sum::<usize>();
        landed
    }
}
