//! A toy of one group and its nodes: what the replication core would do with the planner's actions, without a log.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};

use healing::{Action, Node, Nodes, Planner, ReplacementRefusal, Settings, View};
use paxos::{Configuration, FollowerStatus, GroupId, Member, Millis, NodeId, Role};

/// Between two looks of the planner, milliseconds.
pub const STEP_MS: u64 = 200;
/// Steps that a new replica takes to be filled.
pub const FILL_STEPS: u32 = 20;

/// A replica on a node.
#[derive(Clone, Debug)]
pub struct Replica {
    pub role: Role,
    /// Steps of catching up that are left.
    pub behind: u32,
    pub heard: Option<Millis>,
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub zone: String,
    pub up: bool,
    pub down_since: Millis,
    pub draining: bool,
    pub free_bytes: u64,
    pub beat: Millis,
}

/// The world.
pub struct World {
    pub now: Millis,
    pub machines: BTreeMap<NodeId, Machine>,
    pub replicas: BTreeMap<(NodeId, u64), Replica>,
    pub configuration: Configuration,
    pub leader: Option<(NodeId, u64)>,
    pub planner: Option<Planner>,
    pub incarnations: u64,
    pub elections: u32,
    /// Joins that get lost from now on.
    pub lose_joins: BTreeSet<NodeId>,
    pub actions: Vec<Action>,
    leaderless_since: Millis,
}

impl World {
    /// `zones[i]` is the zone of node `i + 1`; the first three nodes are the members, node 1 leads.
    pub fn new(zones: &[&str]) -> Self {
        let now = Millis(10_000);
        let machines = (1..).zip(zones).map(|(id, zone)| {
            let machine = Machine {
                zone: (*zone).to_owned(),
                up: true,
                down_since: now,
                draining: false,
                free_bytes: 1 << 40,
                beat: now,
            };
            (NodeId(id), machine)
        });
        let members: Vec<Member> = (1..=3).map(|id| storage(id, id)).collect();
        let replica = Replica {
            role: Role::Storage,
            behind: 0,
            heard: None,
        };
        let mut world = Self {
            now,
            machines: machines.collect(),
            replicas: (1..=3)
                .map(|id| ((NodeId(id), id), replica.clone()))
                .collect(),
            configuration: Configuration::founding(members),
            leader: None,
            planner: None,
            incarnations: 100,
            elections: 0,
            lose_joins: BTreeSet::new(),
            actions: Vec::new(),
            leaderless_since: now,
        };
        world.lead(NodeId(1), 1);
        world
    }

    fn lead(&mut self, node: NodeId, incarnation: u64) {
        self.leader = Some((node, incarnation));
        self.elections += 1;
        for replica in self.replicas.values_mut() {
            replica.heard = None;
        }
        let planner = Planner::new(GroupId(7), Settings::default(), self.now);
        self.planner = Some(planner);
    }

    pub fn stop(&mut self, node: u64) {
        let now = self.now;
        let machine = self.machines.get_mut(&NodeId(node)).expect("a node");
        if machine.up {
            machine.up = false;
            machine.down_since = now;
        }
    }

    pub fn start(&mut self, node: u64) {
        self.machines.get_mut(&NodeId(node)).expect("a node").up = true;
    }

    pub fn lose_disk(&mut self, node: u64) {
        self.replicas.retain(|(on, _), _| on.0 != node);
    }

    /// Whether this very replica could answer.
    pub fn lives(&self, member: &Member) -> bool {
        let up = self.machines.get(&member.node).is_some_and(|m| m.up);
        up && self
            .replicas
            .contains_key(&(member.node, member.incarnation))
    }

    fn behind(&self, member: &Member) -> u32 {
        self.replicas[&(member.node, member.incarnation)].behind
    }

    pub fn settled(&self) -> bool {
        self.configuration.joint.is_none()
    }

    fn quorum(&self) -> bool {
        self.configuration.quorum(|m| self.lives(m))
    }

