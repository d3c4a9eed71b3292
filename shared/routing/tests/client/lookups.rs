//! Lookups: constant work, what a miss asks, what is believed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use mesh::{Deadline, TraceContext};
use model::{ErrorKind, KeyRange, TableId};

use crate::world::*;

#[tokio::test]
async fn every_request_sends_its_lookup_and_they_share_messages() {
    let world = World::new(1, &[1], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    assert_eq!(table(&client, "music", 20_000).await, Ok(TableId(20)));
    assert!(call(&client, get(true), 20_000).await.is_ok());
    let before = world.lookups();
    let all = (0..500).map(|_| call(&client, get(true), 20_000));
    let all = futures::future::join_all(all).await;
    assert!(all.iter().all(Result::is_ok));
    // The last ones may still gather.
    while world.lookups() < before + 500 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.lookups(), before + 500);
    assert_eq!(client.stats().lookups, world.lookups());
    assert_eq!(client.stats().lookups_dropped, 0);
    let messages = world.memds[&1].messages.load(Ordering::SeqCst);
    assert!(messages < 400, "{messages} messages for 500 lookups");
}

/// What a customer does, or what befalls the caches.
#[derive(Clone, Debug)]
enum Happening {
    /// So many requests at once, each for the table and one of its two partitions.
    Requests(usize),
    /// All caches are lost.
    Flush,
}

fn happening() -> impl proptest::strategy::Strategy<Value = Happening> {
    use proptest::prelude::*;
    prop_oneof![
        3 => (1_usize..60).prop_map(Happening::Requests),
        2 => Just(Happening::Flush),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Constant work: whatever the hit rate, each request sends its lookup of the table and its lookup of the partition; none is skipped. Beyond
    /// that there is, each time the caches are lost, at most one lookup for the table and one for each partition: the second node that
    /// the first miss asks.
    #[test]
    fn lookups_follow_requests_whatever_the_hit_rate(
        happenings in proptest::collection::vec(happening(), 1..12)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = World::new(2, &[1], Box::new(|_, _| Some(item()))).await;
            for memds in world.memds.values() {
                *memds.partitions.lock() = vec![partition(7, "a", "m", 1, 1), partition(8, "m", "", 1, 1)];
            }
            let client = world.client(|_| {}).await;
            let (mut requests, mut flushes) = (0, 1);
            for happening in happenings {
                match happening {
                    Happening::Flush => {
                        client.forget_all();
                        flushes += 1;
                    }
                    Happening::Requests(count) => {
                        requests += count as u64;
                        let each = (0..count).map(async |number| {
                            assert_eq!(table(&client, "music", 20_000).await, Ok(TableId(20)));
                            let key = if number % 2 == 0 { "k" } else { "z" };
                            let deadline = Deadline::after(Duration::from_secs(20));
                            let trace = TraceContext::default();
                            let key = Bytes::from_static(key.as_bytes());
                            client.item(&music(), &key, get(true), deadline, &trace).await.unwrap();
                        });
                        futures::future::join_all(each).await;
                    }
                }
            }
            // The last ones may still gather; what is queued is sent.
            while client.stats().lookups < 2 * requests || world.lookups() < client.stats().lookups {
                tokio::task::yield_now().await;
            }
            let lookups = client.stats().lookups;
            assert_eq!(client.stats().lookups_dropped, 0);
            assert!(lookups <= 2 * requests + flushes * 3, "{lookups} lookups for {requests} requests, {flushes} times without caches");
        });
    }
}

#[tokio::test]
async fn a_follower_takes_what_the_leader_learned() {
    // One of the two nodes never answers: whoever asked only that one would wait for its time-out.
    let world = World::new(1, &[1], Box::new(|_, _| Some(item()))).await;
    let client = world.client(|_| {}).await;
    world.beat(2);
    for _ in 0..10 {
        client.forget_all();
        world.beat(2);
        let all = futures::future::join_all((0..20).map(|_| table(&client, "music", 20_000))).await;
        assert!(all.iter().all(|found| *found == Ok(TableId(20))), "{all:?}");
    }
}

#[tokio::test]
async fn a_miss_asks_two_memds_nodes_and_the_first_positive_answer_counts() {
    let world = World::new(2, &[1], Box::new(|_, _| Some(item()))).await;
    *world.memds[&1].table.lock() = None;
    let client = world.client(|_| {}).await;
    assert_eq!(table(&client, "music", 20_000).await, Ok(TableId(20)));
    assert_eq!(world.lookups(), 2);
    let system = table(&client, "evenkeel.system", 20_000).await;
    assert_eq!(system, Err(ErrorKind::ResourceNotFound));
    assert_eq!(world.lookups(), 2, "not even asked for");
    assert_eq!(
        table(&client, "films", 20_000).await,
        Err(ErrorKind::ResourceNotFound)
    );
}

#[tokio::test]
async fn the_only_memds_nodes_word_counts_but_one_of_two_does_not() {
    let world = World::new(1, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    assert_eq!(
        table(&client, "films", 20_000).await,
        Err(ErrorKind::ResourceNotFound)
    );
    // A second node that is alive but cannot be reached: nobody can say that there is no such table, until it is known
    // not to answer.
    let world = World::new(2, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    world.beat(9);
    for _ in 0..20 {
        assert_eq!(
            table(&client, "films", 20_000).await,
            Err(ErrorKind::ResourceNotFound)
        );
    }
}

#[tokio::test]
async fn a_dropped_table_is_noticed() {
    let world = World::new(2, &[1, 2, 3], Box::new(|_, _| not_here(None))).await;
    let client = world.client(|_| {}).await;
    assert_eq!(table(&client, "music", 20_000).await, Ok(TableId(20)));
    for memds in world.memds.values() {
        *memds.table.lock() = None;
    }
    assert!(matches!(
        call(&client, get(true), 20_000).await,
        Err(ErrorKind::ResourceNotFound)
    ));
    assert_eq!(
        table(&client, "music", 20_000).await,
        Err(ErrorKind::ResourceNotFound)
    );
}

#[tokio::test]
async fn known_everywhere_means_every_memds_node() {
    let world = World::new(2, &[], Box::new(|_, _| None)).await;
    let client = world.client(|_| {}).await;
    let ranges = [KeyRange {
        start: Bytes::from_static(b"a"),
        end: Bytes::new(),
    }];
    assert!(client.known_everywhere(&music(), &ranges).await);
    world.memds[&2].partitions.lock()[0].leader = None;
    assert!(!client.known_everywhere(&music(), &ranges).await);
    *world.memds[&2].table.lock() = None;
    assert!(!client.known_everywhere(&music(), &ranges).await);
}
