//! How long a lost node costs: from the halt of one of six nodes of this process to a log replica in each of its groups, with
//! the times as they are set by default; and what the planner costs at leaders of healthy groups.
//!
//!     cargo run --release -p evenkeel-storage --example healing -- [GROUPS]

#[path = "../tests/cluster/mod.rs"]
mod cluster;

use std::time::Instant;

use cluster::*;
use healing::{Nodes, Planner, Settings, View};
use paxos::{Configuration, FollowerStatus, GroupId, Member, Millis, NodeId, Role, Timing};

fn main() {
    let groups = std::env::args().nth(1).and_then(|text| text.parse().ok());
    planner_cost(1_000);
    actix::System::new().block_on(lost_node(groups.unwrap_or(100)));
}

async fn lost_node(count: u64) {
    let mut cluster = Cluster::start_nodes(6, |settings| {
        settings.timing = Timing::default();
        settings.healing = Settings::default();
        settings.limits = storage::Limits::default();
    })
    .await;
    let groups: Vec<GroupId> = (100..100 + count).map(GroupId).collect();
    for group in &groups {
        cluster.create(*group).await;
    }
    for group in &groups {
        cluster
            .until("all groups have leaders", || async {
                cluster
                    .partition(*group)
                    .is_some_and(|info| info.leader.is_some())
            })
            .await;
    }
    let led = |node: u64| {
        let partitions = cluster.seen.partitions.lock();
        let leads = |leader: Option<NodeId>| leader == Some(NodeId(node));
        partitions
            .values()
            .filter(|info| leads(info.leader))
            .count()
    };
    println!("{count} groups, of which the lost node leads {}", led(2));
    cluster.halt_node(2).await;
    let started = Instant::now();
    let mut times = Vec::new();
    let mut waiting = groups;
    while !waiting.is_empty() {
        waiting.retain(|group| {
            let info = cluster.partition(*group);
            let healed = info.is_some_and(|info| {
                let mut members = info.members.iter().map(|m| m.member);
                !info.changing && members.any(|m| m.role == Role::Log)
            });
            if healed {
                times.push(started.elapsed().as_millis());
            }
            !healed
        });
        assert!(started.elapsed() < PATIENCE, "{} without", waiting.len());
        pause().await;
    }
    println!(
        "log replicas, milliseconds after the halt: first {}, median {}, last {}",
        times[0],
        times[times.len() / 2],
        times[times.len() - 1]
    );
    cluster.halt().await;
}

fn planner_cost(groups: u64) {
    let member = |node| Member {
        node: NodeId(node),
        role: Role::Storage,
        incarnation: node,
    };
    let configuration = Configuration::founding((1..=3).map(member).collect());
    let nodes = Nodes::default();
    let mut planners: Vec<Planner> = (0..groups)
        .map(|group| Planner::new(GroupId(group), Settings::default(), Millis(1)))
        .collect();
    let rounds = 200;
    let started = Instant::now();
    for round in 0..rounds {
        let now = Millis(1 + round * 200);
        for planner in &mut planners {
            let follower = |node| FollowerStatus {
                member: member(node),
                learner: false,
                matched: 1,
                flushed: 1,
                heard: Some(now),
                in_step: true,
                copying: false,
            };
            let followers: Vec<_> = (2..=3).map(follower).collect();
            let view = View {
                me: NodeId(1),
                incarnation: 1,
                configuration: &configuration,
                settled: true,
                followers: &followers,
                nodes: &nodes,
                placed: &[],
            };
            assert_eq!(planner.step(now, &view), None);
        }
    }
    let us = started.elapsed().as_micros() as f64 / rounds as f64;
    println!("planner: {us:.0} us for one look at each of {groups} healthy groups");
}