    /// Time passes, the core works, the planner looks.
    pub fn step(&mut self) {
        self.now = self.now.plus(STEP_MS);
        let now = self.now;
        for machine in self.machines.values_mut().filter(|m| m.up) {
            if now.since(machine.beat) >= 1_000 {
                machine.beat = now;
            }
        }
        self.elect();
        let Some((me, own)) = self.leader else { return };
        let configuration = self.configuration.clone();
        let living: Vec<Member> = configuration
            .all()
            .filter(|m| self.lives(m))
            .copied()
            .collect();
        for member in living {
            let replica = self
                .replicas
                .get_mut(&(member.node, member.incarnation))
                .expect("it lives");
            replica.behind = replica.behind.saturating_sub(1);
            replica.heard = Some(now);
        }
        // Everybody who is away falls behind.
        for ((node, _), replica) in &mut self.replicas {
            if !self.machines[node].up {
                replica.behind = replica.behind.max(3);
            }
        }
        if self.configuration.joint.take_if(|_| true).is_some() {
            self.configuration.generation += 1;
            // What is in no list any more goes.
            let configuration = &self.configuration;
            let machines = &self.machines;
            self.replicas.retain(|(node, incarnation), _| {
                configuration.contains(*node, *incarnation) || !machines[node].up
            });
            if !self.configuration.votes(me, own) {
                self.leader = None;
                self.planner = None;
                self.leaderless_since = Millis(0);
                return;
            }
        }
        for _ in 0..2 {
            let Some(action) = self.plan() else { return };
            self.carry_out(action);
        }
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms / STEP_MS {
            self.step();
        }
    }

    /// A leader without a quorum goes; after a while somebody with all of the log is elected.
    fn elect(&mut self) {
        if let Some((node, incarnation)) = self.leader {
            let lives = self.machines[&node].up;
            if lives && self.quorum() && self.replicas.contains_key(&(node, incarnation)) {
                return;
            }
            self.leader = None;
            self.planner = None;
            self.leaderless_since = self.now;
        }
        if !self.quorum() || self.now.since(self.leaderless_since) < 1_500 {
            return;
        }
        // A lagging one adopts what it lacks from a log replica.
        let voters = self.configuration.voters();
        let candidate = voters
            .filter(|m| m.role == Role::Storage && self.lives(m))
            .min_by_key(|m| self.behind(m));
        if let Some(candidate) = candidate {
            let (node, incarnation) = (candidate.node, candidate.incarnation);
            let replica = self.replicas.get_mut(&(node, incarnation));
            replica.expect("it lives").behind = 0;
            self.lead(node, incarnation);
        }
    }

    pub fn nodes(&self) -> Nodes {
        let mut nodes = Nodes::default();
        for (id, machine) in &self.machines {
            let node = Node {
                zone: machine.zone.clone(),
                incarnation: id.0,
                ready: true,
                draining: machine.draining,
                free_bytes: machine.free_bytes,
                replicas: 0,
                heard: machine.beat,
            };
            nodes.insert(*id, node);
        }
        nodes
    }

    fn followers(&self) -> Vec<FollowerStatus> {
        let (me, own) = self.leader.expect("a leader");
        let status = |member: &Member| {
            let replica = self.replicas.get(&(member.node, member.incarnation));
            let heard = replica.and_then(|r| r.heard);
            let behind = replica.map_or(u32::MAX, |r| r.behind);
            FollowerStatus {
                member: *member,
                learner: !self.configuration.votes(member.node, member.incarnation),
                matched: 0,
                flushed: 0,
                heard,
                in_step: behind == 0 && heard.is_some_and(|at| self.now.since(at) < 1_500),
                copying: behind > 10,
            }
        };
        let others = self.configuration.all();
        others
            .filter(|m| !m.is(me, own) && m.node != me)
            .map(status)
            .collect()
    }

