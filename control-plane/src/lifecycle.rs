//! Starting, running and ending the service.

use anyhow::Context;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    audit::chain::checkpoint::Reason,
    clock::{Clock, SystemClock},
    config::{Config, ConfigError, ServeConfig, Settings, TlsFiles},
    edge,
    http::{activity::IdleLimits, server::Server, tls::Tls},
    keys::{
        digest::PresentedKey,
        hashing::{HashRecipe, Iterations},
        pool::HashPool,
    },
    metrics, open_files,
    random::SystemRandom,
    service::{Service, Surroundings},
    store::{self, Store},
};

/// How long what is under way may still take when the service is told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the last checkpoint may take.
const LAST_CHECKPOINT: Duration = Duration::from_secs(3);
/// How often changes of other processes are looked for: the command line works on the same file.
const FEED_REFRESH: Duration = Duration::from_millis(100);
/// How often histograms are tidied up.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
const ADMIN_HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// It also ends idle connections, and Envoy's pools keep theirs for an hour: ours must be kept
/// longer, or a filter's call meets a connection that is just being closed.
const EDGE_HEADER_TIMEOUT: Duration = Duration::from_mins(65);
/// Administrators come and go, and so do those who look at health and metrics.
const ADMIN_IDLE: IdleLimits =
    IdleLimits { stranger: Duration::from_secs(75), trusted: Duration::from_secs(75) };
/// Only a filter that has shown its token may keep a connection for its pool.
const EDGE_IDLE: IdleLimits =
    IdleLimits { stranger: Duration::from_secs(15), trusted: EDGE_HEADER_TIMEOUT };
const ADMIN_CONNECTIONS: usize = 1024;
const EDGE_CONNECTIONS: usize = 8192;
/// A hash slower than this keeps a filter waiting; say so.
const SLOW_HASH: Duration = Duration::from_millis(40);

/// Runs the service until it is told to end by SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or a part of it has failed.
pub async fn serve(settings: &Settings) -> anyhow::Result<()> {
    // First of all: who ends us while we start must not have to wait, or to kill.
    let mut signals = Signals::new()?;
    let running = tokio::select! {
        running = start(settings) => running?,
        name = signals.next() => {
            tracing::info!(signal = name, "ended before it had started");
            return Ok(());
        }
    };
    running.until_told(&mut signals).await
}

/// The service while it runs.
struct Running {
    service: Arc<Service>,
    /// What answers and reports.
    tasks: Tasks,
    /// What writes; it must outlive what reports.
    writers: Tasks,
}

