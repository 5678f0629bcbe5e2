//! Against real servers.

mod cluster;
mod forms;
mod outages;
mod sentinel;
mod service;

use std::time::Duration;

use super::{
    RedisFault, Script, SharedKey,
    testing::{Kept, PATIENCE, configured},
};

impl Kept {
    /// Keeps a number under that name, and gives back what Redis has.
    async fn keep_number(&self, name: &str, number: u64) -> Result<u64, RedisFault> {
        let script = Script::new(
            "redis.call('SET', KEYS[1], ARGV[1]) return tonumber(redis.call('GET', KEYS[1]))",
        );
        self.redis.call(&script, &SharedKey::new("test", name), &[number]).await
    }

    /// As [`Self::keep_number`], for as long as it takes a machine that is busy with other things.
    async fn keeps(&self, name: &str, number: u64) {
        let kept = async {
            while !matches!(self.keep_number(name, number).await, Ok(kept) if kept == number) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, kept).await.expect("it is kept");
    }
}
