//! Each form of the URL connects, and who cannot connect is told why.

use xtask::servers::redis::{RedisCluster, RedisOptions, RedisSentinels, RedisServer};

use super::{Kept, configured};
use crate::redis::{RedisFault, check};

async fn fault_with(variables: &[(&str, &str)]) -> RedisFault {
    check(&configured(variables)).await.expect_err("it connects")
}

fn tls(password: Option<&str>) -> RedisServer {
    let password = password.map(str::to_owned);
    let options = RedisOptions { password, tls: true, ..RedisOptions::default() };
    RedisServer::start(options).expect("a server")
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_password_and_a_database_of_its_own_is_used() {
    let options =
        RedisOptions { password: Some("p@ss/word".to_owned()), ..RedisOptions::default() };
    let server = RedisServer::start(options).expect("a server");
    let kept = Kept::at(&format!("redis://:p%40ss%2Fword@127.0.0.1:{}/3", server.port()));
    kept.becomes(true).await;
    kept.keeps("a", 7).await;
    assert_eq!(server.cli(&["-n", "3", "GET", "keygate:test:{a}"]).expect("said").trim(), "7");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_with_an_authority_of_ones_own() {
    let server = tls(Some("word"));
    let url = server.url();
    let authority = &server.certificates().expect("certificates").authority;
    let kept = Kept::with(configured(&[
        ("KEYGATE_REDIS_URL", &url),
        ("KEYGATE_REDIS_CA_FILE", path(authority)),
    ]));
    kept.becomes(true).await;
    kept.keeps("a", 1).await;

    let fault = fault_with(&[("KEYGATE_REDIS_URL", &url)]).await;
    assert!(fault.to_string().contains("KEYGATE_REDIS_CA_FILE"), "{fault}");
    let plain = url.replace("rediss", "redis");
    fault_with(&[("KEYGATE_REDIS_URL", &plain)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let server = tls(None);
    server.cli(&["CONFIG", "SET", "tls-auth-clients", "yes"]).expect("set");
    let url = server.url();
    // What vouches for the server is as good for a client.
    let files = server.certificates().expect("certificates");
    let both =
        [("KEYGATE_REDIS_URL", url.as_str()), ("KEYGATE_REDIS_CA_FILE", path(&files.authority))];
    fault_with(&both).await;
    let kept = Kept::with(configured(&[
        both[0],
        both[1],
        ("KEYGATE_REDIS_CERT_FILE", path(&files.certificate)),
        ("KEYGATE_REDIS_KEY_FILE", path(&files.key)),
    ]));
    kept.becomes(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_lead_to_the_primary() {
    let set = RedisSentinels::start(Some("word")).expect("a set");
    let kept = Kept::at(&set.url());
    kept.becomes(true).await;
    kept.keeps("a", 1).await;
    let url = set.url().replace("/keygate", "/another");
    let fault = fault_with(&[("KEYGATE_REDIS_URL", &url)]).await;
    assert!(fault.to_string().contains("no such service"), "{fault}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_used_with_all_its_nodes() {
    let cluster = RedisCluster::start().expect("a cluster");
    let kept = Kept::at(&cluster.url());
    kept.becomes(true).await;
    for number in 0..30 {
        kept.keeps(&number.to_string(), number).await;
    }
    for node in &cluster.nodes {
        let keys: u64 = node.cli(&["DBSIZE"]).expect("said").trim().parse().expect("a number");
        assert!(keys > 0, "{} has none", node.port());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_missing_or_wrong_is_said_so_and_never_shown() {
    let options = RedisOptions { password: Some("right".to_owned()), ..RedisOptions::default() };
    let server = RedisServer::start(options).expect("a server");
    for login in ["", ":canary@", "canary:canary@"] {
        let url = format!("redis://{login}127.0.0.1:{}", server.port());
        let fault = fault_with(&[("KEYGATE_REDIS_URL", &url)]).await.to_string();
        assert!(fault.contains("the user or the password of KEYGATE_REDIS_URL"), "{fault}");
        assert!(!fault.contains("canary"), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_rights_is_said_so() {
    let server = RedisServer::start(RedisOptions::default()).expect("a server");
    server.cli(&["ACL", "SETUSER", "poor", "on", ">word", "+ping"]).expect("a user");
    let url = format!("redis://poor:word@127.0.0.1:{}", server.port());
    let fault = fault_with(&[("KEYGATE_REDIS_URL", &url)]).await.to_string();
    assert!(fault.contains("docs/redis.md"), "{fault}");
}
