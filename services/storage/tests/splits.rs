//! Partitions are split under traffic, while nodes die at every stage, replicas lag, are copied and replaced: no item is lost or
//! there twice, no request is answered from a partition that has ended.

mod cluster;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::*;
use model::codec::{decode_item, encode_item};
use model::{AttributeValue, KeyRange};
use paxos::{GroupId, NodeId};
use protocol::control::{Order, OrderReply};
use protocol::directory::PartitionInfo;
use protocol::item::{Get, ItemFault, ItemOperation, ItemReply, Write, WriteAction};
use protocol::split::SplitStage;
use storage::StorageSettings;

const LEFT: GroupId = GroupId(8);
const RIGHT: GroupId = GroupId(9);
const ITEMS: u64 = 120;

fn name(number: u64) -> String {
    format!("item-{number:04}")
}

fn point() -> Bytes {
    key(&name(ITEMS / 2))
}

/// Chunks so small that filling takes many transactions.
fn in_small_steps(settings: &mut StorageSettings) {
    settings.limits.split_chunk_bytes = 600;
}

/// The same, and so slow that something can happen meanwhile: it takes some seconds.
fn slowly(settings: &mut StorageSettings) {
    in_small_steps(settings);
    settings.limits.split_bytes_per_second_max = 5_000;
}

/// The same, for splits that are not to be completed: it would take half a minute.
fn endlessly(settings: &mut StorageSettings) {
    in_small_steps(settings);
    settings.limits.split_bytes_per_second_max = 600;
}

/// As fast as it can be.
fn in_a_moment(settings: &mut StorageSettings) {
    let limits = StorageSettings::default().limits;
    settings.limits.split_bytes_per_second_max = limits.split_bytes_per_second_max;
}

async fn filled(count: u64, adjust: impl Fn(&mut StorageSettings)) -> Cluster {
    let cluster = Cluster::start_nodes(count, adjust).await;
    cluster.create(GROUP).await;
    for number in 0..ITEMS {
        cluster.put(&name(number), number as i64).await;
    }
    cluster
}

async fn begin(cluster: &Cluster) {
    cluster
        .until("the split begins", || async {
            let leader = cluster.leader().await;
            let Some(info) = cluster.partition(GROUP) else {
                return false;
            };
            let order = Order::SplitPartition {
                partition: GROUP,
                generation: info.generation,
                point: point(),
                left: LEFT,
                right: RIGHT,
            };
            matches!(cluster.order_as(3, leader, &order).await, OrderReply::Done)
        })
        .await;
}

fn stage(cluster: &Cluster) -> Option<SplitStage> {
    Some(cluster.partition(GROUP)?.split?.stage)
}

fn done(cluster: &Cluster) -> usize {
    let split = cluster.partition(GROUP).and_then(|info| info.split);
    split.map_or(0, |split| split.done.len())
}

/// Until the stage is reached. Who looks now and then may see a later one only.
async fn until_stage(cluster: &Cluster, wanted: SplitStage) {
    cluster
        .until(&format!("{wanted:?}"), || async {
            stage(cluster).is_some_and(|stage| stage as u8 >= wanted as u8)
        })
        .await;
}

/// Both children are led, and every replica of the parent has installed its own.
async fn until_split(cluster: &Cluster) {
    for child in [LEFT, RIGHT] {
        cluster
            .until("a child is led", || async {
                let info = cluster.partition(child);
                info.is_some_and(|info| info.parent == Some(GROUP) && info.leader.is_some())
            })
            .await;
    }
    cluster
        .until("all have installed", || async {
            stage(cluster) == Some(SplitStage::Committed) && done(cluster) == 3
        })
        .await;
}

/// One request where its key belongs, as far as is known; goes on to the children when the parent says so.
async fn route(cluster: &Cluster, key: &Bytes, operation: ItemOperation) -> ItemReply {
    let mut partition = GROUP;
    loop {
        match cluster.lead(partition, operation.clone()).await {
            ItemReply::Fault(ItemFault::WrongRange { children, .. }) => {
                let owner = children.iter().find(|child| child.range.contains(key));
                let owner = owner.expect("the parent names its children");
                assert!(owner.partition > partition && owner.parent == Some(GROUP));
                partition = owner.partition;
            }
            reply => return reply,
        }
    }
}

