//! The control plane over real storage nodes, in one process: a node dies, and its replicas are built anew elsewhere.

mod nodes;

use admin::{AdminSettings, HealingSettings};
use nodes::Nodes;
use paxos::NodeId;
use protocol::operate::{Answer, Command, PartitionStatus};
use serde_json::json;

/// Every partition has three healthy storage replicas in three zones, none of them on `without`.
fn whole(partitions: &[PartitionStatus], without: u64) -> bool {
    partitions.iter().all(|partition| {
        let zones: std::collections::BTreeSet<_> =
            partition.replicas.iter().map(|r| &r.zone).collect();
        let storage = |r: &protocol::operate::ReplicaStatus| {
            r.votes && r.role == paxos::Role::Storage && r.node != NodeId(without)
        };
        partition.healthy_copies == 3
            && partition.replicas.len() == 3
            && zones.len() == 3
            && partition.replicas.iter().all(storage)
    })
}

#[actix::test]
async fn of_six_nodes_one_dies_and_one_is_drained() {
    let nodes = Nodes::start(6).await;
    let settings = AdminSettings {
        found_after_ms: 500,
        lease_ms: 1_000,
        healing: HealingSettings {
            replace_after_ms: 5_000,
            repeat_ms: 1_000,
            ..HealingSettings::default()
        },
        ..AdminSettings::default()
    };
    let admin = nodes.admin(1, settings).await;
    let table = json!({
        "TableName": "music",
        "AttributeDefinitions": [{"AttributeName": "artist", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    nodes
        .until("the table is made", async || {
            nodes.call("CreateTable", table.clone()).await;
            let found = nodes
                .call("DescribeTable", json!({"TableName": "music"}))
                .await;
            found.is_some_and(|found| found["Table"]["TableStatus"] == "ACTIVE")
        })
        .await;
    nodes
        .until("all is well", async || {
            nodes
                .health()
                .await
                .is_some_and(|h| h.healthy && h.partitions == 5)
        })
        .await;

    // A node that holds something dies: the other node of its zone takes over, by way of a log replica.
    let held = nodes.all_partitions().await;
    let victim = held[0].replicas[0].node.0;
    nodes.kill(victim).await;
    nodes
        .until("built anew", async || {
            let now = nodes.partitions().await;
            now.len() == held.len() && whole(&now, victim)
        })
        .await;

    // It is back, with what it had: nothing of it counts, and it gets its share in time.
    nodes.start_node(victim).await;
    nodes
        .until("it is alive", async || {
            let health = nodes.health().await;
            health.is_some_and(|h| h.healthy && h.nodes.len() == 6)
        })
        .await;

    // Another node goes in good order.
    let leaving = nodes.all_partitions().await[0].replicas[0].node;
    nodes
        .until("the drain begins", async || {
            let drain = Command::Drain { node: leaving };
            matches!(nodes.operate(drain).await, Some(Answer::Done(_)))
        })
        .await;
    nodes
        .until("drained", async || {
            whole(&nodes.all_partitions().await, leaving.0)
        })
        .await;
    admin.stop().await;
    nodes.stop().await;
}
