//! Append, acknowledgement, commitment.

use bytes::Bytes;
use paxos::*;

use crate::cluster::{Cluster, three};

/// Appends with entries that went from one node to another.
fn appends(cluster: &Cluster, from: u64, to: u64) -> Vec<&Append> {
    let on_link = cluster
        .sent
        .iter()
        .filter(|(f, t, _)| (*f, *t) == (from, to));
    let with_entries = on_link.filter_map(|(_, _, message)| match &message.body {
        Body::Append(append) if !append.entries.is_empty() => Some(append),
        _ => None,
    });
    with_entries.collect()
}

#[test]
fn a_batch_goes_in_one_append_to_each_follower() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(100);
    cluster.sent.clear();
    let commands = (0..100).map(|n| Bytes::from(n.to_string())).collect();
    let first = cluster
        .step(leader, Input::Propose(commands))
        .unwrap()
        .unwrap();
    let (a, b) = cluster.others(leader);
    for follower in [a, b] {
        let appends = appends(&cluster, leader, follower);
        assert_eq!(appends.len(), 1);
        assert_eq!(appends[0].entries.len(), 100);
        assert_eq!(appends[0].entries[0].index, first);
    }
    cluster.settle();
    assert_eq!(cluster.commands(leader).len(), 100);
}

#[test]
fn appends_are_bounded_and_a_large_entry_goes_alone() {
    let mut timing = Timing::default();
    timing.limits.append_bytes_max = 1_000;
    let mut cluster = Cluster::new(three(), timing);
    let leader = cluster.elect();
    cluster.pass(100);
    cluster.sent.clear();
    let sizes = [400, 400, 400, 5_000, 400];
    let commands = sizes
        .iter()
        .map(|size| Bytes::from(vec![0; *size]))
        .collect();
    cluster
        .step(leader, Input::Propose(commands))
        .unwrap()
        .unwrap();
    let (a, _) = cluster.others(leader);
    let batches: Vec<usize> = appends(&cluster, leader, a)
        .iter()
        .map(|a| a.entries.len())
        .collect();
    assert_eq!(batches, [2, 1, 1, 1]);
}

#[test]
fn nothing_is_committed_before_it_is_durable_on_a_quorum() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    for node in [a, b] {
        cluster.nodes.get_mut(&node).unwrap().stuck = true;
    }
    cluster.propose(leader, "x").unwrap();
    cluster.settle();
    assert!(
        cluster.commands(leader).is_empty(),
        "only the leader's copy is durable"
    );
    cluster.pass(2_000);
    assert_eq!(
        cluster.leader(),
        Some(leader),
        "slow disks do not cost the lease"
    );
    cluster.nodes.get_mut(&a).unwrap().stuck = false;
    cluster.settle();
    assert_eq!(cluster.commands(leader), ["x"]);
}

#[test]
fn the_leader_applies_only_what_is_durable_at_itself() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.nodes.get_mut(&leader).unwrap().stuck = true;
    let index = cluster.propose(leader, "x").unwrap();
    cluster.settle();
    assert_eq!(
        cluster.status(leader).commit,
        index,
        "two followers are a quorum"
    );
    assert!(cluster.commands(leader).is_empty());
    cluster.nodes.get_mut(&leader).unwrap().stuck = false;
    cluster.settle();
    assert_eq!(cluster.commands(leader), ["x"]);
}

#[test]
fn lost_appends_are_sent_again() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    cluster.pass(100);
    cluster.cut.insert((leader, a));
    cluster.cut.insert((leader, b));
    for n in 0..10 {
        cluster.propose(leader, &n.to_string()).unwrap();
    }
    cluster.settle();
    cluster.heal();
    cluster.pass(1_000);
    assert_eq!(cluster.commands(leader).len(), 10);
    assert_eq!(cluster.commands(a), cluster.commands(leader));
}

#[test]
fn reordered_and_repeated_appends_do_no_harm() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, b) = cluster.others(leader);
    cluster.pass(100);
    for n in 0..5 {
        cluster.propose(leader, &n.to_string()).unwrap();
    }
    let mut queue: Vec<_> = cluster.queue.drain(..).collect();
    queue.reverse();
    let twice: Vec<_> = queue.iter().chain(&queue).cloned().collect();
    cluster.queue.extend(twice);
    cluster.settle();
    cluster.pass(1_500);
    for node in [leader, a, b] {
        assert_eq!(cluster.commands(node), ["0", "1", "2", "3", "4"]);
        assert_eq!(cluster.status(node).faults, 0);
    }
}

#[test]
fn too_many_proposals_are_refused() {
    let mut timing = Timing::default();
    timing.limits.pending_proposals_max = 10;
    timing.limits.pending_bytes_max = 1_000;
    let mut cluster = Cluster::new(three(), timing);
    let leader = cluster.elect();
    cluster.pass(100);
    for _ in 0..10 {
        cluster.propose(leader, "x").unwrap();
    }
    assert_eq!(cluster.propose(leader, "x"), Err(Refusal::Overloaded));
    cluster.settle();
    cluster.propose(leader, &"y".repeat(2_000)).unwrap();
    assert_eq!(
        cluster.propose(leader, "x"),
        Err(Refusal::Overloaded),
        "by bytes"
    );
    cluster.settle();
    cluster.propose(leader, "x").unwrap();
}

