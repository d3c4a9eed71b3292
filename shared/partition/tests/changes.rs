//! Change records: which writes leave one, what it holds, how records are read and trimmed, and what children of a split take of them.

mod common;

use bytes::Bytes;
use common::*;
use model::index::{GlobalIndex, IndexDefinition, IndexKeys, IndexProjection, IndexScope};
use model::stream::StreamViewType;
use model::table::{IndexId, TableStatus};
use model::{TableDefinition, TableId};
use partition::change::{TrimPolicy, belongs, is_change_key};
use partition::split::{Filling, Side, begun_child, changes_for, empty_child};
use partition::{Limits, Partition, PartitionState, command};
use paxos::GroupId;
use proptest::prelude::*;
use protocol::changes::{ChangeKind, ChangeRecord, ChangesReply, ChangesRequest};
use protocol::item::{ItemFault, ItemReply, Write, WriteAction};
use protocol::split::{CommittedSplit, Split};

const ALL: ChangesRequest = ChangesRequest {
    key: Bytes::new(),
    after: (0, 0),
    upto: None,
    stream: None,
    limit: u32::MAX,
    bytes_max: u64::MAX,
};

fn streaming(view: StreamViewType) -> TableDefinition {
    let mut table = TableDefinition {
        version: 2,
        ..table()
    };
    table.streams.enable(view, 77);
    table
}

fn leader(view: StreamViewType) -> Leader {
    let mut leader = Leader::new();
    let state = PartitionState {
        table: streaming(view),
        ..state()
    };
    leader.partition = Partition::new(state, Limits::default());
    leader
}

fn read(leader: &Leader, request: &ChangesRequest) -> ChangesReply {
    let read = leader.partition.changes(&leader.tree, request);
    read.expect("healthy")
}

fn records(reply: &ChangesReply) -> Vec<ChangeRecord> {
    let decoded = reply.changes.iter();
    decoded
        .map(|change| ChangeRecord::decode(&change.value).expect("a record"))
        .collect()
}

fn expire(name: &str, now_s: u64) -> Write {
    let attribute = "ttl".to_owned();
    write(name, WriteAction::Expire { attribute, now_s })
}

#[test]
fn each_change_leaves_one_record_and_what_changes_nothing_leaves_none() {
    let mut leader = leader(StreamViewType::NewAndOldImages);
    let one = put("k", &[("a", number(1))]);
    let two = put("k", &[("a", number(2))]);
    for write in [&one, &one, &two, &delete("k"), &delete("k")] {
        leader.write(write);
    }
    leader.write(&change("k", None));
    leader.write(&change("k", None));
    let reply = read(&leader, &ALL);
    let records = records(&reply);
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    use ChangeKind::{Insert, Modify, Remove};
    assert_eq!(kinds, [Insert, Modify, Remove, Insert]);
    let positions: Vec<_> = reply.changes.iter().map(|change| change.place.0).collect();
    assert_eq!(positions, [1, 3, 4, 6]);
    let image = |value| model::codec::encode_item(&item("k", &[("a", number(value))]));
    assert_eq!(records[1].old, Some(image(1)));
    assert_eq!(records[1].new, Some(image(2)));
    assert_eq!((&records[2].new, &records[2].old), (&None, &Some(image(2))));
    assert_eq!(records[0].old, None);
    let same = |r: &ChangeRecord| r.key == key("k") && r.stream == 77 && r.time_ms == 7;
    assert!(records.iter().all(same));
    assert!(reply.end);
    assert_eq!(leader.partition.state().changes.count, 4);
    assert_eq!(leader.partition.state().items, 1, "records are no items");
}

#[test]
fn a_table_without_a_stream_writes_what_it_always_wrote() {
    let mut leader = Leader::new();
    leader.write(&put("k", &[("a", number(1))]));
    let image = model::codec::encode_item(&item("k", &[("a", number(1))]));
    let size = model::codec::encoded_item_size(&image).expect("an item");
    let plain = command::encode_write(7, &key("k"), Some(&image), 0, size);
    assert_eq!(leader.log, [plain]);
    assert!(read(&leader, &ALL).changes.is_empty());
}

#[test]
fn the_old_image_is_kept_only_where_somebody_wants_it() {
    for view in StreamViewType::ALL {
        let mut leader = leader(view);
        leader.write(&put("k", &[("a", number(1))]));
        leader.write(&put("k", &[("a", number(2))]));
        let last = records(&read(&leader, &ALL)).pop().expect("a record");
        assert_eq!(last.old.is_some(), view.shows_old(), "{view:?}");
        assert_eq!(leader.get("k"), Some(item("k", &[("a", number(2))])));
    }
}

#[test]
fn writes_in_flight_see_each_other_behind_tracked_commands() {
    let mut leader = leader(StreamViewType::NewAndOldImages);
    leader.offer(&put("k", &[("a", number(1))]));
    leader.offer(&change(
        "k",
        Some(update("ADD a :one", &[(":one", number(1))])),
    ));
    leader.offer(&delete("k"));
    leader.commit();
    let records = records(&read(&leader, &ALL));
    assert_eq!(records.len(), 3);
    assert_eq!(records[1].old, records[0].new);
    assert_eq!(records[2].old, records[1].new);
}

