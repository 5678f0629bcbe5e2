//! Redis with its keeper, for tests.

use std::{collections::HashMap, ffi::OsString, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Redis;
use crate::{
    config::{self, Flags, RedisConfig},
    random::SystemRandom,
};

/// What a fail-over, a breaker's pause and a connect may take together, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn configured(variables: &[(&str, &str)]) -> RedisConfig {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    let settings =
        config::load(&Flags::default(), false, &|name| variables.get(name).map(OsString::from));
    RedisConfig::new(&settings.expect("settings")).expect("good ones").expect("a URL")
}

/// Redis with its keeper.
pub(crate) struct Kept {
    pub(crate) redis: Arc<Redis>,
    _keeper: JoinSet<()>,
}

impl Kept {
    pub(crate) fn with(config: RedisConfig) -> Self {
        Self::keep(Arc::new(Redis::new(config, Arc::new(SystemRandom))))
    }

    pub(crate) fn at(url: &str) -> Self {
        Self::with(configured(&[("KEYGATE_REDIS_URL", url)]))
    }

    pub(crate) fn keep(redis: Arc<Redis>) -> Self {
        let mut keeper = JoinSet::new();
        let kept = Arc::clone(&redis);
        keeper.spawn(async move { kept.run(CancellationToken::new()).await });
        Self { redis, _keeper: keeper }
    }

    /// Waits until calls go to Redis, or do no longer.
    pub(crate) async fn becomes(&self, in_use: bool) {
        let changed = async {
            while self.redis.is_in_use() != in_use {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let changed = tokio::time::timeout(PATIENCE, changed).await;
        assert!(changed.is_ok(), "in use: {}", self.redis.is_in_use());
    }
}
