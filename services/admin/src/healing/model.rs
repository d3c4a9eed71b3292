//! A model of the mesh for tests: nodes that heartbeat, leaders that push and carry orders out in their own time. Draws from one seed.

use std::collections::{BTreeMap, BTreeSet};

use model::Units;
use paxos::{GroupId, NodeId};
use protocol::control::Order;
use protocol::directory::{PartitionInfo, ReplicaProgress};
use protocol::health::{Candidate, NodeRoom};

use super::{Directive, Leaders, Pressure, Repairs, View, relieve};
use crate::cluster::Cluster;
use crate::cluster::tests::beat;
use crate::driver::Outcome;
use crate::partitions::Partitions;
use crate::partitions::tests::{info, push, storage_member};
use crate::records::NodeRecord;
use crate::settings::HealingSettings;
use crate::vitality::{NodeViews, Watch};

/// Time of one turn, milliseconds.
pub(super) const TURN_MS: u64 = 500;
/// A group without leader elects one within this.
const ELECTION_MS: u64 = 3_000;

pub(super) struct Node {
    pub(super) zone: String,
    pub(super) disk: u64,
    pub(super) alive: bool,
    pub(super) fenced: BTreeSet<GroupId>,
    /// Capacity units a second that it is rated for.
    pub(super) rated: NodeRoom,
    /// Greatest epoch it has seen.
    epoch: u64,
}

/// A replacement that a leader has taken on.
struct Copy {
    replaced: NodeId,
    target: NodeId,
    until_ms: u64,
}

pub(super) struct Group {
    pub(super) info: PartitionInfo,
    copy: Option<Copy>,
    leader_lost_ms: Option<u64>,
}

pub(super) struct Mesh {
    pub(super) now_ms: u64,
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Orders on their way: when they arrive, from which admin, under which epoch.
    flying: Vec<(u64, usize, u64, Directive)>,
    /// Orders carried out, by (partition, replaced incarnation): each replica is replaced once.
    pub(super) replaced: BTreeMap<(GroupId, u64), u32>,
    pub(super) transfers: u64,
    pub(super) stale: u64,
    /// Most copies at once: in all, onto one node, out of one node.
    pub(super) peak: (usize, usize, usize),
    incarnation: u64,
    random: u64,
}

impl Mesh {
    /// `partitions` on three zones each, led in turn.
    pub(super) fn new(nodes: &[(u64, &str)], partitions: u64, seed: u64) -> Self {
        let mut zones: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for &(node, zone) in nodes {
            zones.entry(zone).or_default().push(node);
        }
        let groups = (0..partitions).map(|n| {
            let mut members: Vec<(u64, &str)> = zones
                .iter()
                .take(3)
                .map(|(&zone, nodes)| (nodes[n as usize % nodes.len()], zone))
                .collect();
            members.rotate_left(n as usize % 3);
            let mut info = info(16 + n, &members);
            for member in &mut info.members {
                member.member.incarnation = member.member.node.0 * 100;
            }
            let group = Group {
                info,
                copy: None,
                leader_lost_ms: None,
            };
            (GroupId(16 + n), group)
        });
        let node = |&(node, zone): &(u64, &str)| {
            let state = Node {
                zone: zone.to_owned(),
                disk: node * 100,
                alive: true,
                fenced: BTreeSet::new(),
                rated: NodeRoom::default(),
                epoch: 0,
            };
            (node, state)
        };
        Self {
            now_ms: 0,
            nodes: nodes.iter().map(node).collect(),
            groups: groups.collect(),
            flying: Vec::new(),
            replaced: BTreeMap::new(),
            transfers: 0,
            stale: 0,
            peak: (0, 0, 0),
            incarnation: 1_000_000,
            random: seed | 1,
        }
    }

    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    pub(super) fn add_node(&mut self, node: u64, zone: &str) {
        let state = Node {
            zone: zone.to_owned(),
            disk: node * 100,
            alive: true,
            fenced: BTreeSet::new(),
            rated: NodeRoom::default(),
            epoch: 0,
        };
        self.nodes.insert(node, state);
    }

    /// It comes back, with an empty disk.
    pub(super) fn new_disk(&mut self, node: u64) {
        let node = self.nodes.get_mut(&node).unwrap();
        node.disk += 1;
        node.alive = true;
    }

