//! The planner's decisions, one by one, on a toy group.

mod world;

use healing::{Action, ReplacementRefusal, Settings};
use paxos::{NodeId, Role};
use world::*;

const S: Role = Role::Storage;
const L: Role = Role::Log;

/// Two nodes in each of three zones: 1 and 4, 2 and 5, 3 and 6.
fn six() -> World {
    World::new(&["az1", "az2", "az3", "az1", "az2", "az3"])
}

#[test]
fn a_healthy_group_is_left_alone() {
    let mut world = six();
    world.run(60_000);
    assert_eq!(world.actions, []);
}

#[test]
fn a_silent_member_gets_a_log_replica_in_its_zone_and_its_vote_back() {
    let mut world = six();
    world.run(1_000);
    world.stop(3);
    world.run(1_800);
    assert_eq!(world.actions, [], "too early");
    world.run(1_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (6, L)]);
    assert_eq!(world.learners(), [3]);
    world.start(3);
    world.run(5_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (3, S)]);
    assert!(world.learners().is_empty());
    assert!(
        world.replicas.keys().all(|(node, _)| node.0 != 6),
        "the log replica went"
    );
    let changes = world.actions.len();
    world.run(30_000);
    assert_eq!(world.actions.len(), changes, "and then there is peace");
}

#[test]
fn the_silence_before_an_election_counts_through_the_heartbeats() {
    let mut world = six();
    world.run(1_000);
    world.stop(1);
    world.run(4_000);
    assert_eq!(world.elections, 2);
    assert_eq!(world.voters(), [(2, S), (3, S), (4, L)]);
}

#[test]
fn a_zone_without_other_nodes_borrows_one_from_another() {
    let mut world = World::new(&["az1", "az2", "az3", "az1"]);
    world.stop(3);
    world.run(4_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (4, L)]);
}

#[test]
fn three_nodes_go_on_with_two() {
    let mut world = World::new(&["az1", "az2", "az3"]);
    world.stop(3);
    world.run(30_000);
    assert_eq!(world.actions, []);
    world.start(3);
    world.run(5_000);
    assert_eq!(world.actions, []);
}

#[test]
fn nodes_that_are_full_draining_or_silent_get_nothing() {
    for spoil in 0..3 {
        let mut world = World::new(&["az1", "az2", "az3", "az3"]);
        let node = world.machines.get_mut(&NodeId(4)).expect("a node");
        match spoil {
            0 => node.free_bytes = 1 << 20,
            1 => node.draining = true,
            _ => node.up = false,
        }
        world.run(5_000);
        world.stop(3);
        world.run(10_000);
        assert_eq!(world.actions, [], "{spoil}");
    }
}

#[test]
fn a_silent_log_replica_is_replaced_too() {
    let mut world = six();
    world.stop(3);
    world.run(5_000);
    world.stop(6);
    world.run(5_000);
    let voters = world.voters();
    assert_eq!(voters.iter().filter(|(_, role)| *role == S).count(), 2);
    assert!(
        voters.iter().any(|v| *v == (4, L) || *v == (5, L)),
        "{voters:?}"
    );
    assert_eq!(world.learners(), [3], "a log replica leaves no learner");
}

#[test]
fn two_nodes_lost_in_turn_leave_three_copies_of_the_log() {
    let mut world = six();
    world.stop(3);
    world.run(5_000);
    world.stop(2);
    world.run(6_000);
    assert_eq!(world.voters(), [(1, S), (5, L), (6, L)]);
    world.start(2);
    world.start(3);
    world.run(10_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (3, S)]);
    assert!(world.learners().is_empty());
}

#[test]
fn a_node_that_does_not_answer_is_left_aside() {
    let mut world = six();
    world.lose_joins.insert(NodeId(6));
    world.stop(3);
    world.run(4_000);
    let voters = world.voters();
    assert!(voters.contains(&(4, L)) || voters.contains(&(5, L)));
}

#[test]
fn groups_spread_their_log_replicas() {
    let mut counts = [0; 3];
    for group in 0..100 {
        let mut world = World::new(&["az1", "az2", "az3", "az3", "az3", "az3"]);
        let settings = Settings::default();
        let planner = healing::Planner::new(paxos::GroupId(group), settings, world.now);
        world.planner = Some(planner);
        world.stop(3);
        world.run(4_000);
        let log = world.voters().into_iter().find(|(_, role)| *role == L);
        counts[log.expect("a log replica").0 as usize - 4] += 1;
    }
    assert!(counts.iter().all(|count| *count > 15), "{counts:?}");
}

#[test]
fn a_replacement_fills_the_new_one_first() {
    let mut world = six();
    world.run(1_000);
    assert_eq!(world.replace(3, 6), Ok(()));
    assert_eq!(world.replace(3, 6), Ok(()), "the same order again");
    assert_eq!(
        world.replace(2, 5),
        Err(ReplacementRefusal::Refused(
            "another replacement is under way"
        ))
    );
    world.run(2_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (3, S)]);
    assert_eq!(world.learners(), [6]);
    world.run(10_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (6, S)]);
    assert!(world.learners().is_empty());
    assert_eq!(world.replace(3, 6), Ok(()), "done already");
    assert!(
        world
            .planner
            .as_ref()
            .expect("a leader")
            .replacement()
            .is_none()
    );
    world.run(10_000);
    assert_eq!(world.elections, 1);
}

