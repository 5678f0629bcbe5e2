//! Limits that several Envoys share: never one request too many, hardly one too few, and hardly one
//! that waits.
//!
//! Demand is ten times the limit, spread evenly over the Envoys and their workers or 90 % of it on
//! one Envoy. `KEYGATE_FLEET_FULL=1` also asks three and four Envoys for a limit of 10 000, and takes no
//! account of a busy machine: no more than one in a hundred may wait. How many do is a measure of time, so
//! these tests run one at a time (`.config/nextest.toml`).

mod outages;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tests::{Connection, Gate, Key, Replica, Request, Workers, eventually, within};
use xtask::servers::redis::{RedisOptions, RedisServer};

/// What it takes until a fleet's parts count, all of them: its table learns for five seconds, each Envoy
/// then says what it holds, and seven seconds after the last has said so the parts are known to be even.
const SETTLED: Duration = Duration::from_secs(20);
const CLIENT: &str = "198.51.100.7";

/// A limit that is under test.
#[derive(Clone, Copy)]
struct Limit {
    path: &'static str,
    per: &'static str,
    algorithm: &'static str,
    requests: u32,
    seconds: u64,
}

const fn limit(path: &'static str, per: &'static str, requests: u32, seconds: u64) -> Limit {
    Limit { path, per, algorithm: "fixed_window", requests, seconds }
}

/// Several Envoys of two workers each, one control plane, one Redis.
struct Fleet {
    gate: Gate,
    replicas: Vec<Replica>,
    key: Key,
}

/// How demand is spread over the Envoys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spread {
    Even,
    /// 90 % of it on one of them.
    Skewed,
}

impl Spread {
    /// What each Envoy gets, in percent.
    fn over(self, envoys: usize) -> Vec<u32> {
        let n = u32::try_from(envoys).unwrap();
        match self {
            Self::Even => vec![100 / n; envoys],
            Self::Skewed => (0..n).map(|at| if at == 0 { 90 } else { 10 / (n - 1) }).collect(),
        }
    }
}

impl Fleet {
    fn start(envoys: usize, limits: &[Limit]) -> (Self, RedisServer) {
        let redis = RedisServer::start(RedisOptions::default()).unwrap();
        let rules: Vec<_> = limits
            .iter()
            .map(|it| {
                json!({
                    "name": it.path.trim_start_matches('/'), "path_prefix": it.path, "per": it.per,
                    "algorithm": it.algorithm, "requests": it.requests,
                    "window_seconds": it.seconds, "reach": "fleet",
                })
            })
            .collect();
        let gate = Gate::builder()
            // What is waited for in an outage is under test: as it is by default.
            .config(json!({"limits": rules, "control_plane": {"timeout_ms": 1000}}))
            .env("KEYGATE_REDIS_URL", &redis.url())
            .start();
        let key = gate.admin().create_key(json!({}));
        let names = (1..envoys).map(|n| format!("envoy-{n}"));
        let replicas: Vec<_> = names.map(|name| Replica::start(&gate, &name, None)).collect();
        let fleet = Self { gate, replicas, key };
        fleet.settle(envoys);
        (fleet, redis)
    }

    /// Waits until each Envoy lives in its fleet, and has for as long as it takes to count.
    fn settle(&self, envoys: usize) {
        self.introduce_key();
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        let all = envoys as f64;
        within(Duration::from_secs(20), "all Envoys live", || {
            for address in self.addresses() {
                // A limit that is shared wakes them up, wherever there are others too.
                Request::new(address, "GET", "/").key(&self.key).client("198.51.100.1").send();
            }
            (self.gate.admin().metric("keygate_fleet_envoys", &[]) >= all).then_some(())
        });
        std::thread::sleep(SETTLED);
    }

    /// Every worker knows the key, also when nobody can be asked any more.
    fn introduce_key(&self) {
        for mut connection in self.connections().into_iter().flatten() {
            let request = Request::new(connection.server(), "GET", "/").key(&self.key);
            let request = request.client("198.51.100.1");
            eventually("the worker knows the key", || {
                (request.send_on(&mut connection).status == 200).then_some(())
            });
        }
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        let others = self.replicas.iter().map(Replica::address);
        std::iter::once(self.gate.address()).chain(others).collect()
    }

    /// A connection to each worker of each Envoy, by Envoy.
    fn connections(&self) -> Vec<[Connection; 2]> {
        let own = [self.gate.connect_to_worker(0), self.gate.connect_to_worker(1)];
        let others =
            self.replicas.iter().map(|it| [0, 1].map(|worker| it.connect_to_worker(worker)));
        std::iter::once(own).chain(others).collect()
    }

