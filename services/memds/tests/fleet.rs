//! Fleets of memds nodes on an in-process bus: what one lacks comes from the others.

use std::time::{Duration, Instant};

use bytes::Bytes;
use memds::{MemdsSettings, Running};
use mesh::{Deadline, Identity, LocalBus, Mesh, Subscription, TraceContext};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{KeyRange, TableDefinition, TableId};
use paxos::{Ballot, GroupId, Member, NodeId, Role};
use protocol::directory::{
    Lookup, LookupAnswer, LookupReply, LookupRequest, PartitionInfo, PlacedMember, Push,
    RepairRequest, TableRef,
};
use protocol::item::{ItemReply, PageReply};
use protocol::subjects;

fn join(bus: &LocalBus, service: &str, instance: u64) -> Mesh {
    let identity = Identity {
        service: service.into(),
        instance,
        incarnation: instance,
    };
    Mesh::local(bus, identity)
}

async fn start(bus: &LocalBus, instance: u64) -> Running {
    let settings = MemdsSettings {
        instance,
        zone: format!("az{instance}"),
        compare_every_ms: 50,
        hydrate_every_ms: 50,
        ..MemdsSettings::default()
    };
    memds::start(settings, join(bus, "memds", instance))
        .await
        .unwrap()
}

fn table(id: u64) -> TableDefinition {
    TableDefinition {
        id: TableId(id),
        name: format!("t{id}"),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "pk".into(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: String::new(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

/// Partition `id` of table `of`, led by node 1 in round 1.
fn partition(id: u64, of: u64, range: KeyRange) -> PartitionInfo {
    let member = |node| PlacedMember {
        member: Member {
            node: NodeId(node),
            role: Role::Storage,
            incarnation: node,
        },
        zone: format!("az{node}"),
    };
    PartitionInfo {
        partition: GroupId(id),
        table: TableId(of),
        range,
        generation: 1,
        ballot: Ballot {
            round: 1,
            node: NodeId(1),
        },
        leader: Some(NodeId(1)),
        members: (1..=3).map(member).collect(),
        table_version: 1,
        ..PartitionInfo::default()
    }
}

/// One push for each of `tables` tables (100, 101 …) with `each` partitions.
fn pushes(tables: u64, each: u64) -> Vec<Push> {
    let of_table = |t: u64| {
        let ranges = model::key::split_table_range(TableId(100 + t), each as u32);
        let numbered = ranges.into_iter().zip(1_000 + t * each..);
        Push {
            node: NodeId(1),
            partitions: numbered
                .map(|(range, id)| partition(id, 100 + t, range))
                .collect(),
            tables: vec![table(100 + t)],
            dropped: Vec::new(),
        }
    };
    (0..tables).map(of_table).collect()
}

/// A storage node with the system table, which knows the names of no tables, so that maps get ready.
async fn system_node(bus: &LocalBus) -> Vec<Subscription> {
    let mesh = join(bus, "storage", 1);
    let items = subjects::node_item(NodeId(1));
    let answering = mesh.serve(&items, None, |delivery| {
        delivery.reply(&ItemReply::Page(PageReply::default()));
    });
    let pusher = mesh.clone();
    let pushing = mesh.serve(subjects::MEMDS_HYDRATE, None, move |_| {
        let push = Push {
            node: NodeId(1),
            partitions: vec![partition(1, 1, model::key::table_range(TableId(1)))],
            tables: Vec::new(),
            dropped: Vec::new(),
        };
        pusher.cast(subjects::MEMDS_PUSH, &push).unwrap();
    });
    vec![answering.await.unwrap(), pushing.await.unwrap()]
}

async fn call<Q: serde::Serialize, R: serde::de::DeserializeOwned>(
    mesh: &Mesh,
    subject: &str,
    request: &Q,
) -> R {
    let deadline = Deadline::after(Duration::from_secs(20));
    mesh.call(subject, request, deadline, &TraceContext::default())
        .await
        .unwrap()
}

/// Gives a push to one node only, as if all others had lost it.
async fn push_to(mesh: &Mesh, instance: u64, push: Push) {
    let request = RepairRequest {
        offered: push,
        wanted: Vec::new(),
    };
    let _: Push = call(mesh, &subjects::memds_repair(instance), &request).await;
}

/// What a node says of a key.
async fn ask(mesh: &Mesh, instance: u64, of: u64, key: &Bytes) -> LookupAnswer {
    let lookup = Lookup {
        table: TableRef::Id(TableId(of)),
        key: Some(key.clone()),
        known_table_version: 0,
        known_partition: None,
        known_id: None,
    };
    let request = LookupRequest {
        lookups: vec![lookup],
    };
    let reply: LookupReply = call(mesh, &subjects::memds_lookup(instance), &request).await;
    reply.answers.into_iter().next().unwrap()
}

async fn round_of(mesh: &Mesh, instance: u64, of: u64, key: &Bytes) -> Option<u64> {
    match ask(mesh, instance, of, key).await {
        LookupAnswer::Found { partition, .. } => partition.map(|p| p.ballot.round),
        _ => None,
    }
}

/// Whether the node would say that there is no such table.
async fn ready(mesh: &Mesh, instance: u64) -> bool {
    let answer = ask(mesh, instance, 99, &Bytes::new()).await;
    matches!(answer, LookupAnswer::NoTable)
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn first_key(push: &Push, index: usize) -> Bytes {
    push.partitions[index].range.start.clone()
}

#[actix::test]
async fn lost_pushes_and_stale_content_are_repaired() {
    let bus = LocalBus::new();
    let nodes = [
        start(&bus, 1).await,
        start(&bus, 2).await,
        start(&bus, 3).await,
    ];
    let mesh = join(&bus, "test", 1);
    let pushes = pushes(3, 20);
    // Each node heard of another table, node 3 also of something newer, node 2 of a drop.
    for (push, instance) in pushes.iter().zip(1..) {
        push_to(&mesh, instance, push.clone()).await;
    }
    let mut newer = pushes[0].clone();
    newer.partitions.truncate(1);
    newer.partitions[0].ballot.round = 7;
    newer.tables.clear();
    push_to(&mesh, 3, newer).await;
    let gone = pushes[2].partitions[4].clone();
    let drop = Push {
        node: NodeId(0),
        partitions: Vec::new(),
        tables: Vec::new(),
        dropped: vec![gone.partition],
    };
    push_to(&mesh, 2, drop).await;
    for instance in 1..=3 {
        for (t, push) in pushes.iter().enumerate() {
            let key = first_key(push, 0);
            let expected = if t == 0 { 7 } else { 1 };
            until("every node has the newest of every table", || async {
                round_of(&mesh, instance, 100 + t as u64, &key).await == Some(expected)
            })
            .await;
        }
        until("what was dropped is gone everywhere", || async {
            let round = round_of(&mesh, instance, 102, &gone.range.start).await;
            round.is_none()
        })
        .await;
    }
    // And it does not come back with a late push.
    let mut late = pushes[2].clone();
    late.partitions[4].ballot.round = 9;
    mesh.cast(subjects::MEMDS_PUSH, &late).unwrap();
    for instance in 1..=3 {
        let round = round_of(&mesh, instance, 102, &gone.range.start).await;
        assert_eq!(round, None);
    }
    for node in nodes {
        node.stop().await;
    }
}

#[actix::test]
async fn a_new_node_copies_a_ready_one_while_pushes_arrive() {
    let bus = LocalBus::new();
    let _system = system_node(&bus).await;
    let first = start(&bus, 1).await;
    let mesh = join(&bus, "test", 1);
    let pushes = pushes(30, 200);
    for push in &pushes {
        mesh.cast(subjects::MEMDS_PUSH, push).unwrap();
    }
    until("the first node is ready", || ready(&mesh, 1)).await;
    let second = start(&bus, 2).await;
    // News while the copy is under way.
    for round in 2..=20 {
        for push in pushes.iter().step_by(3) {
            let mut push = push.clone();
            push.partitions.truncate(10);
            for partition in &mut push.partitions {
                partition.ballot.round = round;
            }
            mesh.cast(subjects::MEMDS_PUSH, &push).unwrap();
        }
        tokio::task::yield_now().await;
    }
    until("the second node is ready", || ready(&mesh, 2)).await;
    for (t, push) in pushes.iter().enumerate() {
        let of = 100 + t as u64;
        let news = if t % 3 == 0 { 20 } else { 1 };
        let fresh = round_of(&mesh, 2, of, &first_key(push, 5)).await;
        assert_eq!(fresh, Some(news), "table {of}");
        // This came before the node was there: by the copy, or by a repair when it got ready by the system table first.
        let key = first_key(push, 150);
        until("the second node has everything", || async {
            round_of(&mesh, 2, of, &key).await == Some(1)
        })
        .await;
    }
    first.stop().await;
    let key = first_key(&pushes[7], 7);
    assert_eq!(round_of(&mesh, 2, 107, &key).await, Some(1));
    second.stop().await;
}