fn add_one(name: &str) -> Write {
    let key_item = encode_item(&key_item(name));
    write(
        name,
        WriteAction::Update {
            key_item,
            update: Some(count_up()),
        },
    )
}

async fn read(cluster: &Cluster, name: &str) -> Option<i64> {
    let get = Get {
        key: key(name),
        strong: true,
        projection: None,
    };
    match route(cluster, &key(name), ItemOperation::Get(get)).await {
        ItemReply::Item { item, .. } => {
            item.map(|item| match &decode_item(&item).expect("an item")["n"] {
                AttributeValue::N(number) => number.to_string().parse().expect("a number"),
                other => panic!("{other:?}"),
            })
        }
        other => panic!("{other:?}"),
    }
}

/// What a client did to the items, so that what they must be is known.
#[derive(Default)]
struct Traffic {
    /// Increments that were done, and those that may have been.
    counts: RefCell<BTreeMap<String, (i64, i64)>>,
    ended: Cell<bool>,
}

impl Traffic {
    /// Counts items up, one after the other, until it is told to end; each read must show what was done.
    async fn run(&self, cluster: &Cluster, first: u64) {
        let mut number = first;
        while !self.ended.get() {
            number = (number + 7) % ITEMS;
            let name = name(number);
            let write = ItemOperation::Write(Box::new(add_one(&name)));
            let reply = route(cluster, &key(&name), write).await;
            {
                let mut counts = self.counts.borrow_mut();
                let count = counts.entry(name.clone()).or_default();
                match reply {
                    ItemReply::Written { .. } => count.0 += 1,
                    ItemReply::Fault(ItemFault::Unknown) => count.1 += 1,
                    other => panic!("{other:?}"),
                }
            }
            let at_least = self.counts.borrow()[&name].0;
            let seen = read(cluster, &name).await.expect("it is there");
            assert!(seen >= number as i64 + at_least, "{name}: {seen}");
        }
    }

    /// Every item is there once, with all that was done to it.
    async fn check(&self, cluster: &Cluster) {
        check_items(cluster, |name, number| {
            let counts = self.counts.borrow();
            let (done, perhaps) = counts.get(name).copied().unwrap_or_default();
            (number + done)..=(number + done + perhaps)
        })
        .await;
    }
}

/// Reads both children whole.
async fn check_items(
    cluster: &Cluster,
    expected: impl Fn(&str, i64) -> std::ops::RangeInclusive<i64>,
) {
    let mut found = BTreeMap::new();
    for child in [LEFT, RIGHT] {
        let range = cluster.partition(child).expect("it is led").range;
        let mut page = page();
        page.believed = Some(range);
        let reply = cluster
            .lead(child, ItemOperation::Page(Box::new(page)))
            .await;
        let ItemReply::Page(reply) = reply else {
            panic!("{reply:?}");
        };
        assert!(reply.last_key.is_none());
        for item in &reply.items {
            let item = decode_item(item).expect("an item");
            let (AttributeValue::S(name), AttributeValue::N(n)) = (&item["sk"], &item["n"]) else {
                panic!("{item:?}");
            };
            let n: i64 = n.to_string().parse().expect("a number");
            assert_eq!(found.insert(name.clone(), n), None, "{name} is there twice");
        }
    }
    for number in 0..ITEMS {
        let name = name(number);
        let n = found
            .remove(&name)
            .unwrap_or_else(|| panic!("{name} is lost"));
        let expected = expected(&name, number as i64);
        assert!(expected.contains(&n), "{name} is {n}, not {expected:?}");
    }
    assert!(found.is_empty(), "{found:?}");
}

async fn check_untouched(cluster: &Cluster) {
    check_items(cluster, |_, number| number..=number).await;
}

