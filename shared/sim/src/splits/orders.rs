//! A stand-in for the admin that begins splits, gives some up, and drops parents that have ended; and what a replica does at such an order.

use partition::Evaluated;
use paxos::{GroupId, Input, NodeId};
use protocol::item::ItemFault;
use protocol::split::Split;

use crate::fixture;
use crate::host::{Host, Hosted};
use crate::orders::Order;
use crate::scenario::Members;
use crate::world::{Violation, World};

/// Nobody waits for the answer to a step of a split.
const NO_CALLER: u64 = u64::MAX;
/// Numbers of children begin here.
const FIRST_CHILD: u64 = 100;
/// No more groups than this come about in a run.
const GROUPS_MAX: usize = 9;

impl World {
    /// The admin's look at the splits.
    pub(crate) fn care_for_splits(&mut self) -> Result<(), Violation> {
        for (group, _) in self.scenario.groups.clone() {
            let Some(line) = self.lines.get(&group) else {
                continue;
            };
            if let Some(children) = line.children {
                self.care_for_parent(group, children);
            } else {
                self.care_for_leaf(group);
            }
        }
        Ok(())
    }

    fn care_for_leaf(&mut self, group: GroupId) {
        let Some(leader) = self.leader(group) else {
            return;
        };
        let Some(hosted) = self.hosted(leader, group) else {
            return;
        };
        let state = hosted.partition.state().clone();
        // Where a log replica votes and nobody heals, it can only be given up.
        let mut members = state.configuration.members.iter();
        let never = self.scenario.members == Members::Fixed
            && members.any(|member| member.role == paxos::Role::Log);
        if let Some(split) = state.split {
            if (never || self.faulty) && self.rng.chance(if never { 200_000 } else { 30_000 }) {
                let left = split.left;
                self.order(leader, &Order::Abandon { group, left });
            }
            return;
        }
        if !self.faulty || self.lines.len() >= GROUPS_MAX || !self.rng.chance(250_000) {
            return;
        }
        let key = fixture::key(self.rng.below(self.scenario.keys));
        if !state.range.contains(&key) || key <= state.range.start {
            return;
        }
        self.split_ids = self.split_ids.max(FIRST_CHILD) + 2;
        let split = Split {
            point: key,
            left: GroupId(self.split_ids),
            right: GroupId(self.split_ids + 1),
            committed: None,
        };
        let split = Box::new(split);
        self.order(leader, &Order::Split { group, split });
    }

    /// Drops a parent once its children serve: as a rule when all of its replicas have installed theirs.
    fn care_for_parent(&mut self, group: GroupId, children: [GroupId; 2]) {
        let served = |child: &GroupId| {
            let split = self
                .lines
                .get(child)
                .is_some_and(|line| line.children.is_some());
            split
                || self.leader(*child).is_some()
                || !self.scenario.groups.iter().any(|(g, _)| g == child)
        };
        if !children.iter().all(served) {
            return;
        }
        let left = |host: &&Host| host.disk.groups.contains_key(&group);
        let here: Vec<NodeId> = self
            .hosts
            .values()
            .filter(left)
            .map(|host| host.node)
            .collect();
        if here.is_empty() {
            self.scenario.groups.retain(|(g, _)| *g != group);
            self.coverage.hit("parent dropped");
            return;
        }
        let installed = self.hosts.values().filter(left).all(|host| {
            let disk = &host.disk.groups[&group];
            let named = disk
                .state
                .split
                .as_ref()
                .and_then(|split| split.committed.as_ref());
            let named = named.is_none_or(|committed| {
                committed
                    .configuration
                    .contains(host.node, disk.identity.incarnation)
            });
            disk.state.installed || !named
        });
        let dropping = self.dropping.contains(&group);
        let hasty = self.scenario.members != Members::Fixed && self.rng.chance(50_000);
        if dropping || installed || hasty {
            self.dropping.insert(group);
            for node in here {
                self.order(node, &Order::Drop { group });
            }
        }
    }

    /// A leader is told to split its partition.
    pub(crate) fn begin_split(
        &mut self,
        node: NodeId,
        group: GroupId,
        split: &Split,
    ) -> Result<(), Violation> {
        self.decide(node, group, |hosted, ballot| {
            hosted
                .partition
                .evaluate_split(group, split, (ballot, 0), NO_CALLER)
        })
    }

    /// A leader is told to give a split up.
    pub(crate) fn abandon_split(
        &mut self,
        node: NodeId,
        group: GroupId,
        left: GroupId,
    ) -> Result<(), Violation> {
        self.coverage.hit("split to be abandoned");
        self.decide(node, group, |hosted, ballot| {
            hosted
                .partition
                .evaluate_abandon(left, (ballot, 0), NO_CALLER)
        })
    }

    fn decide(
        &mut self,
        node: NodeId,
        group: GroupId,
        evaluate: impl FnOnce(&mut Hosted, paxos::Ballot) -> Evaluated<u64>,
    ) -> Result<(), Violation> {
        let Some(host) = self.hosts.get_mut(&node).filter(|host| host.up) else {
            return Ok(());
        };
        let now = host.clock.at(self.now);
        let Some(hosted) = host.groups.get_mut(&group) else {
            return Ok(());
        };
        let ballot = hosted.replica.status().promised;
        if !hosted.replica.can_serve_reads(now) || !hosted.partition.serves(ballot) {
            return Ok(());
        }
        let Evaluated::Propose(command) = evaluate(hosted, ballot) else {
            self.coverage.hit("order about a split refused");
            return Ok(());
        };
        let mut output = hosted.replica.step(now, Input::Propose(vec![command]));
        let mut answers = Vec::new();
        match output.proposed.take() {
            Some(Ok(first)) => hosted.partition.proposed(first),
            Some(Err(_)) | None => hosted.partition.refused(&ItemFault::NotReady, &mut answers),
        }
        self.carry_out(node, group, output)
    }

    /// The admin drops a parent's replica, unless its children are just being installed.
    pub(crate) fn drop_parent(&mut self, node: NodeId, group: GroupId) {
        let Some(host) = self.hosts.get(&node).filter(|host| host.up) else {
            return;
        };
        let children = host.disk.children.get(&group);
        let installing = children.is_some_and(|children| {
            children
                .trees
                .iter()
                .flatten()
                .any(|child| child.installed > 0)
        });
        if !installing {
            self.stop(node, group);
            self.forget(node, group);
        }
    }
}
