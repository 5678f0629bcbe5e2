//! A connection to Redis.

use ::redis::{
    Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, aio::MultiplexedConnection,
    cluster_async::ClusterConnection, cmd,
};
use std::sync::Arc;
use tokio::task::JoinSet;

use super::script::{self, Script, SharedKey, Subject};

/// What a probe writes; it is gone a minute later.
const PROBE_KEY: &str = "keygate:{probe}";
const PROBE_KEPT_MS: u32 = 60_000;

/// A connection, shared by all calls.
#[derive(Clone)]
pub(super) enum Link {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a Cluster.
    Cluster(ClusterConnection),
}

impl Link {
    /// Runs a script, which is loaded if need be.
    pub(super) async fn run<T: FromRedisValue>(
        mut self,
        script: &Script,
        key: &SharedKey,
        arguments: &[u64],
    ) -> RedisResult<T> {
        let call = script.on(key, arguments);
        match &mut self {
            Self::Server(connection) => call.invoke_async(connection).await,
            Self::Cluster(connection) => call.invoke_async(connection).await,
        }
    }

    /// Runs a script on several subjects, all sent together; what it gives for them is one after the
    /// other. Of a Cluster each node gets its own.
    pub(super) async fn run_each(
        self,
        script: &Arc<Script>,
        common: [u64; 2],
        subjects: Vec<Subject>,
    ) -> RedisResult<Vec<u8>> {
        match self {
            Self::Server(mut connection) => {
                let mut pipeline = ::redis::Pipeline::new();
                for run in script::runs(&subjects) {
                    script.add_to(&mut pipeline, &common, run);
                }
                let mut done = pipeline.query_async(&mut connection).await;
                let forgotten = ErrorKind::Server(ServerErrorKind::NoScript);
                if done.as_ref().is_err_and(|error| error.kind() == forgotten) {
                    script.load(&mut connection).await?;
                    done = pipeline.query_async(&mut connection).await;
                }
                done.map(|given: Vec<Vec<u8>>| given.concat())
            }
            Self::Cluster(connection) => run_apart(&connection, script, common, subjects).await,
        }
    }

    /// Writes something: a replica, a server without memory, and a Cluster that is not whole answer
    /// a `PING`, and are of no use.
    pub(super) async fn probe(mut self) -> RedisResult<()> {
        let mut write = cmd("SET");
        write.arg(PROBE_KEY).arg(1).arg("PX").arg(PROBE_KEPT_MS);
        self.send(&write).await?;
        if matches!(self, Self::Cluster(_)) {
            // Goes to every primary, where the write went to one.
            self.send(&cmd("PING")).await?;
        }
        Ok(())
    }

    async fn send(&mut self, command: &Cmd) -> RedisResult<()> {
        match self {
            Self::Server(connection) => command.exec_async(connection).await,
            Self::Cluster(connection) => command.exec_async(connection).await,
        }
    }
}

/// Runs a script on each subject alone: their keys may be in different slots.
async fn run_apart(
    connection: &ClusterConnection,
    script: &Arc<Script>,
    common: [u64; 2],
    subjects: Vec<Subject>,
) -> RedisResult<Vec<u8>> {
    let mut tasks = JoinSet::new();
    for (place, subject) in subjects.into_iter().enumerate() {
        let (mut connection, script) = (connection.clone(), Arc::clone(script));
        tasks.spawn(async move {
            let call = script.of(&common, &subject);
            (place, call.invoke_async::<Vec<u8>>(&mut connection).await)
        });
    }
    let mut done = tasks.join_all().await;
    done.sort_unstable_by_key(|(place, _)| *place);
    let given: RedisResult<Vec<_>> = done.into_iter().map(|(_, result)| result).collect();
    given.map(|given| given.concat())
}
