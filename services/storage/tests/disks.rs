//! Failing and full disks under running nodes: what is fenced stays fenced, the others serve; what is full sheds and recovers.

mod cluster;

use std::fs;
use std::path::{Path, PathBuf};

use cluster::{Cluster, GROUP, item_of, key, put};
use model::ErrorKind;
use paxos::GroupId;
use protocol::control::{Order, OrderReply};
use protocol::health::StorageHealth;
use protocol::item::{Get, ItemFault, ItemOperation, ItemReply};

/// What a node says of itself in its heartbeat, if it said anything.
fn said<R>(cluster: &Cluster, node: u64, of: impl Fn(&StorageHealth) -> R) -> Option<R> {
    let heartbeats = cluster.seen.heartbeats.lock();
    let beat = heartbeats.get(&node)?;
    beat.storage.as_ref().map(of)
}

async fn until_fenced(cluster: &Cluster, node: u64, groups: &[GroupId]) {
    cluster
        .until("the node names its fenced replicas", || async {
            said(cluster, node, |storage| {
                storage.fenced == groups && storage.troubles.len() >= groups.len()
            }) == Some(true)
        })
        .await;
}

fn data_dir(cluster: &Cluster, node: u64) -> PathBuf {
    cluster.settings[&node].data_dir.clone()
}

/// Changes a bit of `text` in every item: it stands in the key, too, before the item.
fn flip(file: &Path, text: &[u8]) -> usize {
    let mut bytes = fs::read(file).expect("read");
    let places: Vec<usize> = (0..bytes.len().saturating_sub(text.len()))
        .filter(|at| bytes[*at..].starts_with(text))
        .collect();
    let items = places.iter().skip(1).step_by(2);
    items.for_each(|at| bytes[at + 1] ^= 4);
    fs::write(file, bytes).expect("written");
    places.len()
}

#[actix::test]
async fn a_rotten_item_is_never_served_and_its_replica_stays_fenced() {
    let mut cluster = Cluster::start().await;
    cluster.create(GROUP).await;
    for number in 0..10 {
        cluster.put(&format!("item-{number}"), number).await;
    }
    let leader = cluster.leader().await;
    let victim = leader % 3 + 1;
    cluster.until_node_has(victim, "item-9", 9).await;
    cluster.stop_node(victim).await;
    let replica = data_dir(&cluster, victim).join("replicas/7");
    assert!(flip(&replica.join("data.mdb"), b"item-7") > 0);
    cluster.start_node(victim).await;
    // Nobody sees it on opening; the first read does.
    let get = ItemOperation::Get(Get {
        key: key("item-7"),
        strong: false,
        projection: None,
    });
    cluster
        .until("the read is refused", || async {
            match cluster.ask(victim, GROUP, get.clone()).await {
                Ok(ItemReply::Fault(ItemFault::NotHere { .. })) => true,
                Ok(ItemReply::Fault(_)) | Err(_) => false,
                other => panic!("{other:?}"),
            }
        })
        .await;
    until_fenced(&cluster, victim, &[GROUP]).await;
    assert_eq!(cluster.get("item-7").await, Some(item_of("item-7", 7)));
    cluster
        .until("the fence is noted", || async {
            replica.join("fenced").exists()
        })
        .await;
    cluster.halt_node(victim).await;
    cluster.seen.heartbeats.lock().clear();
    cluster.start_node(victim).await;
    until_fenced(&cluster, victim, &[GROUP]).await;
    let reply = cluster
        .order(victim, &Order::DropReplica { partition: GROUP })
        .await;
    assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    until_fenced(&cluster, victim, &[]).await;
    cluster.halt().await;
}

#[actix::test]
async fn a_node_that_lost_its_log_serves_nothing_of_what_it_had() {
    let mut cluster = Cluster::start().await;
    let groups = [GroupId(1), GroupId(2), GroupId(7)];
    for group in groups {
        cluster.create(group).await;
    }
    cluster.put("item", 1).await;
    let victim = cluster.leader().await % 3 + 1;
    cluster.halt_node(victim).await;
    fs::remove_dir_all(data_dir(&cluster, victim).join("wal")).expect("removed");
    cluster.start_node(victim).await;
    until_fenced(&cluster, victim, &groups).await;
    cluster.put("item", 2).await;
    assert_eq!(cluster.get("item").await, Some(item_of("item", 2)));
    // Its log is new now, and still nothing is served of what was promised in the old one.
    cluster.halt_node(victim).await;
    cluster.seen.heartbeats.lock().clear();
    cluster.start_node(victim).await;
    until_fenced(&cluster, victim, &groups).await;
    cluster.halt().await;
}

#[actix::test]
async fn a_nearly_full_disk_sheds_writes_and_leadership_and_recovers_by_itself() {
    // By the quota, which counts files like the file system does.
    let cluster = Cluster::start_with(|settings| {
        settings.limits.wal_segment_bytes = 1 << 20;
        settings.limits.disk_bytes_max = 96 << 20;
        settings.limits.disk_reserve_bytes = 32 << 20;
    })
    .await;
    cluster.create(GROUP).await;
    cluster.put("before", 1).await;
    let ballast = |node| data_dir(&cluster, node).join("ballast");
    let fill = |node| fs::write(ballast(node), vec![1; 80 << 20]);
    let first = cluster.leader().await;
    fill(first).expect("filled");
    cluster
        .until("another node leads", || async {
            cluster.leader().await != first
        })
        .await;
    cluster.put("one-full", 2).await;
    let nearly_full = |storage: &StorageHealth| {
        let mut troubles = storage.troubles.iter();
        troubles.any(|trouble| trouble.contains("nearly full"))
    };
    let all_full = |nodes: &[u64]| {
        let mut nodes = nodes.iter();
        nodes.all(|node| said(&cluster, *node, nearly_full) == Some(true))
    };
    let heard = "the operator hears of it";
    cluster.until(heard, || async { all_full(&[first]) }).await;
    for node in (1..=3).filter(|node| *node != first) {
        fill(node).expect("filled");
    }
    cluster
        .until(heard, || async { all_full(&[1, 2, 3]) })
        .await;
    cluster
        .until("writes are shed", || async {
            match cluster.write(put("shed", 3)).await {
                ItemReply::Fault(ItemFault::Api(error)) => {
                    error.kind == ErrorKind::Throttling && error.message.contains("no space left")
                }
                _ => false,
            }
        })
        .await;
    assert_eq!(cluster.get("one-full").await, Some(item_of("one-full", 2)));
    for node in 1..=3 {
        fs::remove_file(ballast(node)).expect("removed");
    }
    cluster
        .until("writes are taken again", || async {
            matches!(
                cluster.write(put("after", 4)).await,
                ItemReply::Written { .. }
            )
        })
        .await;
    for node in 1..=3 {
        cluster.until_node_has(node, "after", 4).await;
    }
    cluster.halt().await;
}