#[test]
fn an_old_ballots_entry_is_not_committed_by_counting() {
    // An entry of an old ballot that is on a quorum may still be overwritten (figure 8 of the Raft paper): it is committed
    // only together with an entry of the new ballot. Entries go one by one here, so that there is a moment in between.
    let mut timing = Timing::default();
    timing.limits.append_bytes_max = 1;
    timing.limits.window_messages_max = 1;
    let mut cluster = Cluster::new(three(), timing);
    let first = cluster.elect();
    let (a, b) = cluster.others(first);
    cluster.pass(100);
    cluster.isolate(first);
    let index = cluster.propose(first, "old").unwrap();
    cluster.settle();
    cluster.crash(b);
    cluster.heal();
    cluster.crash(first);
    cluster.restart(first);
    let mut moments = 0;
    for _ in 0..2_000 {
        cluster.now += 5;
        for node in [first, a] {
            cluster.step(node, Input::Tick);
        }
        loop {
            cluster.sync(first);
            cluster.sync(a);
            let (of_first, of_a) = (cluster.status(first), cluster.status(a));
            let on_both = of_first.durable >= index && of_a.durable >= index;
            let has_own = of_first.durable > index && of_a.durable > index;
            if on_both && !has_own {
                assert!(of_first.commit < index && of_a.commit < index);
                moments += 1;
            }
            let Some((from, to, message)) = cluster.queue.pop_front() else {
                break;
            };
            cluster.deliver(from, to, message);
        }
    }
    assert!(
        moments > 0,
        "the old entry was on both nodes, the new one was not"
    );
    assert_eq!(cluster.commands(first), ["old"]);
    assert_eq!(cluster.commands(a), ["old"]);
}

#[test]
fn an_append_below_the_promise_is_refused() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let first = cluster.elect();
    let (a, _) = cluster.others(first);
    let old = cluster.status(first).promised;
    cluster.isolate(first);
    cluster.pass(4_000);
    assert!(cluster.status(a).promised > old);
    let last = cluster.status(a).last;
    let entry = Entry {
        index: last.index + 1,
        ballot: old,
        payload: Payload::Noop,
    };
    let append = Append {
        ballot: old,
        sent: Millis(1),
        prev: last,
        entries: vec![entry],
        commit: 0,
        floor: 0,
        healthy: true,
    };
    let body = Body::Append(append);
    cluster.sent.clear();
    cluster.deliver(
        first,
        a,
        Message {
            to_incarnation: a * 100,
            generation: 1,
            body,
        },
    );
    assert_eq!(cluster.status(a).last, last);
    assert!(matches!(cluster.sent[0].2.body, Body::Refuse { promised } if promised > old));
}

#[test]
fn a_nonsensical_append_changes_nothing() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    let (a, _) = cluster.others(leader);
    cluster.pass(1_000);
    let ballot = cluster.status(leader).promised;
    let last = cluster.status(a).last;
    let entry = |index, ballot| Entry {
        index,
        ballot,
        payload: Payload::Noop,
    };
    let higher = Ballot {
        round: ballot.round + 1,
        node: ballot.node,
    };
    let cases = [
        (last, vec![entry(last.index + 2, ballot)], "a gap"),
        (
            last,
            vec![entry(last.index + 1, higher)],
            "an entry above its message's ballot",
        ),
        (
            Position::default(),
            vec![entry(1, Ballot::default())],
            "a committed entry replaced",
        ),
    ];
    for (prev, entries, what) in cases {
        let faults = cluster.status(a).faults;
        let sent = Millis(cluster.now);
        let append = Append {
            ballot,
            sent,
            prev,
            entries,
            commit: 0,
            floor: 0,
            healthy: true,
        };
        let message = Message {
            to_incarnation: a * 100,
            generation: 1,
            body: Body::Append(append),
        };
        cluster.deliver(leader, a, message);
        assert_eq!(cluster.status(a).last, last, "{what}");
        assert_eq!(cluster.status(a).faults, faults + 1, "{what}");
    }
}

#[test]
fn a_leader_whose_own_disk_hangs_steps_down() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(500);
    cluster.nodes.get_mut(&leader).unwrap().stuck = true;
    let index = cluster.propose(leader, "x").unwrap();
    cluster.pass(14_000);
    let next = cluster.leader().expect("somebody else leads");
    assert_ne!(next, leader);
    assert_eq!(cluster.commands(next), ["x"]);
    assert_eq!(cluster.nodes[&leader].lost, [index..=index]);
}

#[test]
fn an_idle_tick_does_nothing() {
    let mut cluster = Cluster::new(three(), Timing::default());
    let leader = cluster.elect();
    cluster.pass(1_000);
    let before = cluster.sent.len();
    let wake = cluster.replica(leader).wake_at();
    assert!(wake > Millis(cluster.now));
    cluster.step(leader, Input::Tick);
    assert_eq!(cluster.sent.len(), before);
}
