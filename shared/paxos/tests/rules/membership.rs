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
