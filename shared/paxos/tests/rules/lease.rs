//! Leases, serving, handing over.

use paxos::*;

use crate::cluster::{Cluster, three};

#[test]
fn a_leader_without_quorum_stops_serving_before_its_lease_ends_elsewhere() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(1_000);
    assert!(cluster.replica(leader).can_serve_reads(Millis(cluster.now)));
    cluster.isolate(leader);
    let cut = cluster.now;
    cluster.pass(1_350);
    assert!(!cluster.replica(leader).can_serve_reads(Millis(cluster.now)));
    assert_eq!(cluster.propose(leader, "x"), Err(Refusal::NotServing));
    let second = cluster.elect();
    assert_ne!(second, leader);
    assert!(cluster.now - cut >= 1_200, "promised leases ran out first");
    cluster.pass(3_000);
    assert!(
        matches!(cluster.propose(leader, "x"), Err(Refusal::NotLeader(_))),
        "stepped down"
    );
}

#[test]
fn the_lease_counts_from_sending() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(1_000);
    let until = cluster.status(leader).lease_until.expect("a lease");
    assert!(until.0 <= cluster.now + 1_350);
    // Acknowledgements that arrive late do not stretch it.
    let held: Vec<_> = {
        cluster.isolate(leader);
        cluster.pass(1_000);
        cluster
            .sent
            .iter()
            .filter(|(f, _, m)| *f == leader && matches!(m.body, Body::Append(_)))
            .cloned()
            .collect()
    };
    cluster.heal();
    let (from, to, message) = held.last().cloned().expect("a heartbeat");
    let Body::Append(Append { sent, .. }) = message.body else {
        panic!("an append")
    };
    cluster.pass(200);
    let (other, _) = cluster.others(leader);
    assert!(other == to || from == leader);
    let late = cluster.status(leader).lease_until;
    cluster.deliver(from, to, message);
    cluster.settle();
    let after = cluster.status(leader).lease_until;
    assert!(after <= late.max(Some(sent.plus(1_350))));
}

#[test]
fn a_restarted_member_reports_a_full_lease() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(500);
    let (a, b) = cluster.others(leader);
    cluster.crash(leader);
    // Both may have granted a lease right before they died; neither remembers.
    for node in [a, b] {
        cluster.crash(node);
        cluster.restart(node);
    }
    let restarted = cluster.now;
    cluster.elect();
    assert!(cluster.now - restarted >= 1_500);
}

#[test]
fn members_whose_leaders_are_all_dead_for_certain_wait_for_no_lease() {
    let timing = Timing {
        election_ms: 300,
        election_jitter_ms: 100,
        ..Timing::default()
    };
    let lease_ms = timing.lease_ms;
    let mut cluster = Cluster::new(three(), timing);
    let leader = cluster.elect();
    cluster.pass(500);
    cluster.propose(leader, "x").expect("it leads");
    cluster.settle();
    for node in [1, 2, 3] {
        cluster.crash(node);
    }
    for node in [1, 2, 3] {
        cluster.restart(node);
        cluster.replica_mut(node).outlive_leaders();
    }
    let restarted = cluster.now;
    let second = cluster.elect();
    assert!(
        cluster.now - restarted < lease_ms / 2,
        "only the election takes its time"
    );
    assert_eq!(cluster.commands(second), ["x"]);
    // What they promise from now on counts as ever.
    cluster.pass(1_000);
    cluster.isolate(second);
    let cut = cluster.now;
    cluster.pass(lease_ms * 9 / 10);
    assert_ne!(cluster.elect(), second);
    assert!(cluster.now - cut >= 1_200, "promised leases ran out first");
}

#[test]
fn a_resigned_leader_releases_its_lease_by_promising() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(3_000);
    let (a, _) = cluster.others(leader);
    cluster.step(leader, Input::StepDown);
    assert!(!cluster.replica(leader).can_serve_reads(Millis(cluster.now)));
    // The released ballot's leader takes part in the next election: nobody waits for its lease.
    let released = cluster.status(leader).promised;
    let message = Message {
        to_incarnation: a * 100,
        generation: 1,
        body: Body::TimeoutNow {
            released: Ballot {
                round: released.round,
                node: NodeId(99),
            },
        },
    };
    cluster.deliver(leader, a, message);
    cluster.settle();
    assert_eq!(cluster.leader(), None, "a wrong ballot moves nobody");
    cluster.pass(1_600);
    assert!(cluster.leader().is_some());
}

#[test]
fn a_transfer_moves_leadership_without_a_gap_or_a_loss() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (target, _) = cluster.others(leader);
    cluster.propose(leader, "before").unwrap();
    cluster.step(leader, Input::TransferLeadership { to: NodeId(target) });
    assert_eq!(cluster.propose(leader, "during"), Err(Refusal::NotServing));
    let start = cluster.now;
    cluster.settle();
    cluster.pass(20);
    assert_eq!(cluster.leader(), Some(target), "{} ms", cluster.now - start);
    assert!(!cluster.replica(leader).can_serve_reads(Millis(cluster.now)));
    assert_eq!(cluster.commands(target), ["before"]);
    assert!(cluster.nodes[&leader].lost.is_empty());
}