#[test]
fn a_lost_member_is_replaced_for_good() {
    let mut world = six();
    world.stop(3);
    world.run(5_000);
    // The only other node of its zone holds the log replica.
    assert_eq!(world.voters(), [(1, S), (2, S), (6, L)]);
    assert!(world.replace(3, 6).is_err(), "it votes already");
    assert_eq!(world.replace(3, 4), Ok(()));
    world.run(2_000);
    assert_eq!(
        world.learners(),
        [4],
        "the lost one does not hold the log back"
    );
    world.run(10_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (4, S)]);
}

#[test]
fn who_comes_back_before_its_successor_stays() {
    let mut world = six();
    world.lose_joins.insert(NodeId(4));
    world.stop(3);
    world.run(5_000);
    assert_eq!(world.replace(3, 4), Ok(()));
    world.start(3);
    world.run(10_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (3, S)]);
    world.lose_joins.clear();
    world.run(60_000);
    assert_eq!(world.voters(), [(1, S), (2, S), (3, S)]);
    assert!(world.learners().is_empty());
}

#[test]
fn a_fenced_replica_is_rebuilt_on_its_node() {
    for others in [0, 3] {
        let zones = ["az1", "az2", "az3", "az1", "az2", "az3"];
        let mut world = World::new(&zones[..3 + others]);
        world.lose_disk(3);
        world.run(5_000);
        assert_eq!(world.replace(3, 3), Ok(()));
        world.run(20_000);
        assert_eq!(world.voters(), [(1, S), (2, S), (3, S)]);
        assert!(world.learners().is_empty());
        let node = world.configuration.member(NodeId(3)).expect("a member");
        assert_ne!(node.incarnation, 3, "another replica");
    }
}

#[test]
fn a_leader_that_is_replaced_hands_over() {
    let mut world = six();
    world.run(1_000);
    assert_eq!(world.replace(1, 4), Ok(()));
    world.run(20_000);
    assert_eq!(world.voters(), [(2, S), (3, S), (4, S)]);
    assert_eq!(world.elections, 2);
}

#[test]
fn stale_and_senseless_replacements_are_refused() {
    let mut world = six();
    let generation = world.configuration.generation;
    let stale = world.with_view(|planner, now, view| {
        planner.replace(now, view, generation - 1, NodeId(3), NodeId(6))
    });
    assert_eq!(stale, Err(ReplacementRefusal::Stale(generation)));
    assert!(world.replace(9, 6).is_err(), "not in the group");
    assert!(world.replace(3, 2).is_err(), "votes already");
    assert!(world.replace(3, 9).is_err(), "nobody knows that node");
}

#[test]
fn a_replacement_that_cannot_be_made_is_given_up() {
    let mut world = six();
    world.lose_joins.insert(NodeId(6));
    assert_eq!(world.replace(3, 6), Ok(()));
    world.run(600_000);
    let planner = world.planner.as_ref().expect("a leader");
    assert!(planner.replacement().is_none());
    let joins = world
        .actions
        .iter()
        .filter(|a| matches!(a, Action::Join { .. }));
    assert_eq!(
        joins.count(),
        Settings::default().replacement_tries_max as usize
    );
}

#[test]
fn a_learner_that_nobody_wants_goes_after_a_while() {
    let mut world = six();
    assert_eq!(world.replace(3, 6), Ok(()));
    world.run(1_000);
    assert_eq!(world.learners(), [6]);
    // The order is forgotten with its leader.
    world.stop(1);
    world.run(3_000);
    world.start(1);
    world.run(500_000);
    let leader = world.leader;
    assert_eq!(
        world.learners(),
        [6],
        "the admin may order again, {leader:?}"
    );
    world.run(300_000);
    assert!(world.learners().is_empty());
}

#[test]
fn a_flapping_member_waits_longer_for_its_vote_each_time() {
    let mut world = six();
    let mut waits = Vec::new();
    for _ in 0..4 {
        world.stop(3);
        world.run(5_000);
        assert!(!world.voters().contains(&(3, S)));
        world.start(3);
        let started = world.now;
        while !world.voters().contains(&(3, S)) {
            world.step();
            assert!(world.now.since(started) < 60_000, "never: {waits:?}");
        }
        waits.push(world.now.since(started));
    }
    assert!(
        waits.windows(2).skip(1).all(|w| w[0] < w[1]),
        "longer each time: {waits:?}"
    );
}

#[test]
fn a_leader_that_stood_still_blames_nobody() {
    let mut world = six();
    world.run(1_000);
    world.now = world.now.plus(8_000);
    let action = world.plan();
    assert_eq!(action, None, "its own pause, not theirs");
}
