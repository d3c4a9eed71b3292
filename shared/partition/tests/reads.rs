//! Reads: pages over two overlays and the B-tree, limits, filters, projections, ranges.

mod common;

use bytes::Bytes;
use common::*;
use model::KeyRange;
use model::codec::decode_item;
use protocol::item::{Get, ItemFault, ItemReply};

/// Items b, d, f, … with numbers, spread over B-tree, sealed and active overlay; some hidden, some removed.
fn layered() -> Leader {
    let mut leader = Leader::new();
    for (pk, n) in [("b", 0), ("c", 0), ("d", 0), ("h", 0)] {
        leader.write(&put(pk, &[("n", number(n))]));
    }
    leader.flush();
    for (pk, n) in [("c", 1), ("e", 1), ("f", 1)] {
        leader.write(&put(pk, &[("n", number(n))]));
    }
    leader.write(&delete("d"));
    // Sealed, and its flush never ends.
    assert!(leader.partition.seal().is_some());
    for (pk, n) in [("e", 2), ("g", 2)] {
        leader.write(&put(pk, &[("n", number(n))]));
    }
    leader.write(&delete("h"));
    assert!(leader.partition.seal().is_none(), "one flush at a time");
    leader
}

#[test]
fn a_page_merges_the_layers_in_both_directions() {
    let leader = layered();
    let mut page = page();
    assert_eq!(names(&leader.page(&page)), ["b", "c", "e", "f", "g"]);
    page.reverse = true;
    let reply = leader.page(&page);
    assert_eq!(names(&reply), ["g", "f", "e", "c", "b"]);
    assert_eq!(
        (reply.count, reply.scanned_count, reply.last_key),
        (5, 5, None)
    );
    let n = |pk: &str| leader.get(pk).and_then(|mut item| item.remove("n"));
    assert_eq!(
        [n("b"), n("c"), n("e"), n("d"), n("h")],
        [
            Some(number(0)),
            Some(number(1)),
            Some(number(2)),
            None,
            None
        ]
    );
}

#[test]
fn limit_and_after_walk_through_everything_once() {
    let leader = layered();
    for reverse in [false, true] {
        for limit in 1..=6 {
            let mut page = page();
            page.reverse = reverse;
            page.limit = Some(limit);
            let mut walked = Vec::new();
            loop {
                let reply = leader.page(&page);
                assert!(reply.scanned_count <= u64::from(limit));
                walked.extend(names(&reply));
                let Some(last) = reply.last_key else { break };
                let keys =
                    decode_item(&reply.last_key_item.expect("with the key")).expect("an item");
                assert_eq!(
                    keys,
                    item(std::str::from_utf8(&last).expect("text"), &[]),
                    "key attributes only"
                );
                page.after = Some(last);
            }
            let mut expected = vec!["b", "c", "e", "f", "g"];
            if reverse {
                expected.reverse();
            }
            assert_eq!(walked, expected, "limit {limit}, reverse {reverse}");
        }
    }
}

#[test]
fn a_full_page_has_a_last_key_even_at_the_end() {
    let leader = layered();
    let mut page = page();
    page.limit = Some(5);
    assert_eq!(leader.page(&page).last_key, Some(key("g")));
    page.limit = Some(6);
    assert_eq!(leader.page(&page).last_key, None);
}

#[test]
fn a_page_stops_once_its_bytes_are_reached() {
    let mut leader = Leader::new();
    for pk in ["b", "c", "d"] {
        leader.write(&put(pk, &[("x", text(&"y".repeat(96)))]));
    }
    // An item has 2 + 1 + 1 + 96 bytes.
    for (bytes_max, count) in [
        (1, 1),
        (100, 1),
        (101, 2),
        (200, 2),
        (201, 3),
        (u64::MAX, 3),
    ] {
        let mut page = page();
        page.bytes_max = bytes_max;
        let reply = leader.page(&page);
        assert_eq!(
            (reply.scanned_count, reply.bytes_read),
            (count, count * 100),
            "{bytes_max}"
        );
        assert_eq!(reply.last_key.is_some(), bytes_max <= 300, "{bytes_max}");
    }
    for number in 0..12 {
        leader.write(&put(
            &format!("e{number}"),
            &[("x", text(&"y".repeat(100 << 10)))],
        ));
    }
    let mut page = page();
    page.bytes_max = u64::MAX;
    let reply = leader.page(&page);
    assert!(
        (1 << 20..(1 << 20) + (101 << 10)).contains(&reply.bytes_read),
        "1 MB whatever was asked for"
    );
}

