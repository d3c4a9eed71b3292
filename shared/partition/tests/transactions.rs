//! Transactions at one leader: what is let in, what is kept pending, what ends it, and what single requests see meanwhile.

mod common;

use bytes::Bytes;
use common::*;
use model::ErrorKind;
use model::codec::encode_item;
use partition::transactions::AGE_MS_MAX;
use partition::{Limits, Partition, Transacted};
use paxos::Index;
use protocol::item::{ItemFault, ItemReply, Write, WriteAction};
use protocol::split::{CommittedSplit, Split};
use protocol::transact::{Settle, TransactionId, TransactionRef};

/// The time of all that `Leader` does.
const NOW_MS: u64 = 7;

fn transaction(number: u64) -> TransactionRef {
    TransactionRef {
        id: TransactionId(number, 0),
        record: Bytes::from_static(b"record"),
        timestamp_ms: NOW_MS,
    }
}

fn settle(number: u64, pk: &str) -> Settle {
    Settle {
        key: key(pk),
        id: TransactionId(number, 0),
        timestamp_ms: NOW_MS,
        commit_ms: 0,
    }
}

trait Transacts {
    fn take(&mut self, transacted: Transacted<u64>) -> Option<ItemReply>;
    fn prepare(&mut self, number: u64, write: &Write) -> ItemReply;
    fn end(&mut self, number: u64, pk: &str, commits: bool) -> ItemReply;
    fn read(&mut self, pk: &str, since: Option<u64>) -> ItemReply;
}

impl Transacts for Leader {
    fn take(&mut self, transacted: Transacted<u64>) -> Option<ItemReply> {
        match transacted {
            Transacted::Propose(commands) => {
                let first = self.log.len() as Index + 1;
                self.log.extend(commands);
                self.partition.proposed(first);
                None
            }
            Transacted::Waits => None,
            Transacted::Answer(_, reply) => Some(reply),
        }
    }

    fn prepare(&mut self, number: u64, write: &Write) -> ItemReply {
        let (transaction, tree) = (transaction(number), self.tree.clone());
        let done = self
            .partition
            .prepare(&tree, (&transaction, write), NOW_MS, 99)
            .expect("healthy");
        let answer = self.take(done);
        let mut answers = self.commit();
        answer.unwrap_or_else(|| answers.pop().expect("answered").1)
    }

    fn end(&mut self, number: u64, pk: &str, commits: bool) -> ItemReply {
        let tree = self.tree.clone();
        let done = self
            .partition
            .settle(&tree, (&settle(number, pk), commits), NOW_MS, 99)
            .expect("healthy");
        let answer = self.take(done);
        let mut answers = self.commit();
        answer.unwrap_or_else(|| answers.pop().expect("answered").1)
    }

    fn read(&mut self, pk: &str, since: Option<u64>) -> ItemReply {
        let tree = self.tree.clone();
        self.partition
            .transactional_get(&tree, &get(pk), since)
            .expect("healthy")
    }
}

fn is_prepared(reply: &ItemReply) -> bool {
    matches!(reply, ItemReply::Prepared { .. })
}

fn is_written(reply: &ItemReply) -> bool {
    matches!(reply, ItemReply::Written { .. })
}

/// A single write was refused because of a transaction.
fn is_refused(reply: &ItemReply) -> bool {
    matches!(reply, ItemReply::Fault(ItemFault::Api(error)) if error.kind == ErrorKind::TransactionConflict)
}

fn is_conflict(reply: &ItemReply) -> bool {
    matches!(reply, ItemReply::Fault(ItemFault::Conflict { .. }))
}

#[test]
fn what_is_pending_shows_after_the_commit_and_keeps_others_out_until_then() {
    let mut leader = Leader::new();
    assert!(is_written(&leader.write(&put("b", &[("n", number(1))]))));
    let changed = change(
        "b",
        Some(update("SET n = n + :one", &[(":one", number(1))])),
    );
    let reply = leader.prepare(1, &changed);
    assert!(is_prepared(&reply), "{reply:?}");
    assert_eq!(leader.get("b").unwrap()["n"], number(1));
    assert!(is_refused(&leader.write(&put("b", &[]))));
    assert!(is_conflict(&leader.prepare(2, &delete("b"))));
    assert!(is_conflict(&leader.read("b", None)));
    assert!(is_written(&leader.write(&put("c", &[]))), "another item");
    assert!(is_prepared(&leader.prepare(1, &changed)), "sent twice");

    assert!(is_written(&leader.end(1, "b", true)));
    assert_eq!(leader.get("b").unwrap()["n"], number(2));
    assert!(is_written(&leader.write(&put("b", &[("n", number(9))]))));
    assert!(is_written(&leader.end(1, "b", true)), "repeated");
    assert_eq!(leader.get("b").unwrap()["n"], number(9));
    let late = leader.prepare(1, &changed);
    assert!(
        matches!(late, ItemReply::Fault(ItemFault::Untimely { .. })),
        "{late:?}"
    );
    assert_eq!(leader.partition.state().items, 2);
}

