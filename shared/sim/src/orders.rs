//! What nodes are told about their replicas, as the storage service does it: a replica is made before it is taken in, and
//! deleted only once it knows (or is rightly told) that it is no longer wanted. Also what of that can be done without harm.

use paxos::{Configuration, GroupId, Identity, Input, Member, NodeId, Role};
use protocol::split::Split;

use crate::checks::blame;
use crate::disk::{Disk, GroupDisk};
use crate::event::Event;
use crate::fixture::founding_state;
use crate::invariants::Gone;
use crate::scenario::Members;
use crate::world::{Violation, World};

/// Where the planner heals, disks are lost at least so long after each other.
const BETWEEN_LOSSES_US: u64 = 4_000_000;

/// An order to a node.
#[derive(Clone, Debug)]
pub enum Order {
    /// Make a replica of this group, for this (settled) configuration, which does not name it.
    Join {
        /// The group.
        group: GroupId,
        /// What it shall be.
        member: Member,
        /// The configuration.
        configuration: Configuration,
        /// Once it is there, it takes the place of this voter (which becomes a learner); none: it becomes a learner itself.
        instead: Option<Member>,
        /// The leader whose planner wants it, and decides what becomes of it.
        by: Option<NodeId>,
    },
    /// This replica is not named by a committed configuration of this generation, nor will it ever be again.
    Retire {
        /// The group.
        group: GroupId,
        /// The replica.
        incarnation: u64,
        /// The generation.
        generation: u64,
    },
    /// Split the partition.
    Split {
        /// The partition.
        group: GroupId,
        /// How.
        split: Box<Split>,
    },
    /// Give a split up.
    Abandon {
        /// The partition.
        group: GroupId,
        /// The split's left child.
        left: GroupId,
    },
    /// The partition has ended: drop its replica.
    Drop {
        /// The partition.
        group: GroupId,
    },
    /// The replica is there: take it in.
    Joined {
        /// The group.
        group: GroupId,
        /// The replica.
        member: Member,
        /// Generation that it was made for.
        generation: u64,
        /// As ordered.
        instead: Option<Member>,
    },
}

impl World {
    /// Draws the identity of a replica that is to join.
    pub(crate) fn newcomer(&mut self, node: NodeId, role: Role) -> Member {
        self.newcomers += 1;
        Member {
            node,
            role,
            incarnation: 1_000_000 + self.newcomers,
        }
    }

    /// Sends an order; it may be late, doubled or lost like anything else.
    pub(crate) fn order(&mut self, node: NodeId, order: &Order) {
        if self.faulty && self.rng.chance(self.scenario.loss / 2) {
            return;
        }
        let copies = 1 + u64::from(self.faulty && self.rng.chance(30_000));
        for _ in 0..copies {
            let delay = self.network.delay(&mut self.rng);
            let order = Box::new(order.clone());
            self.after(delay, Event::Order { node, order });
        }
    }

    /// An order reaches a node.
    pub(crate) fn ordered(&mut self, node: NodeId, order: Order) -> Result<(), Violation> {
        match order {
            Order::Join {
                group,
                member,
                configuration,
                instead,
                by,
            } => self.join(group, member, configuration, (instead, by)),
            Order::Joined {
                group,
                member,
                generation,
                instead,
            } if self.hosts.get(&node).is_some_and(|host| host.up) => {
                self.take_in(node, group, member, generation, instead)
            }
            Order::Joined { .. } => Ok(()),
            Order::Split { group, split } => self.begin_split(node, group, &split),
            Order::Abandon { group, left } => self.abandon_split(node, group, left),
            Order::Drop { group } => {
                self.drop_parent(node, group);
                Ok(())
            }
            Order::Retire {
                group,
                incarnation,
                generation,
            } => {
                let Some(hosted) = self.hosted(node, group) else {
                    return Ok(());
                };
                let replica = &hosted.replica;
                if replica.identity().incarnation != incarnation || !replica.is_ended_by(generation)
                {
                    return Ok(());
                }
                self.coverage.hit("replica retired by order");
                self.retire(node, group)
            }
        }
    }

