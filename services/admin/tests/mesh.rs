//! The control plane over real storage nodes, in one process: a node dies, and its replicas are built anew elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use admin::{AdminSettings, HealingSettings};
use memds::MemdsSettings;
use mesh::{Deadline, Identity, LocalBus, Mesh, TraceContext};
use paxos::{GroupId, NodeId};
use protocol::control::{ApiCall, ApiReply};
use protocol::operate::{Answer, Command, MeshHealth, PartitionStatus};
use protocol::subjects;
use serde_json::{Value, json};
use storage::StorageSettings;

const PATIENCE: Duration = Duration::from_secs(120);

fn join(bus: &LocalBus, service: &str, instance: u64) -> Mesh {
    let identity = Identity {
        service: service.to_owned(),
        instance,
        incarnation: 1,
    };
    Mesh::local(bus, identity)
}

fn node(number: u64, folder: &std::path::Path) -> StorageSettings {
    let mut settings = StorageSettings {
        node_id: number,
        zone: format!("az{}", 1 + (number - 1) % 3),
        data_dir: folder.join(format!("node-{number}")),
        shards: 1,
        ..StorageSettings::default()
    };
    settings.timing.heartbeat_ms = 100;
    settings.timing.lease_ms = 600;
    settings.timing.election_ms = 600;
    settings.timing.candidate_ms = 600;
    settings.limits.push_every_ms = 500;
    settings
}

async fn call(mesh: &Mesh, operation: &str, body: Value) -> Option<Value> {
    let call = ApiCall {
        operation: operation.into(),
        body: body.to_string().into(),
        principal: "test".into(),
    };
    let deadline = Deadline::after(Duration::from_secs(10));
    let trace = TraceContext::default();
    match mesh
        .call(subjects::ADMIN_API, &call, deadline, &trace)
        .await
    {
        Ok(ApiReply::Ok(body)) if !body.is_empty() => serde_json::from_slice(&body).ok(),
        _ => None,
    }
}

async fn operate(mesh: &Mesh, command: Command) -> Option<Answer> {
    let deadline = Deadline::after(Duration::from_secs(1));
    let trace = TraceContext::default();
    mesh.call(subjects::ADMIN_OPERATE, &command, deadline, &trace)
        .await
        .ok()
}

async fn partitions(mesh: &Mesh) -> Vec<PartitionStatus> {
    let all = Command::Partitions {
        table: None,
        after: GroupId(0),
    };
    match operate(mesh, all).await {
        Some(Answer::Partitions { partitions, .. }) => partitions,
        _ => Vec::new(),
    }
}

async fn health(mesh: &Mesh) -> Option<MeshHealth> {
    match operate(mesh, Command::Health).await {
        Some(Answer::Health(health)) => Some(*health),
        _ => None,
    }
}

async fn until(what: &str, mesh: &Mesh, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(
            started.elapsed() < PATIENCE,
            "never: {what}; {:#?}",
            health(mesh).await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

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
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBus::new();
    let memds = memds::start(MemdsSettings::default(), join(&bus, "memds", 1))
        .await
        .unwrap();
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
    let admin = admin::start(settings, join(&bus, "admin", 1))
        .await
        .unwrap();
    let mut nodes = BTreeMap::new();
    for number in 1..=6 {
        let mesh = join(&bus, "storage", number);
        let running = storage::start(node(number, folder.path()), mesh);
        nodes.insert(number, running.await.unwrap());
    }
    let client = join(&bus, "test", 1);
    let table = json!({
        "TableName": "music",
        "AttributeDefinitions": [{"AttributeName": "artist", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    until("the table is made", &client, async || {
        call(&client, "CreateTable", table.clone()).await;
        let found = call(&client, "DescribeTable", json!({"TableName": "music"})).await;
        found.is_some_and(|found| found["Table"]["TableStatus"] == "ACTIVE")
    })
    .await;
    until("all is well", &client, async || {
        health(&client)
            .await
            .is_some_and(|h| h.healthy && h.partitions == 5)
    })
    .await;

    // A node that holds something dies: the other node of its zone takes over, by way of a log replica.
    let held = partitions(&client).await;
    let victim = held[0].replicas[0].node.0;
    nodes.remove(&victim).unwrap().halt().await;
    until("built anew", &client, async || {
        let now = partitions(&client).await;
        now.len() == held.len() && whole(&now, victim)
    })
    .await;

    // It is back, with what it had: nothing of it counts, and it gets its share in time.
    let mesh = join(&bus, "storage", victim);
    let back = storage::start(node(victim, folder.path()), mesh)
        .await
        .unwrap();
    nodes.insert(victim, back);
    until("it is alive", &client, async || {
        let health = health(&client).await;
        health.is_some_and(|h| h.healthy && h.nodes.len() == 6)
    })
    .await;

    // Another node goes in good order.
    let leaving = partitions(&client).await[0].replicas[0].node;
    until("the drain begins", &client, async || {
        let drain = Command::Drain { node: leaving };
        matches!(operate(&client, drain).await, Some(Answer::Done(_)))
    })
    .await;
    until("drained", &client, async || {
        whole(&partitions(&client).await, leaving.0)
    })
    .await;
    admin.stop().await;
    for (_, node) in nodes {
        node.stop().await;
    }
    memds.stop().await;
}
