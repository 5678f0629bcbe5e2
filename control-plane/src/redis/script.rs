//! A script, and the one key that it works on.

use ::redis::{Pipeline, RedisResult, ScriptInvocation, aio::ConnectionLike};
use std::fmt;

/// A Lua script: Redis runs it as one, and knows it by its digest after the first time.
pub struct Script(::redis::Script);

impl Script {
    /// A script of that code, which has `KEYS[1]` and any number of arguments.
    #[must_use]
    pub fn new(code: &str) -> Self {
        Self(::redis::Script::new(code))
    }

    pub(super) fn on<'a>(&'a self, key: &SharedKey, arguments: &[u64]) -> ScriptInvocation<'a> {
        let mut call = self.0.key(&key.0);
        for argument in arguments {
            call.arg(*argument);
        }
        call
    }

    /// Adds a run of it to what is sent together. It has to be loaded.
    pub(super) fn add_to(&self, pipeline: &mut Pipeline, key: &SharedKey, arguments: &[u64]) {
        pipeline.cmd("EVALSHA").arg(self.0.get_hash()).arg(1).arg(&key.0).arg(arguments);
    }

    pub(super) async fn load(&self, connection: &mut impl ConnectionLike) -> RedisResult<()> {
        self.0.prepare_invoke().load_async(connection).await.map(|_| ())
    }
}

/// A run of a script on a key.
#[derive(Clone, Debug)]
pub struct Run {
    /// The key.
    pub key: SharedKey,
    /// What it is given.
    pub arguments: Vec<u64>,
}

/// A key in Redis. Each is in the slot of its subject, so that what belongs to one subject can be
/// worked on together in a Cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedKey(String);

impl SharedKey {
    /// The key for that subject, among those of its kind.
    #[must_use]
    pub fn new(kind: &str, subject: &str) -> Self {
        Self(format!("keygate:{kind}:{{{subject}}}"))
    }
}

impl fmt::Display for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