#[actix::test]
async fn a_split_under_traffic_loses_and_doubles_nothing() {
    let cluster = filled(3, in_small_steps).await;
    let traffic = Traffic::default();
    let splits = async {
        begin(&cluster).await;
        until_split(&cluster).await;
        traffic.ended.set(true);
    };
    tokio::join!(
        splits,
        traffic.run(&cluster, 0),
        traffic.run(&cluster, 1),
        traffic.run(&cluster, 2)
    );
    traffic.check(&cluster).await;
    let children = || [LEFT, RIGHT].map(|child| cluster.partition(child).expect("led"));
    cluster
        .until("all items are counted", || async {
            children().iter().map(|child| child.items).sum::<u64>() == ITEMS
        })
        .await;
    let [left, right] = children();
    assert_eq!((&left.range.end, &right.range.start), (&point(), &point()));
    assert_eq!((left.generation, right.generation), (1, 1));

    // The admin drops the parent; the children stay.
    for node in [1, 2, 3] {
        let order = Order::DropReplica { partition: GROUP };
        let reply = cluster.order_as(3, node, &order).await;
        assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    }
    let gone = cluster
        .ask(1, GROUP, ItemOperation::Page(Box::new(page())))
        .await;
    assert!(matches!(
        gone,
        Ok(ItemReply::Fault(ItemFault::NotHere { partition: None }))
    ));
    traffic_on_children(&cluster).await;
    cluster.halt().await;
}

/// The children take writes of their own.
async fn traffic_on_children(cluster: &Cluster) {
    for (child, name) in [(LEFT, "item-0000x"), (RIGHT, "item-0099x")] {
        let write = ItemOperation::Write(Box::new(put(name, 5)));
        cluster
            .until("it is written", || async {
                // An election may come in between; then it is not known.
                match cluster.lead(child, write.clone()).await {
                    ItemReply::Written { .. } => true,
                    ItemReply::Fault(ItemFault::Unknown) => false,
                    other => panic!("{other:?}"),
                }
            })
            .await;
        let foreign = if child == LEFT { RIGHT } else { LEFT };
        let write = ItemOperation::Write(Box::new(put(name, 6)));
        let reply = cluster.lead(foreign, write).await;
        assert!(
            matches!(reply, ItemReply::Fault(ItemFault::WrongRange { .. })),
            "{reply:?}"
        );
    }
}

#[actix::test]
async fn all_nodes_die_at_once_at_every_stage() {
    for wanted in [
        None,
        Some(SplitStage::Preparing),
        Some(SplitStage::Committed),
    ] {
        let mut cluster = filled(3, in_small_steps).await;
        begin(&cluster).await;
        if let Some(wanted) = wanted {
            until_stage(&cluster, wanted).await;
        }
        for node in [1, 2, 3] {
            cluster.halt_node(node).await;
        }
        for node in [1, 2, 3] {
            cluster.start_node(node).await;
        }
        until_split(&cluster).await;
        check_untouched(&cluster).await;
        // And once more when all is done.
        for node in [1, 2, 3] {
            cluster.halt_node(node).await;
            cluster.start_node(node).await;
        }
        traffic_on_children(&cluster).await;
        cluster.halt().await;
    }
}

#[actix::test]
async fn the_leader_dies_in_every_state() {
    for wanted in [
        SplitStage::Preparing,
        SplitStage::Committing,
        SplitStage::Committed,
    ] {
        let mut cluster = filled(3, in_small_steps).await;
        let leader = cluster.leader().await;
        begin(&cluster).await;
        until_stage(&cluster, wanted).await;
        cluster.halt_node(leader).await;
        cluster.start_node(leader).await;
        until_split(&cluster).await;
        check_untouched(&cluster).await;
        traffic_on_children(&cluster).await;
        cluster.halt().await;
    }
}

#[actix::test]
async fn a_group_with_a_lost_member_waits_and_is_split_once_it_is_healed() {
    let mut cluster = filled(3, slowly).await;
    let leader = cluster.leader().await;
    begin(&cluster).await;
    let lost = (1..=3).find(|node| *node != leader).expect("another");
    cluster.halt_node(lost).await;
    cluster
        .until("both others are ready", || async { done(&cluster) >= 2 })
        .await;
    for _ in 0..50 {
        pause().await;
        assert_eq!(
            stage(&cluster),
            Some(SplitStage::Preparing),
            "one is not ready"
        );
    }
    // It serves meanwhile.
    cluster.put(&name(3), 3).await;
    cluster.start_node(lost).await;
    until_split(&cluster).await;
    check_untouched(&cluster).await;
    cluster.halt().await;
}