    /// Whether the replica of `group` on this node is there and good.
    fn holds(&self, group: GroupId, node: NodeId) -> bool {
        let Some(state) = self.nodes.get(&node.0) else {
            return false;
        };
        let info = &self.groups[&group].info;
        let member = info.members.iter().find(|m| m.member.node == node);
        // A founding replica is on the disk that its node had then.
        let here = member.is_some_and(|m| {
            m.member.incarnation >= 1_000_000 || m.member.incarnation == state.disk
        });
        state.alive && here && !state.fenced.contains(&group)
    }

    /// Replicas in working order.
    pub(super) fn copies(&self, group: GroupId) -> usize {
        let members = &self.groups[&group].info.members;
        let held = members.iter().filter(|m| self.holds(group, m.member.node));
        held.count()
    }

    pub(super) fn healed(&self) -> bool {
        self.groups.iter().all(|(&id, group)| {
            let zones: BTreeSet<_> = group.info.members.iter().map(|m| &m.zone).collect();
            self.copies(id) == 3 && zones.len() == 3 && group.copy.is_none()
        })
    }

    pub(super) fn replicas_on(&self, node: u64) -> usize {
        let on = |g: &&Group| g.info.members.iter().any(|m| m.member.node.0 == node);
        self.groups.values().filter(on).count()
    }

    /// How much of what it is rated for a node does, thousandths.
    pub(super) fn share(&self, node: u64) -> u64 {
        let (mut reads, mut writes) = (0, 0);
        for group in self.groups.values() {
            let on = group.info.members.iter().any(|m| m.member.node.0 == node);
            writes += if on {
                group.info.write_units_s.thousandths()
            } else {
                0
            };
            let leads = group.info.leader == Some(NodeId(node));
            reads += if leads {
                group.info.read_units_s.thousandths()
            } else {
                0
            };
        }
        let rated = self.nodes[&node].rated;
        let of =
            |used: u64, rated: Units| used.saturating_mul(1_000).checked_div(rated.thousandths());
        let (reads, writes) = (of(reads, rated.read), of(writes, rated.write));
        reads.unwrap_or(0).max(writes.unwrap_or(0))
    }

    pub(super) fn leaders_on(&self, node: u64) -> usize {
        let led = |g: &&Group| g.info.leader == Some(NodeId(node));
        self.groups.values().filter(led).count()
    }

    /// An admin tells all nodes of its epoch.
    pub(super) fn announce(&mut self, epoch: u64) {
        for node in self.nodes.values_mut().filter(|n| n.alive) {
            node.epoch = node.epoch.max(epoch);
        }
    }

    pub(super) fn order(&mut self, admin: usize, epoch: u64, directive: Directive) {
        let at_ms = self.now_ms + self.draw(1_500);
        self.flying.push((at_ms, admin, epoch, directive));
    }

    /// Time passes; gives the answers to the orders that arrived.
    pub(super) fn turn(&mut self) -> Vec<(usize, Directive, Outcome)> {
        self.now_ms += TURN_MS;
        self.elect();
        self.finish_copies();
        let (due, flying) = std::mem::take(&mut self.flying)
            .into_iter()
            .partition(|(at_ms, ..)| *at_ms <= self.now_ms);
        self.flying = flying;
        let answers = due.into_iter().map(|(_, admin, epoch, directive)| {
            let outcome = self.take(epoch, &directive);
            (admin, directive, outcome)
        });
        let answers = answers.collect();
        self.measure();
        answers
    }

