//! Whatever happens to the nodes and whatever is ordered: never two changes at once, never a configuration without a quorum that
//! lives (the world asserts both), and in the end three storage members.

mod world;

use paxos::{NodeId, Role};
use proptest::prelude::*;
use world::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Stop(u64),
    Start(u64),
    Run(u64),
    LoseJoins(u64),
    Replace(u64, u64),
    Drain(u64, bool),
}

fn event(nodes: u64) -> impl Strategy<Value = Event> {
    let node = 1..=nodes;
    prop_oneof![
        3 => node.clone().prop_map(Event::Stop),
        3 => node.clone().prop_map(Event::Start),
        8 => (1u64..40).prop_map(|steps| Event::Run(steps * STEP_MS)),
        1 => node.clone().prop_map(Event::LoseJoins),
        2 => (node.clone(), node.clone()).prop_map(|(a, b)| Event::Replace(a, b)),
        1 => (node, any::<bool>()).prop_map(|(n, on)| Event::Drain(n, on)),
    ]
}

fn happen(world: &mut World, event: Event) {
    match event {
        Event::Stop(node) => world.stop(node),
        Event::Start(node) => world.start(node),
        Event::Run(ms) => world.run(ms),
        Event::LoseJoins(node) => drop(world.lose_joins.insert(NodeId(node))),
        Event::Replace(replaced, target) if world.leader.is_some() => {
            // It may well be refused.
            let _ = world.replace(replaced, target);
        }
        Event::Replace(..) => {}
        Event::Drain(node, on) => {
            world
                .machines
                .get_mut(&NodeId(node))
                .expect("a node")
                .draining = on;
        }
    }
}

/// An earlier replacement may have used the learner that a log replica stood in for: the admin builds another one.
fn admin(world: &mut World) {
    let log = world
        .voters()
        .into_iter()
        .find(|(_, role)| *role == Role::Log);
    let Some((log, _)) = log.filter(|_| world.learners().is_empty()) else {
        return;
    };
    let nodes: Vec<NodeId> = world.machines.keys().copied().collect();
    let free = nodes
        .into_iter()
        .find(|n| world.configuration.member(*n).is_none());
    assert_eq!(world.replace(log, free.expect("a free node").0), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn ends_in_three_storage_members(
        nodes in 3u64..8,
        events in prop::collection::vec(event(8), 0..60),
    ) {
        let zones: Vec<String> = (0..nodes).map(|n| format!("az{}", n % 3)).collect();
        let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
        let mut world = World::new(&zones);
        for event in events {
            let event = match event {
                Event::Stop(n) => Event::Stop(1 + n % nodes),
                Event::Start(n) => Event::Start(1 + n % nodes),
                Event::LoseJoins(n) => Event::LoseJoins(1 + n % nodes),
                Event::Replace(a, b) => Event::Replace(1 + a % nodes, 1 + b % nodes),
                Event::Drain(n, on) => Event::Drain(1 + n % nodes, on),
                run => run,
            };
            happen(&mut world, event);
        }
        world.lose_joins.clear();
        for node in 1..=nodes {
            world.start(node);
            happen(&mut world, Event::Drain(node, false));
        }
        for _ in 0..20 {
            world.run(100_000);
            admin(&mut world);
        }
        prop_assert!(world.leader.is_some());
        let voters = world.voters();
        prop_assert!(voters.iter().all(|(_, role)| *role == Role::Storage), "{voters:?}");
        prop_assert!(world.learners().is_empty(), "{:?}", world.learners());
        prop_assert!(world.settled());
        let changes = world.actions.len();
        world.run(100_000);
        prop_assert_eq!(world.actions.len(), changes, "and then there is peace");
    }

    #[test]
    fn one_lost_node_costs_a_vote_for_seconds_only(
        nodes in 4u64..8,
        lost in 1u64..4,
        before in 0u64..20,
    ) {
        let zones: Vec<String> = (0..nodes).map(|n| format!("az{}", n % 3)).collect();
        let zones: Vec<&str> = zones.iter().map(String::as_str).collect();
        let mut world = World::new(&zones);
        world.run(before * STEP_MS);
        world.stop(lost);
        world.run(5_000);
        let members = world.configuration.members.clone();
        prop_assert!(members.iter().all(|m| world.lives(m)), "{members:?}");
    }
}