#[test]
fn records_are_read_page_by_page_whatever_is_flushed() {
    let mut leader = leader(StreamViewType::KeysOnly);
    for number in 0..30 {
        leader.write(&put(&format!("k{number:02}"), &[]));
        if number % 10 == 7 {
            leader.flush();
        }
    }
    leader.partition.seal();
    let (mut seen, mut request) = (Vec::new(), ALL);
    request.limit = 7;
    loop {
        let reply = read(&leader, &request);
        assert!(reply.changes.len() <= 7);
        assert!(reply.next >= request.after);
        seen.extend(records(&reply).into_iter().map(|record| record.key));
        request.after = reply.next;
        if reply.end {
            break;
        }
    }
    let expected: Vec<_> = (0..30)
        .map(|number| key(&format!("k{number:02}")))
        .collect();
    assert_eq!(seen, expected);
    let narrow = ChangesRequest {
        bytes_max: 1,
        ..ALL
    };
    assert_eq!(read(&leader, &narrow).changes.len(), 1, "at least one");
    let upto = ChangesRequest {
        upto: Some(4),
        ..ALL
    };
    let reply = read(&leader, &upto);
    assert_eq!((reply.changes.len(), reply.end), (4, true));
    assert_eq!(reply.next, (4, u32::MAX));
    let other = ChangesRequest {
        stream: Some(78),
        ..ALL
    };
    assert!(
        read(&leader, &other).changes.is_empty(),
        "of another stream"
    );
}

#[test]
fn what_is_too_old_is_trimmed_and_no_more_is_read() {
    let mut leader = leader(StreamViewType::KeysOnly);
    for name in ["a", "b", "c"] {
        leader.write(&put(name, &[]));
    }
    let policy = |retention_ms, bytes_max| TrimPolicy {
        retention_ms,
        bytes_max,
    };
    let trim = |leader: &mut Leader, policy: TrimPolicy, now_ms| {
        let command = leader
            .partition
            .trim(&leader.tree, &policy, now_ms)
            .expect("healthy")?;
        leader.log.push(command);
        leader.partition.proposed(leader.log.len() as u64);
        leader.commit();
        Some(leader.partition.state().changes.trimmed)
    };
    assert_eq!(trim(&mut leader, policy(100, u64::MAX), 106), None);
    let bytes = leader.partition.state().changes.bytes;
    let upto = trim(&mut leader, policy(100, bytes - 1), 106);
    assert_eq!(upto, Some(1), "the oldest go first when there are too many");
    assert_eq!(records(&read(&leader, &ALL)).len(), 2);
    assert_eq!(trim(&mut leader, policy(100, u64::MAX), 107), Some(3));
    assert_eq!(read(&leader, &ALL).changes.len(), 0);
    let changes = &leader.partition.state().changes;
    assert_eq!((changes.count, changes.bytes, changes.trimmed), (0, 0, 3));
}

#[test]
fn nothing_is_trimmed_that_the_indexes_have_not_got_and_then_writes_wait() {
    let mut leader = leader(StreamViewType::KeysOnly);
    let mut table = streaming(StreamViewType::KeysOnly);
    table.indexes = vec![IndexDefinition {
        id: IndexId(16),
        name: "by-a".to_owned(),
        scope: IndexScope::Global(GlobalIndex {
            table: TableId(21),
            status: TableStatus::Active,
            backfilling: false,
            ..GlobalIndex::default()
        }),
        keys: IndexKeys::default(),
        projection: IndexProjection::All,
    }];
    let state = PartitionState { table, ..state() };
    let limits = Limits {
        change_bytes_max: 1,
        ..Limits::default()
    };
    leader.partition = Partition::new(state, limits);
    leader.write(&put("a", &[]));
    let refused = leader.write(&put("b", &[]));
    assert!(
        matches!(refused, ItemReply::Fault(ItemFault::Overloaded)),
        "{refused:?}"
    );
    let policy = TrimPolicy {
        retention_ms: 0,
        bytes_max: 0,
    };
    let trimmed = leader.partition.trim(&leader.tree, &policy, 1_000);
    assert_eq!(trimmed.expect("healthy"), None);
    let acknowledge = leader.partition.acknowledge(1, 1_000).expect("news");
    leader.log.push(acknowledge);
    leader.commit();
    assert_eq!(leader.partition.acknowledge(1, 1_000), None, "known");
    let trimmed = leader.partition.trim(&leader.tree, &policy, 1_000);
    leader.log.push(trimmed.expect("healthy").expect("a trim"));
    leader.commit();
    let written = leader.write(&put("b", &[]));
    assert!(matches!(written, ItemReply::Written { .. }), "{written:?}");
}

