//! Pages over several partitions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesh::{Deadline, TraceContext};
use model::capacity::Direction;
use model::{ErrorKind, KeyRange};
use parking_lot::Mutex;
use protocol::item::{ItemCall, ItemFault, ItemOperation, ItemReply, Page, PageReply};
use routing::Client;

use crate::world::*;

/// Three partitions with the keys a to i; a page as a storage node gives it.
fn page_of(call: &ItemCall) -> ItemReply {
    let ItemOperation::Page(page) = &call.operation else {
        panic!("{call:?}")
    };
    let mut keys: Vec<&str> = vec!["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    keys.retain(|key| page.range.contains(key.as_bytes()));
    if page.reverse {
        keys.reverse();
    }
    let mut reply = PageReply::default();
    for key in keys {
        let behind = match &page.after {
            Some(after) if page.reverse => key.as_bytes() < &after[..],
            Some(after) => key.as_bytes() > &after[..],
            None => true,
        };
        if !behind {
            continue;
        }
        let key = Bytes::copy_from_slice(key.as_bytes());
        reply.items.push(key.clone());
        reply.count += 1;
        reply.scanned_count += 1;
        reply.bytes_read += 10;
        if page
            .limit
            .is_some_and(|limit| reply.scanned_count >= u64::from(limit))
            || reply.bytes_read >= page.bytes_max
        {
            reply.last_key = Some(key.clone());
            reply.last_key_item = Some(key);
            break;
        }
    }
    if page.name_last && reply.last_key.is_none() {
        reply.end_key = reply.items.last().cloned();
        reply.end_key_item = reply.end_key.clone();
    }
    ItemReply::Page(reply)
}

async fn pages(client: &Client, reverse: bool, limit: Option<u32>, bytes_max: u64) -> Vec<String> {
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = Page {
            range: KeyRange {
                start: Bytes::from_static(b"b"),
                end: Bytes::from_static(b"i"),
            },
            after: after.clone(),
            reverse,
            strong: true,
            limit,
            bytes_max,
            filter: None,
            projection: None,
            count_only: false,
            believed: None,
            name_last: false,
            ..Page::default()
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        let reply = client
            .page(&music(), page, deadline, &TraceContext::default())
            .await
            .unwrap();
        assert_eq!(reply.count, reply.items.len() as u64);
        let text: Vec<u8> = reply.items.concat();
        pages.push(String::from_utf8(text).unwrap());
        after = reply.last_key;
        if after.is_none() {
            return pages;
        }
    }
}

#[tokio::test]
async fn pages_run_over_partitions_in_both_directions() {
    let world = World::new(1, &[1, 2, 3], Box::new(|_, call| Some(page_of(call)))).await;
    *world.memds[&1].partitions.lock() = vec![
        partition(7, "a", "d", 1, 1),
        partition(8, "d", "g", 2, 1),
        partition(9, "g", "", 3, 1),
    ];
    let client = world.client(|_| {}).await;
    assert_eq!(pages(&client, false, None, 1_000).await, ["bcdefgh"]);
    assert_eq!(pages(&client, true, None, 1_000).await, ["hgfedcb"]);
    assert_eq!(
        pages(&client, false, Some(3), 1_000).await,
        ["bcd", "efg", "h"]
    );
    assert_eq!(
        pages(&client, true, Some(3), 1_000).await,
        ["hgf", "edc", "b"]
    );
    assert_eq!(
        pages(&client, false, Some(2), 1_000).await,
        ["bc", "de", "fg", "h"]
    );
    assert_eq!(
        pages(&client, true, Some(1), 1_000).await,
        ["h", "g", "f", "e", "d", "c", "b", ""]
    );
    assert_eq!(pages(&client, false, None, 40).await, ["bcde", "fgh"]);
    assert_eq!(
        pages(&client, true, None, 15).await,
        ["hg", "fe", "dc", "b"]
    );
    let deadline = Deadline::after(Duration::from_secs(20));
    let range = KeyRange {
        start: Bytes::from_static(b"b"),
        end: Bytes::from_static(b"e"),
    };
    let covering = client
        .partitions(&music(), &range, deadline, &TraceContext::default())
        .await;
    let covering: Vec<u64> = covering.unwrap().iter().map(|p| p.partition.0).collect();
    assert_eq!(covering, [7, 8]);
}

#[tokio::test]
async fn a_page_ends_before_a_throttled_partition() {
    let throttled = Arc::new(Mutex::new(8));
    let world = World::new(
        1,
        &[1, 2, 3],
        Box::new({
            let throttled = throttled.clone();
            move |_, call| {
                let fault = ItemFault::Throttled {
                    direction: Direction::Read,
                    index: None,
                };
                Some(match call.partition.0 == *throttled.lock() {
                    true => ItemReply::Fault(fault),
                    false => page_of(call),
                })
            }
        }),
    )
    .await;
    *world.memds[&1].partitions.lock() = vec![
        partition(7, "a", "d", 1, 1),
        partition(8, "d", "g", 2, 1),
        partition(9, "g", "", 3, 1),
    ];
    let client = world.client(|_| {}).await;
    let read = async |start: &'static str, after: Option<Bytes>, reverse| {
        let page = Page {
            range: KeyRange {
                start: Bytes::from_static(start.as_bytes()),
                end: Bytes::from_static(b"i"),
            },
            after,
            reverse,
            strong: true,
            limit: None,
            bytes_max: 1_000,
            filter: None,
            projection: None,
            count_only: false,
            believed: None,
            name_last: false,
            ..Page::default()
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        client
            .page(&music(), page, deadline, &TraceContext::default())
            .await
    };
    let forwards = read("b", None, false).await.unwrap();
    assert_eq!(forwards.items, ["b", "c"]);
    assert_eq!(forwards.last_key, Some(Bytes::from_static(b"c")));
    assert_eq!(forwards.last_key_item, forwards.last_key);
    let backwards = read("b", None, true).await.unwrap();
    assert_eq!(backwards.items, ["h", "g"]);
    assert_eq!(backwards.last_key, Some(Bytes::from_static(b"g")));

    // Nothing was read before: the error, which says what to do.
    let error = read("d", None, false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Throttling);
    assert_eq!(
        error.throttling_reasons[0].reason,
        "TableReadKeyRangeThroughputExceeded"
    );
    assert!(
        error.throttling_reasons[0]
            .resource
            .ends_with("table/music")
    );
    let again = read("b", forwards.last_key, false).await.unwrap_err();
    assert!(again.is_throttling());

    // The last partition of all is throttled: what there is ends before it.
    *throttled.lock() = 9;
    let rest = read("b", None, false).await.unwrap();
    assert_eq!(rest.items, ["b", "c", "d", "e", "f"]);
    *throttled.lock() = 0;
    let last = read("b", rest.last_key, false).await.unwrap();
    assert_eq!(
        (last.items, last.last_key),
        (vec!["g".into(), "h".into()], None)
    );
}