#[actix::test]
async fn a_replica_on_a_new_node_fills_its_own_children() {
    let mut cluster = filled(4, slowly).await;
    let leader = cluster.leader().await;
    begin(&cluster).await;
    let lost = (1..=3).find(|node| *node != leader).expect("another");
    cluster.halt_node(lost).await;
    // Its place is taken by a replica that begins while the split is being prepared.
    cluster
        .until("the order to replace it is taken", || async {
            let Some(info) = cluster.partition(GROUP) else {
                return false;
            };
            let order = Order::ReplaceReplica {
                partition: GROUP,
                generation: info.generation,
                replaced: NodeId(lost),
                target: NodeId(4),
            };
            let leader = cluster.leader().await;
            matches!(cluster.order_as(3, leader, &order).await, OrderReply::Done)
                || info.members.iter().any(|m| m.member.node.0 == 4)
        })
        .await;
    until_split(&cluster).await;
    let child = cluster.partition(LEFT).expect("led");
    let on = |info: &PartitionInfo, node| info.members.iter().any(|m| m.member.node.0 == node);
    assert!(on(&child, 4) && !on(&child, lost), "{child:?}");
    check_untouched(&cluster).await;

    // A child's log begins where its parent's ended: who joins has nothing of what is below, and pulls a copy.
    cluster.start_node(lost).await;
    let replace = |generation| Order::ReplaceReplica {
        partition: LEFT,
        generation,
        replaced: NodeId(4),
        target: NodeId(lost),
    };
    cluster
        .until("the child's replica has moved", || async {
            let Some(info) = cluster.partition(LEFT) else {
                return false;
            };
            if let Some(leader) = info.leader {
                cluster
                    .order_as(3, leader.0, &replace(info.generation))
                    .await;
            }
            !info.changing && on(&info, lost) && !on(&info, 4)
        })
        .await;
    assert!(cluster.nodes[&lost].copies_installed() > 0);
    check_untouched(&cluster).await;
    cluster.halt().await;
}

#[actix::test]
async fn a_laggard_gets_its_children_later() {
    let mut cluster = filled(3, in_small_steps).await;
    let leader = cluster.leader().await;
    begin(&cluster).await;
    let lags = (1..=3).find(|node| *node != leader).expect("another");
    cluster
        .until("all are ready", || async {
            stage(&cluster) != Some(SplitStage::Preparing) || done(&cluster) == 3
        })
        .await;
    // Perhaps before it has `CommitSplit`, perhaps before it has installed anything, perhaps after.
    cluster.halt_node(lags).await;
    for child in [LEFT, RIGHT] {
        cluster
            .until("a child is led without it", || async {
                stage(&cluster) == Some(SplitStage::Preparing)
                    || cluster
                        .partition(child)
                        .is_some_and(|info| info.leader.is_some())
            })
            .await;
    }
    cluster.start_node(lags).await;
    until_split(&cluster).await;
    check_untouched(&cluster).await;
    traffic_on_children(&cluster).await;
    cluster.halt().await;
}

