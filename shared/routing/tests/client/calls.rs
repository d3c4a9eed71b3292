//! Calls to storage nodes: hints, tries, what is never tried again.

use std::sync::atomic::{AtomicU64, Ordering};

use model::ErrorKind;
use model::capacity::Direction;
use protocol::item::{ItemCall, ItemFault, ItemReply};

use crate::world::*;

#[tokio::test]
async fn without_memds_only_the_cache_serves() {
    let world = World::new(0, &[1], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    assert!(!client.has_directory());
    assert_eq!(
        table(&client, "music", 100).await,
        Err(ErrorKind::ServiceUnavailable)
    );
    client.learn_partition(partition(7, "a", "", 1, 1));
    assert!(call(&client, get(true), 20_000).await.is_ok());
}

#[tokio::test]
async fn a_write_follows_the_hint_to_the_new_leader() {
    let new = || partition(7, "a", "", 3, 2);
    let world = World::new(
        1,
        &[1, 2, 3],
        Box::new(move |node, _| {
            if node == 3 {
                Some(written())
            } else {
                not_here(Some(new()))
            }
        }),
    )
    .await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 20_000).await,
        Ok(ItemReply::Written { .. })
    ));
    assert_eq!(world.called(), [1, 3]);
    assert!(call(&client, put(), 20_000).await.is_ok());
    assert_eq!(world.called(), [1, 3, 3], "the hint was kept");
}

#[tokio::test]
async fn a_dead_leader_is_waited_out() {
    // Node 1 serves nothing; nodes 2 and 3 know no new leader for a while.
    let refusals = AtomicU64::new(0);
    let world = World::new(
        1,
        &[2, 3],
        Box::new(move |node, _| {
            if node == 2 && refusals.fetch_add(1, Ordering::SeqCst) >= 4 {
                return Some(written());
            }
            not_here(None)
        }),
    )
    .await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 20_000).await,
        Ok(ItemReply::Written { .. })
    ));
}

#[tokio::test]
async fn a_write_without_an_answer_is_unknown_and_sent_once() {
    let world = World::new(1, &[1, 2, 3], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 200).await,
        Err(ErrorKind::InternalServerError)
    ));
    assert_eq!(world.called(), [1]);
}

#[tokio::test]
async fn an_unknown_outcome_is_never_retried() {
    let unknown = |_, _: &ItemCall| Some(ItemReply::Fault(ItemFault::Unknown));
    let world = World::new(1, &[1, 2, 3], Box::new(unknown)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 20_000).await,
        Err(ErrorKind::InternalServerError)
    ));
    assert_eq!(world.called(), [1]);
}

#[tokio::test]
async fn what_was_never_executed_ends_as_unavailable() {
    let world = World::new(1, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 150).await,
        Err(ErrorKind::ServiceUnavailable)
    ));
}

#[tokio::test]
async fn eventual_reads_stay_in_the_zone_and_leave_it_when_nobody_answers() {
    let world = World::new(1, &[1, 2, 3], Box::new(|node, _| (node != 2).then(item))).await;
    let client = world.client(|_| {}).await;
    assert!(call(&client, get(false), 20_000).await.is_ok());
    assert_eq!(
        world.called(),
        [2, 1],
        "own zone first; no answer: the leader"
    );
    assert!(call(&client, get(true), 20_000).await.is_ok());
    assert_eq!(world.called(), [2, 1, 1], "strong reads go to the leader");
}

#[tokio::test]
async fn final_faults_come_back_at_once() {
    let failed = |_, _: &ItemCall| {
        Some(ItemReply::Fault(ItemFault::ConditionFailed {
            item: None,
            size_bytes: 0,
        }))
    };
    let world = World::new(1, &[1], Box::new(failed)).await;
    let client = world.client(|_| {}).await;
    let reply = call(&client, put(), 20_000).await;
    assert!(matches!(
        reply,
        Ok(ItemReply::Fault(ItemFault::ConditionFailed { .. }))
    ));
    let shed = |_, _: &ItemCall| Some(ItemReply::Fault(ItemFault::Overloaded));
    let world = World::new(1, &[1, 2, 3], Box::new(shed)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 20_000).await,
        Err(ErrorKind::Throttling)
    ));
    assert_eq!(world.called(), [1]);
}

#[tokio::test]
async fn calls_in_flight_are_bounded() {
    let world = World::new(1, &[1], Box::new(|_, _| None)).await;
    let client = world
        .client(|settings| settings.calls_in_flight_max = 2)
        .await;
    let slow = || {
        tokio::spawn({
            let client = client.clone();
            async move { call(&client, put(), 3_000).await.map(|_| ()) }
        })
    };
    let (first, second) = (slow(), slow());
    while client.stats().calls_in_flight < 2 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(
        call(&client, put(), 3_000).await,
        Err(ErrorKind::Throttling)
    ));
    assert_eq!(first.await.unwrap(), Err(ErrorKind::InternalServerError));
    assert_eq!(second.await.unwrap(), Err(ErrorKind::InternalServerError));
    assert_eq!(client.stats().calls_in_flight, 0);
}

#[tokio::test]
async fn a_throttled_request_is_not_tried_elsewhere() {
    let fault = |_, _: &ItemCall| {
        Some(ItemReply::Fault(ItemFault::Throttled {
            direction: Direction::Write,
            index: None,
        }))
    };
    let world = World::new(1, &[1, 2, 3], Box::new(fault)).await;
    let client = world.client(|_| {}).await;
    assert!(matches!(
        call(&client, put(), 20_000).await,
        Err(ErrorKind::Throttling)
    ));
    assert_eq!(world.called(), [1]);
}