#[test]
fn a_cancel_changes_nothing_and_keeps_a_late_prepare_out() {
    let mut leader = Leader::new();
    assert!(is_prepared(&leader.prepare(1, &put("b", &[]))));
    assert!(is_written(&leader.end(1, "b", false)));
    assert_eq!(leader.get("b"), None);
    // The prepare of this one is still on its way.
    assert!(is_written(&leader.end(2, "c", false)));
    assert!(!is_prepared(&leader.prepare(2, &put("c", &[]))));
    assert!(is_written(&leader.write(&put("c", &[]))));
    // A cancel of one transaction does not touch another's.
    assert!(is_prepared(&leader.prepare(3, &put("d", &[]))));
    assert!(is_written(&leader.end(4, "d", false)));
    assert!(is_refused(&leader.write(&put("d", &[]))));
    assert!(is_written(&leader.end(3, "d", true)));
    assert!(leader.get("d").is_some());
}

#[test]
fn conditions_are_evaluated_when_prepared_and_a_check_writes_nothing() {
    let mut leader = Leader::new();
    let absent = Some(condition("attribute_not_exists(pk)", &[]));
    let check = Write {
        condition: absent.clone(),
        ..write("b", WriteAction::Check)
    };
    assert!(is_prepared(&leader.prepare(1, &check)));
    assert!(is_refused(&leader.write(&put("b", &[]))));
    let log = leader.log.len();
    assert!(is_written(&leader.end(1, "b", true)));
    assert_eq!(leader.log.len(), log + 1, "no write, only the end");
    assert!(is_written(&leader.write(&put("b", &[("n", number(5))]))));
    let again = Write {
        return_on_failure: true,
        ..check
    };
    match leader.prepare(2, &again) {
        ItemReply::Fault(ItemFault::ConditionFailed { item, .. }) => {
            assert_eq!(
                item,
                Some(encode_item(&common::item("b", &[("n", number(5))])))
            );
        }
        other => panic!("{other:?}"),
    }
    assert!(is_written(&leader.write(&put("b", &[]))), "nothing pending");
}

#[test]
fn what_is_in_flight_counts_like_what_is_applied() {
    let mut leader = Leader::new();
    let tree = leader.tree.clone();
    let (one, two) = (transaction(1), transaction(2));
    let write = put("b", &[("n", number(1))]);
    let first = leader.partition.prepare(&tree, (&one, &write), NOW_MS, 1);
    assert_eq!(leader.take(first.unwrap()).map(|_| ()), None);
    // Proposed, not committed.
    let (_, answer) = leader.offer(&put("b", &[]));
    assert!(is_refused(&answer.expect("at once")));
    let second = leader.partition.prepare(&tree, (&two, &write), NOW_MS, 2);
    assert!(is_conflict(&leader.take(second.unwrap()).expect("at once")));
    let early = leader
        .partition
        .settle(&tree, (&settle(1, "b"), true), NOW_MS, 3);
    let early = leader.take(early.unwrap()).expect("at once");
    assert!(matches!(early, ItemReply::Fault(ItemFault::NotReady)));
    assert!(is_prepared(&leader.commit().pop().unwrap().1));

    let end = leader
        .partition
        .settle(&tree, (&settle(1, "b"), true), NOW_MS, 4);
    assert_eq!(leader.take(end.unwrap()).map(|_| ()), None);
    let again = leader
        .partition
        .settle(&tree, (&settle(1, "b"), true), NOW_MS, 5);
    assert!(matches!(again, Ok(Transacted::Waits)));
    // The end is on its way: a single write may follow it, and finds what it leads to.
    let follows = Write {
        condition: Some(condition("n = :one", &[(":one", number(1))])),
        ..put("b", &[("n", number(2))])
    };
    let (_, answer) = leader.offer(&follows);
    assert!(answer.is_none());
    let late = leader.partition.prepare(&tree, (&one, &write), NOW_MS, 6);
    let late = leader.take(late.unwrap()).expect("at once");
    assert!(matches!(late, ItemReply::Fault(ItemFault::Untimely { .. })));
    let answers = leader.commit();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert!(answers.iter().all(|(_, reply)| is_written(reply)));
    assert_eq!(leader.get("b").unwrap()["n"], number(2));
}

#[test]
fn a_commit_that_is_cut_after_its_write_is_repeated_without_harm() {
    let mut leader = Leader::new();
    assert!(is_prepared(
        &leader.prepare(1, &put("b", &[("n", number(1))]))
    ));
    let tree = leader.tree.clone();
    let end = leader
        .partition
        .settle(&tree, (&settle(1, "b"), true), NOW_MS, 1);
    let Ok(Transacted::Propose(commands)) = end else {
        panic!("{end:?}")
    };
    assert_eq!(commands.len(), 2);
    // Only the write is committed; then leadership is lost.
    leader.partition.proposed(leader.log.len() as Index + 1);
    leader.log.push(commands[0].clone());
    assert_eq!(leader.commit().len(), 0);
    let mut answers = Vec::new();
    leader.partition.lose(&mut answers);
    assert_eq!(answers.len(), 1);
    assert!(is_refused(&leader.write(&put("b", &[]))), "still pending");
    assert!(is_written(&leader.end(1, "b", true)));
    assert_eq!(leader.get("b").unwrap()["n"], number(1));
    assert!(is_written(&leader.write(&put("b", &[]))));
    assert_eq!(leader.partition.state().items, 1);
}

