//! A Cluster that loses a node, or moves a slot.

use xtask::servers::redis::{RedisCluster, RedisServer};

use super::Kept;

async fn started() -> (RedisCluster, Kept) {
    let cluster = RedisCluster::start().expect("a cluster");
    let kept = Kept::at(&cluster.url());
    kept.becomes(true).await;
    (cluster, kept)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_node_a_cluster_counts_as_gone_until_it_is_back() {
    let (mut cluster, kept) = started().await;
    cluster.nodes[1].process_mut().kill().expect("killed");
    kept.becomes(false).await;
    assert!(kept.redis.probe().await.is_err());
    cluster.nodes[1].restart().expect("restarted");
    cluster.wait_whole().expect("whole");
    kept.becomes(true).await;
    for number in 0..10 {
        kept.keeps(&number.to_string(), number).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_followed() {
    let (cluster, kept) = started().await;
    let id = |node: &RedisServer| node.cli(&["CLUSTER", "MYID"]).expect("said").trim().to_owned();
    let first = id(&cluster.nodes[0]);
    // Slot 15495 is the third's, and has the key `{a}`.
    for node in cluster.nodes.iter().rev() {
        node.cli(&["CLUSTER", "SETSLOT", "15495", "NODE", &first]).expect("moved");
    }
    kept.keeps("a", 5).await;
    let said = cluster.nodes[0].cli(&["GET", "keygate:test:{a}"]).expect("said");
    assert_eq!(said.trim(), "5");
}
