//! Configurations in the log: in force on append, out of force on truncation.

use paxos::*;

use crate::cluster::{Cluster, three};

/// An append that puts a configuration into a follower's log.
fn append_configuration(cluster: &mut Cluster, leader: u64, to: u64, next: &Configuration) {
    let ballot = cluster.status(leader).promised;
    let prev = cluster.status(to).last;
    let payload = Payload::Config(next.clone());
    let entry = Entry {
        index: prev.index + 1,
        ballot,
        payload,
    };
    let append = Append {
        ballot,
        sent: Millis(cluster.now),
        prev,
        entries: vec![entry],
        commit: 0,
        floor: 0,
        healthy: true,
    };
    let message = Message {
        to_incarnation: to * 100,
        generation: 1,
        body: Body::Append(append),
    };
    cluster.deliver(leader, to, message);
}

#[test]
fn a_configuration_is_in_force_with_its_entry_and_leaves_with_it() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    cluster.pass(1_000);
    let fourth = Member {
        node: NodeId(4),
        role: Role::Storage,
        incarnation: 400,
    };
    let mut next = Configuration {
        generation: 2,
        joint: Some(three().members),
        ..three()
    };
    next.members[2] = fourth;
    append_configuration(&mut cluster, leader, a, &next);
    assert_eq!(
        cluster.status(a).configuration,
        &next,
        "before it is committed"
    );
    cluster.settle();
    // The leader knows nothing of it; a later leader puts another entry in its place.
    cluster.isolate(a);
    cluster.crash(leader);
    cluster.restart(leader);
    let second = cluster.elect();
    assert_ne!(second, a);
    cluster.heal();
    cluster.pass(2_000);
    for node in [leader, a, b] {
        assert_eq!(
            cluster.status(node).configuration.generation,
            1,
            "truncated on {node}"
        );
    }
}

#[test]
fn a_joint_configuration_needs_both_majorities() {
    let mut joint = three();
    joint.joint = Some(joint.members.clone());
    joint.members = [1, 4, 5]
        .map(|n| Member {
            node: NodeId(n),
            role: Role::Storage,
            incarnation: n * 100,
        })
        .to_vec();
    let mut cluster = Cluster::new(joint, Timing::default());
    let leader = cluster.elect();
    cluster.pass(500);
    let others: Vec<u64> = [1, 2, 3, 4, 5]
        .into_iter()
        .filter(|n| *n != leader)
        .collect();
    // Without 4 and 5 (or without all of the old list's others) nothing is committed.
    let new_only: Vec<u64> = others
        .iter()
        .copied()
        .filter(|n| [4, 5].contains(n))
        .collect();
    for node in &new_only {
        cluster.crash(*node);
    }
    let alive_of_new = 3 - new_only.len() - usize::from(leader != 1 && !others.contains(&1));
    cluster.propose(leader, "x").unwrap();
    cluster.settle();
    let committed = !cluster.commands(leader).is_empty();
    assert_eq!(
        committed,
        alive_of_new >= 2,
        "{alive_of_new} of the new list are alive"
    );
    for node in &new_only {
        cluster.restart(*node);
    }
    cluster.pass(8_000);
    let leader = cluster.elect();
    assert_eq!(cluster.commands(leader), ["x"]);
}

fn storage(node: u64) -> Member {
    Member {
        node: NodeId(node),
        role: Role::Storage,
        incarnation: node * 100,
    }
}

fn log(node: u64) -> Member {
    Member {
        role: Role::Log,
        ..storage(node)
    }
}

/// A log replica takes the place of a lost storage member, which stays as a learner.
fn replace_with_log_replica(cluster: &mut Cluster, leader: u64, lost: u64, with: u64) {
    let configuration = cluster.status(leader).configuration.clone();
    cluster.add(log(with), &configuration);
    let mut members = configuration.members.clone();
    members.retain(|m| m.node.0 != lost);
    members.push(log(with));
    cluster
        .reconfigure(leader, &members, &[storage(lost)])
        .expect("a change");
}

#[test]
fn a_log_replica_takes_over_and_survives_the_loss_of_a_second_node() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.propose(leader, "a").unwrap();
    cluster.pass(500);
    let (lost, other) = cluster.others(leader);
    cluster.crash(lost);
    replace_with_log_replica(&mut cluster, leader, lost, 4);
    cluster.pass(500);
    let configuration = cluster.status(leader).configuration.clone();
    assert_eq!((configuration.generation, &configuration.joint), (3, &None));
    assert!(configuration.members.contains(&log(4)));
    // The second storage member misses an entry that the log replica has; then the leader is gone.
    cluster.isolate(other);
    cluster.propose(leader, "b").unwrap();
    cluster.pass(300);
    assert_eq!(
        cluster.commands(leader),
        ["a", "b"],
        "leader and log replica"
    );
    cluster.crash(leader);
    cluster.heal();
    assert_eq!(cluster.elect(), other);
    assert_eq!(
        cluster.commands(other),
        ["a", "b"],
        "adopted from the log replica"
    );
}

