//! Probe, prepare, promise, adoption.

use paxos::*;

use crate::cluster::{Cluster, three};

#[test]
fn a_new_group_elects_one_leader() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    assert!(
        cluster.now < 10_000 + 2_000,
        "a new group has no lease to wait for"
    );
    for node in 1..=3 {
        assert_eq!(cluster.status(node).leader, Some(NodeId(leader)));
        assert_eq!(cluster.nodes[&node].disk.configuration, three());
    }
}

#[test]
fn a_dead_leader_is_replaced() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let first = cluster.elect();
    cluster.propose(first, "a").unwrap();
    cluster.settle();
    cluster.crash(first);
    let died = cluster.now;
    let second = cluster.elect();
    assert_ne!(first, second);
    assert!(cluster.now - died < 3_500, "took {} ms", cluster.now - died);
    assert_eq!(cluster.commands(second), ["a"]);
    cluster.restart(first);
    cluster.pass(1_000);
    assert_eq!(cluster.commands(first), ["a"]);
    assert_eq!(
        cluster.leader(),
        Some(second),
        "coming back disturbs nobody"
    );
}

#[test]
fn nobody_is_disturbed_while_a_peer_hears_a_healthy_leader() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (deaf, _) = cluster.others(leader);
    let ballot = cluster.status(leader).promised;
    cluster.cut.insert((leader, deaf));
    cluster.cut.insert((deaf, leader));
    cluster.pass(20_000);
    assert_eq!(cluster.leader(), Some(leader));
    assert_eq!(cluster.status(leader).promised, ballot);
    assert_eq!(
        cluster.status(deaf).promised,
        ballot,
        "it asked, and never prepared"
    );
    assert!(
        cluster
            .sent
            .iter()
            .any(|(from, _, m)| *from == deaf && matches!(m.body, Body::Probe { .. }))
    );
}

#[test]
fn a_leader_that_hears_nobody_says_so_and_is_replaced() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let gray = cluster.elect();
    let (a, b) = cluster.others(gray);
    // Its messages still leave, nothing arrives: heartbeats alone do not keep it in office.
    cluster.cut.insert((a, gray));
    cluster.cut.insert((b, gray));
    cluster.pass(10_000);
    let leader = cluster.leader().expect("a leader");
    assert_ne!(leader, gray);
}

#[test]
fn an_isolated_node_never_raises_its_ballot() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (alone, _) = cluster.others(leader);
    let before = cluster.status(alone).promised;
    cluster.isolate(alone);
    cluster.pass(30_000);
    assert_eq!(cluster.status(alone).promised, before);
    cluster.heal();
    cluster.pass(1_000);
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn a_promise_leaves_only_when_durable() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let first = cluster.elect();
    let (a, b) = cluster.others(first);
    cluster.crash(first);
    for node in [a, b] {
        cluster.nodes.get_mut(&node).unwrap().stuck = true;
    }
    cluster.sent.clear();
    cluster.pass(5_000);
    let promises = |cluster: &Cluster| {
        let is = |body: &Body| matches!(body, Body::Promise(_) | Body::Prepare { .. });
        cluster.sent.iter().filter(|(_, _, m)| is(&m.body)).count()
    };
    assert_eq!(promises(&cluster), 0);
    for node in [a, b] {
        cluster.nodes.get_mut(&node).unwrap().stuck = false;
    }
    cluster.elect();
    assert!(promises(&cluster) >= 2);
}

/// A storage replica that lags adopts, from a log replica's promise, the suffix that only that replica holds.
#[test]
fn a_lagging_storage_replica_adopts_what_only_the_log_replica_has() {
    let mut configuration = three();
    configuration.members[2].role = Role::Log;
    let mut timing = Timing::default();
    timing.limits.append_bytes_max = 200;
    let mut cluster = Cluster::new(configuration, timing);
    let leader = cluster.elect();
    assert_ne!(leader, 3, "a log replica never leads");
    let lagging = 3 - leader;
    cluster.propose(leader, "both have this").unwrap();
    cluster.settle();
    cluster.cut.insert((leader, lagging));
    for n in 0..10 {
        cluster
            .propose(
                leader,
                &format!("only leader and log replica have this: {n}"),
            )
            .unwrap();
        cluster.settle();
    }
    assert_eq!(cluster.commands(leader).len(), 11);
    cluster.crash(leader);
    cluster.heal();
    let next = cluster.elect();
    assert_eq!(next, lagging);
    assert_eq!(cluster.commands(lagging).len(), 11);
    let fetches = cluster
        .sent
        .iter()
        .filter(|(_, _, m)| matches!(m.body, Body::Fetch { .. }));
    assert!(fetches.count() > 1, "in bounded chunks");
}

