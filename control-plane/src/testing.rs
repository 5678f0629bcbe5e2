//! A service on a database of its own, for tests: the real store, a clock that stands still.

pub(crate) mod postgres;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode},
    response::Response,
};
use edge_protocol::{Deployment, KeyEnvironment, Scope};
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusBuilder;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{
    admin,
    audit::Actor,
    clock::testing::ManualClock,
    config::{
        AdminLimitsConfig, AuditConfig, Config, DatabaseUrl, SecretKey, TestKeys, UsageConfig,
    },
    edge,
    http::Peer,
    keys::{Key, hashing::Iterations, issue::IssuedKey, new_key::NewKeyRequest},
    random::SystemRandom,
    service::{Service, Surroundings},
    store::{self, AuditFilter, Store, sqlite},
};
use postgres::Scratch;

pub(crate) const EDGE_TOKEN: &str = "an edge token, long enough";
pub(crate) const START: &str = "2026-11-25T12:00:00Z";

/// A database with its tables, gone with the last who has it.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) url: DatabaseUrl,
    /// The folder of the `SQLite` file.
    pub(crate) folder: Arc<TempDir>,
    /// The `SQLite` file.
    pub(crate) path: PathBuf,
    /// What it is on `PostgreSQL`.
    scratch: Option<Arc<Scratch>>,
}

impl Database {
    /// A `SQLite` file.
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("keygate.db");
        let url = DatabaseUrl::Sqlite(path.clone());
        store::migrate(&url).await.expect("migrations");
        Self { url, folder: Arc::new(folder), path, scratch: None }
    }

    /// The same on `PostgreSQL`.
    pub(crate) async fn postgres() -> Self {
        let scratch = Scratch::migrated().await;
        let folder = Arc::new(TempDir::new().expect("a folder"));
        let url = scratch.url.clone();
        Self { url, folder, path: PathBuf::new(), scratch: Some(Arc::new(scratch)) }
    }

    /// The same database, for another service on it.
    pub(crate) fn copy_of_place(&self) -> Self {
        self.clone()
    }

    /// Another database in its place.
    pub(crate) fn replaced_by(&self, url: DatabaseUrl) -> Self {
        let path = match &url {
            DatabaseUrl::Sqlite(path) => path.clone(),
            DatabaseUrl::Postgres(_) => PathBuf::new(),
        };
        Self { url, path, ..self.clone() }
    }

    pub(crate) async fn open(&self) -> Arc<dyn Store> {
        store::open(&self.url).await.expect("a store")
    }

    /// Runs a statement behind the service's back; gives the number of rows that it changed.
    pub(crate) async fn execute(&self, statement: &str) -> u64 {
        self.try_execute(statement).await.expect("done")
    }

    /// The same, where it may fail.
    pub(crate) async fn try_execute(&self, statement: &str) -> Result<u64, sqlx::Error> {
        let statement = AssertSqlSafe(statement);
        if let Some(scratch) = &self.scratch {
            let done = sqlx::query(statement).execute(&mut scratch.connect().await).await?;
            return Ok(done.rows_affected());
        }
        let options = sqlite::options(&self.path);
        let mut connection = SqliteConnection::connect_with(&options).await?;
        Ok(sqlx::query(statement).execute(&mut connection).await?.rows_affected())
    }

    /// A connection to it on `PostgreSQL`.
    pub(crate) async fn connect_to_postgres(&self) -> PgConnection {
        self.scratch.as_ref().expect("PostgreSQL").connect().await
    }
}

/// Makes two tests of each of these functions, which take a [`Database`]: one for each kind.
macro_rules! on_each_database {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::testing::Database::new().await).await;
                }
            )+
        }
        mod on_postgres {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::testing::Database::postgres().await).await;
                }
            )+
        }
    };
}
pub(crate) use on_each_database;

pub(crate) fn config(database: &Database, environment: Deployment) -> Config {
    Config {
        database: database.url.clone(),
        redis: None,
        environment,
        secret_key: Some(SecretKey::from_random([0x5c; 32])),
        previous_secret_key: None,
        iterations: Iterations::default(),
        audit: AuditConfig::default(),
        require_totp: false,
        usage: UsageConfig::default(),
        admin_limits: AdminLimitsConfig::default(),
        policy: key_policy::Policy::default(),
    }
}

