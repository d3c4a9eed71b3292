//! What archivers ask a node: logs, entries, digests; and that the log stays until it is archived, up to its limit.

mod cluster;

use std::cell::Cell;
use std::time::Duration;

use cluster::{Cluster, GROUP, PATIENCE, collection, item_of, key, key_item, put, write};
use mesh::{Deadline, TraceContext};
use model::codec::encode_item;
use model::{AttributeValue, ErrorKind};
use paxos::{Index, NodeId};
use protocol::archive::{ArchiveCall, ArchiveReply, LedLog};
use protocol::control::{Order, OrderReply};
use protocol::item::{Get, ItemFault, ItemOperation, ItemReply, WriteAction};
use protocol::subjects;
use storage::StorageSettings;

const UUID: &str = "table-20";

fn archived(settings: &mut StorageSettings) {
    settings.archive = true;
    // Truncate whatever may go.
    settings.timing.limits.floor_step_entries = 1;
}

/// The same, where leadership moves only when it is told to.
fn calmly_archived(settings: &mut StorageSettings) {
    archived(settings);
    cluster::calm(settings);
}

async fn ask(cluster: &Cluster, node: u64, call: ArchiveCall) -> ArchiveReply {
    let (deadline, trace) = (Deadline::after(PATIENCE), TraceContext::default());
    let subject = subjects::node_archive(NodeId(node));
    let asked = cluster.client.call(&subject, &call, deadline, &trace);
    asked.await.expect("answers")
}

/// The group's log as its leader's node describes it, once that satisfies.
async fn described(
    cluster: &Cluster,
    what: &str,
    holds: impl Fn(&LedLog) -> bool,
) -> (u64, LedLog) {
    let find = async || {
        for node in cluster.nodes.keys() {
            let after = paxos::GroupId(0);
            let ArchiveReply::Status { logs, next } =
                ask(cluster, *node, ArchiveCall::Status { after }).await
            else {
                panic!("no status")
            };
            assert_eq!(next, None);
            if let Some(log) = logs
                .into_iter()
                .find(|log| log.partition == GROUP && holds(log))
            {
                return Some((*node, log));
            }
        }
        None
    };
    cluster
        .until(what, || async { find().await.is_some() })
        .await;
    find().await.expect("it was there")
}

async fn committed(cluster: &Cluster, at_least: Index) -> (u64, LedLog) {
    described(cluster, "the leader describes its log", |log| {
        log.committed >= at_least
    })
    .await
}

fn digest(first: Index, last: Index) -> ArchiveCall {
    ArchiveCall::Digest {
        partition: GROUP,
        table_uuid: UUID.to_owned(),
        first,
        last,
    }
}

#[actix::test]
async fn every_replica_gives_the_same_segment_and_only_what_is_committed() {
    let cluster = Cluster::start_with(calmly_archived).await;
    cluster.create(GROUP).await;
    for n in 0..20 {
        cluster.put(&format!("item-{n}"), n).await;
    }
    let (leader, log) = committed(&cluster, 20).await;
    assert_eq!((log.table_uuid.as_str(), &log.range), (UUID, &collection()));
    assert_eq!((log.floor, log.archived, log.begins), (0, 0, 0));
    assert!(log.unarchived_bytes > 0 && log.definition.is_some());
    assert!(log.closed >= log.committed && log.closed_ms > 0);
    assert_eq!(log.replicas.len(), 3);

    let last = log.committed;
    let mut entries = Vec::new();
    while (entries.len() as Index) < last {
        let call = ArchiveCall::Entries {
            partition: GROUP,
            first: entries.len() as Index + 1,
            last,
        };
        match ask(&cluster, leader, call).await {
            ArchiveReply::Entries(more) => entries.extend(more),
            other => panic!("{other:?}"),
        }
    }
    let partition = archive::PartitionRef::new(UUID, GROUP).expect("a uuid");
    let segment = archive::segment::encode(&partition, &entries).expect("consecutive");
    let expected = archive::Digest::of(&segment);
    for node in 1..=3 {
        // A follower knows of the last commit a heartbeat later.
        cluster
            .until("the replica gives the segment's digest", || async {
                match ask(&cluster, node, digest(1, last)).await {
                    ArchiveReply::Digest(digest) => {
                        assert_eq!(&digest[..], &expected.bytes()[..], "node {node}");
                        true
                    }
                    ArchiveReply::Unavailable(_) => false,
                    other => panic!("{other:?}"),
                }
            })
            .await;
    }
    let beyond = ask(&cluster, leader, digest(1, last + 100)).await;
    assert!(matches!(beyond, ArchiveReply::Unavailable(_)), "{beyond:?}");
    let nowhere = ArchiveCall::Digest {
        partition: paxos::GroupId(99),
        table_uuid: UUID.to_owned(),
        first: 1,
        last: 2,
    };
    let nowhere = ask(&cluster, leader, nowhere).await;
    assert!(
        matches!(nowhere, ArchiveReply::Unavailable(_)),
        "{nowhere:?}"
    );
    cluster.halt().await;
}