#[test]
fn a_storage_member_that_comes_back_catches_up_as_a_learner_and_gets_its_vote_back() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (lost, other) = cluster.others(leader);
    cluster.crash(lost);
    replace_with_log_replica(&mut cluster, leader, lost, 4);
    cluster.pass(2_000);
    let members = [storage(leader), storage(other), storage(lost)];
    assert_eq!(
        cluster.reconfigure(leader, &members, &[]),
        Err(ReconfigureRefusal::NotInStep(NodeId(lost))),
        "it is down"
    );
    cluster.propose(leader, "a").unwrap();
    cluster.restart(lost);
    cluster.pass(1_000);
    assert!(
        cluster
            .replica(leader)
            .followers()
            .iter()
            .all(|f| f.in_step)
    );
    assert_eq!(cluster.commands(lost), ["a"], "a learner gets the log");
    cluster
        .reconfigure(leader, &members, &[])
        .expect("a change");
    cluster.pass(3_000);
    assert!(
        cluster.nodes[&4].retired,
        "the log replica is told that it may go"
    );
    assert!(!cluster.nodes[&lost].retired);
    cluster.crash(other);
    cluster.propose(leader, "b").unwrap();
    cluster.pass(300);
    assert_eq!(cluster.commands(leader), ["a", "b"], "it votes again");
}

#[test]
fn a_new_storage_replica_is_filled_before_it_votes() {
    let mut cluster = Cluster::new(three(), Timing::default());
    cluster.timing.limits.floor_step_entries = 1;
    let leader = cluster.elect();
    let (gone, other) = cluster.others(leader);
    for command in ["a", "b", "c"] {
        cluster.propose(leader, command).unwrap();
    }
    cluster.pass(100);
    for node in 1..=3 {
        cluster.flush(node);
    }
    cluster.step(leader, Input::ReleaseLog);
    cluster.pass(1_000);
    assert!(
        cluster.status(leader).floor.index > 0,
        "the log is truncated"
    );
    cluster.add(storage(5), &cluster.status(leader).configuration.clone());
    cluster
        .reconfigure(leader, &three().members, &[storage(5)])
        .expect("a change");
    cluster.pass(500);
    assert_eq!(cluster.nodes[&5].copy_from, Some(NodeId(leader)));
    assert!(
        cluster
            .replica(leader)
            .followers()
            .iter()
            .any(|f| f.copying)
    );
    let members = [storage(leader), storage(other), storage(5)];
    assert_eq!(
        cluster.reconfigure(leader, &members, &[]),
        Err(ReconfigureRefusal::NotInStep(NodeId(5)))
    );
    cluster.copy(leader, 5);
    cluster.pass(500);
    cluster
        .reconfigure(leader, &members, &[])
        .expect("a change");
    cluster.pass(3_000);
    assert!(cluster.nodes[&gone].retired);
    cluster.propose(leader, "d").unwrap();
    cluster.pass(300);
    assert_eq!(cluster.commands(5), ["d"]);
}

#[test]
fn a_leader_that_is_replaced_hands_over() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    cluster.add(storage(4), &cluster.status(leader).configuration.clone());
    cluster
        .reconfigure(leader, &three().members, &[storage(4)])
        .expect("a change");
    cluster.pass(500);
    cluster
        .reconfigure(leader, &[storage(a), storage(b), storage(4)], &[])
        .expect("a change");
    cluster.pass(300);
    let next = cluster.leader().expect("no lease to wait for");
    assert_ne!(next, leader);
    cluster.pass(3_000);
    assert!(cluster.nodes[&leader].retired);
}

