//! A control plane in this process, on a SQLite file of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use http::{HeaderMap, Request, StatusCode};
use keygate::audit::Actor;
use keygate::audit::chain::check::Trust;
use keygate::audit::verify::{Scope, verify};
use keygate::clock::{Clock, SystemClock};
use keygate::config::{Config, DatabaseUrl, Flags, TestKeys, load};
use keygate::http::Peer;
use keygate::random::SystemRandom;
use keygate::service::{Service, Surroundings};
use keygate::{admin, edge, store};
use metrics_exporter_prometheus::PrometheusBuilder;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// After so many calls there is another one: a database that grows answers ever more slowly.
const CALLS: u32 = 5000;
/// The longest that an answer may take. A poll that finds nothing new is waited for no longer.
const PATIENCE: Duration = Duration::from_secs(4);

pub(super) const EDGE_TOKEN: &str = "an edge token, long enough";

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A control plane.
pub(super) struct ControlPlane {
    pub(super) admin_key: String,
    service: Arc<Service>,
    admin: Router,
    edge: Router,
    calls: u32,
    runtime: Runtime,
    _folder: TempDir,
}

/// Does something with the control plane of this process.
pub(super) fn with<T>(act: impl FnOnce(&mut ControlPlane) -> T) -> T {
    static ONE: OnceLock<Mutex<ControlPlane>> = OnceLock::new();
    let one = ONE.get_or_init(|| Mutex::new(ControlPlane::start()));
    let mut one = one.lock().unwrap_or_else(PoisonError::into_inner);
    if one.calls >= CALLS {
        one.verify_log();
        *one = ControlPlane::start();
    }
    act(&mut one)
}

/// The configuration of a control plane on a file: in development, with the cheapest hash.
pub(super) fn config(database: DatabaseUrl) -> Config {
    let variables = BTreeMap::from([
        ("KEYGATE_ENVIRONMENT", "development"),
        ("KEYGATE_SECRET_KEY", "8f1b0c5d2e7a4936b1c8d5e2f7a4091c3d6e9f2a5b8c1d4e7f0a3b6c9d2e5f81"),
        ("KEYGATE_PBKDF2_ITERATIONS", "1000"),
        ("KEYGATE_ADMIN_RATE_LIMIT", "1000000"),
        ("KEYGATE_ADMIN_FAILURE_LIMIT", "1000000"),
    ]);
    let variable = |name: &str| variables.get(name).map(Into::into);
    let settings = load(&Flags::default(), false, &variable).expect("settings");
    Config { database, ..Config::new(&settings).expect("a configuration") }
}

impl ControlPlane {
    fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let url = DatabaseUrl::Sqlite(folder.path().join("keygate.db"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = config(url);
        let service = runtime.block_on(async {
            store::migrate(&config.database).await.expect("migrations");
            let around = Surroundings {
                store: store::open(&config.database).await.expect("a store"),
                clock: Arc::new(SystemClock),
                random: Arc::new(SystemRandom),
                hash_threads: NonZeroUsize::MIN,
                stop: CancellationToken::new(),
            };
            let token = SecretString::from(EDGE_TOKEN);
            Service::new(&config, TestKeys::On, Some(&token), around).await.expect("a service")
        });
        let service = Arc::new(service);
        let recording = Arc::clone(&service);
        runtime.spawn(async move { recording.recorder.run(recording.stop.clone()).await });
        let prometheus = PrometheusBuilder::new().build_recorder().handle();
        let mut started = Self {
            admin_key: String::new(),
            admin: admin::router(&service, prometheus),
            edge: edge::router(&service),
            service,
            calls: 0,
            runtime,
            _folder: folder,
        };
        started.new_admin_key();
        started
    }

    /// An admin key that surely works: what is sent may have ended the one before.
    pub(super) fn new_admin_key(&mut self) {
        let asked = serde_json::from_str::<keygate::keys::new_key::NewKeyRequest>(
            r#"{"name": "fuzz", "scope": "admin"}"#,
        );
        let new = asked.expect("a request").check(SystemClock.now()).expect("valid");
        let issued = self.service.issuer.issue(new, &Actor::CommandLine);
        let issued = self.runtime.block_on(issued).expect("a key");
        issued.api_key.expose_secret().clone_into(&mut self.admin_key);
    }

    pub(super) fn call_admin(&mut self, request: Request<Body>) -> Option<Answer> {
        self.call(self.admin.clone(), request)
    }

    pub(super) fn call_edge(&mut self, request: Request<Body>) -> Option<Answer> {
        self.call(self.edge.clone(), request)
    }

    /// How many batches the audit log has.
    pub(super) fn log_batches(&self) -> u64 {
        self.runtime.block_on(self.service.store.chain_head()).expect("the log's end").sequence
    }

    fn call(&mut self, router: Router, mut request: Request<Body>) -> Option<Answer> {
        self.calls += 1;
        let peer: SocketAddr = "192.0.2.7:55555".parse().expect("an address");
        request.extensions_mut().insert(Peer(peer));
        self.runtime.block_on(async {
            let answer = async {
                let response = router.oneshot(request).await.expect("routers do not fail");
                let (parts, body) = response.into_parts();
                let body = to_bytes(body, usize::MAX).await.expect("a body");
                Answer { status: parts.status, headers: parts.headers, body }
            };
            tokio::time::timeout(PATIENCE, answer).await.ok()
        })
    }

    fn verify_log(&self) {
        let scope = Scope { trust: Trust::Anyone, anchors: BTreeMap::new(), up_to: None };
        let verified = self.runtime.block_on(verify(&*self.service.store, &scope, &mut |_| {}));
        let verified = verified.expect("the log is read");
        assert!(verified.is_ok(), "the log's chain is broken: {verified:?}");
    }
}
