//! A Cluster of three nodes.

use anyhow::{Context, Result};

use super::{PATIENCE, RedisOptions, RedisServer};
use crate::stack::free_port;
use crate::wait;

/// The slots of each node; together all 16384.
const SLOTS: [(&str, &str); 3] = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];

/// The nodes. Dropping it ends them.
#[derive(Debug)]
pub struct RedisCluster {
    /// Each has a third of the slots.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts three nodes and waits until all of them say that the cluster is whole.
    ///
    /// # Errors
    /// When a node does not come up, or they do not agree.
    pub fn start() -> Result<Self> {
        let mut nodes = Vec::new();
        for _ in SLOTS {
            // The bus has a port of its own, for which the port plus 10000 may be too high.
            let settings = vec![
                "cluster-enabled yes".to_owned(),
                "cluster-config-file nodes.conf".to_owned(),
                "cluster-node-timeout 2000".to_owned(),
                format!("cluster-port {}", free_port()?),
            ];
            nodes.push((
                settings.clone(),
                RedisServer::start(RedisOptions { settings, ..RedisOptions::default() })?,
            ));
        }
        let mut bus_ports = Vec::new();
        for ((settings, node), (first, last)) in nodes.iter().zip(SLOTS) {
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", first, last])?;
            let bus = settings.iter().find_map(|it| it.strip_prefix("cluster-port "));
            bus_ports.push((node.port().to_string(), bus.context("a bus port")?.to_owned()));
        }
        let nodes: Vec<_> = nodes.into_iter().map(|(_, node)| node).collect();
        let hub = nodes.first().context("a node")?;
        for (port, bus) in bus_ports.iter().skip(1) {
            hub.cli(&["CLUSTER", "MEET", "127.0.0.1", port, bus])?;
        }
        let cluster = Self { nodes };
        cluster.wait_whole()?;
        Ok(cluster)
    }

    /// Waits until every node says that all slots are served.
    ///
    /// # Errors
    /// When they do not.
    pub fn wait_whole(&self) -> Result<()> {
        let whole = wait::until(PATIENCE, || {
            let all = self.nodes.iter().all(|node| {
                let said = node.cli(&["CLUSTER", "INFO"]).unwrap_or_default();
                let mut lines = said.lines().map(str::trim);
                lines.clone().any(|it| it == "cluster_state:ok")
                    && lines.any(|it| it == "cluster_known_nodes:3")
            });
            Ok(all.then_some(()))
        })?;
        whole.context("the nodes do not make a cluster")
    }

    /// The URL as Keygate takes it.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<_> =
            self.nodes.iter().map(|it| format!("127.0.0.1:{}", it.port())).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_share_the_slots() {
        let cluster = RedisCluster::start().unwrap();
        // Slot 15495.
        let said = cluster.nodes[0].cli(&["SET", "a", "1"]).unwrap();
        assert!(
            said.contains(&format!("MOVED 15495 127.0.0.1:{}", cluster.nodes[2].port())),
            "{said}"
        );
    }
}