#[actix::test]
async fn the_log_stays_until_it_is_archived_also_under_another_leader() {
    let cluster = Cluster::start_with(calmly_archived).await;
    cluster.create(GROUP).await;
    for n in 0..10 {
        cluster.put(&format!("item-{n}"), n).await;
    }
    let (leader, log) = committed(&cluster, 10).await;
    assert_eq!(log.floor, 0);
    let index = 6;
    let said = ArchiveCall::Archived {
        partition: GROUP,
        index,
    };
    let reply = ask(&cluster, leader, said.clone()).await;
    assert!(matches!(reply, ArchiveReply::Noted), "{reply:?}");
    let follower = leader % 3 + 1;
    let reply = ask(&cluster, follower, said).await;
    assert!(matches!(reply, ArchiveReply::Unavailable(_)), "{reply:?}");
    // All have flushed more than that: the log goes exactly so far.
    let (_, log) = described(&cluster, "the log is truncated", |log| log.floor > 0).await;
    assert_eq!((log.floor, log.archived), (index, index));
    cluster
        .until("the follower truncates, too", || async {
            matches!(
                ask(&cluster, follower, digest(6, 7)).await,
                ArchiveReply::Gone { floor: 6 }
            )
        })
        .await;
    let rest = ask(&cluster, leader, digest(7, 8)).await;
    assert!(matches!(rest, ArchiveReply::Digest(_)), "{rest:?}");

    let order = Order::TransferLeadership {
        partition: GROUP,
        to: NodeId(follower),
    };
    let reply = cluster.order(leader, &order).await;
    assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    for n in 10..20 {
        cluster.put(&format!("item-{n}"), n).await;
    }
    let moved = |log: &LedLog| log.committed >= 20;
    let (second, log) = described(&cluster, "another leads", moved).await;
    assert_ne!(second, leader);
    assert_eq!(
        (log.archived, log.floor),
        (0, index),
        "it knows of nothing that is archived"
    );
    cluster.halt().await;
}

fn big(name: &str) -> protocol::item::Write {
    let mut item = key_item(name);
    item.insert("text".to_owned(), AttributeValue::S("x".repeat(40 << 10)));
    write(name, WriteAction::Put(encode_item(&item)))
}

#[actix::test]
async fn a_log_that_waits_for_the_archive_grows_to_its_limit_and_reads_go_on() {
    let cluster = Cluster::start_with(|settings| {
        archived(settings);
        settings.limits.wal_segment_bytes = 128 << 10;
        settings.limits.wal_bytes_max = 256 << 10;
        // Nodes look at their logs once a second, each at a moment of its own: where followers find theirs too full first, a write that
        // the leader has let in meanwhile waits for the archive.
        settings.limits.wal_full_bytes = 2 << 20;
    })
    .await;
    cluster.create(GROUP).await;
    cluster.put("first", 1).await;
    cluster
        .until("writes are refused", || async {
            let reply = cluster.write(big("big")).await;
            matches!(reply, ItemReply::Fault(ItemFault::Api(error))
                if error.kind == ErrorKind::Throttling && error.message.contains("no space left"))
        })
        .await;
    // Whoever leads by now reads, and says why it does not write.
    let get = ItemOperation::Get(Get {
        key: key("first"),
        strong: true,
        projection: None,
    });
    match cluster.lead(GROUP, get).await {
        ItemReply::Item {
            item: Some(item), ..
        } => {
            assert_eq!(
                model::codec::decode_item(&item).expect("an item"),
                item_of("first", 1)
            );
        }
        other => panic!("{other:?}"),
    }
    cluster
        .until("the node says so", || async {
            let beats = cluster.seen.heartbeats.lock();
            let mut storage = beats.values().filter_map(|beat| beat.storage.as_ref());
            storage.any(|storage| {
                storage
                    .troubles
                    .iter()
                    .any(|t| t.contains("waits for the archive"))
            })
        })
        .await;
    // It is archived, and the node takes writes again by itself.
    let (_, log) = committed(&cluster, 10).await;
    let said = ArchiveCall::Archived {
        partition: GROUP,
        index: log.committed,
    };
    let noted = Cell::new(false);
    cluster
        .until("writes are taken again", || async {
            // Leadership may have moved meanwhile.
            for node in cluster.nodes.keys() {
                let reply = ask(&cluster, *node, said.clone()).await;
                noted.set(noted.get() || matches!(reply, ArchiveReply::Noted));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            matches!(
                cluster.write(put("last", 2)).await,
                ItemReply::Written { .. }
            )
        })
        .await;
    assert!(noted.get(), "a leader took note of it");
    assert_eq!(cluster.get("last").await, Some(item_of("last", 2)));
    cluster.halt().await;
}