    pub fn with_view<T>(&mut self, act: impl FnOnce(&mut Planner, Millis, &View<'_>) -> T) -> T {
        let nodes = self.nodes();
        let followers = self.followers();
        let (me, incarnation) = self.leader.expect("a leader");
        let view = View {
            me,
            incarnation,
            configuration: &self.configuration,
            settled: self.settled(),
            followers: &followers,
            nodes: &nodes,
            placed: &[],
        };
        let planner = self.planner.as_mut().expect("a leader");
        act(planner, self.now, &view)
    }

    pub fn plan(&mut self) -> Option<Action> {
        let action = self.with_view(|planner, now, view| planner.step(now, view));
        self.actions.extend(action.clone());
        action
    }

    pub fn replace(&mut self, replaced: u64, target: u64) -> Result<(), ReplacementRefusal> {
        let generation = self.configuration.generation;
        self.with_view(|planner, now, view| {
            planner.replace(now, view, generation, NodeId(replaced), NodeId(target))
        })
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Join { node, role, .. } => {
                let up = self.machines[&node].up;
                let lost = self.lose_joins.contains(&node);
                let named = self.configuration.clone();
                let there = self.replicas.iter();
                let mut there = there.filter(|((on, _), _)| *on == node);
                let waiting = there.find(|((on, incarnation), replica)| {
                    replica.role == role && !named.contains(*on, *incarnation)
                });
                let waiting = waiting.map(|((_, incarnation), _)| *incarnation);
                if up && waiting.is_none() {
                    self.incarnations += 1;
                    let replica = Replica {
                        role,
                        behind: if role == Role::Storage { FILL_STEPS } else { 2 },
                        heard: None,
                    };
                    self.replicas.insert((node, self.incarnations), replica);
                }
                let incarnation = waiting.unwrap_or(self.incarnations);
                let now = self.now;
                let planner = self.planner.as_mut().expect("a leader");
                match up && !lost {
                    true => planner.joined(node, role, incarnation),
                    false => planner.join_failed(now, node, role),
                }
            }
            Action::Reconfigure {
                generation,
                members,
                learners,
            } => self.reconfigure(generation, members, learners),
        }
    }

    /// The rules that must hold for every change.
    fn reconfigure(&mut self, generation: u64, members: Vec<Member>, learners: Vec<Member>) {
        assert!(self.settled(), "a change during a change");
        assert_eq!(generation, self.configuration.generation);
        let nodes: BTreeSet<NodeId> = members.iter().map(|m| m.node).collect();
        assert_eq!(nodes.len(), members.len(), "two voters on a node");
        assert_eq!(members.len(), 3, "{members:?}");
        assert!(learners.len() <= 4);
        for member in &members {
            let known = self.configuration.members.contains(member);
            let learner = self.configuration.learners.contains(member);
            if member.role == Role::Storage && !known {
                assert!(
                    learner && self.behind(member) == 0,
                    "{member:?} is not in step"
                );
            }
            if !known {
                let here = (member.node, member.incarnation);
                assert!(self.replicas.contains_key(&here), "{member:?} was not made");
            }
        }
        for learner in &learners {
            assert!(!members.contains(learner), "a learner with a vote");
        }
        // Most of the new voters live, as far as anybody could know.
        let dead = |m: &&Member| !self.lives(m) && self.dead_ms(m) > 5_000;
        let dead = members.iter().filter(dead).count();
        assert!(dead <= 1, "{members:?} has no quorum that lives");
        let changed = members != self.configuration.members;
        let joint = changed.then(|| self.configuration.members.clone());
        self.configuration = Configuration {
            generation: generation + 1,
            members,
            joint,
            learners,
        };
    }

    fn dead_ms(&self, member: &Member) -> u64 {
        let machine = &self.machines[&member.node];
        match machine.up {
            true => 0,
            false => self.now.since(machine.down_since),
        }
    }

    pub fn voters(&self) -> Vec<(u64, Role)> {
        let members = self.configuration.members.iter();
        let mut voters: Vec<_> = members.map(|m| (m.node.0, m.role)).collect();
        voters.sort();
        voters
    }

    pub fn learners(&self) -> Vec<u64> {
        self.configuration
            .learners
            .iter()
            .map(|l| l.node.0)
            .collect()
    }
}

pub fn storage(node: u64, incarnation: u64) -> Member {
    Member {
        node: NodeId(node),
        role: Role::Storage,
        incarnation,
    }
}