async fn start(settings: &Settings) -> anyhow::Result<Running> {
    let open_files = open_files::raise_limit();
    tracing::info!(open_files, "as many files and connections may be open");
    let config = Config::new(settings)?;
    let serving = ServeConfig::new(settings, &config)?;
    if serving.migrate {
        let done = store::migrate(&config.database).await?;
        tracing::info!(database = %config.database, migrations = done, "the database is up to date");
    }
    let store = store::open(&config.database).await?;
    let prometheus = metrics::install().context("metrics")?;

    let stop = CancellationToken::new();
    let around = Surroundings {
        store: Arc::clone(&store),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        hash_threads: HashPool::default_threads(),
        stop: stop.clone(),
    };
    let test_keys = config.test_keys(settings);
    let service =
        Arc::new(Service::new(&config, test_keys, serving.edge_token.as_ref(), around).await?);
    report_edge_access(&serving);
    measure_hash(&service.pool, config.iterations).await?;

    let clock = Arc::clone(&service.clock);
    let tls = load_tls("admin", serving.tls, &clock).await?;
    let edge_tls = load_tls("edge", serving.edge_tls, &clock).await?;
    let admin_listener = bind("KEYGATE_LISTEN", serving.listen).await?;
    let edge_listener = bind("KEYGATE_EDGE_LISTEN", serving.edge_listen).await?;
    let (admin_address, edge_address) = (admin_listener.local_addr()?, edge_listener.local_addr()?);
    let servers = [
        Server {
            name: "admin",
            listener: admin_listener,
            tls: tls.as_ref().map(Tls::acceptor),
            router: admin::router(&service, prometheus.clone()),
            max_connections: ADMIN_CONNECTIONS,
            header_timeout: ADMIN_HEADER_TIMEOUT,
            idle: ADMIN_IDLE,
            drain: DRAIN,
        },
        Server {
            name: "edge",
            listener: edge_listener,
            tls: edge_tls.as_ref().map(Tls::acceptor),
            router: edge::router(&service),
            max_connections: EDGE_CONNECTIONS,
            header_timeout: EDGE_HEADER_TIMEOUT,
            idle: EDGE_IDLE,
            drain: DRAIN,
        },
    ];
    let mut tasks = Tasks::new(stop.clone());
    let writers_stop = CancellationToken::new();
    let mut writers = Tasks::new(writers_stop.clone());
    let (recording, touching) = (Arc::clone(&service), Arc::clone(&service));
    let (stop_recording, stop_touching) = (writers_stop.clone(), writers_stop.clone());
    writers.spawn("audit recorder", async move { recording.recorder.run(stop_recording).await });
    writers.spawn("last-used writer", async move {
        touching.last_used.run(&*touching.store, stop_touching).await;
    });
    let upkeep_of = Arc::clone(&service);
    let stop_upkeep = writers_stop.clone();
    writers.spawn("credential upkeep", async move {
        upkeep_of.verifier.run_upkeep(stop_upkeep).await;
    });
    let (keeping, stop_keeping) = (Arc::clone(&service), writers_stop.clone());
    writers.spawn("audit keeper", async move { keeping.audit_keeper.run(stop_keeping).await });
    for server in servers {
        tasks.spawn(server.name, server.run(stop.clone()));
    }
    for tls in [tls, edge_tls].into_iter().flatten() {
        tasks.spawn("TLS files", tls.watch(stop.clone()));
    }
    tasks.spawn("feed watcher", watch_feed(Arc::clone(&store), stop.clone()));
    tasks.spawn("metrics upkeep", upkeep(prometheus, stop.clone()));
    let (pool, pool_stop) = (Arc::clone(&service.pool), stop.clone());
    tasks.spawn("hashing threads", async move {
        tokio::select! { () = pool.failed() => {}, () = pool_stop.cancelled() => {} }
    });

    tracing::info!(
        admin = %admin_address, edge = %edge_address, environment = %config.environment,
        database = %config.database, test_keys = service.test_keys,
        version = env!("CARGO_PKG_VERSION"), "keygate is ready"
    );
    Ok(Running { service, tasks, writers })
}

impl Running {
    /// Runs until a signal, or until a part fails; then ends everything in order.
    async fn until_told(mut self, signals: &mut Signals) -> anyhow::Result<()> {
        let result = tokio::select! {
            name = signals.next() => {
                tracing::info!(
                    signal = name,
                    "ending: what is under way may take {} s",
                    DRAIN.as_secs()
                );
                Ok(())
            }
            name = self.tasks.first_end() => Err(ended_by_itself(name)),
            name = self.writers.first_end() => Err(ended_by_itself(name)),
        };
        tokio::select! {
            () = self.end() => tracing::info!("ended"),
            name = signals.next() => tracing::warn!(signal = name, "ended at once: told so twice"),
        }
        result
    }

    async fn end(&mut self) {
        self.tasks.end(DRAIN + Duration::from_secs(1)).await;
        let changes = &self.service.changes;
        changes.close();
        if tokio::time::timeout(DRAIN, changes.wait()).await.is_err() {
            tracing::warn!(left = changes.len(), "changes were cut off");
        }
        self.writers.end(DRAIN).await;
        // Last of all, when nobody writes any more.
        let vouch = self.service.audit_keeper.checkpoint(Reason::Shutdown);
        match tokio::time::timeout(LAST_CHECKPOINT, vouch).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last checkpoint cannot be written"),
            Err(_) => tracing::error!("the last checkpoint was cut off"),
        }
        self.service.store.close().await;
    }
}

fn ended_by_itself(task: &str) -> anyhow::Error {
    anyhow::anyhow!("the task `{task}` ended by itself; the log says why")
}