    fn elect(&mut self) {
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            let Some(leader) = self.groups[&id].info.leader else {
                continue;
            };
            if self.holds(id, leader) {
                self.groups.get_mut(&id).unwrap().leader_lost_ms = None;
                continue;
            }
            let members = self.groups[&id].info.members.clone();
            let next = members.iter().find(|m| self.holds(id, m.member.node));
            let now_ms = self.now_ms;
            let quorum = self.copies(id) >= 2;
            let group = self.groups.get_mut(&id).unwrap();
            let since_ms = *group.leader_lost_ms.get_or_insert(now_ms);
            if let Some(next) = next.filter(|_| quorum && now_ms - since_ms >= ELECTION_MS) {
                group.info.leader = Some(next.member.node);
                group.info.ballot.round += 1;
                group.info.ballot.node = next.member.node;
                group.copy = None;
                group.info.learners.clear();
            }
        }
    }

    fn finish_copies(&mut self) {
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            let Some(copy) = &self.groups[&id].copy else {
                continue;
            };
            let (replaced, target) = (copy.replaced, copy.target);
            if !self.nodes[&target.0].alive {
                let group = self.groups.get_mut(&id).unwrap();
                (group.copy, group.info.generation) = (None, group.info.generation + 1);
                group.info.learners.clear();
            } else if copy.until_ms <= self.now_ms {
                let group = self.groups.get_mut(&id).unwrap();
                let joined = group.info.learners.remove(0);
                let old = group
                    .info
                    .members
                    .iter()
                    .find(|m| m.member.node == replaced);
                let old = old.unwrap().member.incarnation;
                group.info.members.retain(|m| m.member.node != replaced);
                group.info.members.push(joined);
                group.info.generation += 2;
                group.copy = None;
                *self.replaced.entry((id, old)).or_insert(0) += 1;
            }
        }
    }

    fn take(&mut self, epoch: u64, directive: &Directive) -> Outcome {
        let node = self.nodes.get_mut(&directive.to.0).unwrap();
        if !node.alive {
            return Outcome::Silent;
        }
        if epoch < node.epoch {
            self.stale += 1;
            return Outcome::Stale(node.epoch);
        }
        node.epoch = epoch;
        let group = &self.groups[&directive.partition];
        if group.info.leader != Some(directive.to) {
            return Outcome::NotLeader;
        }
        match &directive.order {
            Order::TransferLeadership { partition, to } => {
                assert!(group.copy.is_none(), "no hand-over during a repair");
                if !self.holds(*partition, *to) {
                    return Outcome::Refused("not in step".into());
                }
                let group = self.groups.get_mut(partition).unwrap();
                group.info.leader = Some(*to);
                group.info.ballot.round += 1;
                group.info.ballot.node = *to;
                self.transfers += 1;
                Outcome::Done
            }
            Order::ReplaceReplica {
                partition,
                generation,
                replaced,
                target,
            } => self.replace(*partition, *generation, *replaced, *target),
            other => panic!("{other:?}"),
        }
    }

    fn replace(
        &mut self,
        id: GroupId,
        generation: u64,
        replaced: NodeId,
        target: NodeId,
    ) -> Outcome {
        let group = &self.groups[&id];
        if let Some(copy) = &group.copy {
            return if (copy.replaced, copy.target) == (replaced, target) {
                Outcome::Done
            } else {
                Outcome::Refused("another replacement is under way".into())
            };
        }
        if generation != group.info.generation {
            return Outcome::Stale(group.info.generation);
        }
        let until_ms = self.now_ms + 1_000 + self.draw(6_000);
        if !self.nodes[&target.0].alive || self.draw(20) == 0 {
            return Outcome::Refused("not now".into());
        }
        self.incarnation += 1;
        let node = self.nodes.get_mut(&target.0).unwrap();
        node.fenced.remove(&id);
        let joined = storage_member(target.0, &node.zone, self.incarnation);
        let group = self.groups.get_mut(&id).unwrap();
        let known = group.info.members.iter();
        let known = known.filter(|m| m.member.node == target && target != replaced);
        assert_eq!(known.count(), 0, "one replica a node");
        group.info.learners = vec![joined];
        group.info.generation += 1;
        group.copy = Some(Copy {
            replaced,
            target,
            until_ms,
        });
        Outcome::Done
    }

    fn measure(&mut self) {
        let (mut onto, mut out_of) = (BTreeMap::new(), BTreeMap::new());
        let copying = self
            .groups
            .values()
            .filter_map(|g| Some((g, g.copy.as_ref()?)));
        let mut total = 0;
        for (group, copy) in copying {
            total += 1;
            *onto.entry(copy.target).or_insert(0) += 1;
            *out_of.entry(group.info.leader).or_insert(0) += 1;
        }
        self.peak.0 = self.peak.0.max(total);
        self.peak.1 = self.peak.1.max(onto.values().copied().max().unwrap_or(0));
        self.peak.2 = self.peak.2.max(out_of.values().copied().max().unwrap_or(0));
    }
}

/// An admin's planners over the model.
pub(super) struct Admin {
    pub(super) epoch: u64,
    pub(super) repairs: Repairs,
    leaders: Leaders,
    pressure: Pressure,
    watch: Watch,
    cluster: Cluster,
    partitions: Partitions,
    records: BTreeMap<NodeId, NodeRecord>,
    pub(super) settings: HealingSettings,
    pub(super) nodes: NodeViews,
}

impl Admin {
    pub(super) fn new(mesh: &Mesh, epoch: u64, settings: HealingSettings) -> Self {
        Self {
            epoch,
            repairs: Repairs::default(),
            leaders: Leaders::default(),
            pressure: Pressure::default(),
            watch: Watch::new(mesh.now_ms, settings.replace_after_ms),
            cluster: Cluster::default(),
            partitions: Partitions::default(),
            records: BTreeMap::new(),
            settings,
            nodes: NodeViews::new(),
        }
    }

