//! What the whole service makes of it.

use axum::{body::Body, http::Request};
use edge_protocol::Deployment;
use std::{sync::Arc, time::Duration};
use xtask::servers::redis::{RedisOptions, RedisServer};

use super::{Kept, PATIENCE, configured};
use crate::{
    config::{Config, TestKeys},
    testing::{Answer, Database, TestService, config, send},
};

async fn get(it: &TestService, path: &str) -> Answer {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    send(&it.admin, request).await
}

/// Waits until `/health` says so of the service and of Redis.
async fn becomes(it: &TestService, status: &str, redis: &str) {
    let said = async {
        loop {
            let answer = get(it, "/health").await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let body = answer.json();
            if body["status"] == status && body["redis"] == redis {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("it says so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_of_redis_and_readiness_does_not_depend_on_it() {
    let mut server = RedisServer::start(RedisOptions::default()).expect("a server");
    let database = Database::new().await;
    let redis = Some(configured(&[("KEYGATE_REDIS_URL", &server.url())]));
    let config = Config { redis, ..config(&database, Deployment::Production) };
    let it = TestService::start_on(database, config, TestKeys::Off).await;
    becomes(&it, "degraded", "disconnected").await;
    let _kept = Kept::keep(Arc::clone(it.service.redis.as_ref().expect("a Redis")));
    becomes(&it, "healthy", "connected").await;

    server.process_mut().pause().expect("frozen");
    becomes(&it, "degraded", "disconnected").await;
    assert_eq!(get(&it, "/readyz").await.status, 200);
    server.process_mut().resume().expect("going on");
    becomes(&it, "healthy", "connected").await;

    server.process_mut().kill().expect("killed");
    becomes(&it, "degraded", "disconnected").await;
    assert_eq!(get(&it, "/readyz").await.status, 200);
    server.restart().expect("restarted");
    becomes(&it, "healthy", "connected").await;
}
