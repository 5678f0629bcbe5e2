//! A script, and the one key that it works on.

use ::redis::ScriptInvocation;
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
