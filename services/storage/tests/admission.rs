//! Partitions without capacity units left: what is refused has no effect, what the others hear of it.

mod cluster;

use std::collections::BTreeSet;
use std::time::Instant;

use cluster::{Cluster, GROUP, PATIENCE, calm, key, key_item, number, page, put, write};
use model::capacity::Direction;
use model::codec::encode_item;
use model::{AttributeValue, Units};
use protocol::item::{Get, ItemCall, ItemFault, ItemOperation, ItemReply, Write, WriteAction};

/// A put of an item of about 300 KB: it uses up minutes of a small partition's rate.
fn large(name: &str) -> Write {
    let mut item = key_item(name);
    let text = AttributeValue::S("x".repeat(300 << 10));
    item.insert("text".to_owned(), text);
    item.insert("n".to_owned(), number(1));
    write(name, WriteAction::Put(encode_item(&item)))
}

#[actix::test]
async fn a_refused_write_has_no_effect_and_the_directory_hears_of_it() {
    let cluster = Cluster::start_with(|settings| {
        calm(settings);
        settings.admission.partition_write_units_max = 1;
        settings.admission.burst_s = 0;
    })
    .await;
    cluster.create(GROUP).await;
    // The first is admitted. More are, one each, if another node is elected meanwhile.
    let started = Instant::now();
    let mut tried = 0;
    let refused = loop {
        tried += 1;
        let name = format!("item-{tried}");
        match cluster.write(large(&name)).await {
            ItemReply::Written { new_size_bytes, .. } => assert!(new_size_bytes > 300 << 10),
            ItemReply::Fault(ItemFault::Throttled { direction, .. }) => {
                assert_eq!(direction, Direction::Write);
                break name;
            }
            ItemReply::Fault(ItemFault::Unknown) => {}
            other => panic!("{other:?}"),
        }
        assert!(started.elapsed() < PATIENCE, "never refused");
    };
    assert!(tried > 1, "a full bucket admits anything");
    assert_eq!(cluster.get(&refused).await, None);
    assert!(cluster.get("item-1").await.is_some(), "reads go on");
    assert!(cluster.page(page()).await.count < tried);

    cluster
        .until("the directory hears of the heat", || async {
            // They are means: a refusal now and then keeps them up.
            cluster.write(put("cold", 1)).await;
            let info = cluster.partition(GROUP);
            info.is_some_and(|info| {
                !info.write_units_s.is_zero()
                    && !info.refused_units_s.is_zero()
                    && !info.read_units_s.is_zero()
            })
        })
        .await;
    cluster.halt().await;
}

#[actix::test]
async fn reads_are_refused_at_the_replica_that_served_too_many() {
    let cluster = Cluster::start_with(|settings| {
        calm(settings);
        settings.admission.partition_read_units_max = 1;
        settings.admission.burst_s = 0;
    })
    .await;
    cluster.create(GROUP).await;
    cluster.write_surely(large("item")).await;
    for node in 1..=3 {
        // Each has units of its own: it serves the item once, and owes for more than a minute.
        let mut served = 0;
        let started = Instant::now();
        loop {
            let get = Get {
                key: key("item"),
                strong: false,
                projection: None,
            };
            match cluster.ask(node, GROUP, ItemOperation::Get(get)).await {
                Ok(ItemReply::Item { size_bytes, .. }) if size_bytes > 0 => served += 1,
                Ok(ItemReply::Fault(ItemFault::Throttled { direction, .. })) if served > 0 => {
                    assert_eq!(direction, Direction::Read);
                    break;
                }
                // The item, or its leader, was not known here yet, which may have cost something.
                _ => cluster::pause().await,
            }
            assert!(started.elapsed() < PATIENCE, "never refused");
        }
        assert_eq!(served, 1, "node {node}");
        // What the mesh reads for itself is nobody's to pay.
        let own = ItemCall {
            partition: GROUP,
            operation: ItemOperation::Get(Get {
                key: key("item"),
                strong: false,
                projection: None,
            }),
            forward_to: None,
            uncharged: true,
        };
        loop {
            match cluster.pass(node, &own).await {
                Ok(ItemReply::Item { size_bytes, .. }) if size_bytes > 0 => break,
                Ok(ItemReply::Fault(ItemFault::Throttled { .. })) => panic!("it was refused"),
                _ => cluster::pause().await,
            }
            assert!(started.elapsed() < PATIENCE, "never served");
        }
    }
    cluster.put("more", 1).await;
    cluster.halt().await;
}

#[actix::test]
async fn the_members_of_a_group_that_writes_more_than_they_are_rated_for_say_so() {
    let cluster = Cluster::start_with(|settings| settings.admission.node_write_units = 1).await;
    cluster.create(GROUP).await;
    let started = Instant::now();
    let mut full = BTreeSet::new();
    while full.len() < 3 {
        cluster.write_surely(large("item")).await;
        for (node, beat) in cluster.seen.heartbeats.lock().iter() {
            let room = beat.storage.as_ref().and_then(|storage| storage.room);
            if room.is_some_and(|room| room.write == Units::ZERO && !room.read.is_zero()) {
                full.insert(*node);
            }
        }
        assert!(started.elapsed() < PATIENCE, "only {full:?} are full");
    }
    cluster.halt().await;
}

#[actix::test]
async fn a_leader_hears_what_its_followers_served() {
    let cluster = Cluster::start_with(|settings| {
        settings.admission.partition_read_units_max = 100;
        // Every read is sampled, writes are not.
        settings.heat.stride = 5_000;
        settings.admission.partition_write_units_max = 1_000_000;
        settings.heat.samples_min = 16;
    })
    .await;
    cluster.create(GROUP).await;
    for name in ["a", "b"] {
        cluster.put(name, 1).await;
    }
    let leader = || {
        let info = cluster.partition(GROUP);
        info.and_then(|info| info.leader).map(|node| node.0)
    };
    cluster
        .until("a split would halve the eventual reads", || async {
            for node in 1..=3 {
                if Some(node) == leader() {
                    continue;
                }
                for name in ["a", "b"] {
                    let get = Get {
                        key: key(name),
                        strong: false,
                        projection: None,
                    };
                    // A follower that hears of no leader for a moment serves nothing.
                    let _ = cluster.ask(node, GROUP, ItemOperation::Get(get)).await;
                }
            }
            let info = cluster.partition(GROUP);
            info.is_some_and(|info| {
                !info.read_units_s.is_zero() && info.advice == Some(heat::Advice::At(key("b")))
            })
        })
        .await;
    cluster.halt().await;
}
