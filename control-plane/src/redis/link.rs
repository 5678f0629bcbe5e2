//! A connection to Redis.

use ::redis::{
    Cmd, FromRedisValue, RedisResult, aio::MultiplexedConnection, cluster_async::ClusterConnection,
    cmd,
};

use super::script::{Script, SharedKey};

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
