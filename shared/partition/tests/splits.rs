//! The rules of splits: what the commands do, who serves, which keys a child takes, what a replica does next, when to commit.

mod common;

use bytes::Bytes;
use common::*;
use model::KeyRange;
use partition::split::{
    Filling, Group, Local, Reports, SIDES, Side, Task, begun_child, changes_for, child_of,
    empty_child, next_task, range_of, restored_child, stage,
};
use partition::{Evaluated, Limits, Partition, PartitionError, PartitionState, command};
use paxos::{Ballot, Configuration, FollowerStatus, GroupId, Member, Millis, NodeId, Role};
use protocol::item::{ItemFault, ItemReply};
use protocol::split::{CommittedSplit, ReplicaStage, Split, SplitReport};

const PARENT: GroupId = GroupId(10);
const LEFT: GroupId = GroupId(11);
const RIGHT: GroupId = GroupId(12);

fn split() -> Split {
    Split {
        point: key("m"),
        left: LEFT,
        right: RIGHT,
        committed: None,
    }
}

fn member(node: u64) -> Member {
    Member {
        node: NodeId(node),
        role: Role::Storage,
        incarnation: node * 100,
    }
}

fn members() -> Configuration {
    Configuration {
        generation: 7,
        members: vec![member(1), member(2), member(3)],
        ..Configuration::default()
    }
}

fn begin() -> Bytes {
    command::encode_begin_split(1, &split()).expect("encodes")
}

fn commit() -> Bytes {
    command::encode_commit_split(1, LEFT).expect("encodes")
}

fn abandon() -> Bytes {
    command::encode_abandon_split(1, LEFT).expect("encodes")
}

fn write_of(name: &str) -> Bytes {
    command::encode_write(1, &key(name), Some(b"x"), 0, 1)
}

/// A replica that applied these commands.
fn applied(commands: &[Bytes]) -> Partition<u32> {
    let mut partition = replica();
    for (index, command) in (1..).zip(commands) {
        partition
            .apply(&entry(index, command), &mut Vec::new())
            .expect("applies");
    }
    partition
}

fn replica() -> Partition<u32> {
    let state = PartitionState {
        configuration: members(),
        ..state()
    };
    Partition::new(state, Limits::default())
}