    /// The sum of one of the filter's counters over all Envoys.
    fn counter(&self, name: &str) -> u64 {
        let name = format!("wasmcustom.keygate.{name}");
        let of = |stats: BTreeMap<String, u64>| stats.get(&name).copied().unwrap_or(0);
        of(self.gate.stats()) + self.replicas.iter().map(|it| of(it.stats())).sum::<u64>()
    }
}

/// An answer, and between when and when it was decided.
#[derive(Clone, Copy)]
struct Seen {
    passed: bool,
    reset: u64,
    from: Duration,
    to: Duration,
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// Sends `count` requests evenly over a time that begins at `from`; late ones follow at once.
fn ask(
    mut connection: Connection,
    limit: Limit,
    key: &Key,
    count: u32,
    from: Duration,
    over: Duration,
) -> (Connection, Vec<Seen>) {
    let request = Request::new(connection.server(), "GET", limit.path).key(key).client(CLIENT);
    let bytes = request.bytes();
    let mut seen = Vec::with_capacity(usize::try_from(count).unwrap());
    for n in 0..count {
        let due = from + over * n / count;
        std::thread::sleep(due.saturating_sub(now()));
        let sent = now();
        let Ok(answer) = connection.exchange(&bytes) else {
            // Its Envoy was killed.
            break;
        };
        assert!([200, 429].contains(&answer.status), "{answer:?}");
        let reset = answer.header("x-ratelimit-reset").expect("how the limit stands");
        seen.push(Seen {
            passed: answer.status == 200,
            reset: reset.parse().unwrap(),
            from: sent,
            to: now(),
        });
    }
    (connection, seen)
}

/// When the next window begins: windows begin at multiples of their length.
fn window_of(seconds: u64) -> Duration {
    Duration::from_secs((now().as_secs() + 1).next_multiple_of(seconds))
}

/// Ten times the limit, in one window that is about to begin.
fn demand(fleet: &Fleet, limits: &[Limit], spread: Spread) -> Vec<Vec<Seen>> {
    demand_while(fleet, limits, spread, |_| {})
}

/// As [`demand`], while something happens that is told when the window begins.
fn demand_while(
    fleet: &Fleet,
    limits: &[Limit],
    spread: Spread,
    happens: impl FnOnce(Duration) + Send,
) -> Vec<Vec<Seen>> {
    let longest = limits.iter().map(|limit| limit.seconds).max().unwrap();
    let connections: Vec<_> = limits.iter().map(|_| fleet.connections()).collect();
    let begins = window_of(longest);
    let spread = spread.over(connections[0].len());
    std::thread::scope(|scope| {
        scope.spawn(move || happens(begins));
        let mut threads = Vec::new();
        for (limit, envoys) in limits.iter().zip(connections) {
            let mut of_limit = Vec::new();
            for (envoy, percent) in envoys.into_iter().zip(&spread) {
                for worker in envoy {
                    let count = (limit.requests * 10 * percent / 100).div_ceil(2);
                    let (limit, key) = (*limit, &fleet.key);
                    // Not up to its very end, so that all of it is in this window.
                    let over = Duration::from_millis(limit.seconds * 950);
                    of_limit
                        .push(scope.spawn(move || ask(worker, limit, key, count, begins, over).1));
                }
            }
            threads.push(of_limit);
        }
        let join = |of_limit: Vec<std::thread::ScopedJoinHandle<'_, Vec<Seen>>>| {
            of_limit.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        };
        threads.into_iter().map(join).collect()
    })
}

/// What passed in each window, by when it ends.
fn by_window(seen: &[Seen]) -> BTreeMap<u64, u32> {
    let mut windows = BTreeMap::new();
    for it in seen.iter().filter(|it| it.passed) {
        *windows.entry(it.reset).or_default() += 1;
    }
    windows
}

/// Demands ten times each limit of a fleet, even and skewed.
fn fixed_windows(envoys: usize, limits: &[Limit], spreads: &[Spread]) {
    let (fleet, _redis) = Fleet::start(envoys, limits);
    for (spread, limits) in spreads.iter().flat_map(|it| limits.chunks(1).map(move |of| (it, of))) {
        let before = fleet.counter("limits.waited");
        let started = Instant::now();
        let seen = demand(&fleet, limits, *spread);
        let took = started.elapsed();
        let waited = fleet.counter("limits.waited") - before;
        let asked: usize = seen.iter().map(Vec::len).sum();
        for (limit, seen) in limits.iter().zip(&seen) {
            let windows = by_window(seen);
            println!(
                "{envoys} Envoys, {spread:?}, limit {}: asked {}, passed by window {windows:?}",
                limit.requests,
                seen.len()
            );
            for (ends, passed) in &windows {
                assert!(*passed <= limit.requests, "{passed} in the window that ends at {ends}");
            }
            let fullest = windows.values().copied().max().unwrap_or(0);
            assert!(fullest >= (limit.requests * 95).div_ceil(100), "only {fullest} passed");
        }
        println!("{envoys} Envoys, {spread:?}: {waited} of {asked} requests waited, in {took:?}");
        if limits.iter().all(|limit| limit.requests >= 100) {
            assert!(waited <= most_may_wait(asked), "{waited} of {asked} waited");
        }
    }
}

