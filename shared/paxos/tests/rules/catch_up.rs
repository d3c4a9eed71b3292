//! Followers that lag: from memory, from the WAL, by full copy. Truncation.

use paxos::*;

use crate::cluster::{Cluster, three};

fn small() -> Timing {
    let mut timing = Timing::default();
    timing.limits.memory_bytes_max = 500;
    timing.limits.append_bytes_max = 300;
    timing.limits.floor_step_entries = 5;
    timing
}

fn fill(cluster: &mut Cluster, leader: u64, count: usize) {
    for n in 0..count {
        cluster.propose(leader, &format!("command {n}")).unwrap();
        cluster.settle();
    }
}

#[test]
fn a_follower_that_lags_a_little_is_served_from_memory() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, _) = cluster.others(leader);
    cluster.crash(a);
    fill(&mut cluster, leader, 50);
    cluster.restart(a);
    cluster.pass(1_000);
    assert_eq!(cluster.commands(a).len(), 50);
    assert_eq!(cluster.nodes[&leader].reads, 0);
}

#[test]
fn a_follower_that_lags_more_is_served_from_the_wal() {
    let mut cluster = Cluster::new(three(), small());
    let leader = cluster.elect();
    let (a, _) = cluster.others(leader);
    cluster.crash(a);
    fill(&mut cluster, leader, 50);
    cluster.flush(leader);
    assert!(cluster.status(leader).memory_bytes <= 500);
    assert_eq!(
        cluster.status(leader).floor.index,
        0,
        "a member still needs the log"
    );
    cluster.restart(a);
    cluster.pass(2_000);
    assert_eq!(cluster.commands(a).len(), 50);
    assert!(cluster.nodes[&leader].reads > 0);
}

#[test]
fn an_acknowledgement_during_a_log_read_does_not_stall_the_follower() {
    let mut cluster = Cluster::new(three(), small());
    let leader = cluster.elect();
    let (a, _) = cluster.others(leader);
    cluster.crash(a);
    fill(&mut cluster, leader, 50);
    cluster.flush(leader);
    cluster.hold_reads = true;
    cluster.restart(a);
    cluster.pass(1_000);
    let (_, read) = cluster.reads_held.pop().expect("a read under way");
    // The follower turns out to have more than the leader thought.
    let matched = read.from;
    let ack = Ack {
        ballot: cluster.status(leader).promised,
        sent: Millis(cluster.now),
        matched,
        received: matched,
        flushed: 0,
    };
    let message = Message {
        to_incarnation: leader * 100,
        generation: 1,
        body: Body::Ack(ack),
    };
    cluster.deliver(a, leader, message);
    cluster.sent.clear();
    cluster.answer_read(leader, read);
    let first = cluster.sent.iter().find_map(|(_, to, m)| match &m.body {
        Body::Append(append) if *to == a => append.entries.first().map(|e| e.index),
        _ => None,
    });
    assert_eq!(
        first,
        Some(matched + 1),
        "what it has is left out, the rest goes at once"
    );
}

#[test]
fn the_log_is_truncated_below_every_storage_members_b_tree() {
    let mut cluster = Cluster::new(three(), small());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    fill(&mut cluster, leader, 20);
    cluster.pass(400);
    cluster.flush(leader);
    cluster.flush(a);
    cluster.pass(1_000);
    assert_eq!(
        cluster.status(leader).floor.index,
        0,
        "{b} has flushed nothing"
    );
    cluster.flush(b);
    cluster.pass(1_000);
    for node in 1..=3 {
        let floor = cluster.status(node).floor.index;
        assert!(floor >= 15, "node {node} truncated up to {floor}");
        assert_eq!(cluster.nodes[&node].disk.floor.index, floor);
    }
    // And everything still works, also after a restart behind the floor.
    cluster.crash(a);
    cluster.restart(a);
    fill(&mut cluster, leader, 3);
    cluster.pass(400);
    assert_eq!(cluster.status(a).commit, cluster.status(leader).commit);
}

/// Brings node `a` so far behind that only a copy helps.
fn outrun(cluster: &mut Cluster) -> (u64, u64, u64) {
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    cluster.crash(a);
    fill(cluster, leader, 30);
    cluster.pass(5_000);
    for _ in 0..3 {
        cluster.flush(leader);
        cluster.flush(b);
        cluster.pass(400);
    }
    assert!(
        cluster.status(leader).floor.index > 20,
        "the silent member holds nothing back"
    );
    (leader, a, b)
}

fn crowded() -> Timing {
    let mut timing = small();
    timing.limits.log_bytes_max = 100;
    timing.member_silent_ms = 3_000;
    timing
}

#[test]
fn a_follower_below_the_floor_gets_a_full_copy() {
    let mut cluster = Cluster::new(three(), crowded());
    let (leader, a, _) = outrun(&mut cluster);
    cluster.restart(a);
    cluster.pass(1_000);
    assert_eq!(cluster.nodes[&a].copy_from, Some(NodeId(leader)));
    assert!(cluster.status(a).copying);
    cluster.copy(leader, a);
    fill(&mut cluster, leader, 3);
    cluster.pass(1_000);
    assert_eq!(
        cluster.commands(a).len(),
        3,
        "only what came after the copy"
    );
    assert_eq!(cluster.status(a).commit, cluster.status(leader).commit);
    assert!(!cluster.status(a).copying);
}

#[test]
fn a_failed_copy_is_asked_for_again() {
    let mut cluster = Cluster::new(three(), crowded());
    let (leader, a, _) = outrun(&mut cluster);
    cluster.restart(a);
    cluster.pass(1_000);
    assert_eq!(
        cluster.nodes.get_mut(&a).unwrap().copy_from.take(),
        Some(NodeId(leader))
    );
    cluster.step(a, Input::CopyFailed);
    cluster.pass(1_000);
    assert_eq!(cluster.nodes[&a].copy_from, Some(NodeId(leader)));
}

