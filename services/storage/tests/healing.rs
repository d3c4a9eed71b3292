//! Nodes come and go, and the groups heal: log replicas, votes given back, replicas rebuilt elsewhere and in place, orders of the past.

mod cluster;

use std::time::Instant;

use cluster::*;
use paxos::{GroupId, NodeId, Role};
use protocol::control::{JoinReplica, Order, OrderReply};
use protocol::directory::PartitionInfo;
use protocol::item::{ItemFault, ItemOperation, ItemReply};

const S: Role = Role::Storage;
const L: Role = Role::Log;

fn voters(info: &PartitionInfo) -> Vec<(u64, Role)> {
    let members = info
        .members
        .iter()
        .map(|m| (m.member.node.0, m.member.role));
    let mut voters: Vec<_> = members.collect();
    voters.sort();
    voters
}

fn logs(info: &PartitionInfo) -> Vec<u64> {
    let voters = voters(info).into_iter();
    let logs = voters.filter(|(_, role)| *role == L);
    logs.map(|(node, _)| node).collect()
}

fn learners(info: &PartitionInfo) -> Vec<u64> {
    info.learners.iter().map(|l| l.member.node.0).collect()
}

fn all_storage(info: &PartitionInfo, nodes: [u64; 3]) -> bool {
    voters(info) == nodes.map(|node| (node, S)) && info.learners.is_empty()
}

fn replicas(cluster: &Cluster, node: u64) -> Option<u64> {
    let heartbeats = cluster.seen.heartbeats.lock();
    Some(heartbeats.get(&node)?.storage.as_ref()?.replicas)
}

async fn replace(cluster: &Cluster, replaced: u64, target: u64) {
    cluster
        .until("the replacement is taken", || async {
            let Some(info) = cluster.partition(GROUP) else {
                return false;
            };
            let order = Order::ReplaceReplica {
                partition: GROUP,
                generation: info.generation,
                replaced: NodeId(replaced),
                target: NodeId(target),
            };
            let leader = cluster.leader().await;
            matches!(cluster.order_as(3, leader, &order).await, OrderReply::Done)
        })
        .await;
}

#[actix::test]
async fn a_lost_node_gets_a_log_replica_and_its_vote_back_without_a_copy() {
    let mut cluster = Cluster::start_nodes(6, |_| {}).await;
    cluster.create(GROUP).await;
    for number in 0..20 {
        cluster.put(&format!("item-{number:02}"), number).await;
    }
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|n| *n != leader).expect("a follower");
    cluster.halt_node(lost).await;
    let info = cluster
        .until_members(GROUP, "a log replica", |info| logs(info).len() == 1)
        .await;
    assert_eq!(logs(&info), [lost + 3], "the other node of that zone");
    assert_eq!(learners(&info), [lost]);
    let zone = |placed: &protocol::directory::PlacedMember| placed.zone.clone();
    assert!(
        info.members
            .iter()
            .map(zone)
            .any(|z| z == format!("az{lost}"))
    );
    cluster.put("meanwhile", 1).await;

    // A second loss: nobody but the log replica has what the leader wrote last.
    let other = (1..=3).find(|n| *n != leader && *n != lost).expect("one");
    cluster.put("before", 1).await;
    cluster.halt_node(other).await;
    for number in 0..20 {
        cluster.put(&format!("late-{number:02}"), number).await;
    }
    cluster
        .until_members(GROUP, "a second log replica", |info| logs(info).len() == 2)
        .await;
    cluster.start_node(lost).await;
    cluster.start_node(other).await;
    cluster
        .until_members(GROUP, "all votes back", |info| all_storage(info, [1, 2, 3]))
        .await;
    for node in [lost, other] {
        cluster.until_node_has(node, "late-19", 19).await;
        assert_eq!(cluster.nodes[&node].copies_installed(), 0);
    }
    cluster
        .until("the log replicas went", || async {
            (4..=6).all(|node| replicas(&cluster, node) == Some(0))
        })
        .await;
    assert!(
        cluster.seen.dropped.lock().is_empty(),
        "no table was deleted"
    );
    cluster.halt().await;
}