#[test]
fn a_transfer_to_a_dead_member_is_called_off() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (target, _) = cluster.others(leader);
    cluster.crash(target);
    cluster.propose(leader, "x").unwrap();
    cluster.settle();
    cluster.step(leader, Input::TransferLeadership { to: NodeId(target) });
    cluster.settle();
    cluster.pass(2_500);
    assert_eq!(cluster.leader(), Some(leader));
    cluster.propose(leader, "y").unwrap();
    cluster.settle();
    assert_eq!(cluster.commands(leader), ["x", "y"]);
}

#[test]
fn a_transfer_to_a_log_replica_is_ignored() {
    let mut configuration = three();
    configuration.members[2].role = Role::Log;
    let mut cluster = Cluster::new(configuration, Timing::default());
    let leader = cluster.elect();
    cluster.step(leader, Input::TransferLeadership { to: NodeId(3) });
    cluster.settle();
    cluster.propose(leader, "still here").unwrap();
}

/// Found by the model checker.
#[test]
fn a_promise_to_a_new_leader_does_not_replace_the_one_to_the_leader_before() {
    // Elections as soon as the test wants one, and never by themselves.
    let timing = Timing {
        election_ms: 10,
        election_jitter_ms: 1 << 40,
        heartbeat_ms: 100,
        ..Timing::default()
    };
    let mut cluster = Cluster::new(three(), timing);
    let first = cluster.elect();
    let (second, _) = cluster.others(first);
    // Only the third renews the first one's lease.
    cluster.cut.insert((first, second));
    cluster.cut.insert((second, first));
    cluster.now += 1_200;
    cluster.step(first, Input::Tick);
    cluster.settle();
    cluster.isolate(first);
    cluster.now += 400;
    let serves = |cluster: &Cluster, node| {
        let now = Millis(cluster.now);
        cluster.replica(node).can_serve_reads(now)
    };
    for attempt in 0..2 {
        cluster.step(second, Input::StepDown);
        cluster.step(second, Input::Campaign);
        cluster.settle();
        let standing = cluster.status(second).standing;
        assert!(
            matches!(standing, Standing::Leader { .. }),
            "{attempt}: {standing:?}"
        );
        assert!(serves(&cluster, first), "its lease runs");
        assert!(!serves(&cluster, second), "attempt {attempt}");
    }
}

#[test]
fn a_transfer_to_a_member_that_restarted_waits_for_no_lease() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (target, silent) = cluster.others(leader);
    // The successor's own promise is in every quorum, and says that a lease of unknown holder may run.
    cluster.crash(silent);
    cluster.crash(target);
    cluster.restart(target);
    cluster.pass(400);
    cluster.step(leader, Input::TransferLeadership { to: NodeId(target) });
    cluster.settle();
    cluster.pass(20);
    assert_eq!(cluster.leader(), Some(target));
}

#[test]
fn a_transfer_does_not_end_the_lease_of_a_later_leader_that_a_restarted_member_forgot() {
    let timing = Timing {
        election_ms: 10,
        election_jitter_ms: 1 << 40,
        heartbeat_ms: 100,
        ..Timing::default()
    };
    let mut cluster = Cluster::new(three(), timing);
    let first = cluster.elect();
    cluster.pass(200);
    let (between, successor) = cluster.others(first);
    // The order to campaign is late, and the successor hears of nothing.
    cluster.isolate(successor);
    cluster.step(
        first,
        Input::TransferLeadership {
            to: NodeId(successor),
        },
    );
    cluster.settle();
    let order = cluster.sent.iter().rev().find_map(|(_, to, message)| {
        let order = matches!(message.body, Body::TimeoutNow { .. }) && *to == successor;
        order.then(|| message.clone())
    });
    cluster.now += 20;
    cluster.step(between, Input::Campaign);
    cluster.settle();
    cluster.pass(200);
    assert_eq!(cluster.leader(), Some(between));
    // Who granted that one's lease forgets it, and promises the successor a greater ballot.
    cluster.crash(first);
    cluster.isolate(between);
    cluster.restart(first);
    cluster.step(first, Input::StepDown);
    cluster.settle();
    cluster.heal();
    cluster.isolate(between);
    let until = cluster.status(between).lease_until.expect("a lease");
    cluster.deliver(first, successor, order.expect("an order to campaign"));
    cluster.settle();
    let standing = cluster.status(successor).standing;
    assert_eq!(standing, Standing::Leader { serving: false });
    while cluster.now < until.0 {
        assert!(
            !cluster
                .replica(successor)
                .can_serve_reads(Millis(cluster.now))
        );
        cluster.pass(10);
    }
    cluster.pass(200);
    assert_eq!(cluster.leader(), Some(successor));
}