#[test]
fn filters_count_what_they_drop_and_projections_keep_the_size() {
    let leader = layered();
    let mut page = page();
    page.filter = Some(condition("n >= :n", &[(":n", number(1))]));
    page.projection = Some(projection("n"));
    let reply = leader.page(&page);
    assert_eq!(
        (reply.count, reply.scanned_count, reply.items.len()),
        (4, 5, 4)
    );
    let whole = leader.page(&common::page());
    assert_eq!(reply.bytes_read, whole.bytes_read);
    let first = decode_item(&reply.items[0]).expect("an item");
    assert_eq!(first, model::Item::from([("n".to_owned(), number(1))]));
    page.count_only = true;
    let reply = leader.page(&page);
    assert_eq!((reply.count, reply.items.len()), (4, 0));
}

#[test]
fn a_projection_of_one_item_keeps_the_size_of_the_whole() {
    let leader = layered();
    let read = |projection| {
        let get = Get {
            key: key("c"),
            strong: false,
            projection,
        };
        match leader.partition.get(&leader.tree, &get).expect("healthy") {
            ItemReply::Item { item, size_bytes } => (
                decode_item(&item.expect("there")).expect("an item"),
                size_bytes,
            ),
            other => panic!("{other:?}"),
        }
    };
    let (whole, size) = read(None);
    assert_eq!(whole, item("c", &[("n", number(1))]));
    assert_eq!(read(Some(projection("n"))).1, size);
    assert_eq!(
        read(Some(projection("absent"))),
        (model::Item::new(), size),
        "there, but empty"
    );
}

#[test]
fn ranges_are_clipped_to_the_partition() {
    let leader = layered();
    let read = |start: &'static str, end: &'static str| {
        let mut page = page();
        page.range = KeyRange {
            start: Bytes::from_static(start.as_bytes()),
            end: Bytes::from_static(end.as_bytes()),
        };
        leader.partition.page(&leader.tree, &page).expect("healthy")
    };
    let read_names = |start, end| match read(start, end) {
        ItemReply::Page(reply) => names(&reply),
        other => panic!("{other:?}"),
    };
    assert_eq!(read_names("c", "f"), ["c", "e"]);
    assert_eq!(read_names("", "zz"), ["b", "c", "e", "f", "g"]);
    assert!(
        read_names("f", "c").is_empty(),
        "an empty range is no fault"
    );
    assert!(matches!(
        read("y", "z"),
        ItemReply::Fault(ItemFault::WrongRange { .. })
    ));
    assert!(matches!(
        read("x", ""),
        ItemReply::Fault(ItemFault::WrongRange { .. })
    ));
    let mut page = page();
    page.believed = Some(KeyRange {
        start: key("a"),
        end: key("y"),
    });
    let reply = leader.partition.page(&leader.tree, &page).expect("healthy");
    assert!(
        matches!(reply, ItemReply::Fault(ItemFault::WrongRange { .. })),
        "a range that is not the partition's: keys would be passed over"
    );
    page.believed = Some(leader.partition.state().range.clone());
    page.after = Some(Bytes::new());
    page.reverse = true;
    assert_eq!(
        leader.page(&page).scanned_count,
        0,
        "nothing lies before the empty key"
    );
    page.after = Some("c".repeat(5_000).into());
    let reply = leader.partition.page(&leader.tree, &page).expect("healthy");
    assert!(matches!(reply, ItemReply::Fault(ItemFault::Api(_))));
}

#[test]
fn corrupt_items_are_an_error_of_the_replica() {
    let mut leader = Leader::new();
    leader
        .tree
        .0
        .insert(key("c"), Bytes::from_static(b"\xff\xff\xff"));
    assert!(leader.partition.get(&leader.tree, &get("c")).is_err());
    assert!(leader.partition.page(&leader.tree, &page()).is_err());
    assert!(
        leader
            .partition
            .evaluate(&leader.tree, &put("c", &[]), 7, 1)
            .is_err()
    );
}

#[test]
fn the_last_item_is_named_where_the_request_goes_on() {
    let leader = layered();
    let mut page = page();
    assert_eq!(leader.page(&page).end_key, None, "nobody asked");
    page.name_last = true;
    page.filter = Some(condition("n = :n", &[(":n", number(1))]));
    for (reverse, last) in [(false, "g"), (true, "b")] {
        page.reverse = reverse;
        let reply = leader.page(&page);
        assert_eq!((reply.last_key, reply.end_key), (None, Some(key(last))));
        let keys = decode_item(&reply.end_key_item.expect("with the key")).expect("an item");
        assert_eq!(keys, item(last, &[]), "key attributes only");
    }
    page.reverse = false;
    page.limit = Some(2);
    let stopped = leader.page(&page);
    assert_eq!((stopped.last_key, stopped.end_key), (Some(key("c")), None));
    page.limit = None;
    page.after = Some(key("g"));
    let nothing = leader.page(&page);
    assert_eq!((nothing.scanned_count, nothing.end_key), (0, None));
}