#[test]
fn a_crash_between_copy_and_log_record_is_mended() {
    let mut cluster = Cluster::new(three(), crowded());
    let (leader, a, b) = outrun(&mut cluster);
    cluster.restart(a);
    cluster.pass(1_000);
    cluster.nodes.get_mut(&a).unwrap().stuck = true;
    cluster.copy(leader, a);
    cluster.settle();
    assert_eq!(
        cluster.nodes[&a].disk.floor.index, 0,
        "the record is not durable"
    );
    cluster.crash(a);
    cluster.nodes.get_mut(&a).unwrap().stuck = false;
    cluster.restart(a);
    assert!(!cluster.status(a).copying);
    cluster.crash(b);
    let leader = cluster.elect();
    fill(&mut cluster, leader, 3);
    cluster.pass(1_000);
    let floor = cluster.nodes[&a].disk.floor.index;
    assert!(floor > 20, "the log begins behind the copy");
    assert_eq!(cluster.status(a).commit, cluster.status(leader).commit);
}

#[test]
fn a_b_tree_behind_the_floor_asks_for_a_copy_and_does_not_lead() {
    let mut cluster = Cluster::new(three(), crowded());
    let leader = cluster.elect();
    fill(&mut cluster, leader, 20);
    cluster.pass(400);
    for _ in 0..3 {
        for node in 1..=3 {
            cluster.flush(node);
        }
        cluster.pass(400);
    }
    let (a, _) = cluster.others(leader);
    cluster.crash(a);
    cluster.nodes.get_mut(&a).unwrap().disk.applied = Position::default();
    cluster.nodes.get_mut(&a).unwrap().committed.clear();
    cluster.restart(a);
    assert!(cluster.status(a).copying);
    cluster.pass(1_000);
    assert_eq!(cluster.nodes[&a].copy_from, Some(NodeId(leader)));
    cluster.copy(leader, a);
    cluster.pass(1_000);
    assert!(!cluster.status(a).copying);
    assert_eq!(cluster.status(a).commit, cluster.status(leader).commit);
}

#[test]
fn a_few_entries_are_truncated_when_the_shared_log_needs_it() {
    let mut cluster = Cluster::new(three(), small());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    fill(&mut cluster, leader, 2);
    for node in 1..=3 {
        cluster.pass(400);
        cluster.flush(node);
    }
    cluster.pass(1_000);
    assert_eq!(
        cluster.status(leader).floor.index,
        0,
        "too few for a step of their own"
    );
    for node in 1..=3 {
        cluster.step(node, Input::ReleaseLog);
    }
    cluster.pass(1_000);
    let last = cluster.status(leader).last.index;
    for node in 1..=3 {
        assert_eq!(cluster.status(node).floor.index, last, "node {node}");
    }
    // A member that is silent for long holds nothing back.
    cluster.crash(b);
    fill(&mut cluster, leader, 2);
    cluster.pass(400);
    cluster.flush(leader);
    cluster.flush(a);
    cluster.step(leader, Input::ReleaseLog);
    cluster.pass(30_000);
    assert_eq!(cluster.status(leader).floor.index, last);
    cluster.pass(60_000);
    assert_eq!(cluster.status(leader).floor.index, last + 2);
}

#[test]
fn what_is_not_archived_stays_in_the_log() {
    let mut timing = small();
    timing.limits.archive = true;
    let mut cluster = Cluster::new(three(), timing);
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    fill(&mut cluster, leader, 20);
    let flush_all = |cluster: &mut Cluster| {
        cluster.pass(400);
        for node in [leader, a, b] {
            cluster.flush(node);
        }
        cluster.pass(1_000);
    };
    flush_all(&mut cluster);
    assert_eq!(cluster.status(leader).floor.index, 0, "nothing is archived");
    assert!(cluster.status(leader).unarchived_bytes > 0);
    // Out of order, twice, and to members that do not lead.
    for (node, index) in [(leader, 12), (leader, 7), (leader, 12), (a, 19), (b, 19)] {
        cluster.step(node, Input::Archived { index });
    }
    cluster.pass(1_000);
    assert_eq!(cluster.status(leader).archived, 12);
    for node in [leader, a, b] {
        assert_eq!(cluster.status(node).floor.index, 12, "node {node}");
    }
    // Not even a crowded disk and a member that is silent for long make it go.
    fill(&mut cluster, leader, 20);
    flush_all(&mut cluster);
    cluster.crash(b);
    cluster.step(leader, Input::ReleaseLog);
    cluster.pass(120_000);
    assert_eq!(cluster.status(leader).floor.index, 12);
    // A new leader knows of nothing that is archived until it is told.
    cluster.crash(leader);
    cluster.restart(b);
    let second = cluster.elect();
    fill(&mut cluster, second, 10);
    cluster.pass(1_000);
    let last = cluster.status(second).last.index;
    assert_eq!(cluster.status(second).archived, 0);
    assert_eq!(cluster.status(second).floor.index, 12);
    cluster.step(second, Input::Archived { index: last });
    cluster.restart(leader);
    cluster.pass(1_000);
    for node in [leader, a, b] {
        cluster.flush(node);
    }
    cluster.pass(1_000);
    for node in [leader, a, b] {
        assert!(cluster.status(node).floor.index > 40, "node {node}");
    }
    assert_eq!(cluster.status(second).unarchived_bytes, 0);
}
