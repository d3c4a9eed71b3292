//! The look behind a point in time: what of the transactions that are pending at it counts.

mod common;

use bytes::Bytes;
use common::{entry, key};
use model::KeyRange;
use partition::transactions::{Outcome, Prepared};
use partition::{Ahead, Limits, Partition, command};
use protocol::split::Split;
use protocol::transact::{Settle, TransactionId, TransactionRef};

const AT_MS: u64 = 1_000;

fn id(number: u64) -> TransactionId {
    TransactionId(number, 0)
}

fn prepare(number: u64, pk: &str) -> Bytes {
    let prepared = Prepared {
        key: key(pk),
        transaction: TransactionRef {
            id: id(number),
            record: Bytes::from_static(b"record"),
            timestamp_ms: AT_MS,
        },
        outcome: Outcome::Keep,
        old_size_bytes: 0,
        new_size_bytes: 0,
        since_ms: 0,
    };
    command::encode_prepare(AT_MS, &prepared).unwrap()
}

fn finish(number: u64, pk: &str, commit_ms: u64) -> Bytes {
    let settle = Settle {
        key: key(pk),
        id: id(number),
        timestamp_ms: AT_MS,
        commit_ms,
    };
    command::encode_finish(AT_MS + 50, &settle).unwrap()
}

fn write(pk: &str, item: &'static [u8]) -> Bytes {
    command::encode_write(AT_MS + 50, &key(pk), Some(item), 0, item.len() as u64)
}

/// A partition on whose items "a", "b" and "c" transactions 1, 2 and 3 are pending.
fn pending() -> Partition<()> {
    let mut partition = Partition::new(common::state(), Limits::default());
    for (index, pk) in (1..).zip(["a", "b", "c"]) {
        let applied = partition.apply(&entry(index, &prepare(index, pk)), &mut Vec::new());
        applied.unwrap();
    }
    partition
}

/// Takes these; says which keys are brought forward.
fn forward(commands: &[Bytes]) -> (Vec<Bytes>, usize) {
    let mut ahead = Ahead::of(pending().state(), AT_MS);
    for (index, command) in (4..).zip(commands) {
        assert_eq!(ahead.take(&entry(index, command)), Ok(None));
    }
    let left = ahead.undecided(&KeyRange::default());
    let keys = ahead.into_writes().into_iter().map(|write| write.key);
    (keys.collect(), left)
}

#[test]
fn what_is_committed_as_of_the_time_or_before_counts() {
    let of = |commit_ms| forward(&[write("a", b"new"), finish(1, "a", commit_ms)]);
    assert_eq!(of(AT_MS), (vec![key("a")], 2));
    assert_eq!(of(1), (vec![key("a")], 2));
    assert_eq!(of(AT_MS + 1), (vec![], 2));
    // Cancelled, or by a coordinator that does not say when.
    assert_eq!(of(0), (vec![], 2));
}

#[test]
fn only_the_transaction_that_was_pending_is_asked_for() {
    // It ends; what comes afterwards is somebody else's.
    let later = [
        finish(1, "a", 0),
        write("a", b"other"),
        prepare(9, "a"),
        write("a", b"of 9"),
        finish(9, "a", AT_MS),
    ];
    assert_eq!(forward(&later), (vec![], 2));
    // Of another one, whose end was repeated.
    assert_eq!(forward(&[finish(8, "a", AT_MS)]), (vec![], 3));
    // Of an item that was not pending.
    assert_eq!(forward(&[write("x", b"x"), finish(1, "x", 1)]), (vec![], 3));
    // Between a commit and its repetition the leader was lost: all of its writes, in order.
    let twice = [write("b", b"1"), write("b", b"1"), finish(2, "b", AT_MS)];
    assert_eq!(forward(&twice), (vec![key("b"), key("b")], 2));
    // It had written before the time already, or only checked the item.
    assert_eq!(forward(&[finish(3, "c", AT_MS)]), (vec![], 2));
}

#[test]
fn a_log_goes_on_in_its_children() {
    let split = Split {
        point: key("b"),
        left: paxos::GroupId(7),
        right: paxos::GroupId(8),
        committed: None,
    };
    let begin = command::encode_begin_split(AT_MS, &split).unwrap();
    let abandon = command::encode_abandon_split(AT_MS, split.left).unwrap();
    let commit = command::encode_commit_split(AT_MS, split.left).unwrap();
    let mut ahead = Ahead::of(pending().state(), AT_MS);
    for command in [&begin, &abandon, &begin] {
        assert_eq!(ahead.take(&entry(4, command)), Ok(None));
    }
    assert_eq!(ahead.take(&entry(5, &commit)), Ok(Some(split.clone())));
    // It may have begun before the time.
    let mut partition = pending();
    partition.apply(&entry(4, &begin), &mut Vec::new()).unwrap();
    let mut ahead = Ahead::of(partition.state(), AT_MS);
    assert_eq!(ahead.take(&entry(5, &commit)), Ok(Some(split)));
}

#[test]
fn what_is_brought_forward_is_counted_and_flushed_again() {
    let mut partition = pending();
    let batch = partition.seal().unwrap();
    partition.flushed(batch.state.applied);
    assert!(partition.seal().is_none(), "nothing is new");
    partition.bring_forward(Vec::new());
    assert!(partition.seal().is_none());
    let mut ahead = Ahead::of(partition.state(), AT_MS);
    for command in [write("a", b"new"), finish(1, "a", AT_MS)] {
        ahead.take(&entry(4, &command)).unwrap();
    }
    partition.bring_forward(ahead.into_writes());
    let batch = partition.seal().unwrap();
    assert_eq!(
        (batch.state.applied, batch.state.items, batch.state.bytes),
        (3, 1, 3)
    );
    assert_eq!(batch.items[&key("a")], Some(Bytes::from_static(b"new")));
    partition.flushed(batch.state.applied);
    assert!(partition.seal().is_none());
}

#[test]
fn a_definition_of_a_deleted_table_is_not_there_while_something_is_pending() {
    use model::table::TableStatus;
    use partition::Evaluated;
    use protocol::item::{ItemFault, ItemReply};

    let mut partition: Partition<u64> = Partition::new(common::state(), Limits::default());
    let mut index = 0;
    let mut apply = |partition: &mut Partition<u64>, command: &Bytes| {
        index += 1;
        let applied = partition.apply(&entry(index, command), &mut Vec::new());
        applied.unwrap();
    };
    let going = |version, status| model::TableDefinition {
        version,
        status,
        ..common::table()
    };
    let asked = |partition: &mut Partition<u64>, version, status| match partition.evaluate_table(
        &going(version, status),
        1,
        5,
    ) {
        Evaluated::Answer(5, ItemReply::Written { .. }) => true,
        Evaluated::Answer(5, ItemReply::Fault(ItemFault::NotReady)) => false,
        other => panic!("{other:?}"),
    };
    apply(&mut partition, &prepare(1, "a"));
    let version = common::table().version;
    assert!(asked(&mut partition, version, TableStatus::Active));
    let set = going(version + 1, TableStatus::Deleting);
    apply(&mut partition, &command::encode_set_table(1, &set).unwrap());
    let deleted =
        |partition: &mut Partition<u64>| asked(partition, version + 1, TableStatus::Deleting);
    assert!(!deleted(&mut partition));
    apply(&mut partition, &finish(1, "a", 0));
    assert!(deleted(&mut partition));
}