fn splits_to(
    partition: &mut Partition<u32>,
    point: &str,
    left: u64,
    right: u64,
) -> Result<Bytes, String> {
    let split = Split {
        point: key(point),
        left: GroupId(left),
        right: GroupId(right),
        committed: None,
    };
    match partition.evaluate_split(PARENT, &split, (ballot(1), 1), 5) {
        Evaluated::Propose(command) => Ok(command),
        Evaluated::Answer(_, ItemReply::Fault(ItemFault::Api(error))) => Err(error.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_split_begins_commits_and_is_abandoned_before_that_only() {
    let state = |commands: &[Bytes]| applied(commands).state().clone();
    assert_eq!(state(&[begin()]).split, Some(split()));
    assert_eq!(state(&[begin(), abandon()]).split, None);
    let committed = CommittedSplit {
        time_ms: 1,
        at: 2,
        configuration: members(),
    };
    let ended = Split {
        committed: Some(committed),
        ..split()
    };
    assert_eq!(state(&[begin(), commit()]).split, Some(ended.clone()));
    assert_eq!(
        state(&[begin(), commit(), abandon()]).split,
        Some(ended.clone())
    );
    assert_eq!(
        state(&[begin(), commit(), begin(), commit()]).split,
        Some(ended)
    );
    assert_eq!(state(&[commit()]).split, None, "nothing was begun");
    assert_eq!(
        state(&[begin(), abandon(), commit()]).split,
        None,
        "nothing is begun any more"
    );
    let other = command::encode_commit_split(1, RIGHT).expect("encodes");
    assert_eq!(
        state(&[begin(), other]).split,
        Some(split()),
        "another split's"
    );
}

#[test]
fn nothing_changes_behind_the_commit() {
    let mut partition = applied(&[write_of("c"), begin(), write_of("d"), commit()]);
    let behind = partition.apply(&entry(5, &write_of("e")), &mut Vec::new());
    assert_eq!(behind, Err(PartitionError::AfterSplit(5)));
    let mut newer = table();
    newer.version = 9;
    let set_table = command::encode_set_table(1, &newer).expect("encodes");
    let mut partition = applied(&[begin(), commit()]);
    let behind = partition.apply(&entry(3, &set_table), &mut Vec::new());
    assert_eq!(behind, Err(PartitionError::AfterSplit(3)));
}

#[test]
fn an_ended_partition_sends_everybody_away() {
    let mut ended = applied(&[write_of("c"), begin(), commit()]);
    let tree = MapTree::default();
    let wrong = |reply: &ItemReply| matches!(reply, ItemReply::Fault(ItemFault::WrongRange { .. }));
    assert!(wrong(&ended.get(&tree, &get("c")).expect("healthy")));
    assert!(wrong(&ended.page(&tree, &page()).expect("healthy")));
    match ended.evaluate(&tree, &put("c", &[]), 7, 1) {
        Ok(Evaluated::Answer(_, reply)) => assert!(wrong(&reply)),
        other => panic!("{other:?}"),
    }
    assert!(!ended.serves(ballot(9)));
}

#[test]
fn a_leader_stops_serving_as_it_proposes_the_commit_and_for_its_whole_ballot() {
    let mut leader = applied(&[begin()]);
    assert!(leader.serves(ballot(1)));
    let proposed = leader.commit(ballot(1), 1).expect("a command");
    assert!(
        !leader.serves(ballot(1)),
        "not even before it is in the log"
    );
    leader.proposed(2);
    assert!(!leader.serves(ballot(1)) && leader.is_committing(ballot(1)));
    assert_eq!(leader.commit(ballot(1), 1), None, "once is enough");
    leader.lose(&mut Vec::new());
    assert!(
        !leader.serves(ballot(1)),
        "it may be committed by the next leader"
    );
    // In a later ballot the command is applied before this replica serves, or it never will be.
    assert!(leader.serves(ballot(2)));
    leader
        .apply(&entry(2, &proposed), &mut Vec::new())
        .expect("applies");
    assert!(!leader.serves(ballot(2)) && !leader.serves(ballot(3)));
}

#[test]
fn a_refused_commit_lets_the_leader_go_on() {
    let mut leader = applied(&[begin()]);
    assert!(leader.commit(ballot(1), 1).is_some());
    leader.refused(&ItemFault::Overloaded, &mut Vec::new());
    assert!(leader.serves(ballot(1)));
    assert!(leader.commit(ballot(1), 1).is_some());
}

#[test]
fn one_step_of_a_split_is_decided_at_a_time() {
    let mut leader = replica();
    assert!(splits_to(&mut leader, "m", 11, 12).is_ok());
    assert!(
        splits_to(&mut leader, "n", 13, 14).is_err(),
        "the first one is not decided"
    );
    leader.proposed(1);
    // Something else is refused; the step is in the log all the same.
    leader.refused(&ItemFault::Overloaded, &mut Vec::new());
    assert!(splits_to(&mut leader, "n", 13, 14).is_err());
    let mut answers = Vec::new();
    leader
        .apply(&entry(1, &begin()), &mut answers)
        .expect("applies");
    assert!(
        matches!(answers[..], [(5, ItemReply::Written { .. })]),
        "{answers:?}"
    );
    assert!(
        splits_to(&mut leader, "n", 13, 14).is_err(),
        "one split at a time"
    );
    assert!(leader.commit(ballot(1), 1).is_some());
    leader.proposed(2);
    match leader.evaluate_abandon(LEFT, (ballot(1), 1), 6) {
        Evaluated::Answer(6, ItemReply::Fault(ItemFault::Api(_))) => {}
        other => panic!("a commit is under way: {other:?}"),
    }
}

#[test]
fn the_same_order_again_is_done_and_nonsense_is_refused() {
    let mut leader = applied(&[begin()]);
    match leader.evaluate_split(PARENT, &split(), (ballot(1), 1), 5) {
        Evaluated::Answer(5, ItemReply::Written { .. }) => {}
        other => panic!("{other:?}"),
    }
    match leader.evaluate_abandon(RIGHT, (ballot(1), 1), 5) {
        Evaluated::Answer(5, ItemReply::Written { .. }) => {}
        other => panic!("it is not there: {other:?}"),
    }
    for (point, left, right) in [
        ("a", 11, 12),
        ("x", 11, 12),
        ("", 11, 12),
        ("zz", 11, 12),
        ("m", 10, 12),
        ("m", 12, 11),
        ("m", 11, 11),
    ] {
        let refused = splits_to(&mut replica(), point, left, right);
        assert!(refused.is_err(), "{point} {left} {right}");
    }
    assert!(splits_to(&mut replica(), &"m".repeat(3_000), 11, 12).is_err());
}

#[test]
fn the_children_share_the_range_and_begin_above_an_empty_joiner() {
    let ended = applied(&[write_of("c"), begin(), commit()]);
    let (parent, split) = (ended.state(), ended.state().split.clone().expect("split"));
    let [left, right] = SIDES.map(|side| range_of(&parent.range, &split, side));
    let whole = KeyRange {
        start: left.start.clone(),
        end: right.end.clone(),
    };
    assert_eq!(whole, parent.range);
    assert_eq!((&left.end, &right.start), (&split.point, &split.point));
    for (side, id) in SIDES.into_iter().zip([LEFT, RIGHT]) {
        assert_eq!(child_of(&split, side), id);
        let committed = split.committed.as_ref().expect("committed");
        let child = begun_child(parent, PARENT, &split, committed, side);
        assert_eq!((child.applied, child.ballot), (3, Ballot::default()));
        assert_eq!(
            child.configuration,
            Configuration::founding(members().members)
        );
        assert_eq!(
            (child.parent, &child.split, child.installed),
            (Some(PARENT), &None, false)
        );
        let restored = restored_child(&child, &member(2));
        assert!(restored.fresh && restored.floor.index == 3);
        assert_eq!(
            (restored.identity.incarnation, restored.identity.generation),
            (200, 1)
        );
    }
}

#[test]
fn a_child_takes_its_own_keys_up_to_the_cursor() {
    let mut partition = applied(&[write_of("c"), write_of("e"), write_of("h"), write_of("p")]);
    let batch = partition.seal().expect("a batch");
    let taken = |cursor: Option<&str>, done| {
        let child = PartitionState {
            filling: Some(Filling {
                cursor: cursor.map(key),
                done,
            }),
            ..empty_child(&state(), PARENT, &split(), Side::Left)
        };
        changes_for(&batch, &child).len()
    };
    assert_eq!(taken(None, false), 0);
    assert_eq!(taken(Some("e"), false), 2, "the cursor itself is taken");
    assert_eq!(taken(Some("g"), false), 2);
    assert_eq!(taken(Some("h"), true), 3, "never the other child's");
    let replica = begun_child(
        &state(),
        PARENT,
        &split(),
        &CommittedSplit {
            time_ms: 0,
            at: 9,
            configuration: members(),
        },
        Side::Left,
    );
    assert!(
        changes_for(&batch, &replica).is_empty(),
        "it has its own log"
    );
}

/// What a replica on node 1 with these states and fillings does next.
fn task(durable: &[Bytes], now: &[Bytes], fillings: Option<[bool; 2]>) -> (Task, ReplicaStage) {
    let (durable, now) = (applied(durable), applied(now));
    let fillings = fillings.map(|done| done.map(|done| Filling { cursor: None, done }));
    let local = Local {
        durable: durable.state(),
        applied: now.state(),
        me: (NodeId(1), 100),
        children: fillings.is_some().then_some(LEFT),
        fillings: fillings.as_ref().map(|[l, r]| [l, r]),
    };
    (next_task(&local), stage(&local))
}

#[test]
fn a_replica_goes_on_step_by_step() {
    use ReplicaStage::{Filling, Ready};
    let (begun, ended) = (&[begin()][..], &[begin(), commit()][..]);
    assert_eq!(task(&[], &[], None), (Task::Rest, Filling));
    assert_eq!(
        task(&[], begun, None),
        (Task::Flush, Filling),
        "durably known first"
    );
    assert_eq!(task(begun, begun, None), (Task::Create, Filling));
    assert_eq!(
        task(begun, begun, Some([false, false])),
        (Task::Fill(Side::Left), Filling)
    );
    assert_eq!(
        task(begun, begun, Some([true, false])),
        (Task::Fill(Side::Right), Filling)
    );
    assert_eq!(task(begun, begun, Some([true, true])), (Task::Rest, Ready));
    assert_eq!(task(begun, ended, Some([true, true])), (Task::Flush, Ready));
    assert_eq!(
        task(ended, ended, Some([true, true])),
        (Task::Install, Ready)
    );
    assert_eq!(
        task(ended, ended, Some([true, false])),
        (Task::Fill(Side::Right), Filling),
        "late"
    );
    assert_eq!(
        task(ended, ended, None),
        (Task::Create, Filling),
        "after a full copy"
    );
    let given_up = &[begin(), abandon()][..];
    assert_eq!(task(begun, given_up, Some([true, true])).0, Task::Discard);
    assert_eq!(task(given_up, given_up, None).0, Task::Rest);
}

#[test]
fn children_of_another_split_are_discarded() {
    let again = command::encode_begin_split(
        1,
        &Split {
            left: GroupId(13),
            right: GroupId(14),
            ..split()
        },
    );
    let again = [begin(), abandon(), again.expect("encodes")];
    assert_eq!(task(&again, &again, Some([true, true])).0, Task::Discard);
    assert_eq!(
        task(&[begin()], &again, Some([true, true])).0,
        Task::Discard
    );
    assert_eq!(task(&[begin()], &again, None).0, Task::Flush);
}

#[test]
fn only_replicas_of_the_ended_configuration_install() {
    let ended = applied(&[begin(), commit()]);
    let filled = Filling {
        cursor: None,
        done: true,
    };
    let local = |incarnation| Local {
        durable: ended.state(),
        applied: ended.state(),
        me: (NodeId(1), incarnation),
        children: Some(LEFT),
        fillings: Some([&filled, &filled]),
    };
    assert_eq!(next_task(&local(100)), Task::Install);
    assert_eq!(
        next_task(&local(101)),
        Task::Discard,
        "joined behind the commit"
    );
    let mut installed = applied(&[begin(), commit()]);
    let batch = installed.note_installed();
    assert!(batch.state.installed);
    let done = Local {
        applied: installed.state(),
        children: None,
        fillings: None,
        ..local(100)
    };
    assert_eq!(
        (next_task(&done), stage(&done)),
        (Task::Rest, ReplicaStage::Installed)
    );
}

#[test]
fn noting_the_installation_does_not_hold_up_later_flushes() {
    let mut partition = applied(&[begin(), commit()]);
    let batch = partition.seal().expect("a batch");
    partition.flushed(batch.state.applied);
    let noted = partition.note_installed();
    assert!(noted.items.is_empty());
    partition.flushed(noted.state.applied);
    partition
        .apply(
            &paxos::Entry {
                index: 3,
                ballot: ballot(1),
                payload: paxos::Payload::Noop,
            },
            &mut Vec::new(),
        )
        .expect("applies");
    assert_eq!(partition.seal().map(|batch| batch.state.applied), Some(3));
}

fn follower(node: u64) -> FollowerStatus {
    FollowerStatus {
        member: member(node),
        learner: false,
        matched: 5,
        flushed: 5,
        heard: Some(Millis(1)),
        in_step: true,
        copying: false,
    }
}

fn report(node: u64, stage: ReplicaStage) -> SplitReport {
    SplitReport {
        partition: PARENT,
        left: LEFT,
        node: NodeId(node),
        incarnation: node * 100,
        stage,
    }
}

#[test]
fn a_leader_commits_when_every_voter_is_ready_and_nobody_comes_or_goes() {
    use ReplicaStage::{Filling, Ready};
    let followers = [follower(2), follower(3)];
    let configuration = members();
    let group = Group {
        me: (NodeId(1), 100),
        configuration: &configuration,
        settled: true,
        followers: &followers,
    };
    let mut reports = Reports::default();
    for node in [1, 2] {
        reports.hear(&report(node, Ready), &group);
        assert!(
            !reports.may_commit(&split(), &group),
            "a majority is not enough"
        );
    }
    let mut stranger = report(3, Ready);
    stranger.incarnation = 1;
    reports.hear(&stranger, &group);
    assert!(
        !reports.may_commit(&split(), &group),
        "an earlier replica of that node"
    );
    reports.hear(&report(3, Ready), &group);
    assert!(reports.may_commit(&split(), &group));
    assert_eq!(reports.at(LEFT, Ready), [NodeId(1), NodeId(2), NodeId(3)]);

    assert!(!reports.may_commit(
        &split(),
        &Group {
            settled: false,
            ..group
        }
    ));
    let mut changing = members();
    changing.learners.push(member(4));
    assert!(!reports.may_commit(
        &split(),
        &Group {
            configuration: &changing,
            ..group
        }
    ));
    let mut with_log = members();
    with_log.members[2].role = Role::Log;
    assert!(!reports.may_commit(
        &split(),
        &Group {
            configuration: &with_log,
            ..group
        }
    ));
    let silent = [
        follower(2),
        FollowerStatus {
            in_step: false,
            ..follower(3)
        },
    ];
    assert!(!reports.may_commit(
        &split(),
        &Group {
            followers: &silent,
            ..group
        }
    ));
    let copying = [
        follower(2),
        FollowerStatus {
            copying: true,
            ..follower(3)
        },
    ];
    assert!(!reports.may_commit(
        &split(),
        &Group {
            followers: &copying,
            ..group
        }
    ));
    let other = Split {
        left: GroupId(13),
        ..split()
    };
    assert!(
        !reports.may_commit(&other, &group),
        "they spoke of another split"
    );

    reports.hear(&report(3, Filling), &group);
    assert!(
        !reports.may_commit(&split(), &group),
        "it pulled a full copy"
    );
}
