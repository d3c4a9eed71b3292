//! Writes at the leader: conditions, updates, return values, writes in flight.

mod common;

use common::*;
use model::ErrorKind;
use model::codec::{decode_item, encoded_item_size};
use partition::{Evaluated, Limits, PartitionError};
use paxos::{Entry, Payload};
use protocol::item::{ItemFault, ItemReply, ReturnValues, WriteAction};

fn attributes(reply: &ItemReply) -> Option<model::Item> {
    match reply {
        ItemReply::Written { attributes, .. } => attributes
            .as_ref()
            .map(|item| decode_item(item).expect("an item")),
        other => panic!("{other:?}"),
    }
}

fn sizes(reply: &ItemReply) -> (u64, u64) {
    match reply {
        ItemReply::Written {
            old_size_bytes,
            new_size_bytes,
            ..
        } => (*old_size_bytes, *new_size_bytes),
        other => panic!("{other:?}"),
    }
}

fn size(item: &model::Item) -> u64 {
    encoded_item_size(&model::codec::encode_item(item)).expect("an item")
}

#[test]
fn put_replaces_and_delete_removes_with_sizes_and_old_values() {
    let mut leader = Leader::new();
    let small = item("k", &[("n", number(1))]);
    let large = item("k", &[("n", number(2)), ("more", text("of it"))]);
    assert_eq!(
        sizes(&leader.write(&put("k", &[("n", number(1))]))),
        (0, size(&small))
    );
    let mut replace = put("k", &[("n", number(2)), ("more", text("of it"))]);
    replace.return_values = ReturnValues::AllOld;
    let reply = leader.write(&replace);
    assert_eq!(attributes(&reply), Some(small.clone()));
    assert_eq!(sizes(&reply), (size(&small), size(&large)));
    assert_eq!(leader.get("k"), Some(large.clone()));
    assert_eq!(
        (
            leader.partition.state().items,
            leader.partition.state().bytes
        ),
        (1, size(&large))
    );
    let mut remove = delete("k");
    remove.return_values = ReturnValues::AllOld;
    let reply = leader.write(&remove);
    assert_eq!(
        (attributes(&reply), sizes(&reply)),
        (Some(large.clone()), (size(&large), 0))
    );
    assert_eq!(leader.get("k"), None);
    assert_eq!(
        (
            leader.partition.state().items,
            leader.partition.state().bytes
        ),
        (0, 0)
    );
    let reply = leader.write(&remove);
    assert_eq!(
        (attributes(&reply), sizes(&reply)),
        (None, (0, 0)),
        "nothing was there"
    );
}

#[test]
fn a_failed_condition_answers_at_once_and_shows_the_item_if_asked() {
    let mut leader = Leader::new();
    leader.write(&put("k", &[("n", number(1))]));
    let mut fresh = put("k", &[("n", number(2))]);
    fresh.condition = Some(condition("attribute_not_exists(pk)", &[]));
    let Some(ItemReply::Fault(ItemFault::ConditionFailed { item, size_bytes })) =
        leader.offer(&fresh).1
    else {
        panic!("the condition does not hold");
    };
    assert_eq!((item, size_bytes > 0), (None, true));
    fresh.return_on_failure = true;
    let Some(ItemReply::Fault(ItemFault::ConditionFailed {
        item: Some(item), ..
    })) = leader.offer(&fresh).1
    else {
        panic!("the item was asked for");
    };
    assert_eq!(
        decode_item(&item).expect("an item"),
        common::item("k", &[("n", number(1))])
    );
    assert_eq!(leader.log.len(), 1, "nothing was proposed");
    fresh.condition = Some(condition("n = :n", &[(":n", number(1))]));
    leader.write(&fresh);
    assert_eq!(
        leader.get("k"),
        Some(common::item("k", &[("n", number(2))]))
    );
}

