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
