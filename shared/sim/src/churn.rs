//! The nemesis of the members: changes that make sense, changes that make none, at moments that nobody would choose. Never
//! takes a group's last copy away by itself: a change that leaves a list to replicas that are no more is an operator's doing.

use paxos::{Configuration, GroupId, Input, Member, NodeId, Role};

use crate::orders::Order;
use crate::scenario::Members;
use crate::world::{Violation, World};

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A new storage replica, as a learner.
    Join,
    /// A new log replica in the place of a voter.
    Substitute,
    /// A learner becomes a voter.
    Promote,
    /// A voter becomes a learner.
    Demote,
    /// A replica has to go.
    Remove,
    /// All learners become the voters.
    Replace,
    /// Nonsense, or too late.
    Invalid,
}

const CHANGES: [Change; 9] = [
    Change::Join,
    Change::Join,
    Change::Substitute,
    Change::Promote,
    Change::Promote,
    Change::Demote,
    Change::Remove,
    Change::Replace,
    Change::Invalid,
];

impl World {
    /// Some change at some group.
    pub(crate) fn churn(&mut self) -> Result<(), Violation> {
        let Some((group, leader)) = self.some_leader() else {
            return Ok(());
        };
        if self.is_ending(group) {
            return Ok(());
        }
        let change = match self.scenario.members {
            Members::Churn => *self.rng.pick(&CHANGES).unwrap_or(&Change::Join),
            // The planner makes the changes that are to be taken.
            Members::Fixed | Members::Healing => Change::Invalid,
        };
        self.trace.note(
            self.now,
            format_args!("churn: g{} {change:?} at n{}", group.0, leader.0),
        );
        if self.scenario.members == Members::Churn && self.rng.chance(200_000) {
            // Nobody hears of the change, or not everybody: the next leader undoes it, or finds it in a log that it adopts.
            self.muffle(leader)?;
        }
        let Some(hosted) = self.hosted(leader, group) else {
            return Ok(());
        };
        let current = hosted.replica.configuration().clone();
        match change {
            Change::Join => self.join_somewhere(group, &current, Role::Storage, None),
            Change::Substitute => {
                let voter = self.rng.pick(&current.members).copied();
                self.join_somewhere(group, &current, Role::Log, voter)
            }
            Change::Invalid => self.nonsense(leader, group, &current),
            _ => {
                let (members, learners) = self.changed(change, &current);
                self.reconfigure(leader, group, current.generation, members, learners)
            }
        }
    }

    /// Cuts a leader off from all others, or from all but one, for long enough that another one is elected.
    fn muffle(&mut self, leader: NodeId) -> Result<(), Violation> {
        let nodes = self.scenario.nodes.clone();
        let spared = self.rng.pick(&nodes).copied();
        let spared = spared.filter(|_| self.rng.chance(500_000));
        let others: Vec<NodeId> = nodes.into_iter().filter(|n| Some(*n) != spared).collect();
        self.network.split(&[leader], &others);
        self.heal_after(4 * self.scenario.timing.leader_patience_ms)
    }

    fn changed(&mut self, change: Change, current: &Configuration) -> (Vec<Member>, Vec<Member>) {
        let (mut members, mut learners) = (current.members.clone(), current.learners.clone());
        let learner = self.rng.pick(&learners).copied();
        let member = self.rng.pick(&members).copied();
        match change {
            Change::Promote => {
                if let Some(learner) = learner {
                    learners.retain(|m| *m != learner);
                    members.retain(|m| m.node != learner.node);
                    members.push(learner);
                    // In the place of a log replica, or of anybody, or beside all.
                    let log = members.iter().find(|m| m.role == Role::Log).copied();
                    if let Some(gone) = log.or(member).filter(|m| *m != learner)
                        && self.rng.chance(800_000)
                    {
                        members.retain(|m| *m != gone);
                    }
                }
            }
            Change::Demote => {
                if let Some(member) = member {
                    members.retain(|m| *m != member);
                    learners.push(member);
                }
            }
            Change::Remove => {
                if let Some(learner) = learner.filter(|_| self.rng.chance(600_000)) {
                    learners.retain(|m| *m != learner);
                } else if let Some(member) = member {
                    members.retain(|m| *m != member);
                }
            }
            _ => {
                if !learners.is_empty() {
                    members = std::mem::take(&mut learners);
                }
            }
        }
        (members, learners)
    }

    /// Orders a replica on a node that has none of the group. Only for a configuration that is settled.
    pub(crate) fn join_somewhere(
        &mut self,
        group: GroupId,
        current: &Configuration,
        role: Role,
        instead: Option<Member>,
    ) -> Result<(), Violation> {
        let settled = self
            .registry
            .get(group)
            .is_some_and(|k| k.committed == *current);
        if !settled || current.joint.is_some() {
            return Ok(());
        }
        let free: Vec<NodeId> = self
            .hosts
            .values()
            .filter(|host| host.up && !host.disk.groups.contains_key(&group))
            .map(|host| host.node)
            .collect();
        let zone = instead.map(|m| self.scenario.zone(m.node));
        let near = free
            .iter()
            .find(|node| Some(self.scenario.zone(**node)) == zone);
        let Some(node) = near.copied().or(self.rng.pick(&free).copied()) else {
            return Ok(());
        };
        let order = Order::Join {
            group,
            member: self.newcomer(node, role),
            configuration: current.clone(),
            instead,
            by: None,
        };
        self.order(node, &order);
        Ok(())
    }

    /// A change that must be refused, or one that comes too late, or to the wrong replica.
    fn nonsense(
        &mut self,
        leader: NodeId,
        group: GroupId,
        current: &Configuration,
    ) -> Result<(), Violation> {
        let (mut members, mut learners) = (current.members.clone(), current.learners.clone());
        let mut generation = current.generation;
        let mut at = leader;
        let anywhere = NodeId(1 + self.rng.below(9));
        let stranger = self.newcomer(anywhere, Role::Storage);
        match self.rng.below(9) {
            0 => generation = generation.saturating_sub(1),
            1 => generation += 1,
            2 => generation = u64::MAX,
            3 => members.clear(),
            4 => members.push(stranger),
            5 => learners.extend(members.first().copied()),
            6 => members.extend(members.first().copied()),
            7 => {
                members = (1..=8)
                    .map(|n| self.newcomer(NodeId(n), Role::Log))
                    .collect()
            }
            _ => at = *self.rng.pick(&self.scenario.nodes).unwrap_or(&leader),
        }
        if at != leader {
            // To a replica that does not lead: a change that would be fine.
            members.retain(|m| m.node != at);
        }
        let valid = at != leader && self.leader(group) == Some(at);
        if valid {
            return Ok(());
        }
        let input = Input::Reconfigure {
            generation,
            members,
            learners,
        };
        self.step(at, group, input)
    }
}
