//! How long a new memds node takes to copy a peer's map, and what the map costs. Arguments: partitions (default 1,000,000), each
//! table has 1,000. `cargo run --release -p evenkeel-memds --example hydration`

use std::time::{Duration, Instant};

use bytes::Bytes;
use memds::{MemdsSettings, RouteMap};
use mesh::{Deadline, Identity, LocalBus, Mesh, TraceContext};
use model::TableId;
use paxos::{Ballot, GroupId, Member, NodeId, Role};
use protocol::directory::{
    Lookup, LookupAnswer, LookupReply, LookupRequest, PartitionInfo, PlacedMember, Push, TableRef,
};
use protocol::item::{ItemReply, PageReply};
use protocol::subjects;

const EACH: u64 = 1_000;

fn join(bus: &LocalBus, service: &str, instance: u64) -> Mesh {
    let identity = Identity {
        service: service.into(),
        instance,
        incarnation: 1,
    };
    Mesh::local(bus, identity)
}

/// The partitions of one table, on 300 nodes.
fn push(table: u64) -> Push {
    let ranges = model::key::split_table_range(TableId(100 + table), EACH as u32);
    let placed = |id: u64, n: u64| PlacedMember {
        member: Member {
            node: NodeId(1 + (id + n * 100) % 300),
            role: Role::Storage,
            incarnation: 1 + (id + n * 100) % 300,
        },
        zone: format!("az{n}"),
    };
    let partitions = ranges.into_iter().zip(16 + table * EACH..);
    Push {
        node: NodeId(1),
        partitions: partitions
            .map(|(range, id)| PartitionInfo {
                partition: GroupId(id),
                table: TableId(100 + table),
                range,
                generation: 3,
                ballot: Ballot {
                    round: 9,
                    node: NodeId(1 + id % 300),
                },
                leader: Some(NodeId(1 + id % 300)),
                members: (0..3).map(|n| placed(id, n)).collect(),
                table_version: 2,
                ..PartitionInfo::default()
            })
            .collect(),
        tables: Vec::new(),
        dropped: Vec::new(),
    }
}

async fn start(bus: &LocalBus, instance: u64) -> memds::Running {
    let settings = MemdsSettings {
        instance,
        ..MemdsSettings::default()
    };
    memds::start(settings, join(bus, "memds", instance))
        .await
        .expect("a node")
}

/// Waits until a node is ready: until it says that there is no such table.
async fn until_ready(mesh: &Mesh, instance: u64) {
    let lookup = Lookup {
        table: TableRef::Id(TableId(99)),
        key: Some(Bytes::new()),
        known_table_version: 0,
        known_partition: None,
        known_id: None,
    };
    let request = LookupRequest {
        lookups: vec![lookup],
    };
    loop {
        let deadline = Deadline::after(Duration::from_secs(60));
        let subject = subjects::memds_lookup(instance);
        let reply: LookupReply = mesh
            .call(&subject, &request, deadline, &TraceContext::default())
            .await
            .expect("an answer");
        if matches!(reply.answers[..], [LookupAnswer::NoTable]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[actix::main]
async fn main() {
    let partitions: u64 = std::env::args()
        .nth(1)
        .map_or(1_000_000, |a| a.parse().expect("a number of partitions"));
    let tables = partitions.div_ceil(EACH);

    let mut map = RouteMap::default();
    let mut pushing = Duration::ZERO;
    for table in 0..tables {
        let push = push(table);
        let began = Instant::now();
        map.push(push);
        pushing += began.elapsed();
    }
    println!(
        "{} partitions: {:.1} bytes each, {:.2} M pushed/s",
        map.partitions(),
        map.memory() as f64 / map.partitions() as f64,
        map.partitions() as f64 / pushing.as_secs_f64() / 1e6
    );
    drop(map);

    let bus = LocalBus::new();
    let mesh = join(&bus, "storage", 1);
    let items = subjects::node_item(NodeId(1));
    let answering = mesh.serve(&items, None, |delivery| {
        delivery.reply(&ItemReply::Page(PageReply::default()));
    });
    let _answering = answering.await.expect("served");
    let first = start(&bus, 1).await;
    let mut system = push(0);
    system.partitions.truncate(1);
    system.partitions[0].partition = GroupId(1);
    system.partitions[0].table = TableId(1);
    system.partitions[0].range = model::key::table_range(TableId(1));
    system.partitions[0].leader = Some(NodeId(1));
    mesh.cast(subjects::MEMDS_PUSH, &system).expect("sent");
    for table in 0..tables {
        mesh.cast(subjects::MEMDS_PUSH, &push(table)).expect("sent");
    }
    until_ready(&mesh, 1).await;
    // The first node's heartbeat says that it is ready within a second; the second one must have heard it.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let began = Instant::now();
    let second = start(&bus, 2).await;
    until_ready(&mesh, 2).await;
    println!(
        "a second node was ready after {:.2} s",
        began.elapsed().as_secs_f64()
    );
    second.stop().await;
    first.stop().await;
}
