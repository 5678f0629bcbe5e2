//! Questions about keys that are on their way, and who waits for their answers.

use crate::ClientAddress;
use crate::cache::{KeyFingerprint, KeyHash};
use crate::request::StreamId;
use crate::routes::Plan;

/// One question that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlightId(u64);

/// At most so many questions at a time; a worker that needs more is under attack or cut off.
const MAX_FLIGHTS: usize = 1024;
/// And so many for one client address, so that one client cannot take all of them.
const MAX_FLIGHTS_OF_ADDRESS: usize = 64;
/// And so many requests that wait for them.
const MAX_WAITERS: usize = 8192;
/// And so many of one address. A request whose client has gone keeps its place until the answer.
const MAX_WAITERS_OF_ADDRESS: usize = 1024;

/// A request that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) stream: StreamId,
    pub(crate) plan: Plan,
    pub(crate) client: Option<ClientAddress>,
}

impl Waiter {
    /// Clients whose address cannot be told share one.
    fn subject(&self) -> u128 {
        self.client.map_or(0, ClientAddress::subject)
    }
}

/// A question about one key: however many requests bring it, it is asked once.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) id: FlightId,
    pub(crate) hash: KeyHash,
    pub(crate) fingerprint: KeyFingerprint,
    /// The key, for asking again when the answer was overtaken by a change; gone with the flight.
    pub(crate) key: KeyText,
    pub(crate) waiters: Vec<Waiter>,
    pub(crate) times_asked: u8,
    subject: Option<u128>,
}

/// A key's text, wiped when it is dropped.
pub(crate) struct KeyText(Vec<u8>);

impl KeyText {
    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Drop for KeyText {
    fn drop(&mut self) {
        self.0.fill(0);
        std::hint::black_box(&self.0);
    }
}

/// There are too many questions already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowded;

/// All questions that are on their way.
pub(crate) struct Flights {
    on_the_way: Vec<Flight>,
    waiters: usize,
    last_id: u64,
}

impl Flights {
    pub(crate) fn new() -> Self {
        Self { on_the_way: Vec::new(), waiters: 0, last_id: 0 }
    }

    pub(crate) fn is_asked(&self, hash: KeyHash) -> bool {
        self.on_the_way.iter().any(|f| f.hash == hash)
    }

    /// Waits for the answer about a key. Returns the new flight when it is the first to ask.
    pub(crate) fn join(
        &mut self,
        hash: KeyHash,
        fingerprint: KeyFingerprint,
        key: &[u8],
        waiter: Option<Waiter>,
    ) -> Result<Option<FlightId>, Crowded> {
        let subject = waiter.map(|waiter| waiter.subject());
        if let Some(subject) = subject
            && (self.waiters >= MAX_WAITERS || self.waiters_of(subject) >= MAX_WAITERS_OF_ADDRESS)
        {
            return Err(Crowded);
        }
        if let Some(flight) = self.on_the_way.iter_mut().find(|f| f.hash == hash) {
            flight.waiters.extend(waiter);
            self.waiters += usize::from(waiter.is_some());
            return Ok(None);
        }
        let of_address = self.on_the_way.iter().filter(|f| f.subject == subject).count();
        // Questions ahead of time are about known keys, and nobody's in particular.
        let of_address = if subject.is_some() { of_address } else { 0 };
        if self.on_the_way.len() >= MAX_FLIGHTS || of_address >= MAX_FLIGHTS_OF_ADDRESS {
            return Err(Crowded);
        }
        self.last_id += 1;
        let id = FlightId(self.last_id);
        self.waiters += usize::from(waiter.is_some());
        self.on_the_way.push(Flight {
            id,
            hash,
            fingerprint,
            key: KeyText(key.to_vec()),
            waiters: waiter.into_iter().collect(),
            times_asked: 1,
            subject,
        });
        Ok(Some(id))
    }

    fn waiters_of(&self, subject: u128) -> usize {
        let waiters = self.on_the_way.iter().flat_map(|flight| &flight.waiters);
        waiters.filter(|waiter| waiter.subject() == subject).count()
    }

    /// Takes a flight out: its answer has come.
    pub(crate) fn land(&mut self, id: FlightId) -> Option<Flight> {
        let at = self.on_the_way.iter().position(|f| f.id == id)?;
        let flight = self.on_the_way.swap_remove(at);
        self.waiters -= flight.waiters.len();
        Some(flight)
    }

    /// Sends a flight off again.
    pub(crate) fn relaunch(&mut self, mut flight: Flight) {
        flight.times_asked += 1;
        self.waiters += flight.waiters.len();
        self.on_the_way.push(flight);
    }
}
