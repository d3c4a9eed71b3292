//! Nodes that cannot be reached, or go away.

use std::time::Duration;

use model::ErrorKind;
use paxos::NodeId;
use protocol::item::{ItemCall, ItemFault, ItemReply};
use routing::Client;

use crate::world::*;

/// Node 1, which leads, cannot be reached by the client in az2; what node 3 passes on to it is answered so.
async fn cut_off(passed_on: ItemReply) -> (World, Client) {
    let behaviour = move |node, call: &ItemCall| match (node, call.forward_to) {
        (1, None) => None,
        (3, Some(NodeId(1))) => Some(passed_on.clone()),
        _ => not_here(None),
    };
    let world = World::new(1, &[1, 2, 3], Box::new(behaviour)).await;
    let client = world
        .client(|settings| settings.read_try = Duration::from_millis(200))
        .await;
    for node in 1..=3 {
        world.storage_beat(node, false);
    }
    (world, client)
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_called_by_way_of_a_third_zone() {
    let (world, client) = cut_off(item()).await;
    assert!(call(&client, get(true), 20_000).await.is_ok());
    assert_eq!(world.called(), [1, 3]);
    // The next ones need not wait.
    assert!(call(&client, get(true), 20_000).await.is_ok());
    assert!(call(&client, put(), 20_000).await.is_ok());
    assert_eq!(world.called(), [1, 3, 3, 3]);
}

#[tokio::test]
async fn a_write_that_got_no_answer_goes_no_detour() {
    let (world, client) = cut_off(written()).await;
    let outcome = call(&client, put(), 500).await;
    assert_eq!(outcome.err(), Some(ErrorKind::InternalServerError));
    assert_eq!(world.called(), [1]);
    assert!(
        call(&client, put(), 20_000).await.is_ok(),
        "the next one does"
    );
    assert_eq!(world.called(), [1, 3]);
}

#[tokio::test]
async fn an_unknown_outcome_on_a_detour_is_an_error_for_a_write_only() {
    let (world, client) = cut_off(ItemReply::Fault(ItemFault::Unknown)).await;
    assert!(call(&client, put(), 500).await.is_err());
    let outcome = call(&client, put(), 20_000).await;
    assert_eq!(outcome.err(), Some(ErrorKind::InternalServerError));
    assert_eq!(world.called(), [1, 3]);
    let outcome = call(&client, get(true), 300).await;
    assert_eq!(outcome.err(), Some(ErrorKind::ServiceUnavailable));
    assert!(world.called().len() > 4, "tried again and again");
}

#[tokio::test]
async fn eventual_reads_leave_a_node_that_goes_away() {
    let world = World::new(1, &[1, 2, 3], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    for node in 1..=3 {
        world.storage_beat(node, false);
    }
    assert!(call(&client, get(false), 20_000).await.is_ok());
    world.storage_beat(2, true);
    assert!(call(&client, get(false), 20_000).await.is_ok());
    world.storage_beat(2, false);
    assert!(call(&client, get(false), 20_000).await.is_ok());
    assert_eq!(world.called(), [2, 1, 2]);
}