#[actix::test]
async fn a_lagging_replica_adopts_what_only_the_log_replica_held() {
    let mut cluster = Cluster::start_nodes(6, |_| {}).await;
    cluster.create(GROUP).await;
    cluster.put("first", 1).await;
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|n| *n != leader).expect("a follower");
    let other = (1..=3).find(|n| *n != leader && *n != lost).expect("one");
    cluster.halt_node(lost).await;
    cluster
        .until_members(GROUP, "a log replica", |info| logs(info).len() == 1)
        .await;
    // The other storage replica misses the last writes, and then the leader dies.
    cluster.halt_node(other).await;
    for number in 0..20 {
        cluster.put(&format!("late-{number:02}"), number).await;
    }
    cluster.halt_node(leader).await;
    cluster.start_node(other).await;
    assert_eq!(cluster.get("late-19").await, Some(item_of("late-19", 19)));
    assert_eq!(cluster.page(page()).await.count, 21);
    cluster.halt().await;
}

#[actix::test]
async fn a_node_that_hosts_a_log_replica_restarts() {
    let mut cluster = Cluster::start_nodes(4, |_| {}).await;
    cluster.create(GROUP).await;
    cluster.put("first", 1).await;
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|n| *n != leader).expect("a follower");
    let other = (1..=3).find(|n| *n != leader && *n != lost).expect("one");
    cluster.halt_node(lost).await;
    let info = cluster
        .until_members(GROUP, "a log replica", |info| logs(info).len() == 1)
        .await;
    assert_eq!(logs(&info), [4], "there is no other node");
    cluster.put("second", 2).await;
    cluster.halt_node(4).await;
    cluster.start_node(4).await;
    assert!(
        cluster.seen.heartbeats.lock()[&4]
            .storage
            .as_ref()
            .expect("storage")
            .fenced
            .is_empty()
    );
    // It counts: without it there is no quorum.
    cluster.halt_node(other).await;
    cluster.put("third", 3).await;
    assert_eq!(cluster.get("second").await, Some(item_of("second", 2)));
    cluster.halt().await;
}

#[actix::test]
async fn a_replacement_fills_a_new_node_under_traffic_and_the_old_replica_goes() {
    let cluster = Cluster::start_nodes(6, |settings| {
        settings.timing.limits.log_bytes_max = 32 << 10;
        settings.timing.limits.floor_step_entries = 16;
        settings.timing.limits.memory_bytes_max = 4 << 10;
        settings.limits.flush_age_ms = 30;
    })
    .await;
    cluster.create(GROUP).await;
    for number in 0..300 {
        cluster.put(&format!("item-{number:03}"), number).await;
    }
    // Also the leader's own replica: it hands over when its successor is in.
    for (replaced, target) in [(3, 6), (2, 5), (1, 4)] {
        replace(&cluster, replaced, target).await;
        let mut number = 0;
        let done = || {
            let info = cluster.partition(GROUP).expect("pushed");
            let members = voters(&info);
            !info.changing && members.contains(&(target, S)) && members.len() == 3
        };
        let started = Instant::now();
        while !done() {
            cluster
                .put(&format!("more-{target}-{number:04}"), number)
                .await;
            number += 1;
            assert!(
                started.elapsed() < PATIENCE,
                "never in: {:?}",
                cluster.partition(GROUP)
            );
        }
        assert!(cluster.nodes[&target].copies_installed() > 0);
        cluster.until_node_has(target, "item-299", 299).await;
        cluster
            .until("the replaced one went", || async {
                replicas(&cluster, replaced) == Some(0)
            })
            .await;
    }
    let info = cluster.partition(GROUP).expect("pushed");
    assert!(all_storage(&info, [4, 5, 6]), "{info:?}");
    assert!(
        cluster.seen.dropped.lock().is_empty(),
        "no table was deleted"
    );
    cluster.halt().await;
}

