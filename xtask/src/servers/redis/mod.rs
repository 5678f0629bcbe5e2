//! A real Redis: alone, watched by Sentinels, or as a Cluster.

mod cluster;
mod sentinel;
mod server;
mod tls;

pub use cluster::RedisCluster;
pub use sentinel::RedisSentinels;
pub use server::{RedisOptions, RedisServer};
pub use tls::Certificates;

use std::time::Duration;

/// What a server needs to start, a fail-over to take place, a cluster to agree; on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
