//! Healing as the product does it: the real planner of `shared/healing` at every leader, fed with heartbeats that may be late
//! or lost, and a stand-in for the admin that orders a storage replica in the place of one that is gone for good.

use healing::{Action, Node, Planner, Settings, View};
use paxos::{Configuration, GroupId, Input, Member, Millis, NodeId, Role};

use crate::event::Event;
use crate::orders::Order;
use crate::world::{Violation, World};

/// A node says that it lives so often.
const BEAT_US: u64 = 1_000_000;
/// A leader looks at its groups so often.
const PLAN_US: u64 = 300_000;
/// Storage members of a group.
const COPIES: usize = 3;

/// The planner's settings, in quick motion where the product waits for minutes.
fn settings() -> Settings {
    Settings {
        retry_ms: 1_000,
        retry_ms_max: 4_000,
        join_storage_ms: 3_000,
        steady_doublings_max: 3,
        replacement_hold_ms: 5_000,
        learner_idle_ms: 10_000,
        ..Settings::default()
    }
}

impl World {
    /// The clocks of healing begin to run.
    pub(crate) fn begin_healing(&mut self) {
        for node in self.scenario.nodes.clone() {
            let (beat, plan) = (self.rng.below(BEAT_US), self.rng.below(PLAN_US));
            self.after(beat, Event::Beat { node });
            self.after(plan, Event::Plan { node });
        }
    }

    /// A node says that it lives.
    pub(crate) fn beat(&mut self, node: NodeId) {
        self.after(BEAT_US, Event::Beat { node });
        if !self.hosts.get(&node).is_some_and(|host| host.up) {
            return;
        }
        for to in self.scenario.nodes.clone() {
            let (once, _) = self.network.fate(&mut self.rng, node, to);
            if let Some(delay) = once {
                self.after(
                    delay,
                    Event::Beaten {
                        node: to,
                        from: node,
                    },
                );
            }
        }
    }