#[test]
fn a_bad_operand_is_a_validation_error_not_a_failed_condition() {
    let mut leader = Leader::new();
    leader.write(&put("k", &[("n", text("word"))]));
    let add = change(
        "k",
        Some(update("SET n = n + :one", &[(":one", number(1))])),
    );
    match leader.offer(&add).1 {
        Some(ItemReply::Fault(ItemFault::Api(error))) => {
            assert_eq!(error.kind, ErrorKind::Validation)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn update_makes_an_absent_item_from_its_key() {
    let mut leader = Leader::new();
    let mut count = change("k", Some(update("ADD n :one", &[(":one", number(1))])));
    count.return_values = ReturnValues::UpdatedNew;
    let reply = leader.write(&count);
    assert_eq!(
        attributes(&reply).expect("there").get("n"),
        Some(&number(1))
    );
    assert_eq!(leader.get("k"), Some(item("k", &[("n", number(1))])));
    leader.write(&change("bare", None));
    assert_eq!(leader.get("bare"), Some(item("bare", &[])));
    leader.write(&change("k", None));
    assert_eq!(
        leader.get("k"),
        Some(item("k", &[("n", number(1))])),
        "touched, not changed"
    );
    leader.write(&change("gone", Some(update("REMOVE n", &[]))));
    assert_eq!(leader.get("gone"), None, "nothing to remove from");
    assert_eq!(leader.partition.state().items, 2);
}

#[test]
fn return_values_of_an_update() {
    let set = || update("SET a = :x, m.b = :x REMOVE c", &[(":x", number(9))]);
    let before = item(
        "k",
        &[
            ("a", number(1)),
            ("c", number(3)),
            ("d", number(4)),
            (
                "m",
                model::AttributeValue::M(
                    [("b".to_owned(), number(2)), ("z".to_owned(), number(0))].into(),
                ),
            ),
        ],
    );
    let after = item(
        "k",
        &[
            ("a", number(9)),
            ("d", number(4)),
            (
                "m",
                model::AttributeValue::M(
                    [("b".to_owned(), number(9)), ("z".to_owned(), number(0))].into(),
                ),
            ),
        ],
    );
    let part = |value: i64| model::AttributeValue::M([("b".to_owned(), number(value))].into());
    let updated_old = model::Item::from([
        ("a".to_owned(), number(1)),
        ("c".to_owned(), number(3)),
        ("m".to_owned(), part(2)),
    ]);
    let updated_new = model::Item::from([("a".to_owned(), number(9)), ("m".to_owned(), part(9))]);
    for (wanted, expected) in [
        (ReturnValues::None, None),
        (ReturnValues::AllOld, Some(before.clone())),
        (ReturnValues::AllNew, Some(after)),
        (ReturnValues::UpdatedOld, Some(updated_old)),
        (ReturnValues::UpdatedNew, Some(updated_new)),
    ] {
        let mut leader = Leader::new();
        leader.write(&write(
            "k",
            WriteAction::Put(model::codec::encode_item(&before)),
        ));
        let mut change = change("k", Some(set()));
        change.return_values = wanted;
        assert_eq!(attributes(&leader.write(&change)), expected, "{wanted:?}");
    }
    // Of an item that was not there, nothing is old; what was only removed is not new.
    for (wanted, text) in [
        (ReturnValues::AllOld, "SET a = :x"),
        (ReturnValues::UpdatedOld, "SET a = :x"),
    ] {
        let mut leader = Leader::new();
        let mut change = change("k", Some(update(text, &[(":x", number(1))])));
        change.return_values = wanted;
        assert_eq!(attributes(&leader.write(&change)), None, "{wanted:?}");
    }
    let mut leader = Leader::new();
    leader.write(&put("k", &[("c", number(3))]));
    let mut remove = change("k", Some(update("REMOVE c", &[])));
    remove.return_values = ReturnValues::UpdatedNew;
    assert_eq!(attributes(&leader.write(&remove)), None);
}

#[test]
fn an_update_may_not_make_an_item_larger_than_400_kb() {
    let mut leader = Leader::new();
    leader.write(&put("k", &[("a", text(&"x".repeat(250 << 10)))]));
    let grow = |bytes: usize| {
        change(
            "k",
            Some(update("SET b = :b", &[(":b", text(&"y".repeat(bytes)))])),
        )
    };
    match leader.offer(&grow(150 << 10)).1 {
        Some(ItemReply::Fault(ItemFault::Api(error))) => {
            assert_eq!(error.kind, ErrorKind::Validation);
            assert_eq!(
                error.message,
                "Item size to update has exceeded the maximum allowed size"
            );
        }
        other => panic!("{other:?}"),
    }
    // 400 KB exactly: pk = 2 + 1, a = 1, b = 1 bytes of names and key.
    leader.write(&grow((150 << 10) - 5));
    let item = leader.get("k").expect("there");
    assert_eq!(size(&item), 400 << 10);
}

#[test]
fn later_writes_of_a_key_see_the_write_in_flight_and_others_never_wait() {
    let mut leader = Leader::new();
    let count = change("k", Some(update("ADD n :one", &[(":one", number(1))])));
    for _ in 0..3 {
        assert!(leader.offer(&count).1.is_none());
    }
    let mut fresh = put("k", &[]);
    fresh.condition = Some(condition("attribute_not_exists(pk)", &[]));
    let (waits, answer) = leader.offer(&fresh);
    assert!(answer.is_none(), "it rests on a write in flight");
    fresh = put("other", &[]);
    fresh.condition = Some(condition("attribute_exists(pk)", &[]));
    let (_, answer) = leader.offer(&fresh);
    assert!(matches!(
        answer,
        Some(ItemReply::Fault(ItemFault::ConditionFailed { .. }))
    ));
    assert_eq!(leader.get("k"), None, "reads see applied state only");
    assert_eq!(leader.log.len(), 3);

    let mut answers = Vec::new();
    for index in 1..=3 {
        assert!(answers.iter().all(|(caller, _)| *caller != waits));
        let entry = entry(index, &leader.log[index as usize - 1]);
        leader
            .partition
            .apply(&entry, &mut answers)
            .expect("applies");
    }
    assert_eq!(
        answers
            .iter()
            .map(|(caller, _)| *caller)
            .collect::<Vec<_>>(),
        [0, 1, 2, waits]
    );
    assert!(matches!(
        answers[3].1,
        ItemReply::Fault(ItemFault::ConditionFailed { .. })
    ));
    assert_eq!(leader.get("k"), Some(item("k", &[("n", number(3))])));
    assert_eq!(leader.partition.in_flight(), 0);
}

#[test]
fn lost_leadership_leaves_writes_unknown_and_failed_conditions_undone() {
    let mut leader = Leader::new();
    let (unknown, _) = leader.offer(&put("k", &[]));
    let mut fresh = put("k", &[]);
    fresh.condition = Some(condition("attribute_not_exists(pk)", &[]));
    let (waits, _) = leader.offer(&fresh);
    // Evaluated, but not proposed yet.
    let third = leader
        .partition
        .evaluate(&leader.tree, &put("m", &[]), 7, 77)
        .expect("healthy");
    assert!(matches!(third, Evaluated::Propose(_)));
    let mut answers = Vec::new();
    leader.partition.lose(&mut answers);
    let fault = |who: u64| {
        let (_, reply) = answers
            .iter()
            .find(|(caller, _)| *caller == who)
            .expect("answered");
        match reply {
            ItemReply::Fault(fault) => fault.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert!(matches!(fault(unknown), ItemFault::Unknown));
    assert!(matches!(fault(waits), ItemFault::NotReady));
    assert!(matches!(fault(77), ItemFault::NotReady));
    // The next leader may still commit it.
    leader.commit();
    assert_eq!(leader.get("k"), Some(item("k", &[])));
}

#[test]
fn a_refused_proposal_uncovers_the_earlier_write_of_its_key() {
    let mut leader = Leader::new();
    leader.offer(&put("k", &[("n", number(1))]));
    let refused = leader
        .partition
        .evaluate(&leader.tree, &put("k", &[("n", number(2))]), 7, 50);
    assert!(matches!(refused, Ok(Evaluated::Propose(_))));
    let mut answers = Vec::new();
    leader
        .partition
        .refused(&ItemFault::Overloaded, &mut answers);
    assert!(matches!(
        answers[..],
        [(50, ItemReply::Fault(ItemFault::Overloaded))]
    ));
    let mut next = put("k", &[("n", number(3))]);
    next.condition = Some(condition("n = :n", &[(":n", number(1))]));
    leader.write(&next);
    assert_eq!(leader.get("k"), Some(item("k", &[("n", number(3))])));
}

#[test]
fn another_leaders_entry_at_our_index_makes_ours_unknown() {
    let mut leader = Leader::new();
    let (ours, _) = leader.offer(&put("k", &[("n", number(1))]));
    let mut answers = Vec::new();
    let noop = Entry {
        index: 1,
        ballot: ballot(2),
        payload: Payload::Noop,
    };
    leader
        .partition
        .apply(&noop, &mut answers)
        .expect("applies");
    assert!(matches!(answers[..], [(who, ItemReply::Fault(ItemFault::Unknown))] if who == ours));
    assert_eq!(leader.get("k"), None);
}

#[test]
fn foreign_and_impossible_keys_are_refused() {
    let mut leader = Leader::new();
    for pk in ["A", "x", "z"] {
        let answer = leader.offer(&put(pk, &[])).1;
        assert!(
            matches!(answer, Some(ItemReply::Fault(ItemFault::WrongRange { .. }))),
            "{pk}"
        );
    }
    let long = "b".repeat(partition::KEY_BYTES_MAX + 1);
    for pk in ["", &long] {
        let answer = leader.offer(&put(pk, &[])).1;
        assert!(matches!(answer, Some(ItemReply::Fault(ItemFault::Api(_)))));
        let got = leader
            .partition
            .get(&leader.tree, &get(pk))
            .expect("healthy");
        assert!(matches!(got, ItemReply::Fault(ItemFault::Api(_))));
    }
    let garbage = write(
        "k",
        WriteAction::Put(bytes::Bytes::from_static(b"\xff\xffgarbage")),
    );
    assert!(matches!(
        leader.offer(&garbage).1,
        Some(ItemReply::Fault(ItemFault::Api(_)))
    ));
    assert!(leader.log.is_empty());
}

#[test]
fn bounds_are_kept_and_lifted_by_commit_and_flush() {
    let limits = Limits {
        in_flight_max: 2,
        ..Limits::default()
    };
    let mut leader = Leader::with_limits(limits);
    leader.offer(&put("a", &[]));
    leader.offer(&put("b", &[]));
    let overloaded = |answer| matches!(answer, Some(ItemReply::Fault(ItemFault::Overloaded)));
    assert!(overloaded(leader.offer(&put("c", &[])).1));
    leader.commit();
    assert!(!overloaded(leader.offer(&put("c", &[])).1));

    let limits = Limits {
        overlay_bytes_max: 1_000,
        ..Limits::default()
    };
    let mut leader = Leader::with_limits(limits);
    leader.write(&put("a", &[("x", text(&"x".repeat(1_000)))]));
    assert!(
        overloaded(leader.offer(&put("b", &[])).1),
        "the flush is behind"
    );
    leader.flush();
    assert_eq!(leader.partition.overlay_bytes(), 0);
    assert!(!overloaded(leader.offer(&put("b", &[])).1));
}

#[test]
fn apply_is_idempotent_and_refuses_gaps_and_garbage() {
    let mut leader = Leader::new();
    let count = change("k", Some(update("ADD n :one", &[(":one", number(1))])));
    leader.write(&count);
    let first = entry(1, &leader.log[0]);
    let mut answers = Vec::new();
    assert_eq!(leader.partition.apply(&first, &mut answers), Ok(()));
    assert_eq!(leader.partition.state().items, 1);
    let gap = entry(3, &leader.log[0]);
    let error = leader.partition.apply(&gap, &mut answers);
    assert_eq!(
        error,
        Err(PartitionError::Gap {
            expected: 2,
            found: 3
        })
    );
    for garbage in [
        &b""[..],
        b"\x01",
        b"\x02\x01aaaaaaaaaaaaaaaaaaaaa",
        b"\x01\x09aaaaaaaaa",
        b"\x01\x02aaaaaaaaaaaaaaaa\xff\xffa",
    ] {
        let entry = entry(2, &bytes::Bytes::from_static(garbage));
        let error = leader.partition.apply(&entry, &mut answers);
        assert!(
            matches!(error, Err(PartitionError::BadCommand(_))),
            "{garbage:?}"
        );
    }
    assert!(answers.is_empty());
}

#[test]
fn a_table_definition_goes_through_the_log_and_never_back() {
    let mut leader = Leader::new();
    let mut newer = table();
    newer.version = 3;
    newer.deletion_protection = true;
    let Evaluated::Propose(command) = leader.partition.evaluate_table(&newer, 7, 1) else {
        panic!("it is newer");
    };
    leader.log.push(command);
    leader.partition.proposed(1);
    assert_eq!(
        leader.partition.state().table.version,
        1,
        "not before it is committed"
    );
    let answers = leader.commit();
    assert!(matches!(answers[..], [(1, ItemReply::Written { .. })]));
    assert_eq!(leader.partition.state().table, newer);
    let mut older = table();
    older.version = 2;
    assert!(matches!(
        leader.partition.evaluate_table(&older, 7, 2),
        Evaluated::Answer(2, _)
    ));
    let command = partition::command::encode_set_table(7, &older).expect("encodes");
    leader.log.push(command);
    leader.commit();
    assert_eq!(leader.partition.state().table.version, 3);
}

#[test]
fn a_table_takes_what_fills_it_until_it_is_active_and_nothing_once_it_is_deleted() {
    use model::table::TableStatus::{Active, Creating, Deleting, Updating};
    let fill = write(
        "k",
        WriteAction::Fill(model::codec::encode_item(&item("k", &[]))),
    );
    let kind = |reply: ItemReply| match reply {
        ItemReply::Written { .. } => None,
        ItemReply::Fault(ItemFault::Api(error)) => Some(error.kind),
        other => panic!("{other:?}"),
    };
    for (status, of_user, of_job) in [
        (Creating, Some(ErrorKind::ResourceNotFound), None),
        (Active, None, Some(ErrorKind::ResourceInUse)),
        (Updating, None, Some(ErrorKind::ResourceInUse)),
        (
            Deleting,
            Some(ErrorKind::ResourceNotFound),
            Some(ErrorKind::ResourceInUse),
        ),
    ] {
        let mut leader = Leader::new();
        let mut table = table();
        table.version += 1;
        table.status = status;
        let Evaluated::Propose(command) = leader.partition.evaluate_table(&table, 7, 0) else {
            panic!("it is newer");
        };
        leader.log.push(command);
        leader.partition.proposed(1);
        leader.commit();
        assert_eq!(kind(leader.write(&put("k", &[]))), of_user, "{status:?}");
        assert_eq!(kind(leader.write(&fill)), of_job, "{status:?}");
    }
}

#[test]
fn time_never_goes_back_whatever_the_clocks_do() {
    let mut leader = Leader::new();
    let times = |leader: &Leader| {
        let stamped = |command: &bytes::Bytes| {
            let command = partition::command::Command::decode(command).expect("decodes");
            command.time_ms
        };
        leader.log.iter().map(stamped).collect::<Vec<_>>()
    };
    let mut version = 1;
    let mut set_table = |leader: &mut Leader, now_ms| {
        version += 1;
        let mut newer = table();
        newer.version = version;
        let Evaluated::Propose(command) = leader.partition.evaluate_table(&newer, now_ms, 1) else {
            panic!("it is newer");
        };
        leader.log.push(command);
        leader.partition.proposed(leader.log.len() as u64);
    };
    set_table(&mut leader, 500);
    // Its clock is set back while the first is in flight.
    set_table(&mut leader, 400);
    leader.commit();
    assert_eq!(times(&leader), [500, 500]);
    assert_eq!(leader.partition.state().time_ms, 500);
    // Another leader, whose clock is behind, has only the applied state.
    let state = leader.partition.state().clone();
    leader.partition = partition::Partition::new(state, partition::Limits::default());
    set_table(&mut leader, 300);
    leader.commit();
    assert_eq!(times(&leader), [500, 500, 500]);
    // What it has closed it does not stamp.
    leader.partition.close(700);
    set_table(&mut leader, 600);
    set_table(&mut leader, 900);
    leader.commit();
    assert_eq!(times(&leader)[3..], [700, 900]);
    assert_eq!(leader.partition.state().time_ms, 900);
    // A command of a leader of an older version, from before this was so.
    let command = partition::command::encode_set_table(100, &table()).expect("encodes");
    leader.log.push(command);
    leader.commit();
    assert_eq!(leader.partition.state().time_ms, 900);
}
