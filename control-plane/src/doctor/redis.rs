//! Whether Redis can be reached and written, and whether it asks who comes.

use super::finding::{Check, Finding};
use crate::{config::RedisConfig, redis};

/// Connects, and writes a key that is gone a minute later.
pub(super) async fn examine(config: Option<&RedisConfig>) -> Finding {
    let Some(config) = config else {
        let why = "KEYGATE_REDIS_URL is not set: each control plane counts in its own memory";
        return Finding::skipped(Check::Redis, why);
    };
    let url = &config.url;
    match redis::check(config).await {
        // The service goes on without it, but by itself.
        Err(fault) => Finding::warning(
            Check::Redis,
            format!("{url} cannot be used: {fault}"),
            "see docs/redis.md; until then each control plane counts by itself",
        ),
        Ok(()) if url.login.password.is_none() && config.tls.is_none() => Finding::warning(
            Check::Redis,
            format!("{url} can be written by everybody who reaches it"),
            "give it a password (requirepass, or a user of its own as docs/redis.md shows)",
        ),
        Ok(()) => Finding::ok(Check::Redis, format!("{url} can be written")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Status, redis::testing::configured};
    use xtask::servers::redis::{RedisOptions, RedisServer};

    async fn status(url: &str) -> Status {
        let finding = examine(Some(&configured(&[("KEYGATE_REDIS_URL", url)]))).await;
        assert!(!finding.what.contains("canary"), "{finding:?}");
        finding.status
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_redis_that_is_open_or_cannot_be_used_is_warned_of() {
        assert_eq!(examine(None).await.status, Status::Skipped);
        let server = RedisServer::start(RedisOptions::default()).expect("a server");
        assert_eq!(status(&server.url()).await, Status::Warning);
        server.cli(&["CONFIG", "SET", "requirepass", "canary"]).expect("set");
        assert_eq!(status(&server.url()).await, Status::Warning);
        let url = format!("redis://:canary@127.0.0.1:{}", server.port());
        assert_eq!(status(&url).await, Status::Ok);
    }
}
