//! The service with a Redis that comes and goes.

use xtask::servers::redis::{RedisOptions, RedisServer};

use crate::process::{Keygate, Service, http};

fn becomes(service: &Service, status: &str, redis: &str) {
    service.eventually(&format!("it is {status}, and Redis {redis}"), || {
        let (code, body) = http(&service.admin, "GET", "/health", "", "");
        assert_eq!(code, 200, "{body}");
        let health: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        (health["status"] == status && health["redis"] == redis).then_some(())
    });
}

#[test]
fn the_service_begins_without_redis_and_takes_it_in_use_when_it_comes() {
    let options = RedisOptions { password: Some("canary".to_owned()), ..RedisOptions::default() };
    let mut redis = RedisServer::start(options).expect("a server");
    redis.process_mut().kill().expect("killed");
    let mut it = Keygate::migrated();
    it.set("KEYGATE_REDIS_URL", &redis.url());
    let mut service = it.serve(&[]);
    service.wait_for("Redis is disconnected");
    becomes(&service, "degraded", "disconnected");
    assert_eq!(http(&service.admin, "GET", "/readyz", "", "").0, 200);

    redis.restart().expect("restarted");
    becomes(&service, "healthy", "connected");
    let (_, metrics) = http(&service.admin, "GET", "/metrics", "", "");
    for line in [
        "keygate_redis_up 1",
        "keygate_redis_breaker_open 0",
        "keygate_limiter_mode{mode=\"redis\"} 1",
        "keygate_limiter_mode{mode=\"memory\"} 0",
        "keygate_task_up{task=\"redis keeper\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    service.signal("TERM");
    assert_eq!(service.end(), Some(0));
    assert!(!service.log().contains("canary"), "{}", service.log());
}

#[test]
fn a_service_that_is_ready_counts_with_redis_from_the_first_request_on() {
    let redis = RedisServer::start(RedisOptions::default()).expect("a server");
    let mut it = Keygate::migrated();
    let file = it.folder().join("redis_url");
    std::fs::write(&file, redis.url()).expect("written");
    it.set("KEYGATE_REDIS_URL_FILE", file.to_str().expect("text"));
    let service = it.serve(&[]);
    let (_, body) = http(&service.admin, "GET", "/health", "", "");
    assert!(body.contains("\"connected\"") && body.contains("healthy"), "{body}");
    assert!(body.contains("\"redis\":\"connected\""), "{body}");
}

#[test]
fn a_redis_without_a_url_or_tls_without_its_files_is_a_mistake_and_told_so() {
    for (variables, words) in [
        (&[("KEYGATE_REDIS_CA_FILE", "/nowhere")][..], "KEYGATE_REDIS_URL is not"),
        (
            &[("KEYGATE_REDIS_URL", "rediss://a"), ("KEYGATE_REDIS_CA_FILE", "/nowhere")],
            "/nowhere cannot be read",
        ),
        (
            &[("KEYGATE_REDIS_URL", "redis://a"), ("KEYGATE_REDIS_CA_FILE", "/nowhere")],
            "must begin with rediss",
        ),
        (
            &[("KEYGATE_REDIS_URL", "rediss://a"), ("KEYGATE_REDIS_CERT_FILE", "/nowhere")],
            "KEYGATE_REDIS_KEY_FILE: is not set",
        ),
    ] {
        let mut it = Keygate::migrated();
        for (name, value) in variables {
            it.set(name, value);
        }
        let refused = it.run(&["serve"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.errors.contains(words), "{words}: {refused:?}");
    }
}