#[actix::test]
async fn an_abandoned_split_leaves_nothing_and_another_one_may_follow() {
    let mut cluster = filled(3, endlessly).await;
    begin(&cluster).await;
    until_stage(&cluster, SplitStage::Preparing).await;
    let abandon = |left| Order::AbandonSplit {
        partition: GROUP,
        left,
    };
    cluster
        .until("it is given up", || async {
            let leader = cluster.leader().await;
            matches!(
                cluster.order_as(3, leader, &abandon(LEFT)).await,
                OrderReply::Done
            )
        })
        .await;
    cluster
        .until("the directory shows it", || async {
            cluster
                .partition(GROUP)
                .is_some_and(|info| info.split.is_none())
        })
        .await;
    let children = |cluster: &Cluster| {
        let folders = cluster
            .settings
            .values()
            .map(|s| s.data_dir.join("replicas"));
        let found = folders.flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
        let names = found.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".child"))
            .count()
    };
    cluster
        .until("their B-trees are deleted", || async {
            children(&cluster) == 0
        })
        .await;
    cluster.settings.values_mut().for_each(in_a_moment);
    for node in [1, 2, 3] {
        cluster.halt_node(node).await;
        cluster.start_node(node).await;
    }
    cluster.put(&name(0), 0).await;
    // Numbers are not used again.
    let order = |generation| Order::SplitPartition {
        partition: GROUP,
        generation,
        point: point(),
        left: GroupId(18),
        right: GroupId(19),
    };
    cluster
        .until("the next split begins", || async {
            let leader = cluster.leader().await;
            let generation = cluster.partition(GROUP).map_or(1, |info| info.generation);
            matches!(
                cluster.order_as(3, leader, &order(generation)).await,
                OrderReply::Done
            )
        })
        .await;
    for child in [GroupId(18), GroupId(19)] {
        cluster
            .until("a child is led", || async {
                cluster
                    .partition(child)
                    .is_some_and(|info| info.leader.is_some())
            })
            .await;
    }
    let leader = cluster.nodes.keys().next().copied().expect("a node");
    let reply = cluster.order_as(3, leader, &abandon(GroupId(18))).await;
    assert!(
        !matches!(reply, OrderReply::Done),
        "it is committed: {reply:?}"
    );
    cluster.halt().await;
}

#[actix::test]
async fn nonsensical_orders_are_refused() {
    let cluster = filled(3, calm).await;
    let leader = cluster.leader().await;
    let order = |generation, point: Bytes, left, right| Order::SplitPartition {
        partition: GROUP,
        generation,
        point,
        left: GroupId(left),
        right: GroupId(right),
    };
    let range: KeyRange = cluster.create_order(GROUP).range;
    for (point, left, right) in [
        (range.start.clone(), 8, 9),
        (range.end.clone(), 8, 9),
        (Bytes::new(), 8, 9),
        (vec![0xff; 2_000].into(), 8, 9),
        (point(), 7, 9),
        (point(), 9, 8),
        (point(), 8, 8),
    ] {
        let reply = cluster
            .order_as(3, leader, &order(1, point, left, right))
            .await;
        assert!(matches!(reply, OrderReply::Refused(_)), "{reply:?}");
    }
    let stale = cluster.order_as(3, leader, &order(99, point(), 8, 9)).await;
    assert!(matches!(stale, OrderReply::Stale(1)), "{stale:?}");
    let follower = (1..=3).find(|node| *node != leader).expect("another");
    let reply = cluster
        .order_as(3, follower, &order(1, point(), 8, 9))
        .await;
    assert!(matches!(reply, OrderReply::NotLeader), "{reply:?}");
    assert_eq!(cluster.partition(GROUP).and_then(|info| info.split), None);
    cluster.halt().await;
}

#[actix::test]
async fn the_middle_halves_the_bytes() {
    let cluster = filled(3, |_| {}).await;
    let order = Order::FindMiddle { partition: GROUP };
    cluster
        .until("the middle is found in the B-tree", || async {
            let leader = cluster.leader().await;
            match cluster.order_as(3, leader, &order).await {
                // Nothing is flushed yet.
                OrderReply::Middle(None) => false,
                OrderReply::Middle(Some(middle)) => {
                    let all_flushed = middle > key(&name(ITEMS / 2 - 5));
                    all_flushed && middle < key(&name(ITEMS / 2 + 5))
                }
                other => panic!("{other:?}"),
            }
        })
        .await;
    cluster.halt().await;
}

#[actix::test]
async fn a_parent_that_is_dropped_takes_its_unfinished_children_along() {
    let cluster = filled(3, endlessly).await;
    begin(&cluster).await;
    until_stage(&cluster, SplitStage::Preparing).await;
    for node in [1, 2, 3] {
        let order = Order::DropReplica { partition: GROUP };
        let reply = cluster.order_as(3, node, &order).await;
        assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    }
    for settings in cluster.settings.values() {
        let left = std::fs::read_dir(settings.data_dir.join("replicas")).expect("a folder");
        assert_eq!(left.count(), 0);
    }
    cluster.halt().await;
}