#[test]
fn changes_are_fenced_and_come_one_at_a_time() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, _) = cluster.others(leader);
    let members = three().members;
    let follower = Input::Reconfigure {
        generation: 1,
        members: members.clone(),
        learners: Vec::new(),
    };
    cluster.step(a, follower);
    assert_eq!(
        cluster.reconfigured,
        Some(Err(ReconfigureRefusal::NotLeader(Some(NodeId(leader)))))
    );
    let stale = Input::Reconfigure {
        generation: 0,
        members: members.clone(),
        learners: Vec::new(),
    };
    cluster.step(leader, stale);
    assert_eq!(
        cluster.reconfigured,
        Some(Err(ReconfigureRefusal::Stale(1)))
    );
    assert_eq!(
        cluster.reconfigure(leader, &members, &[]),
        Ok(1),
        "nothing to do"
    );
    for (members, learners) in [
        (vec![], vec![]),
        (vec![log(1), log(2), log(3)], vec![]),
        (vec![storage(1), storage(1), storage(2)], vec![]),
        (members.clone(), vec![storage(2)]),
        (vec![storage(1), storage(2), log(3)], vec![]),
        ((1..=8).map(storage).collect(), vec![]),
    ] {
        assert!(matches!(
            cluster.reconfigure(leader, &members, &learners),
            Err(ReconfigureRefusal::Invalid(_))
        ));
    }
    cluster.isolate(leader);
    cluster
        .reconfigure(leader, &members, &[storage(7)])
        .expect("a change");
    assert_eq!(
        cluster.reconfigure(leader, &members, &[]),
        Err(ReconfigureRefusal::UnderWay)
    );
    // It never reached anybody: the next leader knows nothing of it.
    cluster.pass(6_000);
    cluster.heal();
    cluster.pass(3_000);
    let leader = cluster.elect();
    assert!(cluster.status(leader).configuration.learners.is_empty());
}

#[test]
fn a_new_leader_completes_the_change_of_an_old_one() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    let configuration = cluster.status(leader).configuration.clone();
    cluster.add(log(4), &configuration);
    let members = [storage(leader), storage(a), log(4)];
    cluster
        .reconfigure(leader, &members, &[storage(b)])
        .expect("a change");
    // The joint configuration gets out, the leader does not live to complete it.
    while let Some((from, to, message)) = cluster.queue.pop_front() {
        cluster.deliver(from, to, message);
    }
    for node in [a, b, 4] {
        cluster.sync(node);
    }
    cluster.crash(leader);
    cluster.queue.clear();
    let next = cluster.elect();
    cluster.pass(500);
    let configuration = cluster.status(next).configuration.clone();
    assert_eq!((configuration.generation, configuration.joint), (3, None));
}

/// A candidate of the old members finds the joint configuration only in the log that it adopts: without asking the new members it
/// would overwrite what they committed among themselves.
#[test]
fn a_candidate_asks_the_members_of_the_configuration_that_it_adopts() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    let configuration = cluster.status(leader).configuration.clone();
    for node in 4..=6 {
        cluster.add(storage(node), &configuration);
    }
    cluster
        .reconfigure(leader, &three().members, &[4, 5, 6].map(storage))
        .expect("a change");
    cluster.pass(500);
    // `b` hears nothing from here on: it knows neither the joint nor the new configuration.
    cluster.isolate(b);
    cluster
        .reconfigure(leader, &[4, 5, 6].map(storage), &[])
        .expect("a change");
    cluster.pass(2_000);
    let new_leader = cluster.leader().expect("one of the new members leads");
    assert!(new_leader >= 4);
    cluster.propose(new_leader, "x").unwrap();
    cluster.pass(100);
    assert_eq!(cluster.commands(new_leader), ["x"]);
    // `b` reaches `a`, which has the joint configuration at least; together they are a quorum of the old members.
    for (from, to) in [(a, b), (b, a)] {
        cluster.cut.remove(&(from, to));
    }
    for new in 4..=6 {
        for (from, to) in [(new, a), (a, new)] {
            cluster.cut.insert((from, to));
        }
    }
    cluster.pass(20_000);
    assert!(
        [a, b]
            .iter()
            .all(|n| cluster.status(*n).standing != Standing::Leader { serving: true }),
        "nobody leads without the new members"
    );
    cluster.heal();
    cluster.pass(5_000);
    let leader = cluster.elect();
    assert!(cluster.commands(leader).contains(&"x".to_owned()));
}

#[test]
fn leadership_is_not_handed_to_a_learner_on_a_members_node() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (gone, other) = cluster.others(leader);
    cluster.crash(gone);
    let new_disk = Member {
        incarnation: 999,
        ..storage(gone)
    };
    let configuration = cluster.status(leader).configuration.clone();
    cluster.add(new_disk, &configuration);
    cluster
        .reconfigure(leader, &three().members, &[new_disk])
        .expect("a change");
    cluster.pass(1_000);
    let to = NodeId(gone);
    cluster.step(leader, Input::TransferLeadership { to });
    cluster.pass(500);
    assert_eq!(cluster.leader(), Some(leader), "the member's disk is gone");
    let members = [storage(leader), storage(other), new_disk];
    cluster
        .reconfigure(leader, &members, &[])
        .expect("a change");
    cluster.pass(500);
    cluster.step(leader, Input::TransferLeadership { to });
    cluster.pass(100);
    assert_eq!(cluster.leader(), Some(gone));
}