#[test]
fn an_item_expires_only_if_it_is_expired_when_its_turn_comes() {
    let mut leader = leader(StreamViewType::NewAndOldImages);
    let now_s = 1_700_000_000;
    leader.write(&put("old", &[("ttl", number(1_699_999_999))]));
    leader.write(&put("new", &[("ttl", number(1_700_000_001))]));
    leader.write(&put("text", &[("ttl", text("1699999999"))]));
    for name in ["old", "new", "text", "none"] {
        let reply = leader.write(&expire(name, now_s));
        let done = matches!(reply, ItemReply::Written { .. });
        assert_eq!(done, name == "old", "{name}: {reply:?}");
    }
    assert_eq!(leader.get("old"), None);
    assert!(leader.get("new").is_some() && leader.get("text").is_some());
    let last = records(&read(&leader, &ALL)).pop().expect("a record");
    assert_eq!((last.kind, last.by_service), (ChangeKind::Remove, true));
    assert!(last.old.is_some());
}

#[test]
fn children_take_the_records_of_their_items_and_know_where_these_come_from() {
    let mut leader = leader(StreamViewType::KeysOnly);
    for name in ["b", "n", "c", "o"] {
        leader.write(&put(name, &[]));
    }
    let split = Split {
        point: key("m"),
        left: GroupId(11),
        right: GroupId(12),
        committed: None,
    };
    let batch = leader.partition.seal().expect("a batch");
    let parent = leader.partition.state().clone();
    for (side, names) in [(Side::Left, ["b", "c"]), (Side::Right, ["n", "o"])] {
        let mut child = empty_child(&parent, GroupId(10), &split, side);
        child.filling = Some(Filling::FULL);
        let changes = changes_for(&batch, &child);
        let (records, items): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(key, _)| is_change_key(key));
        let items: Vec<_> = items.into_iter().map(|(key, _)| key).collect();
        assert_eq!(items, names.map(key));
        let of =
            |(key, value): &(Bytes, Option<Bytes>)| belongs(&child.range, key, value.as_deref());
        assert_eq!(records.len(), 2);
        assert!(records.iter().all(of));
        // While items are copied no record is; then they come behind all items.
        let early = Filling::default().advanced(Some(&key("z")), false);
        let late = Filling::items_done();
        let first = &records[0].0;
        assert!(!early.covers(first) && !early.at_changes());
        assert!(!late.covers(first) && late.at_changes() && late.covers(&key("z")));
        assert!(late.advanced(Some(first), false).covers(first));
        let committed = CommittedSplit {
            at: 9,
            time_ms: 500,
            configuration: parent.configuration.clone(),
        };
        let begun = begun_child(&parent, GroupId(10), &split, &committed, side);
        let ancestor = &begun.changes.lineage[0];
        assert_eq!(
            (ancestor.partition, ancestor.begins, ancestor.ends),
            (GroupId(10), 0, 9)
        );
        assert_eq!((&ancestor.range, ancestor.ended_ms), (&parent.range, 500));
        let grandchild = begun_child(&begun, GroupId(11), &split, &committed, side);
        assert_eq!(grandchild.changes.lineage.len(), 2);
        let much_later = CommittedSplit {
            time_ms: 500 + 26 * 3_600_000,
            ..committed
        };
        let later = begun_child(&begun, GroupId(11), &split, &much_later, side);
        assert_eq!(
            later.changes.lineage.len(),
            1,
            "old ancestors are forgotten"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is written, flushed and replayed: the records replay into the items, every replica has the same ones.
    #[test]
    fn records_replay_into_the_items(
        steps in prop::collection::vec((0_u8..6, 0_i64..3, 0_u8..12), 1..60)
    ) {
        let mut leader = leader(StreamViewType::NewAndOldImages);
        for (name, value, flush) in &steps {
            let name = format!("k{name}");
            match value {
                0 => leader.write(&delete(&name)),
                value => leader.write(&put(&name, &[("a", number(*value))])),
            };
            if *flush == 0 {
                leader.flush();
            }
        }
        let mut items = std::collections::BTreeMap::new();
        let mut last = (0, 0);
        let reply = read(&leader, &ALL);
        for (change, record) in reply.changes.iter().zip(records(&reply)) {
            prop_assert!(change.place > last);
            last = change.place;
            let old = match &record.new {
                Some(new) => items.insert(record.key.clone(), new.clone()),
                None => items.remove(&record.key),
            };
            prop_assert_eq!(&old, &record.old);
            prop_assert_ne!(old, record.new, "a no-op left a record");
        }
        for (name, _, _) in &steps {
            let name = format!("k{name}");
            let expected = items.get(&key(&name)).map(|item| model::codec::decode_item(item).unwrap());
            prop_assert_eq!(leader.get(&name), expected);
        }
        // A replica without the definition that applies the same log.
        let mut follower: Partition<u64> = Partition::new(state(), Limits::default());
        for (index, command) in (1..).zip(&leader.log) {
            follower.apply(&entry(index, command), &mut Vec::new()).unwrap();
        }
        let same = follower.changes(&MapTree::default(), &ALL).unwrap();
        prop_assert_eq!(same.changes, reply.changes);
        let none = leader.partition.page(&leader.tree, &page()).unwrap();
        let ItemReply::Page(none) = none else { panic!("{none:?}") };
        prop_assert_eq!(none.scanned_count as usize, items.len());
    }
}