#[actix::test]
async fn a_fenced_replica_is_rebuilt_on_its_node() {
    let mut cluster = Cluster::start_nodes(3, |_| {}).await;
    cluster.create(GROUP).await;
    for number in 0..10 {
        cluster.put(&format!("item-{number}"), number).await;
    }
    let leader = cluster.leader().await;
    let bad = (1..=3).find(|n| *n != leader).expect("a follower");
    cluster.stop_node(bad).await;
    let folder = cluster.settings[&bad].data_dir.join("replicas").join("7");
    std::fs::write(folder.join("data.mdb"), b"not a B-tree").expect("written");
    cluster.start_node(bad).await;
    cluster
        .until("it says that it is fenced", || async {
            let heartbeats = cluster.seen.heartbeats.lock();
            let storage = heartbeats.get(&bad).and_then(|b| b.storage.as_ref());
            storage.is_some_and(|s| s.fenced == [GROUP])
        })
        .await;
    replace(&cluster, bad, bad).await;
    cluster
        .until_members(GROUP, "rebuilt", |info| {
            let mut members = info.members.iter();
            let member = members.find(|m| m.member.node.0 == bad);
            let founding = cluster.nodes[&bad].incarnation();
            all_storage(info, [1, 2, 3]) && member.is_some_and(|m| m.member.incarnation != founding)
        })
        .await;
    cluster.until_node_has(bad, "item-9", 9).await;
    // It stays what it is.
    cluster.halt_node(bad).await;
    cluster.start_node(bad).await;
    cluster.put("after", 1).await;
    cluster.until_node_has(bad, "after", 1).await;
    cluster.halt().await;
}

#[actix::test]
async fn a_node_that_returns_finds_its_replica_replaced() {
    let mut cluster = Cluster::start_nodes(6, |_| {}).await;
    cluster.create(GROUP).await;
    cluster.put("item", 1).await;
    let leader = cluster.leader().await;
    let lost = (1..=3).find(|n| *n != leader).expect("a follower");
    cluster.halt_node(lost).await;
    let info = cluster
        .until_members(GROUP, "a log replica", |info| logs(info).len() == 1)
        .await;
    let target = (4..=6)
        .find(|n| !logs(&info).contains(n))
        .expect("a free node");
    replace(&cluster, lost, target).await;
    cluster
        .until_members(GROUP, "replaced", |info| {
            logs(info).is_empty() && voters(info).contains(&(target, S)) && info.learners.is_empty()
        })
        .await;
    cluster.start_node(lost).await;
    cluster
        .until("it learns that it is not wanted, and goes", || async {
            let folder = cluster.settings[&lost].data_dir.join("replicas").join("7");
            !folder.exists() && replicas(&cluster, lost) == Some(0)
        })
        .await;
    assert!(
        cluster.seen.dropped.lock().is_empty(),
        "no table was deleted"
    );
    assert_eq!(cluster.get("item").await, Some(item_of("item", 1)));
    cluster.halt().await;
}