pub(crate) struct TestService {
    pub(crate) database: Database,
    pub(crate) service: Arc<Service>,
    pub(crate) clock: ManualClock,
    pub(crate) admin: Router,
    pub(crate) edge: Router,
    tasks: JoinSet<()>,
}

impl TestService {
    pub(crate) async fn start() -> Self {
        Self::start_with(TestKeys::Off).await
    }

    pub(crate) async fn start_with(test_keys: TestKeys) -> Self {
        let database = Database::new().await;
        let config = config(&database, Deployment::Production);
        Self::start_on(database, config, test_keys).await
    }

    /// On this database, with nothing out of the ordinary.
    pub(crate) async fn start_at(database: Database) -> Self {
        let config = config(&database, Deployment::Production);
        Self::start_on(database, config, TestKeys::Off).await
    }

    pub(crate) async fn start_on(database: Database, config: Config, test_keys: TestKeys) -> Self {
        let clock = ManualClock::at(START);
        let around = Surroundings {
            store: database.open().await,
            clock: Arc::new(clock.clone()),
            random: Arc::new(SystemRandom),
            hash_threads: NonZeroUsize::MIN,
            stop: CancellationToken::new(),
        };
        let token = SecretString::from(EDGE_TOKEN);
        let service =
            Service::new(&config, test_keys, Some(&token), around).await.expect("a service");
        let service = Arc::new(service);
        let mut tasks = JoinSet::new();
        let recording = Arc::clone(&service);
        tasks.spawn(async move { recording.recorder.run(recording.stop.clone()).await });
        let keeping = Arc::clone(&service);
        tasks.spawn(async move { keeping.verifier.run_upkeep(keeping.stop.clone()).await });
        let prometheus = PrometheusBuilder::new().build_recorder().handle();
        let (admin, edge) = (admin::router(&service, prometheus), edge::router(&service));
        Self { database, service, clock, admin, edge, tasks }
    }

    /// Ends the background tasks, which write what is left.
    pub(crate) async fn stop(mut self) -> Database {
        self.service.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.service.store.close().await;
        self.database
    }

    pub(crate) async fn issue(&self, request: NewKeyRequest) -> (Key, String) {
        use crate::clock::Clock;
        let new = request.check(self.clock.now()).expect("valid");
        let IssuedKey { key, api_key } =
            self.service.issuer.issue(new, &Actor::CommandLine).await.expect("a key");
        (key, api_key.expose_secret().to_owned())
    }

    pub(crate) async fn issue_admin(&self) -> (Key, String) {
        self.issue(NewKeyRequest { scope: Scope::Admin, ..request("admin") }).await
    }

    /// Names and details of the audit log, oldest first, without those of calls that were answered
    /// or refused and changed nothing: most tests are about something else.
    pub(crate) async fn audit(&self) -> Vec<(String, String)> {
        let mut events = self.whole_audit().await;
        events.retain(|(kind, _)| {
            !["ADMIN_READ", "ADMIN_REFUSED", "ADMIN_FAILED"].contains(&kind.as_str())
        });
        events
    }

    /// All of it, once what was noted is written.
    pub(crate) async fn whole_audit(&self) -> Vec<(String, String)> {
        // Where the recorder cannot write, or does not run, it is shown as it is.
        for _ in 0..1000 {
            if self.service.recorder.backlog().events == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        let rows =
            self.service.store.audit_rows(&AuditFilter::default(), 1000).await.expect("rows");
        let mut events: Vec<_> = rows
            .into_iter()
            .map(|row| (row.entry.event.kind.to_string(), row.entry.event.details))
            .collect();
        events.reverse();
        events
    }
}

/// A request for a key with that name and nothing else.
pub(crate) fn request(name: &str) -> NewKeyRequest {
    NewKeyRequest {
        name: name.to_owned(),
        description: None,
        owner: None,
        scope: Scope::Read,
        environment: KeyEnvironment::Live,
        allowed_ips: None,
        rate_limit: None,
        metadata: None,
        expires_at: None,
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?} is no JSON"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }

    /// Status and code of a problem.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status.as_u16());
        assert!(body["instance"].as_str().is_some_and(|it| it.starts_with("urn:keygate:request:")));
        (self.status.as_u16(), body["code"].as_str().expect("a code").to_owned())
    }
}

pub(crate) async fn send(router: &Router, mut request: Request<Body>) -> Answer {
    let peer: SocketAddr = "192.0.2.7:55555".parse().expect("an address");
    request.extensions_mut().insert(Peer(peer));
    let response: Response = router.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}