#[test]
fn a_read_is_valid_only_while_nothing_was_written() {
    let mut leader = Leader::new();
    leader.write(&put("b", &[("n", number(1))]));
    let version = |reply: ItemReply| match reply {
        ItemReply::Versioned { version, .. } => version,
        other => panic!("{other:?}"),
    };
    let first = version(leader.read("b", None));
    leader.write(&put("c", &[]));
    version(leader.read("b", Some(first)));
    // There and back again is a change, too.
    leader.write(&delete("b"));
    leader.write(&put("b", &[("n", number(1))]));
    assert!(is_conflict(&leader.read("b", Some(first))));
    let second = version(leader.read("b", None));
    version(leader.read("b", Some(second)));
    assert!(is_conflict(&leader.read("b", Some(0))), "too long ago");
}

#[test]
fn pending_items_survive_flush_and_restart_and_move_with_their_keys() {
    let mut leader = Leader::new();
    assert!(is_prepared(&leader.prepare(1, &put("b", &[]))));
    assert!(is_prepared(&leader.prepare(2, &put("m", &[]))));
    assert!(is_written(&leader.end(3, "c", false)));
    leader.flush();
    let batch_state = leader.partition.state().clone();
    let stored = rmp_serde::to_vec_named(&batch_state).expect("encodes");
    let state: partition::PartitionState = rmp_serde::from_slice(&stored).expect("decodes");
    assert_eq!(state, batch_state);
    let copied = partition::Transactions::decode(&state.transactions.encode());
    assert_eq!(copied, Ok(state.transactions.clone()));

    let split = Split {
        point: key("k"),
        left: paxos::GroupId(21),
        right: paxos::GroupId(22),
        committed: None,
    };
    let committed = CommittedSplit {
        at: state.applied,
        time_ms: state.time_ms,
        configuration: state.configuration.clone(),
    };
    let child =
        |side| partition::split::begun_child(&state, paxos::GroupId(20), &split, &committed, side);
    let (left, right) = (
        child(partition::split::Side::Left).transactions,
        child(partition::split::Side::Right).transactions,
    );
    assert!(left.pending(b"b").is_some() && left.pending(b"m").is_none());
    assert!(right.pending(b"m").is_some() && right.pending(b"b").is_none());
    assert!(left.has_finished(TransactionId(3, 0)) && right.has_finished(TransactionId(3, 0)));

    let mut restarted = Leader::new();
    restarted.tree = leader.tree.clone();
    restarted.log = leader.log.clone();
    restarted.applied = leader.applied;
    restarted.partition = Partition::new(state, Limits::default());
    assert!(is_refused(&restarted.write(&put("b", &[]))));
    assert!(is_written(&restarted.end(1, "b", true)));
    assert!(restarted.get("b").is_some());
    assert_eq!(restarted.partition.state().transactions.pending_len(), 1);
}

#[test]
fn a_prepare_that_comes_too_late_or_from_a_wrong_clock_is_refused() {
    let mut leader = Leader::new();
    let tree = leader.tree.clone();
    let mut at = |timestamp_ms, now_ms| {
        let transaction = TransactionRef {
            timestamp_ms,
            ..transaction(1)
        };
        let write = put("b", &[]);
        leader
            .partition
            .prepare(&tree, (&transaction, &write), now_ms, 1)
            .expect("healthy")
    };
    let untimely = |transacted: &Transacted<u64>| matches!(transacted, Transacted::Answer(_, ItemReply::Fault(ItemFault::Untimely { now_ms })) if *now_ms >= 100_000);
    assert!(untimely(&at(200_000, 100_000)));
    assert!(untimely(&at(100_000 - AGE_MS_MAX - 1, 100_000)));
    assert!(
        untimely(&at(80_000, 80_000)),
        "the log's time never goes back"
    );
    assert!(matches!(at(100_000, 100_000), Transacted::Propose(_)));
}

#[test]
fn what_has_been_pending_for_long_is_known() {
    let mut leader = Leader::new();
    for (number, pk) in [(1, "b"), (2, "c")] {
        assert!(is_prepared(&leader.prepare(number, &put(pk, &[]))));
    }
    let known = &leader.partition.state().transactions;
    assert_eq!(known.stalled(NOW_MS).count(), 0);
    let stalled: Vec<_> = known.stalled(NOW_MS + 1).map(|p| p.key.clone()).collect();
    assert_eq!(stalled, [key("b"), key("c")]);
}