    fn join(
        &mut self,
        group: GroupId,
        mut member: Member,
        configuration: Configuration,
        (instead, by): (Option<Member>, Option<NodeId>),
    ) -> Result<(), Violation> {
        let node = member.node;
        let generation = configuration.generation;
        let Some(host) = self.hosts.get(&node).filter(|host| host.up) else {
            return Ok(());
        };
        if host.reserves(group) {
            return Ok(());
        }
        if let Some(disk) = host.disk.groups.get(&group) {
            let identity = disk.identity;
            if identity.generation == generation && identity.role == member.role {
                // The same order again.
                member.incarnation = identity.incarnation;
            } else {
                let knows = host.groups.get(&group).map(|hosted| {
                    let named = hosted.replica.configuration();
                    let mine = named.contains(node, identity.incarnation);
                    identity
                        .generation
                        .max(if mine { named.generation } else { 0 })
                });
                let wanted = configuration.contains(node, identity.incarnation);
                if wanted || knows.is_none_or(|known| known >= generation) {
                    return Ok(());
                }
                self.coverage.hit("replica dropped for one that joins");
                self.check_gone(group, node)?;
                self.stop(node, group);
                self.forget(node, group);
            }
        }
        if !self.hosts[&node].disk.groups.contains_key(&group) {
            self.make(group, member, &configuration);
        }
        let joined = Order::Joined {
            group,
            member,
            generation,
            instead,
        };
        if let Some(leader) = by.or(self.leader(group)) {
            self.order(leader, &joined);
        }
        Ok(())
    }

    fn make(&mut self, group: GroupId, member: Member, configuration: &Configuration) {
        let Some(host) = self.hosts.get_mut(&member.node) else {
            return;
        };
        let identity = Identity {
            incarnation: member.incarnation,
            role: member.role,
            generation: configuration.generation,
        };
        let mut state = founding_state(configuration);
        if let Some(line) = self.lines.get(&group) {
            state.range = line.range.clone();
        }
        let disk = GroupDisk::new(state, identity);
        host.disk.groups.insert(group, disk);
        host.host(group, self.now, &self.scenario);
        let birth = host.groups.get(&group).map_or(0, |hosted| hosted.birth);
        self.coverage.hit("replica joined");
        self.begin(member.node, group, birth);
    }

    /// Only for the generation that the replica was made for: it may have been told since that it is not wanted.
    fn take_in(
        &mut self,
        leader: NodeId,
        group: GroupId,
        member: Member,
        generation: u64,
        instead: Option<Member>,
    ) -> Result<(), Violation> {
        let healing = self.scenario.members == Members::Healing;
        let Some(hosted) = self.hosted(leader, group) else {
            return Ok(());
        };
        if healing {
            if let Some(planner) = &mut hosted.planner {
                planner.joined(member.node, member.role, member.incarnation);
            }
            return Ok(());
        }
        let current = hosted.replica.configuration().clone();
        if current.generation != generation || !self.exists(group, &member) {
            return Ok(());
        }
        let mut members = current.members;
        let mut learners = current.learners;
        match instead {
            Some(voter) => {
                if !members.contains(&voter) {
                    return Ok(());
                }
                members.retain(|m| *m != voter);
                members.push(member);
                if voter.role == Role::Storage && self.exists(group, &voter) {
                    learners.retain(|m| m.node != voter.node);
                    learners.push(voter);
                }
            }
            None => {
                learners.retain(|m| m.node != member.node);
                learners.push(member);
            }
        }
        self.reconfigure(leader, group, generation, members, learners)
    }

    /// Gives a leader a change, unless it would leave the group to replicas that are no more.
    pub(crate) fn reconfigure(
        &mut self,
        leader: NodeId,
        group: GroupId,
        generation: u64,
        members: Vec<Member>,
        learners: Vec<Member>,
    ) -> Result<(), Violation> {
        let here = members.iter().filter(|m| self.exists(group, m)).count();
        let old = self.configurations(group);
        let whole = members.iter().any(|m| self.is_whole(group, m));
        if here * 2 <= members.len() || !whole || old.is_empty() {
            return Ok(());
        }
        let input = Input::Reconfigure {
            generation,
            members,
            learners,
        };
        self.step(leader, group, input)
    }

    /// A replica stopped for good: its node deletes it, at once or a little later.
    pub(crate) fn retire(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        self.coverage.hit("replica retired");
        self.trace
            .note(self.now, format_args!("n{} g{} retires", node.0, group.0));
        self.check_gone(group, node)?;
        self.stop(node, group);
        let life = self.hosts.get(&node).map_or(0, |host| host.life);
        let delay = if self.rng.chance(500_000) {
            0
        } else {
            self.rng.around(300_000)
        };
        self.after(delay, Event::Deleted { node, life, group });
        Ok(())
    }

    /// Deletes what a stopped replica had. A node that died in between finds it again, and starts it.
    pub(crate) fn delete(&mut self, node: NodeId, group: GroupId) {
        let stopped = self
            .hosts
            .get(&node)
            .is_some_and(|host| !host.groups.contains_key(&group));
        if stopped {
            self.forget(node, group);
        }
    }

