//! Clients that ask and ask while a test breaks things.
//!
//! ```ignore
//! let load = Load::on(&gate)
//!     .client(WARM, &key)                     // of worker 0
//!     .client(WARM, &key)                     // of worker 1
//!     .slow_client(UNKNOWN, Carries::Unknown)
//!     .start();
//! gate.stack.control_plane.process_mut().kill().unwrap();
//! let killed = Instant::now();
//! load.goes_on_for(OUTAGE);
//! let report = load.stop();
//! report.of(WARM).only(&[200]).each_within(Duration::from_secs(3));
//! report.of(UNKNOWN).begun_after(killed).only(&[503]);
//! report.told_once(&gate);                    // usage and audit log say the same
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | here | the clients |
//! | `report` | what they saw |
//! | `books` | what they saw, held against usage and the audit log |

mod books;
mod report;

pub use books::Untold;
pub use report::{Report, Seen};

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Connection, Request};
use crate::{Gate, Key, fresh_address, unknown_key, within};

/// Between two requests of a client: two cores also have an Envoy and a control plane to run.
const PAUSE: Duration = Duration::from_millis(8);
/// The same of a slow one. What it does becomes an event each time, and a worker of a gate that
/// cannot deliver has room for some thousands.
const SLOW_PAUSE: Duration = Duration::from_millis(40);

/// What the requests of a client carry.
#[derive(Clone, Debug)]
pub enum Carries {
    /// This key.
    Key(Arc<Key>),
    /// A well-formed key that nobody knows, another each time.
    Unknown,
    /// No key at all.
    Nothing,
}

impl From<&Key> for Carries {
    fn from(key: &Key) -> Self {
        Self::Key(Arc::new(key.clone()))
    }
}

struct Client {
    name: &'static str,
    carries: Carries,
    pause: Duration,
}

/// Clients in the making. Each keeps its connection open, and the first is a client of worker 0, the
/// second of worker 1, and so on in turns, until a connection breaks: then chance decides.
#[must_use = "nobody asks until it is started"]
pub struct LoadBuilder<'a> {
    gate: &'a Gate,
    clients: Vec<Client>,
}

impl LoadBuilder<'_> {
    /// One more client.
    pub fn client(mut self, name: &'static str, carries: impl Into<Carries>) -> Self {
        self.clients.push(Client { name, carries: carries.into(), pause: PAUSE });
        self
    }

    /// One more, that asks five times less often.
    pub fn slow_client(mut self, name: &'static str, carries: impl Into<Carries>) -> Self {
        self.clients.push(Client { name, carries: carries.into(), pause: SLOW_PAUSE });
        self
    }

    /// One more, that asks without a pause.
    pub fn hurried_client(mut self, name: &'static str, carries: impl Into<Carries>) -> Self {
        self.clients.push(Client { name, carries: carries.into(), pause: Duration::ZERO });
        self
    }

    /// Lets them ask, and waits until each of them has had an answer.
    #[must_use]
    pub fn start(self) -> Load {
        let Self { gate, clients } = self;
        let workers = usize::try_from(gate.stack.options().concurrency).unwrap();
        let connections: Vec<_> =
            (0..clients.len()).map(|n| gate.connect_to_worker(n % workers)).collect();
        let shared = Arc::new(Shared::default());
        let threads = clients.into_iter().zip(connections).map(|(client, connection)| {
            let (shared, request) = (Arc::clone(&shared), gate.get("/"));
            std::thread::spawn(move || client.ask(&request, connection, &shared))
        });
        let load = Load { threads: threads.collect(), shared };
        load.until_each_was_answered();
        load
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Clients that have had an answer since this was last set to 0.
    answered: AtomicU64,
    round: AtomicU64,
    seen: Mutex<Vec<Seen>>,
}

/// Clients that ask. They stop when this is dropped.
pub struct Load {
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl Load {
    /// Clients of a gate.
    pub fn on(gate: &Gate) -> LoadBuilder<'_> {
        LoadBuilder { gate, clients: Vec::new() }
    }

    /// Lets them go on for so long: an outage has a length, and nothing else tells that it is over.
    pub fn goes_on_for(&self, time: Duration) {
        let start = Instant::now();
        within(time + Duration::from_secs(5), "the clients go on", || {
            (start.elapsed() >= time).then_some(())
        });
    }

    /// Waits until each client has sent a request that was not under way yet, and had its answer.
    pub fn until_each_was_answered(&self) {
        let clients = u64::try_from(self.threads.len()).unwrap();
        // In this order: who has seen the new round counts in it.
        self.shared.answered.store(0, Ordering::SeqCst);
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        within(Duration::from_secs(60), "each client is answered", || {
            (self.shared.answered.load(Ordering::SeqCst) >= clients).then_some(())
        });
    }

    /// What they have seen so far.
    pub fn so_far(&self) -> Report {
        Report::new(self.shared.seen.lock().unwrap().clone())
    }

    /// Ends it, after the answers to what is under way.
    pub fn stop(mut self) -> Report {
        self.end();
        self.so_far()
    }

    fn end(&mut self) -> bool {
        self.shared.stop.store(true, Ordering::SeqCst);
        let ended: Vec<_> = self.threads.drain(..).map(JoinHandle::join).collect();
        ended.iter().all(Result::is_ok)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let all_well = self.end();
        assert!(all_well || std::thread::panicking(), "a client has failed");
    }
}

impl Client {
    fn ask(self, request: &Request, connection: Connection, shared: &Shared) {
        let server = connection.server();
        let mut connection = Some(connection);
        let mut round = 0;
        while !shared.stop.load(Ordering::SeqCst) {
            let this_round = shared.round.load(Ordering::SeqCst);
            // While there is nobody to connect to, there is nothing to see.
            if let Some(open) = &mut connection {
                let (seen, goes_on) = self.exchange(request, open);
                shared.seen.lock().unwrap().push(seen);
                if round != this_round {
                    round = this_round;
                    shared.answered.fetch_add(1, Ordering::SeqCst);
                }
                if !goes_on {
                    connection = None;
                }
            }
            std::thread::sleep(self.pause);
            if connection.is_none() {
                connection = Connection::try_open(server).ok();
            }
        }
    }

    /// One request, and its answer (status 0 when there is none); and whether the connection goes on.
    fn exchange(&self, request: &Request, connection: &mut Connection) -> (Seen, bool) {
        let address = fresh_address();
        let request = request.clone().client(&address);
        let request = match &self.carries {
            Carries::Key(key) => request.key(key.as_ref()),
            Carries::Unknown => request.key(unknown_key()),
            Carries::Nothing => request,
        };
        let begun = Instant::now();
        let answer = connection.exchange(&request.bytes()).ok();
        let took = begun.elapsed();
        let header = |name: &str| answer.as_ref().and_then(|it| it.header(name));
        let goes_on = answer.is_some() && header("connection").as_deref() != Some("close");
        let seen = Seen {
            client: self.name,
            carried: self.carries.clone(),
            address,
            begun,
            took,
            status: answer.as_ref().map_or(0, |it| it.status),
            code: answer.as_ref().map(|it| it.code()).unwrap_or_default(),
            retry_after: header("retry-after"),
        };
        (seen, goes_on)
    }
}
