//! What becomes of the service when a part of it dies.

use metrics_exporter_prometheus::PrometheusBuilder;
use std::{collections::HashMap, ffi::OsString, net::SocketAddr, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Running, Signals, start};
use crate::config::{self, Flags, Settings};

const PATIENCE: Duration = Duration::from_secs(20);

fn settings(folder: &TempDir) -> Settings {
    let database = format!("sqlite://{}", folder.path().join("keygate.db").display());
    let variables: HashMap<_, _> = [
        ("KEYGATE_LISTEN", "127.0.0.1:0"),
        ("KEYGATE_EDGE_LISTEN", "127.0.0.1:0"),
        ("KEYGATE_DATABASE_URL", &database),
        ("KEYGATE_SECRET_KEY", "8f0d1a4b7c3e95261d84b0f7a2c6e93d5b1f8a07c4e2d96b3a7f50c8e1d4b692"),
        ("KEYGATE_EDGE_TOKEN", "an-edge-token-that-is-long-enough"),
    ]
    .map(|(name, value)| (name, OsString::from(value)))
    .into();
    config::load(&Flags::default(), true, &|name| variables.get(name).cloned()).expect("settings")
}

async fn started(
    folder: &TempDir,
    prometheus: metrics_exporter_prometheus::PrometheusHandle,
) -> Running {
    start::start(&settings(folder), prometheus).await.expect("started")
}

async fn get(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).await.expect("connected");
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    answer
}

/// Asks for the metrics until each of these lines is among them.
async fn shows(admin: SocketAddr, lines: &[String]) {
    loop {
        let metrics = get(admin, "/metrics").await;
        if lines.iter().all(|line| metrics.lines().any(|it| it == line)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_task_that_is_killed_is_started_again_and_the_metrics_show_it() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _measured = ::metrics::set_default_local_recorder(&recorder);
    let folder = TempDir::new().expect("a folder");
    let running = started(&folder, recorder.handle()).await;
    let admin = running.admin;
    let names = [
        "feed watcher",
        "metrics upkeep",
        "audit recorder",
        "last-used writer",
        "credential upkeep",
        "audit keeper",
    ];
    let handles = names.map(|name| running.handle(name));
    let mut signals = Signals::new().expect("signals");
    let story = async {
        for (name, handle) in names.iter().zip(handles) {
            shows(admin, &[format!("keygate_task_up{{task=\"{name}\"}} 1")]).await;
            handle.abort();
            shows(
                admin,
                &[
                    format!("keygate_task_restarts_total{{task=\"{name}\"}} 1"),
                    format!("keygate_task_up{{task=\"{name}\"}} 1"),
                ],
            )
            .await;
        }
        // It writes again: a refused call is in the log before it is answered.
        let refused = get(admin, "/api/v1/admin/audit-log").await;
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    };
    tokio::select! {
        () = story => {}
        ended = running.until_told(&mut signals) => panic!("it ended: {ended:?}"),
        () = tokio::time::sleep(PATIENCE) => panic!("a task was not started again"),
    }
}

#[tokio::test]
async fn a_listener_that_dies_ends_the_service_in_order() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _measured = ::metrics::set_default_local_recorder(&recorder);
    let folder = TempDir::new().expect("a folder");
    let running = started(&folder, recorder.handle()).await;
    let store = std::sync::Arc::clone(&running.service.store);
    running.handle("edge").abort();
    let mut signals = Signals::new().expect("signals");
    let ended = tokio::time::timeout(PATIENCE, running.until_told(&mut signals)).await;
    let error = ended.expect("in time").expect_err("a failure");
    assert_eq!(error.to_string(), "the task `edge` died; the log says why");
    assert!(store.ping().await.is_err(), "the database is still open");
    assert!(recorder.handle().render().contains("keygate_task_up{task=\"edge\"} 0"));
}
