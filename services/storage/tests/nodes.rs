//! Three nodes serve partitions: orders, writes, reads, pages, directory, and the loss of each kind of thing that may be lost.

mod cluster;

use std::time::Instant;

use cluster::*;
use mesh::CallError;
use model::codec::{decode_item, encode_item};
use paxos::{GroupId, NodeId};
use protocol::control::{Order, OrderReply};
use protocol::item::{
    Get, ItemCall, ItemFault, ItemOperation, ItemReply, ReturnValues, WriteAction,
};

#[actix::test]
async fn writes_and_reads_go_through_the_leader() {
    let cluster = Cluster::start_with(calm).await;
    cluster.create(GROUP).await;
    for number in 0..20 {
        cluster.put(&format!("item-{number:02}"), number).await;
    }
    assert_eq!(cluster.get("item-07").await, Some(item_of("item-07", 7)));
    assert_eq!(cluster.get("absent").await, None);

    let mut fresh = put("item-07", 700);
    fresh.condition = Some(condition("attribute_not_exists(pk)"));
    fresh.return_on_failure = true;
    match cluster.write(fresh).await {
        ItemReply::Fault(ItemFault::ConditionFailed {
            item: Some(item), ..
        }) => {
            assert_eq!(decode_item(&item).expect("an item"), item_of("item-07", 7));
        }
        other => panic!("{other:?}"),
    }

    let key_bytes = encode_item(&key_item("item-08"));
    let mut count = write(
        "item-08",
        WriteAction::Update {
            key_item: key_bytes,
            update: Some(count_up()),
        },
    );
    count.return_values = ReturnValues::AllNew;
    match cluster.write(count).await {
        ItemReply::Written {
            attributes: Some(item),
            ..
        } => {
            assert_eq!(decode_item(&item).expect("an item"), item_of("item-08", 9));
        }
        other => panic!("{other:?}"),
    }
    cluster.delete("item-09").await;
    assert_eq!(cluster.get("item-09").await, None);

    let mut page = page();
    page.limit = Some(15);
    let first = cluster.page(page.clone()).await;
    assert_eq!(
        (first.count, first.last_key.clone()),
        (15, Some(key("item-15")))
    );
    page.after = first.last_key;
    let second = cluster.page(page).await;
    assert_eq!((second.count, second.last_key), (4, None));

    // Followers answer eventual reads, and send strong ones to the leader.
    let leader = cluster.leader().await;
    for node in 1..=3 {
        cluster.until_node_has(node, "item-08", 9).await;
        if node != leader {
            let get = Get {
                key: key("item-08"),
                strong: true,
                projection: None,
            };
            match cluster.ask(node, GROUP, ItemOperation::Get(get)).await {
                Ok(ItemReply::Fault(ItemFault::NotHere {
                    partition: Some(info),
                })) => {
                    assert_eq!(info.leader, Some(NodeId(leader)));
                    assert_eq!(info.members.len(), 3);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    cluster.halt().await;
}

#[actix::test]
async fn concurrent_updates_of_one_item_are_all_counted() {
    let cluster = Cluster::start_with(calm).await;
    cluster.create(GROUP).await;
    cluster.put("counter", 0).await;
    let leader = cluster.leader().await;
    let key_bytes = encode_item(&key_item("counter"));
    let count = write(
        "counter",
        WriteAction::Update {
            key_item: key_bytes,
            update: Some(count_up()),
        },
    );
    let count = ItemOperation::Write(Box::new(count));
    let calls = (0..200).map(|_| cluster.ask(leader, GROUP, count.clone()));
    let replies = futures::future::join_all(calls).await;
    let written = |reply: &&Result<ItemReply, _>| matches!(reply, Ok(ItemReply::Written { .. }));
    let unknown = |reply: &&Result<ItemReply, _>| {
        matches!(
            reply,
            Ok(ItemReply::Fault(ItemFault::Unknown)) | Err(CallError::TimedOut)
        )
    };
    let (written, unknown) = (
        replies.iter().filter(written).count() as i64,
        replies.iter().filter(unknown).count() as i64,
    );
    assert!(written > 0, "{replies:?}");
    // Each was counted once; of those with an unknown outcome (an election) each once or not at all.
    let counted = cluster
        .get("counter")
        .await
        .and_then(|mut item| item.remove("n"));
    assert!(
        (written..=written + unknown).any(|n| counted == Some(number(n))),
        "{counted:?}: {written} + {unknown}"
    );
    cluster.halt().await;
}

#[actix::test]
async fn a_dead_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start().await;
    cluster.create(GROUP).await;
    for number in 0..50 {
        cluster.put(&format!("item-{number:02}"), number).await;
    }
    let old = cluster.leader().await;
    cluster.halt_node(old).await;
    cluster.put("later", 1).await;
    assert_ne!(cluster.leader().await, old);
    let page = cluster.page(page()).await;
    assert_eq!(page.count, 51);
    // The dead one comes back, and catches up from the leader's log.
    cluster.start_node(old).await;
    cluster.until_node_has(old, "later", 1).await;
    cluster.until_node_has(old, "item-49", 49).await;
    cluster.halt().await;
}

#[actix::test]
async fn everything_survives_a_restart_of_all_nodes() {
    // Never flushed: all comes from the log. Then flushed: all comes from the B-trees.
    for flush_age_ms in [3_600_000, 50] {
        let mut cluster =
            Cluster::start_with(|settings| settings.limits.flush_age_ms = flush_age_ms).await;
        cluster.create(GROUP).await;
        for number in 0..30 {
            cluster.put(&format!("item-{number:02}"), number).await;
        }
        for round in 0..2 {
            for node in 1..=3 {
                match round {
                    0 => cluster.halt_node(node).await,
                    _ => cluster.stop_node(node).await,
                }
            }
            for node in 1..=3 {
                cluster.start_node(node).await;
            }
            assert_eq!(cluster.page(page()).await.count, 30 + round);
            assert_eq!(cluster.get("item-29").await, Some(item_of("item-29", 29)));
            cluster.put(&format!("round-{round}"), round as i64).await;
        }
        cluster.halt().await;
    }
}

#[actix::test]
async fn a_stopping_leader_hands_over_before_it_goes() {
    let mut cluster = Cluster::start_with(|settings| {
        calm(settings);
        // Without handing over, nobody would be elected while this test is patient.
        settings.timing.election_ms = 3_600_000;
        settings.timing.transfer_ms = 30_000;
        settings.limits.transfer_ms_max = 30_000;
    })
    .await;
    cluster.create(GROUP).await;
    cluster.put("item", 1).await;
    let old = cluster.leader().await;
    cluster.stop_node(old).await;
    assert_eq!(cluster.get("item").await, Some(item_of("item", 1)));
    cluster.halt().await;
}

#[actix::test]
async fn a_follower_that_is_too_far_behind_is_healed_by_a_full_copy() {
    let mut cluster = Cluster::start_with(|settings| {
        settings.timing.member_silent_ms = 300;
        settings.timing.limits.log_bytes_max = 32 << 10;
        settings.timing.limits.floor_step_entries = 16;
        settings.timing.limits.memory_bytes_max = 4 << 10;
        settings.limits.wal_segment_bytes = 1 << 20;
        settings.limits.flush_age_ms = 30;
    })
    .await;
    cluster.create(GROUP).await;
    for number in 0..100 {
        cluster.put(&format!("item-{number:04}"), 0).await;
    }
    let leader = cluster.leader().await;
    let behind = (1..=3).find(|node| *node != leader).expect("a follower");
    cluster.until_node_has(behind, "item-0099", 0).await;
    cluster.halt_node(behind).await;
    // What it has goes, what it lacks comes, until the log no longer reaches back to it.
    for number in 0..100 {
        cluster.delete(&format!("item-{number:04}")).await;
    }
    for number in 0..1_500 {
        cluster.put(&format!("more-{number:04}"), number).await;
    }
    cluster.start_node(behind).await;
    cluster.until_node_has(behind, "more-1499", 1_499).await;
    assert!(
        cluster.nodes[&behind].copies_installed() > 0,
        "it was healed by a copy, not from the log"
    );
    let mut local = page();
    local.strong = false;
    let local = ItemOperation::Page(Box::new(local));
    cluster
        .until("it has all of it, and serves that", || async {
            // It serves nothing for a moment if it hears of no leader.
            let reply = cluster.ask(behind, GROUP, local.clone()).await;
            matches!(reply, Ok(ItemReply::Page(reply)) if reply.count == 1_500)
        })
        .await;
    // It counts again: with another follower gone, writes need it; and it survives a restart.
    let third = (1..=3)
        .find(|node| *node != leader && *node != behind)
        .expect("the other follower");
    cluster.halt_node(third).await;
    cluster.put("after", 1).await;
    cluster.until_node_has(behind, "after", 1).await;
    cluster.halt_node(behind).await;
    cluster.start_node(behind).await;
    cluster.until_node_has(behind, "more-1499", 1_499).await;
    cluster.until_node_has(behind, "after", 1).await;
    cluster.halt().await;
}

#[actix::test]
async fn orders_are_idempotent_and_fenced() {
    let cluster = Cluster::start_with(calm).await;
    cluster.create(GROUP).await;
    cluster.create(GROUP).await;
    cluster.put("item", 1).await;
    cluster.create(GROUP).await;
    assert_eq!(
        cluster.get("item").await,
        Some(item_of("item", 1)),
        "still there"
    );

    let mut foreign = cluster.create_order(GroupId(8));
    foreign.configuration.members[0].incarnation += 1;
    let reply = cluster
        .order(1, &Order::CreateReplica(Box::new(foreign)))
        .await;
    assert!(
        matches!(reply, OrderReply::Refused(_)),
        "another disk: {reply:?}"
    );

    let mut newer = table();
    newer.version = 2;
    newer.deletion_protection = true;
    let order = Order::SetTable {
        partition: GROUP,
        table: Box::new(newer.clone()),
    };
    let leader = cluster.leader().await;
    for node in 1..=3 {
        let reply = cluster.order(node, &order).await;
        assert_eq!(
            matches!(reply, OrderReply::Done),
            node == leader,
            "{reply:?}"
        );
    }
    cluster
        .until("memds hears of the definition", || async {
            cluster.seen.tables.lock().get(&newer.id) == Some(&newer)
        })
        .await;
    cluster
        .until("memds hears of the leader", || async {
            let partitions = cluster.seen.partitions.lock();
            partitions
                .get(&GROUP)
                .is_some_and(|info| info.leader == Some(NodeId(leader)) && info.table_version == 2)
        })
        .await;

    for node in 1..=3 {
        let folder = cluster.settings[&node].data_dir.join("replicas").join("7");
        assert!(folder.exists());
        for _ in 0..2 {
            let reply = cluster
                .order(node, &Order::DropReplica { partition: GROUP })
                .await;
            assert!(matches!(reply, OrderReply::Done), "{reply:?}");
        }
        assert!(!folder.exists());
    }
    let get = Get {
        key: key("item"),
        strong: true,
        projection: None,
    };
    let reply = cluster.ask(leader, GROUP, ItemOperation::Get(get)).await;
    assert!(
        matches!(
            reply,
            Ok(ItemReply::Fault(ItemFault::NotHere { partition: None }))
        ),
        "{reply:?}"
    );
    cluster
        .until("memds hears of the drop", || async {
            cluster.seen.dropped.lock().contains(&GROUP)
        })
        .await;
    cluster.halt().await;
}

#[actix::test]
async fn a_node_that_has_restarted_still_refuses_an_admin_of_an_earlier_epoch() {
    let mut cluster = Cluster::start().await;
    cluster.create(GROUP).await;
    let campaign = Order::Campaign { partition: GROUP };
    let reply = cluster.order_as(5, 1, &campaign).await;
    assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    cluster.halt_node(1).await;
    cluster.start_node(1).await;
    // It was paused since before the other one came into office, and knows nothing of it.
    let drop = Order::DropReplica { partition: GROUP };
    let folder = cluster.settings[&1].data_dir.clone();
    for _ in 0..2 {
        let reply = cluster.order_as(4, 1, &drop).await;
        assert!(matches!(reply, OrderReply::Stale(5)), "{reply:?}");
    }
    // What cannot be noted is not carried out.
    let partial = folder.join("admin.epoch.partial");
    std::fs::create_dir(&partial).expect("in the way");
    let reply = cluster.order_as(6, 1, &drop).await;
    assert!(matches!(reply, OrderReply::Refused(_)), "{reply:?}");
    assert!(folder.join("replicas").join("7").exists());
    std::fs::remove_dir(&partial).expect("out of the way");
    let reply = cluster.order_as(5, 1, &campaign).await;
    assert!(
        matches!(reply, OrderReply::Done),
        "still in office: {reply:?}"
    );
    let reply = cluster.order_as(6, 1, &drop).await;
    assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    assert!(!folder.join("replicas").join("7").exists());
    cluster.halt().await;
}

#[actix::test]
async fn a_damaged_replica_is_fenced_and_the_others_serve() {
    let mut cluster = Cluster::start().await;
    cluster.create(GROUP).await;
    for number in 0..10 {
        cluster.put(&format!("item-{number}"), number).await;
    }
    let leader = cluster.leader().await;
    cluster.stop_node(leader).await;
    let folder = cluster.settings[&leader]
        .data_dir
        .join("replicas")
        .join("7");
    for file in std::fs::read_dir(&folder).expect("a folder") {
        let file = file.expect("a file").path();
        if file.file_name().is_some_and(|name| name == "data.mdb") {
            std::fs::write(&file, b"not a B-tree").expect("written");
        }
    }
    cluster.start_node(leader).await;
    assert_eq!(cluster.get("item-9").await, Some(item_of("item-9", 9)));
    cluster
        .until("the operator hears of it", || async {
            let heartbeats = cluster.seen.heartbeats.lock();
            heartbeats
                .get(&leader)
                .and_then(|beat| beat.storage.as_ref())
                .is_some_and(|storage| {
                    storage
                        .troubles
                        .iter()
                        .any(|trouble| trouble.contains("replica 7 is fenced"))
                })
        })
        .await;
    // What is fenced is not made anew behind the operator's back, but it can be dropped.
    let order = cluster.create_order(GROUP);
    let reply = cluster
        .order(leader, &Order::CreateReplica(Box::new(order)))
        .await;
    assert!(matches!(reply, OrderReply::Refused(_)), "{reply:?}");
    let reply = cluster
        .order(leader, &Order::DropReplica { partition: GROUP })
        .await;
    assert!(matches!(reply, OrderReply::Done), "{reply:?}");
    assert!(!folder.exists());
    cluster.halt().await;
}

#[actix::test]
async fn an_interrupted_drop_is_completed_at_the_next_start() {
    let mut cluster = Cluster::start().await;
    cluster.create(GROUP).await;
    cluster.put("item", 1).await;
    cluster.halt_node(1).await;
    let folder = cluster.settings[&1].data_dir.join("replicas").join("7");
    std::fs::write(folder.join("dropped"), b"").expect("written");
    cluster.start_node(1).await;
    assert!(!folder.exists());
    cluster.halt_node(1).await;
    cluster.start_node(1).await;
    let get = Get {
        key: key("item"),
        strong: false,
        projection: None,
    };
    let reply = cluster.ask(1, GROUP, ItemOperation::Get(get)).await;
    assert!(
        matches!(reply, Ok(ItemReply::Fault(ItemFault::NotHere { .. }))),
        "{reply:?}"
    );
    cluster.halt().await;
}

#[actix::test]
async fn a_full_shard_sheds_and_a_late_request_is_not_executed() {
    let cluster = Cluster::start_with(|settings| {
        calm(settings);
        settings.limits.requests_max = 4;
    })
    .await;
    cluster.create(GROUP).await;
    cluster.put("item", 1).await;
    let leader = cluster.leader().await;
    let calls = (0..500).map(|number| {
        let put = put(&format!("item-{number}"), number);
        cluster.ask(leader, GROUP, ItemOperation::Write(Box::new(put)))
    });
    let replies = futures::future::join_all(calls).await;
    let written = replies
        .iter()
        .filter(|reply| matches!(reply, Ok(ItemReply::Written { .. })))
        .count();
    let shed = replies
        .iter()
        .filter(|reply| matches!(reply, Ok(ItemReply::Fault(ItemFault::Overloaded))))
        .count();
    assert_eq!(written + shed, 500);
    assert!(written > 0 && shed > 0, "{written} written, {shed} shed");
    // What was shed was not written; the shard takes requests again.
    assert_eq!(cluster.page(page()).await.count, written as u64 + 1);
    cluster.halt().await;
}

#[actix::test]
async fn nodes_say_how_they_are() {
    let mut cluster = Cluster::start_with(calm).await;
    for partition in 1..=6 {
        cluster.create(GroupId(partition)).await;
    }
    cluster
        .until("all groups are led, and said to be", || async {
            let heartbeats = cluster.seen.heartbeats.lock();
            let storage = heartbeats.values().filter_map(|beat| beat.storage.as_ref());
            let (leading, replicas) =
                storage.fold((0, 0), |(l, r), s| (l + s.leading, r + s.replicas));
            (leading, replicas) == (6, 18) && cluster.seen.partitions.lock().len() == 6
        })
        .await;
    {
        let heartbeats = cluster.seen.heartbeats.lock();
        let beat = &heartbeats[&2];
        assert_eq!(
            (
                beat.service.as_str(),
                beat.zone.as_str(),
                beat.ready,
                beat.draining
            ),
            ("storage", "az2", true, false)
        );
        assert_eq!(beat.incarnation, cluster.nodes[&2].incarnation());
        let storage = beat.storage.as_ref().expect("a storage node");
        assert!(storage.used_bytes > 0 && storage.free_bytes > 0 && storage.troubles.is_empty());
    }
    cluster
        .until("nodes say what they see of the others", || async {
            let heartbeats = cluster.seen.heartbeats.lock();
            heartbeats.values().all(|beat| {
                let storage = beat.storage.as_ref().expect("a storage node");
                let others = storage.peers.iter().filter(|p| p.node.0 != beat.instance);
                others.filter(|p| p.silent_ms < 5_000).count() == 2
            }) && heartbeats.values().any(|beat| {
                let storage = beat.storage.as_ref().expect("a storage node");
                storage.peers.iter().any(|peer| peer.acknowledged_us > 0)
            })
        })
        .await;
    // A fresh memds asks for everything.
    cluster.seen.partitions.lock().clear();
    cluster.seen.tables.lock().clear();
    cluster
        .client
        .cast(
            protocol::subjects::MEMDS_HYDRATE,
            &protocol::directory::Hydrate { instance: 9 },
        )
        .expect("sent");
    cluster
        .until("everything is pushed", || async {
            cluster.seen.partitions.lock().len() == 6 && cluster.seen.tables.lock().len() == 1
        })
        .await;
    cluster.stop_node(2).await;
    cluster
        .until("it said that it goes", || async {
            cluster.seen.heartbeats.lock()[&2].draining
        })
        .await;
    cluster.halt().await;
}

#[actix::test]
async fn the_same_disk_has_one_user_and_a_new_disk_another_identity() {
    let mut cluster = Cluster::start().await;
    let mesh = mesh::Mesh::local(&cluster.bus, identity("storage", 1));
    let second = storage::start(cluster.settings[&1].clone(), mesh).await;
    assert!(second.is_err(), "the data folder is in use");
    let before = cluster.nodes[&1].incarnation();
    cluster.halt_node(1).await;
    cluster.start_node(1).await;
    assert_eq!(cluster.nodes[&1].incarnation(), before);
    cluster.halt_node(1).await;
    std::fs::remove_dir_all(&cluster.settings[&1].data_dir).expect("removed");
    cluster.start_node(1).await;
    assert_ne!(cluster.nodes[&1].incarnation(), before);
    cluster.halt().await;
}

#[actix::test]
async fn a_log_that_grew_too_large_is_truncated_although_a_group_rests() {
    let mut cluster = Cluster::start_with(|settings| {
        settings.limits.wal_segment_bytes = 256 << 10;
        settings.limits.wal_bytes_max = 1 << 20;
        settings.limits.flush_age_ms = 30;
    })
    .await;
    let resting = GroupId(8);
    cluster.create(GROUP).await;
    cluster.create(resting).await;
    // A few entries of a group that is never written again lie in the oldest segment.
    let put_one = ItemOperation::Write(Box::new(put("rests", 1)));
    cluster
        .until("it is written", || async {
            let reply = cluster.lead(resting, put_one.clone()).await;
            matches!(reply, ItemReply::Written { .. })
        })
        .await;
    let big = "x".repeat(300 << 10);
    for number in 0..20 {
        let name = format!("item-{number}");
        let mut item = item_of(&name, number);
        item.insert("big".to_owned(), model::AttributeValue::S(big.clone()));
        let action = WriteAction::Put(encode_item(&item));
        cluster.write_surely(write(&name, action)).await;
    }
    let wal_bytes = |node: u64| {
        let folder = cluster.settings[&node].data_dir.join("wal");
        let files = std::fs::read_dir(folder).expect("a folder");
        let sizes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len()));
        sizes.sum::<u64>()
    };
    cluster
        .until("the oldest segments go", || async {
            (1..=3).all(|node| wal_bytes(node) < 3 << 20)
        })
        .await;
    for node in 1..=3 {
        cluster.halt_node(node).await;
    }
    for node in 1..=3 {
        cluster.start_node(node).await;
    }
    assert_eq!(cluster.page(page()).await.count, 4, "a page of 1 MB");
    let get = Get {
        key: key("rests"),
        strong: true,
        projection: None,
    };
    let reply = cluster.lead(resting, ItemOperation::Get(get)).await;
    assert!(
        matches!(reply, ItemReply::Item { item: Some(_), .. }),
        "{reply:?}"
    );
    cluster.halt().await;
}

#[actix::test]
async fn writes_are_shed_and_reads_served_while_flushes_are_far_behind() {
    let cluster = Cluster::start_with(|settings| {
        // No flush ever comes.
        settings.limits.flush_age_ms = 3_600_000;
        settings.limits.flush_bytes = usize::MAX;
        settings.limits.overlays_bytes_max = 20 << 10;
    })
    .await;
    cluster.create(GROUP).await;
    let started = Instant::now();
    let mut written = 0;
    loop {
        match cluster
            .write(put(&format!("item-{written}"), written))
            .await
        {
            ItemReply::Written { .. } => written += 1,
            ItemReply::Fault(ItemFault::Overloaded) => break,
            ItemReply::Fault(ItemFault::Unknown) => {}
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < PATIENCE, "never shed");
    }
    assert!(written > 0);
    let last = format!("item-{}", written - 1);
    assert_eq!(cluster.get(&last).await, Some(item_of(&last, written - 1)));
    cluster.halt().await;
}

#[actix::test]
async fn a_node_passes_on_what_its_sender_cannot_bring_to_another() {
    let cluster = Cluster::start_with(calm).await;
    cluster.create(GROUP).await;
    cluster.put("song", 1).await;
    let leader = cluster.leader().await;
    let follower = (1..=3).find(|node| *node != leader).expect("a follower");
    let call = |to| ItemCall {
        partition: GROUP,
        operation: ItemOperation::Get(Get {
            key: key("song"),
            strong: true,
            projection: None,
        }),
        forward_to: Some(NodeId(to)),
        uncharged: false,
    };
    let reply = cluster.pass(follower, &call(leader)).await;
    assert!(
        matches!(reply, Ok(ItemReply::Item { item: Some(_), .. })),
        "{reply:?}"
    );
    let reply = cluster.pass(leader, &call(leader)).await;
    assert!(
        matches!(reply, Ok(ItemReply::Item { item: Some(_), .. })),
        "{reply:?}"
    );
    let reply = cluster.pass(follower, &call(99)).await;
    let not_executed = matches!(reply, Ok(ItemReply::Fault(ItemFault::NotReady)));
    assert!(not_executed, "{reply:?}");
    cluster.halt().await;
}