#[actix::test]
async fn orders_of_the_past_are_refused() {
    let cluster = Cluster::start_nodes(4, calm).await;
    cluster.create(GROUP).await;
    cluster.put("item", 1).await;
    let leader = cluster.leader().await;
    let transfer = |to: u64| Order::TransferLeadership {
        partition: GROUP,
        to: NodeId(to),
    };
    let reply = cluster.order_as(5, leader, &transfer(leader)).await;
    assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    let reply = cluster.order_as(4, leader, &transfer(leader)).await;
    assert!(matches!(reply, OrderReply::Stale(5)), "{reply:?}");
    let reply = cluster.order(leader, &transfer(leader)).await;
    assert!(matches!(reply, OrderReply::Done), "a leader needs no epoch");
    let follower = (1..=3).find(|n| *n != leader).expect("a follower");
    let reply = cluster.order(follower, &transfer(leader)).await;
    assert!(matches!(reply, OrderReply::NotLeader), "{reply:?}");
    let reply = cluster.order(leader, &transfer(4)).await;
    assert!(
        matches!(reply, OrderReply::Refused(_)),
        "no member: {reply:?}"
    );

    let order = Order::ReplaceReplica {
        partition: GROUP,
        generation: 0,
        replaced: NodeId(3),
        target: NodeId(4),
    };
    let reply = cluster.order_as(5, leader, &order).await;
    assert!(matches!(reply, OrderReply::Stale(1)), "{reply:?}");
    let order = Order::RetireReplica {
        partition: GROUP,
        incarnation: cluster.nodes[&follower].incarnation(),
        generation: 1,
    };
    let reply = cluster.order_as(5, follower, &order).await;
    assert!(
        matches!(reply, OrderReply::Stale(1)),
        "it is a member: {reply:?}"
    );

    // Joining is idempotent as long as nobody takes the replica in.
    let first = cluster.create_order(GROUP);
    let mut join = JoinReplica {
        partition: GROUP,
        role: L,
        table: first.table,
        range: first.range,
        configuration: first.configuration,
        members: first.members,
    };
    let ask = |join: &JoinReplica| Order::JoinReplica(Box::new(join.clone()));
    let mut joined = Vec::new();
    for role in [L, L, S, S] {
        join.role = role;
        match cluster.order(4, &ask(&join)).await {
            OrderReply::Joined { incarnation } => joined.push(incarnation),
            other => panic!("{other:?}"),
        }
    }
    assert!(joined[0] == joined[1] && joined[2] == joined[3] && joined[1] != joined[2]);
    assert!(joined.iter().all(|i| *i != 0 && *i < 1 << 53));
    // It has nothing yet, and says so also to those who ask it by mistake.
    let mut local = page();
    local.strong = false;
    let local = ItemOperation::Page(Box::new(local));
    let reply = cluster.ask(4, GROUP, local).await;
    assert!(
        matches!(reply, Ok(ItemReply::Fault(ItemFault::NotHere { .. }))),
        "{reply:?}"
    );
    let reply = cluster.order(follower, &ask(&join)).await;
    assert!(
        matches!(reply, OrderReply::Refused(_)),
        "it votes: {reply:?}"
    );
    let order = Order::RetireReplica {
        partition: GROUP,
        incarnation: joined[3],
        generation: 2,
    };
    let reply = cluster.order(4, &order).await;
    assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    assert!(
        !cluster.settings[&4]
            .data_dir
            .join("replicas")
            .join("7")
            .exists()
    );
    cluster.halt().await;
}

#[actix::test]
async fn a_transfer_fails_no_write() {
    let cluster = Cluster::start_nodes(3, calm).await;
    cluster.create(GROUP).await;
    cluster.put("item", 1).await;
    let mut number = 0;
    for _ in 0..6 {
        let leader = cluster.leader().await;
        let to = 1 + leader % 3;
        let order = Order::TransferLeadership {
            partition: GROUP,
            to: NodeId(to),
        };
        let move_it = async {
            cluster
                .until("the transfer is taken", || async {
                    matches!(cluster.order(leader, &order).await, OrderReply::Done)
                })
                .await;
        };
        let mut unknown = 0;
        let numbers = number..number + 30;
        let write = async {
            for number in numbers {
                match cluster.write(put(&format!("item-{number}"), number)).await {
                    ItemReply::Written { .. } => {}
                    ItemReply::Fault(ItemFault::Unknown) => unknown += 1,
                    other => panic!("{other:?}"),
                }
            }
        };
        futures::future::join(move_it, write).await;
        number += 30;
        assert_eq!(unknown, 0, "no write whose outcome is unknown");
        cluster
            .until("the successor leads", || async {
                cluster.leader().await == to
            })
            .await;
    }
    cluster.halt().await;
}

#[actix::test]
async fn many_groups_get_their_log_replicas_together() {
    let mut cluster = Cluster::start_nodes(6, |_| {}).await;
    let groups: Vec<GroupId> = (100..130).map(GroupId).collect();
    for group in &groups {
        cluster.create(*group).await;
    }
    for group in &groups {
        let write = ItemOperation::Write(Box::new(put("item", 1)));
        loop {
            let reply = cluster.lead(*group, write.clone()).await;
            if matches!(reply, ItemReply::Written { .. }) {
                break;
            }
        }
    }
    cluster.halt_node(2).await;
    let started = Instant::now();
    for group in &groups {
        cluster
            .until_members(*group, "a log replica", |info| logs(info) == [5])
            .await;
    }
    println!("{} groups in {:?}", groups.len(), started.elapsed());
    cluster.halt().await;
}