/// All that an old replica knows of may have been replaced since, and nobody listens to the names that it uses.
#[test]
fn a_removed_replica_is_told_by_whoever_took_the_place_of_those_it_knows() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (gone, other) = cluster.others(leader);
    cluster.isolate(gone);
    cluster
        .reconfigure(leader, &[storage(leader), storage(other)], &[])
        .expect("a change");
    cluster.pass(1_000);
    cluster.heal();
    let probe = |to_incarnation| Message {
        to_incarnation,
        generation: 1,
        body: Body::Probe { attempt: 7 },
    };
    cluster.sent.clear();
    cluster.deliver(other, leader, probe(999));
    assert!(cluster.sent.is_empty(), "a member that errs is no business");
    cluster.deliver(gone, leader, probe(999));
    cluster.settle();
    assert!(cluster.nodes[&gone].retired);
}

/// Two leaders may make a configuration of the same generation; only one is ever committed.
#[test]
fn a_replica_whose_change_lost_to_another_one_of_its_generation_is_told_so() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (first, second) = cluster.others(leader);
    cluster.add(log(4), &three());
    cluster.add(storage(5), &three());
    for (here, there) in [(leader, first), (leader, second), (4, first), (4, second)] {
        cluster.cut.extend([(here, there), (there, here)]);
    }
    let members = [storage(leader), storage(first), log(4)];
    cluster
        .reconfigure(leader, &members, &[storage(second)])
        .expect("a change");
    cluster.pass(100);
    let known = cluster.status(4).configuration.clone();
    assert!(known.generation == 2 && known.members.contains(&log(4)));
    cluster.pass(10_000);
    let successor = cluster.leader().expect("a leader");
    assert_ne!(successor, leader);
    cluster
        .reconfigure(successor, &three().members, &[storage(5)])
        .expect("a change");
    cluster.pass(500);
    assert_eq!(cluster.status(successor).configuration.generation, 2);
    assert!(!cluster.nodes[&4].retired);
    // The old leader's log is mended before it could tell the log replica that it errs.
    cluster.cut.clear();
    cluster.cut.extend([(leader, 4), (4, leader)]);
    cluster.pass(10_000);
    assert!(cluster.nodes[&4].retired);
    assert!((1..=3).all(|node| !cluster.nodes[&node].retired));
}

#[test]
fn a_replica_that_was_succeeded_on_its_own_node_is_no_learner() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (lost, other) = cluster.others(leader);
    // Its disk is gone, and the node has a new one.
    cluster.nodes.remove(&lost);
    let new = Member {
        incarnation: 999,
        ..storage(lost)
    };
    cluster.add(new, &cluster.status(leader).configuration.clone());
    cluster
        .reconfigure(leader, &three().members, &[new])
        .expect("a change");
    cluster.pass(500);
    let members = [storage(leader), storage(other), new];
    // Learners come first where one node has two: the voter would get nothing.
    assert!(matches!(
        cluster.reconfigure(leader, &members, &[storage(lost)]),
        Err(ReconfigureRefusal::Invalid(_))
    ));
    cluster
        .reconfigure(leader, &members, &[])
        .expect("a change");
    cluster.pass(500);
    cluster.crash(other);
    cluster.propose(leader, "x").unwrap();
    cluster.pass(300);
    assert_eq!(cluster.commands(lost), ["x"]);
}

/// Found by the model checker.
#[test]
fn a_candidate_that_learns_that_it_is_a_learner_does_not_lead() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(500);
    let (asleep, other) = cluster.others(leader);
    cluster.isolate(asleep);
    replace_with_log_replica(&mut cluster, leader, asleep, 4);
    cluster.cut.insert((asleep, 4));
    cluster.cut.insert((4, asleep));
    cluster.pass(300);
    assert_eq!(cluster.status(leader).configuration.generation, 3);
    // It still takes itself for a member, and everybody else hears nobody.
    cluster.step(leader, Input::StepDown);
    cluster.heal();
    cluster.now += 1_100;
    cluster.step(asleep, Input::StepDown);
    cluster.step(asleep, Input::Campaign);
    cluster.settle();
    assert!(
        !cluster
            .status(asleep)
            .configuration
            .votes(NodeId(asleep), asleep * 100)
    );
    let leads =
        |(from, _, m): &(u64, u64, Message)| *from == asleep && matches!(m.body, Body::Append(_));
    assert!(!cluster.sent.iter().any(leads), "it never led");
    let next = cluster.elect();
    assert!(next == leader || next == other);
}
