//! A script, and the keys that it works on.

use ::redis::{Pipeline, RedisResult, ScriptInvocation, aio::ConnectionLike};
use std::fmt;

/// How much the subjects of a run weigh at most, but for a single one: meanwhile Redis serves nobody else, and
/// more would make it no cheaper.
const WEIGHT_OF_A_RUN: usize = 64;
/// How many bytes a run is told at most, but for a single subject: what is told of a pool that Redis
/// may have forgotten takes it longer than an ask.
const TOLD_IN_A_RUN: usize = 8192;

/// A Lua script: Redis runs it as one, and knows it by its digest after the first time.
pub struct Script(::redis::Script);

impl Script {
    /// A script of that code, which has `KEYS[1]` and any number of arguments; or for
    /// [`Redis::call_each`](super::Redis::call_each) any number of keys, what they have in common,
    /// and what it is told of each.
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

    /// As [`Self::on`], for one of several subjects.
    pub(super) fn of<'a>(&'a self, common: &[u64], subject: &Subject) -> ScriptInvocation<'a> {
        let mut call = self.on(&subject.key, common);
        call.arg(&subject.told);
        call
    }

    /// Adds a run of it to what is sent together. It has to be loaded.
    pub(super) fn add_to(&self, pipeline: &mut Pipeline, common: &[u64], subjects: &[Subject]) {
        let run = pipeline.cmd("EVALSHA").arg(self.0.get_hash()).arg(subjects.len());
        for Subject { key, .. } in subjects {
            run.arg(&key.0);
        }
        run.arg(common);
        for Subject { told, .. } in subjects {
            run.arg(told);
        }
    }

    pub(super) async fn load(&self, connection: &mut impl ConnectionLike) -> RedisResult<()> {
        self.0.prepare_invoke().load_async(connection).await.map(|_| ())
    }
}

/// What a script works on along with others.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The key.
    pub key: SharedKey,
    /// What the script is told of it.
    pub told: Vec<u8>,
    /// How long it takes, as many times as the quickest.
    pub weight: usize,
}

/// Cuts what is sent together into runs. While one lasts, Redis serves nobody else.
pub(super) fn runs(subjects: &[Subject]) -> Vec<&[Subject]> {
    let mut runs = Vec::new();
    let mut rest = subjects;
    while !rest.is_empty() {
        let (mut told, mut weight) = (0, 0);
        let fits = |subject: &&Subject| {
            told += subject.told.len();
            weight += subject.weight;
            told <= TOLD_IN_A_RUN && weight <= WEIGHT_OF_A_RUN
        };
        let count = rest.iter().take_while(fits).count();
        let (run, after) = rest.split_at(count.max(1));
        runs.push(run);
        rest = after;
    }
    runs
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

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(told: &[usize]) -> Vec<usize> {
        weigh(&told.iter().map(|told| (*told, 1)).collect::<Vec<_>>())
    }

    fn weigh(subjects: &[(usize, usize)]) -> Vec<usize> {
        let key = || SharedKey::new("test", "a");
        let subject = |&(told, weight): &_| Subject { key: key(), told: vec![0; told], weight };
        let subjects: Vec<_> = subjects.iter().map(subject).collect();
        runs(&subjects).into_iter().map(<[_]>::len).collect()
    }

    #[test]
    fn no_run_has_more_subjects_or_is_told_more_than_the_most() {
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&[80]), [1]);
        assert_eq!(cut(&[80; 64]), [64]);
        assert_eq!(cut(&[80; 256]), [64; 4]);
        assert_eq!(cut(&[80; 65]), [64, 1]);
        assert_eq!(cut(&[4096, 4096, 80, 9000, 9000, 80]), [2, 1, 1, 1, 1]);
        assert_eq!(weigh(&[(80, 8); 20]), [8, 8, 4]);
        assert_eq!(weigh(&[(80, 100), (80, 60), (80, 4), (80, 1)]), [1, 2, 1]);
    }
}
