//! A network between the service and `PostgreSQL` that swallows what is sent, and tells nobody.

use edge_protocol::EventKind;
use sqlx::Executor;
use std::{pin::pin, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::PostgresStore;
use crate::{
    config::{DatabaseUrl, PostgresConfig},
    store::{
        AuditStore, ChangeFeed, SettingsStore,
        conformance::{batch_of, entry},
    },
    testing::{Database, START, at},
};

/// Far more than it takes, and far less than the quarter of an hour after which the system gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A way to a server.
struct Network {
    config: PostgresConfig,
    swallow: watch::Sender<()>,
    _at_work: JoinSet<()>,
}

impl Network {
    async fn to(config: &PostgresConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let options = config.connect_options();
        let server = format!("{}:{}", options.get_host(), options.get_port());
        let near = format!(":{}/", listener.local_addr().expect("an address").port());
        let url = config.to_string().replace(&format!(":{}/", options.get_port()), &near);
        let (swallow, swallowed) = watch::channel(());
        let mut at_work = JoinSet::new();
        at_work.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut swallowed) = (server.clone(), swallowed.clone());
                swallowed.mark_unchanged();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(server).await.expect("the server");
                    let mut pass = pin!(tokio::io::copy_bidirectional(&mut near, &mut far));
                    tokio::select! {
                        _ = &mut pass => {}
                        // Both ends stay open, and nobody looks at them.
                        _ = swallowed.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { config: url.parse().expect("a URL"), swallow, _at_work: at_work }
    }
}

#[tokio::test]
async fn connections_that_the_network_has_swallowed_are_replaced() {
    let database = Database::postgres().await;
    let DatabaseUrl::Postgres(config) = &database.url else { panic!("another database") };
    let network = Network::to(config).await;
    let store = PostgresStore::open(&network.config).await.expect("open");
    for pool in [&store.pool, &store.writers] {
        let mut in_use = Vec::new();
        for _ in 0..pool.options().get_max_connections() {
            in_use.push(pool.acquire().await.expect("a connection"));
        }
        network.swallow.send_replace(());
        drop(in_use);
        let again = async { while pool.acquire().await.is_err() {} };
        tokio::time::timeout(PATIENCE, again).await.expect("a connection");
    }
    // Who asked by a connection that had only just been used has to ask again.
    let asked = || tokio::time::timeout(Duration::from_secs(1), store.position());
    let told = async { while !matches!(asked().await, Ok(Ok(_))) {} };
    tokio::time::timeout(PATIENCE, told).await.expect("an answer");
}

#[tokio::test]
async fn a_batch_whose_answer_the_network_has_swallowed_is_a_failure_to_write() {
    let database = Database::postgres().await;
    let DatabaseUrl::Postgres(config) = &database.url else { panic!("another database") };
    let network = Network::to(config).await;
    let store = PostgresStore::open(&network.config).await.expect("open");
    let mut other = database.connect_to_postgres().await;
    let held = "BEGIN; LOCK TABLE edge_sources IN EXCLUSIVE MODE";
    other.execute(held).await.expect("held");
    let batch = batch_of("a", 1, at(START), &[entry(EventKind::InvalidKey, 1)]);
    let swallowed = async {
        let waiting =
            "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_database AS it ON it.oid = database
                       WHERE datname = current_database() AND NOT granted)";
        while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(&mut other).await.expect("said") {}
        assert!(!store.writes_fail());
        network.swallow.send_replace(());
        other.execute("ROLLBACK").await.expect("let go");
    };
    let (stored, ()) =
        tokio::join!(tokio::time::timeout(PATIENCE, store.append_batch(&batch)), swallowed);
    stored.expect("it ends").expect_err("nobody has answered");
    assert!(store.writes_fail());
}