    /// A node hears that another one lives.
    pub(crate) fn beaten(&mut self, node: NodeId, from: NodeId) {
        let zone = self.scenario.zone(from).to_string();
        let replicas = self
            .hosts
            .get(&from)
            .map_or(0, |host| host.disk.groups.len() as u64);
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return;
        };
        let beat = Node {
            zone,
            incarnation: from.0,
            ready: true,
            draining: false,
            free_bytes: u64::MAX,
            replicas,
            heard: host.clock.at(self.now),
        };
        host.nodes.insert(from, beat);
    }

    /// A node's leaders look at their groups.
    pub(crate) fn plan(&mut self, node: NodeId) -> Result<(), Violation> {
        self.after(PLAN_US, Event::Plan { node });
        for (group, _) in self.scenario.groups.clone() {
            if let Some((current, action)) = self.planned(node, group) {
                self.carry_out_plan(node, group, current, action)?;
            }
        }
        Ok(())
    }

    fn planned(&mut self, node: NodeId, group: GroupId) -> Option<(Configuration, Action)> {
        let host = self.hosts.get_mut(&node).filter(|host| host.up)?;
        let now = host.clock.at(self.now);
        let hosted = host.groups.get_mut(&group)?;
        let ballot = hosted.replica.status().promised;
        if !hosted.replica.can_serve_reads(now) || !hosted.partition.serves(ballot) {
            hosted.planner = None;
            return None;
        }
        let planner = hosted
            .planner
            .get_or_insert_with(|| Planner::new(group, settings(), now));
        let view = View {
            me: node,
            incarnation: hosted.replica.identity().incarnation,
            configuration: hosted.replica.configuration(),
            settled: hosted.replica.configuration_settled(),
            followers: &hosted.replica.followers(),
            nodes: &host.nodes,
            placed: &[],
        };
        let action = planner.step(now, &view)?;
        Some((view.configuration.clone(), action))
    }

    fn carry_out_plan(
        &mut self,
        node: NodeId,
        group: GroupId,
        configuration: Configuration,
        action: Action,
    ) -> Result<(), Violation> {
        self.trace.note(
            self.now,
            format_args!("n{} g{} plans {action:?}", node.0, group.0),
        );
        match action {
            Action::Join {
                node: target, role, ..
            } => {
                self.coverage.hit(match role {
                    Role::Log => "planner orders a log replica",
                    Role::Storage => "planner orders a storage replica",
                });
                let order = Order::Join {
                    group,
                    member: self.newcomer(target, role),
                    configuration,
                    instead: None,
                    by: Some(node),
                };
                self.order(target, &order);
                Ok(())
            }
            Action::Reconfigure {
                generation,
                members,
                learners,
            } => {
                self.coverage.hit("planner changes the members");
                let input = Input::Reconfigure {
                    generation,
                    members,
                    learners,
                };
                self.step(node, group, input)
            }
        }
    }

    /// The core refused what the planner wanted.
    pub(crate) fn plan_refused(
        &mut self,
        node: NodeId,
        group: GroupId,
        refusal: &paxos::ReconfigureRefusal,
    ) {
        let now = self
            .hosts
            .get(&node)
            .map_or(Millis(0), |h| h.clock.at(self.now));
        if let Some(planner) = self.hosted(node, group).and_then(|h| h.planner.as_mut()) {
            planner.refused(now, refusal);
        }
    }

    /// The admin's look at one group: who is gone for good, and where there is room. What it orders is volatile, and repeated.
    pub(crate) fn administer(&mut self, group: GroupId) {
        let Some(known) = self.registry.get(group) else {
            return;
        };
        let current = known.committed.clone();
        self.dismiss(group, &current);
        // What does not come about is thought over now and then.
        let again = self.rng.chance(50_000);
        let there = |m: &&Member| m.role == Role::Storage && self.exists(group, m);
        let everybody = || current.members.iter().chain(&current.learners);
        let copies = everybody().filter(there).count();
        let stands = |replaced: NodeId, target: NodeId| {
            let mut learners = current.learners.iter();
            let is_gone = everybody().any(|m| m.node == replaced && !there(&m));
            is_gone || learners.any(|m| m.node == target)
        };
        let intent = self.intents.get(&group).copied().filter(|_| !again);
        let intent = intent.filter(|(replaced, target)| {
            let up = self.hosts.get(target).is_some_and(|host| host.up);
            // The leader may have put its log replica there in the meantime.
            let taken = target != replaced && current.voters().any(|m| m.node == *target);
            up && !taken && stands(*replaced, *target)
        });
        let intent = match intent {
            Some(intent) => Some(intent),
            None if copies < COPIES => self.choose(group, &current),
            None => None,
        };
        let Some((replaced, target)) = intent else {
            self.intents.remove(&group);
            return;
        };
        self.intents.insert(group, (replaced, target));
        let stale = u64::from(self.faulty && self.rng.chance(100_000));
        let generation = current.generation.saturating_sub(stale);
        if let Some(leader) = self.leader(group) {
            self.replace(leader, group, generation, (replaced, target));
        }
    }

    /// Whom to replace, and on which node.
    fn choose(&mut self, group: GroupId, current: &Configuration) -> Option<(NodeId, NodeId)> {
        let gone = |m: &&Member| !self.exists(group, m);
        let learner = current.learners.iter().find(gone);
        let member = current.members.iter().find(gone);
        let log = current.members.iter().find(|m| m.role == Role::Log);
        let replaced = learner.or(member).or(log)?.node;
        let up = |node: &NodeId| self.hosts.get(node).is_some_and(|host| host.up);
        let free = |node: &NodeId| {
            let named = current.all().any(|m| m.node == *node && m.node != replaced);
            up(node) && !named
        };
        let nodes: Vec<NodeId> = self.scenario.nodes.iter().copied().filter(free).collect();
        // The same zone first; the node itself, where its disk is new.
        let zone = self.scenario.zone(replaced);
        let near: Vec<NodeId> = nodes
            .iter()
            .copied()
            .filter(|node| self.scenario.zone(*node) == zone)
            .collect();
        let target = self
            .rng
            .pick(&near)
            .copied()
            .or(self.rng.pick(&nodes).copied())?;
        Some((replaced, target))
    }

    fn replace(
        &mut self,
        leader: NodeId,
        group: GroupId,
        generation: u64,
        (replaced, target): (NodeId, NodeId),
    ) {
        let Some(host) = self.hosts.get_mut(&leader).filter(|host| host.up) else {
            return;
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return;
        };
        let Some(planner) = hosted.planner.as_mut() else {
            return;
        };
        let view = View {
            me: leader,
            incarnation: hosted.replica.identity().incarnation,
            configuration: hosted.replica.configuration(),
            settled: hosted.replica.configuration_settled(),
            followers: &hosted.replica.followers(),
            nodes: &host.nodes,
            placed: &[],
        };
        let answer = planner.replace(now, &view, generation, replaced, target);
        self.coverage.hit(match answer {
            Ok(()) => "replacement ordered",
            Err(_) => "replacement refused",
        });
        self.trace.note(
            self.now,
            format_args!(
                "admin: g{} n{} in the place of n{}: {answer:?}",
                group.0, target.0, replaced.0
            ),
        );
    }
}