#[test]
fn adoption_truncates_only_where_the_logs_part() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let first = cluster.elect();
    let (a, b) = cluster.others(first);
    cluster.propose(first, "common").unwrap();
    cluster.settle();
    // Entries that only the isolated leader has.
    cluster.isolate(first);
    for n in 0..3 {
        cluster.propose(first, &format!("doomed {n}")).unwrap();
        cluster.settle();
    }
    let doomed = cluster.status(first).last;
    cluster.pass(4_000);
    let second = cluster.elect();
    assert!([a, b].contains(&second));
    cluster.propose(second, "kept").unwrap();
    cluster.settle();
    cluster.heal();
    cluster.pass(2_000);
    assert_ne!(cluster.status(first).last.ballot, doomed.ballot);
    for node in 1..=3 {
        assert_eq!(cluster.commands(node), ["common", "kept"]);
    }
    // The deposed leader said of its proposals that their outcome is not known.
    assert_eq!(cluster.nodes[&first].lost.len(), 1);
    assert_eq!(
        cluster.nodes[&first].lost[0],
        doomed.index - 2..=doomed.index
    );
}

#[test]
fn messages_of_another_incarnation_move_nothing() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    cluster.isolate(leader);
    cluster.propose(leader, "uncommitted").unwrap();
    cluster.settle();
    let status = cluster.status(leader);
    let (commit, last, ballot) = (status.commit, status.last.index, status.promised);
    for (node, incarnation, to_incarnation) in [(a, 999, leader * 100), (b, b * 100, 999)] {
        let now = Millis(cluster.now);
        let ack = Ack {
            ballot,
            sent: now,
            matched: last,
            received: last,
            flushed: 0,
        };
        let message = Message {
            to_incarnation,
            generation: 1,
            body: Body::Ack(ack),
        };
        let input = Input::Message {
            from: NodeId(node),
            incarnation,
            message,
        };
        cluster.step(leader, input);
        assert_eq!(cluster.status(leader).commit, commit);
    }
}

#[test]
fn a_restarted_group_keeps_its_log_and_never_reuses_a_ballot() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    for n in 0..5 {
        cluster.propose(leader, &n.to_string()).unwrap();
    }
    cluster.settle();
    let ballot = cluster.status(leader).promised;
    for node in 1..=3 {
        cluster.crash(node);
    }
    cluster.queue.clear();
    for node in 1..=3 {
        cluster.restart(node);
    }
    let leader = cluster.elect();
    assert!(cluster.status(leader).promised > ballot);
    assert_eq!(cluster.commands(leader), ["0", "1", "2", "3", "4"]);
}

#[test]
fn a_group_of_one_elects_itself() {
    let mut configuration = three();
    configuration.members.truncate(1);
    let mut cluster = Cluster::new(configuration, Timing::default());
    assert_eq!(cluster.elect(), 1);
    cluster.propose(1, "x").unwrap();
    cluster.settle();
    cluster.pass(20_000);
    assert_eq!(cluster.leader(), Some(1), "it needs nobody");
    assert_eq!(cluster.commands(1), ["x"]);
}

#[test]
fn a_promise_of_an_earlier_attempt_moves_nothing() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    cluster.pass(500);
    cluster.crash(leader);
    // Everybody probes and prepares, but no promise arrives.
    let mut promises = Vec::new();
    for _ in 0..1_000 {
        cluster.now += 10;
        for node in [a, b] {
            cluster.step(node, Input::Tick);
            cluster.sync(node);
        }
        for (from, to, message) in std::mem::take(&mut cluster.queue) {
            match message.body {
                Body::Promise(_) => promises.push((from, to, message)),
                _ => cluster.deliver(from, to, message),
            }
        }
    }
    assert!(promises.len() > 2, "several attempts");
    let candidate = promises.last().map(|(_, to, _)| *to).unwrap();
    let ballot = cluster.status(candidate).promised;
    for (from, to, message) in promises {
        let Body::Promise(promise) = &message.body else {
            continue;
        };
        if to == candidate && promise.ballot < ballot {
            cluster.deliver(from, to, message);
            assert_ne!(cluster.leader(), Some(candidate));
            let standing = cluster.status(candidate).standing;
            assert!(!matches!(standing, Standing::Leader { .. }));
        }
    }
}