/// One in a hundred; three on a busy machine: who comes before the first answer waits for it, and in a fifth
/// of a second two in a hundred come.
fn most_may_wait(asked: usize) -> u64 {
    let percent = if std::env::var_os("KEYGATE_FLEET_FULL").is_some() { 1 } else { 3 };
    u64::try_from(asked * percent / 100).unwrap()
}

const BOTH: [Spread; 2] = [Spread::Even, Spread::Skewed];

#[test]
fn two_envoys_share_ten_and_a_hundred() {
    let limits = [limit("/ten", "address", 10, 10), limit("/hundred", "key", 100, 10)];
    fixed_windows(2, &limits, &BOTH);
}

#[test]
fn three_envoys_share_ten_and_a_hundred() {
    let limits = [limit("/ten", "key", 10, 10), limit("/hundred", "address", 100, 10)];
    fixed_windows(3, &limits, &BOTH);
}

#[test]
fn four_envoys_share_ten_and_a_hundred() {
    let limits = [limit("/ten", "address", 10, 10), limit("/hundred", "key", 100, 10)];
    fixed_windows(4, &limits, &BOTH);
}

#[test]
fn a_fleet_shares_ten_thousand() {
    if std::env::var_os("KEYGATE_FLEET_FULL").is_none() {
        return fixed_windows(2, &[limit("/many", "key", 10_000, 30)], &[Spread::Skewed]);
    }
    for (envoys, per) in [(2, "key"), (3, "address"), (4, "key")] {
        fixed_windows(envoys, &[limit("/many", per, 10_000, 30)], &BOTH);
    }
}

/// The most that surely passed within any stretch of this length.
fn most_within(seen: &[Seen], length: Duration) -> usize {
    let passed: Vec<_> = seen.iter().filter(|it| it.passed).collect();
    let from = |begin: Duration| {
        passed.iter().filter(|it| it.from >= begin && it.to < begin + length).count()
    };
    passed.iter().map(|it| from(it.from)).max().unwrap_or(0)
}

#[test]
fn two_envoys_share_a_sliding_window_and_a_bucket() {
    let sliding = Limit { algorithm: "sliding_window", ..limit("/sliding", "key", 100, 10) };
    let bucket = Limit { algorithm: "token_bucket", ..limit("/bucket", "address", 100, 10) };
    let (fleet, _redis) = Fleet::start(2, &[sliding, bucket]);
    // A share of these counts a whole window after it was lent.
    std::thread::sleep(Duration::from_secs(10));
    let (mut slid, mut dripped) = (Vec::new(), Vec::new());
    let before = fleet.counter("limits.waited");
    for spread in [Spread::Even, Spread::Skewed] {
        let mut seen = demand(&fleet, &[sliding, bucket], spread).into_iter();
        slid.extend(seen.next().unwrap());
        dripped.extend(seen.next().unwrap());
    }
    let waited = fleet.counter("limits.waited") - before;
    let asked = slid.len() + dripped.len();
    let window = Duration::from_secs(10);
    let most = most_within(&slid, window);
    let passed = |seen: &[Seen]| seen.iter().filter(|it| it.passed).count();
    println!(
        "2 Envoys, sliding window of 100: {} passed in two windows, at most {most} in any; \
         bucket of 100: {} passed; {waited} of {asked} waited",
        passed(&slid),
        passed(&dripped)
    );
    assert!(most <= 100, "{most} in one window");
    // What was granted is there again two slices after its window; the demand lasts longer.
    assert!(passed(&slid) >= 190, "{} of 200", passed(&slid));
    // A bucket has what it holds, and gets it again each window.
    let span = dripped.iter().map(|it| it.to).max().unwrap()
        - dripped.iter().map(|it| it.from).min().unwrap();
    let most = 100.0 + 100.0 * span.as_secs_f64() / 10.0;
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let of_bucket = passed(&dripped) as f64;
    assert!(of_bucket <= most, "{of_bucket} of {most}");
    assert!(of_bucket >= 0.95 * most, "{of_bucket} of {most}");
    assert!(waited <= most_may_wait(asked), "{waited} of {asked} waited");
}