    /// Hears what there is to hear.
    pub(super) fn listen(&mut self, mesh: &Mesh) {
        for (&number, node) in mesh.nodes.iter().filter(|(_, n)| n.alive) {
            let mut heartbeat = beat("storage", number, &node.zone, 1);
            heartbeat.incarnation = node.disk;
            let health = heartbeat.storage.as_mut().unwrap();
            health.fenced = node.fenced.iter().copied().collect();
            health.free_bytes = 1 << 40;
            health.rated = node.rated;
            health.pressed = mesh.share(number) > self.settings.pressed_permille;
            if health.pressed {
                let led = mesh
                    .groups
                    .values()
                    .filter(|g| g.info.leader == Some(NodeId(number)));
                let candidate = |group: &Group| Candidate {
                    partition: group.info.partition,
                    bytes: group.info.bytes,
                    read_units_s: group.info.read_units_s,
                    write_units_s: group.info.write_units_s,
                };
                health.candidates = led.map(candidate).collect();
            }
            self.cluster.heard(heartbeat, mesh.now_ms);
            let id = NodeId(number);
            let noted = NodeRecord::noted(self.records.get(&id), id, &node.zone, node.disk);
            self.records.extend(noted.map(|record| (id, record)));
        }
        let led = mesh.groups.values().filter_map(|group| {
            let leader = group.info.leader?;
            mesh.holds(group.info.partition, leader).then_some(())?;
            let mut info = group.info.clone();
            let all = info.members.iter().chain(&info.learners);
            let followers = all.filter(|m| m.member.node != leader || info.learners.contains(m));
            let progress = followers.map(|m| {
                let learner = info.learners.contains(m);
                let here = learner || mesh.holds(info.partition, m.member.node);
                ReplicaProgress {
                    node: m.member.node,
                    incarnation: m.member.incarnation,
                    behind_entries: 0,
                    silent_ms: if here { 0 } else { 10_000 },
                    copying: learner,
                    in_step: here && !learner,
                }
            });
            info.progress = progress.collect();
            Some(info)
        });
        self.partitions.learn(push(led.collect()), mesh.now_ms);
    }

    /// Reads what another one wrote down.
    pub(super) fn read_records(&mut self, of: &Admin) {
        self.records = of.records.clone();
    }

    pub(super) fn drain(&mut self, node: u64, on: bool) {
        self.records.get_mut(&NodeId(node)).unwrap().draining = on;
    }

    pub(super) fn with<R>(
        &mut self,
        now_ms: u64,
        work: impl FnOnce(&mut Repairs, &mut Leaders, &View) -> R,
    ) -> R {
        self.nodes = self
            .watch
            .look(&self.cluster, &self.records, &self.partitions, now_ms);
        let view = View {
            now_ms,
            nodes: &self.nodes,
            partitions: &self.partitions,
            settings: &self.settings,
            free_bytes_min: 0,
        };
        work(&mut self.repairs, &mut self.leaders, &view)
    }

    pub(super) fn plan(&mut self, now_ms: u64) -> Vec<Directive> {
        let mut pressure = std::mem::take(&mut self.pressure);
        let orders = self.with(now_ms, |repairs, leaders, view| {
            let mut orders = relieve(&mut pressure, repairs, view);
            orders.extend(repairs.step(view));
            orders.extend(leaders.step(view, repairs));
            orders
        });
        self.pressure = pressure;
        orders
    }

    pub(super) fn answered(&mut self, now_ms: u64, directive: &Directive, outcome: &Outcome) {
        if matches!(directive.order, Order::ReplaceReplica { .. }) {
            self.with(now_ms, |repairs, _, view| {
                repairs.answered(directive.partition, outcome, view);
            });
        }
    }
}

/// One turn of the mesh and of these admins (only those that plan).
pub(super) fn turn(mesh: &mut Mesh, admins: &mut [&mut Admin]) {
    for (admin, directive, outcome) in mesh.turn() {
        if let Some(admin) = admins.get_mut(admin) {
            admin.answered(mesh.now_ms, &directive, &outcome);
        }
    }
    for (number, admin) in admins.iter_mut().enumerate() {
        admin.listen(mesh);
        for directive in admin.plan(mesh.now_ms) {
            mesh.order(number, admin.epoch, directive);
        }
    }
}