    pub(crate) fn stop(&mut self, node: NodeId, group: GroupId) {
        if let Some(host) = self.hosts.get_mut(&node) {
            host.groups.remove(&group);
        }
        for invariant in &mut self.invariants {
            invariant.gone(group, node);
        }
    }

    pub(crate) fn forget(&mut self, node: NodeId, group: GroupId) {
        let disk = self.hosts.get_mut(&node).and_then(|host| {
            host.disk.children.remove(&group);
            host.disk.groups.remove(&group)
        });
        if let Some(disk) = disk {
            self.registry.bury(group, node, disk);
        }
    }

    fn check_gone(&mut self, group: GroupId, node: NodeId) -> Result<(), Violation> {
        let disk = self.disk(node, group).map(|disk| disk.identity);
        let Some(identity) = disk else { return Ok(()) };
        let gone = Gone {
            group,
            node,
            identity,
        };
        for invariant in &mut self.invariants {
            blame(invariant.name(), invariant.retired(&gone))?;
        }
        Ok(())
    }

    /// A node's disk is gone, with all replicas on it; the node comes back empty.
    pub(crate) fn lose_disk(&mut self, node: NodeId, down_ms: u64) -> Result<(), Violation> {
        // A planner knows of a loss only by silence: until then it may give a vote to a learner that is no more.
        let healing = self.scenario.members == Members::Healing;
        if !self.can_lose(node) || (healing && self.now < self.lost_at + BETWEEN_LOSSES_US) {
            return Ok(());
        }
        self.lost_at = self.now;
        self.coverage.hit("disk lost");
        self.crash(node, down_ms)?;
        let groups: Vec<GroupId> = match self.hosts.get(&node) {
            Some(host) => host.disk.groups.keys().copied().collect(),
            None => return Ok(()),
        };
        for group in groups {
            self.stop(node, group);
            self.forget(node, group);
        }
        if let Some(host) = self.hosts.get_mut(&node) {
            host.disk = Disk::default();
        }
        Ok(())
    }

    /// Whether every group outlives the loss of this node's disk: a majority of every list that may still decide is on other
    /// disks, with a B-tree that can go on from their logs.
    fn can_lose(&self, node: NodeId) -> bool {
        let Some(host) = self.hosts.get(&node) else {
            return false;
        };
        host.disk.groups.keys().all(|group| {
            let survives = |m: &&Member| m.node != node && self.exists(*group, m);
            let majority =
                |list: &Vec<Member>| list.iter().filter(survives).count() * 2 > list.len();
            self.configurations(*group).iter().all(|configuration| {
                let whole = configuration
                    .members
                    .iter()
                    .filter(survives)
                    .any(|m| self.is_whole(*group, m));
                whole
                    && majority(&configuration.members)
                    && configuration.joint.iter().all(majority)
            })
        })
    }

    /// All configurations in force anywhere that are not older than the newest committed one.
    fn configurations(&self, group: GroupId) -> Vec<Configuration> {
        let Some(known) = self.registry.get(group) else {
            return Vec::new();
        };
        let mut all = vec![known.committed.clone()];
        for host in self.hosts.values() {
            let disk = host.disk.groups.get(&group).map(GroupDisk::in_force);
            let memory = host
                .groups
                .get(&group)
                .map(|hosted| hosted.replica.configuration());
            for configuration in disk.into_iter().chain(memory) {
                let decides = configuration.generation >= known.committed.generation;
                if decides && !all.contains(configuration) {
                    all.push(configuration.clone());
                }
            }
        }
        all
    }

    /// Whether this very replica is on its node's disk.
    pub(crate) fn exists(&self, group: GroupId, member: &Member) -> bool {
        self.disk(member.node, group)
            .is_some_and(|disk| disk.identity.incarnation == member.incarnation)
    }

    /// Whether this storage replica could go on alone with the logs of others: its B-tree and log reach to where theirs begin.
    fn is_whole(&self, group: GroupId, member: &Member) -> bool {
        let Some(host) = self.hosts.get(&member.node) else {
            return false;
        };
        let Some(disk) = host.disk.groups.get(&group) else {
            return false;
        };
        let copies = host
            .groups
            .get(&group)
            .is_some_and(|hosted| hosted.copying.is_some() || hosted.replica.status().copying);
        let floors = self
            .hosts
            .values()
            .filter_map(|host| Some(host.disk.groups.get(&group)?.floor.index));
        let behind = disk.last().index < floors.max().unwrap_or_default();
        let broken = disk.state.applied < disk.floor.index;
        self.exists(group, member)
            && member.role == Role::Storage
            && disk.founded
            && !(copies || behind || broken)
    }
}
