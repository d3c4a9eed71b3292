//! Two admins, healing, draining and the operator's commands, over storage nodes in memory.

mod world;

use paxos::{GroupId, NodeId};
use protocol::operate::{Answer, Command, MeshHealth};
use serde_json::json;
use world::World;

async fn health(world: &World) -> Option<MeshHealth> {
    match world.operate(Command::Health).await? {
        Answer::Health(health) => Some(*health),
        other => panic!("{other:?}"),
    }
}

async fn make(world: &World, name: &str) {
    let table = json!({
        "TableName": name,
        "AttributeDefinitions": [{"AttributeName": "artist", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    world.call("CreateTable", table).await.unwrap();
    let active = async || world.status(name).await.as_deref() == Some("ACTIVE");
    world.until("active", active).await;
}

/// Until this admin is the one that gives the orders; its epoch.
async fn active(world: &World, instance: u64) -> u64 {
    let mut epoch = 0;
    let leads = async || {
        let health = health(world).await;
        epoch = health.as_ref().map_or(0, |h| h.epoch);
        health.is_some_and(|h| h.admin == instance)
    };
    world.until("the admin is active", leads).await;
    epoch
}

#[actix::test]
async fn the_other_admin_takes_over_at_once_when_one_stops_and_only_it_gives_orders() {
    let world = World::new().await;
    let first = world.admin(1).await;
    assert_eq!(active(&world, 1).await, 1);
    let second = world.admin(2).await;
    make(&world, "music").await;
    first.stop().await;
    assert_eq!(active(&world, 2).await, 2);
    make(&world, "films").await;
    assert_eq!(world.replicas("films"), [3, 3, 3, 3]);
    second.stop().await;
}

#[actix::test]
async fn an_admin_whose_epoch_is_outdated_steps_back_and_comes_again_with_a_newer_one() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    let epoch = active(&world, 1).await;
    // As if another one had held the lease meanwhile: the nodes refuse what this one orders.
    world.epoch(epoch + 1);
    let table = json!({
        "TableName": "music",
        "AttributeDefinitions": [{"AttributeName": "artist", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "artist", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    world.call("CreateTable", table).await.unwrap();
    assert!(world.replicas("music").is_empty(), "refused everywhere");
    world.epoch(epoch);
    let active = async || world.status("music").await.as_deref() == Some("ACTIVE");
    world.until("active", active).await;
    admin.stop().await;
}

#[actix::test]
async fn a_lost_nodes_replicas_are_built_anew_and_a_deleted_tables_go_wherever_they_are() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    make(&world, "music").await;
    world.appear(4, true);
    world.appear(3, false);
    let healed = async || {
        let health = health(&world).await;
        world.held(3) == 0 && health.is_some_and(|h| h.endangered == 0)
    };
    world.until("healed", healed).await;
    assert_eq!(world.held(4), 5, "four partitions and the system's own");
    let health = health(&world).await.unwrap();
    assert!(health.without_leader.is_empty(), "{health:?}");
    // Its members are not those of its creation any more.
    world
        .call("DeleteTable", json!({"TableName": "music"}))
        .await
        .unwrap();
    let gone = async || world.status("music").await.is_none();
    world.until("gone", gone).await;
    assert_eq!(world.held(4), 1, "the system's own");
    assert!(world.replicas("music").is_empty());
    admin.stop().await;
}

#[actix::test]
async fn a_node_is_drained_and_the_operator_is_told() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    make(&world, "music").await;
    world.appear(4, true);
    let known = async || match world.operate(Command::Nodes).await {
        Some(Answer::Nodes(nodes)) => nodes.len() == 4,
        _ => false,
    };
    world.until("all nodes are known", known).await;
    let node = NodeId(3);
    let begun = async || {
        matches!(
            world.operate(Command::Drain { node }).await,
            Some(Answer::Done(_))
        )
    };
    world.until("the drain begins", begun).await;
    let drained = async || world.held(3) == 0;
    world.until("drained", drained).await;
    assert_eq!(world.held(4), 5);
    assert!(
        world
            .leaders("music")
            .iter()
            .all(|&(leader, _)| leader != 3)
    );
    let Some(Answer::Done(said)) = world.operate(Command::CancelDrain { node }).await else {
        panic!("it can't be cancelled")
    };
    assert_eq!(said, "node 3 stays");
    let refused = world.operate(Command::Drain { node: NodeId(9) }).await;
    let Some(Answer::Refused(why)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(why, "there is no storage node 9");
    admin.stop().await;
}

#[actix::test]
async fn partitions_are_shown_moved_and_handed_over() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    make(&world, "music").await;
    let music = Command::Partitions {
        table: Some("music".into()),
        after: GroupId(0),
    };
    let mut shown = Vec::new();
    let all = async || match world.operate(music.clone()).await {
        Some(Answer::Partitions { partitions, next }) => {
            assert_eq!(next, None);
            shown = partitions;
            shown.len() == 4
        }
        _ => false,
    };
    world.until("all are shown", all).await;
    let one = &shown[0];
    assert_eq!((one.table.as_str(), one.healthy_copies), ("music", 3));
    let (partition, leader) = (one.partition, one.leader.unwrap());
    let to = NodeId(leader.0 % 3 + 1);
    let order = Command::TransferLeader { partition, to };
    let Some(Answer::Done(_)) = world.operate(order).await else {
        panic!("not handed over")
    };
    assert_eq!(world.leaders("music")[0].0, to.0);
    let order = Command::Replace {
        partition,
        from: NodeId(1),
        to: NodeId(2),
    };
    let Some(Answer::Refused(why)) = world.operate(order).await else {
        panic!("two replicas on one node")
    };
    assert!(why.contains("has a replica on node 2 already"), "{why}");
    let nix = Command::Partitions {
        table: Some("nix".into()),
        after: GroupId(0),
    };
    let Some(Answer::Refused(why)) = world.operate(nix).await else {
        panic!("there is no such table")
    };
    assert_eq!(why, "there is no table 'nix'");
    admin.stop().await;
}

#[actix::test]
async fn counts_of_a_table_are_what_its_leaders_say() {
    let world = World::new().await;
    let admin = world.admin(1).await;
    make(&world, "music").await;
    let count = async || {
        let table = world
            .call("DescribeTable", json!({"TableName": "music"}))
            .await;
        table.unwrap()["Table"]["ItemCount"].as_u64()
    };
    assert_eq!(count().await, Some(0));
    world.fill("music", 3);
    world
        .until("counted", async || count().await == Some(12))
        .await;
    admin.stop().await;
}