async fn load_tls(
    listener: &'static str,
    files: Option<TlsFiles>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<Tls>, ConfigError> {
    match files {
        Some(files) => Tls::load(listener, files, Arc::clone(clock)).await.map(Some),
        None => Ok(None),
    }
}

/// Says what keeps filters out, and what lets others listen in.
fn report_edge_access(serving: &ServeConfig) {
    let certified = serving.edge_tls.as_ref().is_some_and(|it| it.client_authorities.is_some());
    if serving.edge_token.is_none() && !certified {
        tracing::error!(
            "KEYGATE_EDGE_TOKEN is not set, nor is KEYGATE_EDGE_TLS_CLIENT_CA_FILE: every \
             call of a filter is refused (make a token: openssl rand -hex 32)"
        );
    }
    let listeners = [
        ("KEYGATE_LISTEN", serving.listen, serving.tls.is_some()),
        ("KEYGATE_EDGE_LISTEN", serving.edge_listen, serving.edge_tls.is_some()),
    ];
    for (setting, address, secured) in listeners {
        if !secured && !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "{setting} is reachable from other machines without TLS: keys cross the network \
                 readable (docs/tls.md)"
            );
        }
    }
}

/// Binds a listener, or says which setting to change.
async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, ConfigError> {
    TcpListener::bind(address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => "the port is taken by another program".to_owned(),
            _ => error.to_string(),
        };
        crate::config::wrong(setting, format!("cannot listen on {address}: {why}"))
    })
}

/// Says what one hash costs on this machine, since that bounds how many new keys a second can be
/// verified.
async fn measure_hash(pool: &HashPool, iterations: Iterations) -> anyhow::Result<()> {
    let key = PresentedKey::new(b"what does one hash cost here?".as_slice()).context("a key")?;
    let started = Instant::now();
    pool.hash(Arc::new(key), HashRecipe::current(iterations, [0; 16])).await?;
    let took = started.elapsed();
    ::metrics::gauge!(metrics::HASH_SECONDS).set(took.as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "a handful of threads")]
    let per_second = pool.threads() as f64 / took.as_secs_f64().max(f64::EPSILON);
    tracing::info!(
        took_ms = took.as_millis(),
        iterations = iterations.get(),
        threads = pool.threads(),
        "one hash; {per_second:.0} new keys a second"
    );
    if took > SLOW_HASH {
        tracing::warn!(
            took_ms = took.as_millis(),
            "hashing is slow here: the machine lacks SHA instructions, or is busy"
        );
    }
    Ok(())
}

async fn watch_feed(store: Arc<dyn Store>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(FEED_REFRESH) => {}
            () = stop.cancelled() => return,
        }
        match store.refresh().await {
            Ok(()) => failing = false,
            // Once is enough: the next one comes in a tenth of a second.
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "changes cannot be looked for");
            }
            Err(_) => {}
        }
    }
}

async fn upkeep(
    prometheus: metrics_exporter_prometheus::PrometheusHandle,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(METRICS_UPKEEP) => prometheus.run_upkeep(),
            () = stop.cancelled() => return,
        }
    }
}

/// Those that tell the service to end.
struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let term = signal(SignalKind::terminate()).context("SIGTERM")?;
        let interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        Ok(Self { term, interrupt })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tasks that all belong to the service: when one of them ends before its time, by a panic say,
/// the service ends.
struct Tasks {
    running: JoinSet<()>,
    names: std::collections::HashMap<tokio::task::Id, &'static str>,
    stop: CancellationToken,
}

impl Tasks {
    fn new(stop: CancellationToken) -> Self {
        Self { running: JoinSet::new(), names: std::collections::HashMap::new(), stop }
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.running.spawn(task);
        self.names.insert(handle.id(), name);
    }

    /// The name of the first task that ends before it was told to.
    async fn first_end(&mut self) -> &'static str {
        match self.running.join_next_with_id().await {
            Some(Ok((id, ()))) => self.name(id),
            Some(Err(error)) => {
                let name = self.name(error.id());
                tracing::error!(task = name, %error, "a task failed");
                name
            }
            None => std::future::pending().await,
        }
    }

    fn name(&self, id: tokio::task::Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unnamed")
    }

    /// Tells all to end, and waits until they have, or for so long.
    async fn end(&mut self, patience: Duration) {
        self.stop.cancel();
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!(left = self.running.len(), "tasks were cut off");
            self.running.shutdown().await;
        }
    }
}
