//! What an onlooker knows of each group's members: the newest committed configuration, who ever voted, what became of
//! replicas that are gone. Decides nothing; the replicas never see it.

use std::collections::{BTreeMap, BTreeSet};

use paxos::{Ballot, Body, Configuration, GroupId, Member, Message, NodeId, Output, Payload, Role};

use crate::coverage::Coverage;
use crate::disk::GroupDisk;
use crate::world::World;

/// What is known of a group.
#[derive(Debug)]
pub struct Known {
    /// The newest committed configuration.
    pub committed: Configuration,
    /// Ballot in which it was proposed.
    ballot: Ballot,
    /// Everybody who ever had a vote.
    voted: BTreeSet<Member>,
    /// What replicas that are gone (dropped, or lost with their disk) had durable at the end.
    pub graves: Vec<(NodeId, GroupDisk)>,
    /// The last ballot that each node asked promises for.
    asked: BTreeMap<NodeId, Ballot>,
}

/// What is known of all groups.
#[derive(Debug)]
pub struct Registry(BTreeMap<GroupId, Known>);

impl Registry {
    /// Groups as they are founded.
    pub fn new(groups: &[(GroupId, Configuration)]) -> Registry {
        let mut registry = Registry(BTreeMap::new());
        for (group, configuration) in groups {
            registry.found(*group, configuration);
        }
        registry
    }

    /// Another group is founded.
    pub fn found(&mut self, group: GroupId, configuration: &Configuration) {
        let known = Known {
            committed: configuration.clone(),
            ballot: Ballot::default(),
            voted: configuration.members.iter().copied().collect(),
            graves: Vec::new(),
            asked: BTreeMap::new(),
        };
        self.0.insert(group, known);
    }

    /// One group.
    pub fn get(&self, group: GroupId) -> Option<&Known> {
        self.0.get(&group)
    }

    /// A replica is gone with all that it had.
    pub fn bury(&mut self, group: GroupId, node: NodeId, disk: GroupDisk) {
        if let Some(known) = self.0.get_mut(&group) {
            known.graves.push((node, disk));
        }
    }
}

impl Known {
    /// The voters' nodes, as the directory would name them.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.committed.members.iter().map(|m| m.node).collect()
    }

    /// A configuration was committed.
    fn commits(&mut self, ballot: Ballot, next: &Configuration, coverage: &mut Coverage) {
        if next.generation <= self.committed.generation {
            return;
        }
        let before = std::mem::replace(&mut self.committed, next.clone());
        let changed_hands = ballot != std::mem::replace(&mut self.ballot, ballot);
        coverage.hit("configuration committed");
        if before.joint.is_some() && next.joint.is_none() && changed_hands {
            coverage.hit("joint change completed by another leader");
        }
        for member in &next.members {
            let again = !self.voted.insert(*member);
            if before.members.contains(member) {
                continue;
            }
            coverage.hit(match (member.role, again) {
                (Role::Log, _) => "log replica got a vote",
                (Role::Storage, true) => "learner got its vote back",
                (Role::Storage, false) => "new storage replica got a vote",
            });
        }
        let stays = |m: &Member| next.members.iter().chain(&next.learners).any(|n| n == m);
        if !before.members.iter().any(stays) {
            coverage.hit("all members replaced at once");
        }
    }
}

impl World {
    /// Follows what an output shows of the members.
    pub(crate) fn watch(&mut self, node: NodeId, group: GroupId, output: &Output) {
        self.follow_log(group, &output.committed);
        let Some(known) = self.registry.0.get_mut(&group) else {
            return;
        };
        for entry in &output.committed {
            if let Payload::Config(next) = &entry.payload {
                known.commits(entry.ballot, next, &mut self.coverage);
            }
        }
        let prepares = |(_, message): &(NodeId, Message)| match &message.body {
            Body::Prepare { ballot } => Some(*ballot),
            _ => None,
        };
        if let Some(ballot) = output.send.iter().find_map(prepares)
            && known.asked.insert(node, ballot) == Some(ballot)
        {
            self.coverage.hit("candidate asked again");
        }
        match &output.reconfigured {
            Some(Ok(_)) => self.coverage.hit("change taken"),
            Some(Err(why)) => self.coverage.hit(match why {
                paxos::ReconfigureRefusal::NotLeader(_) => "change refused: not leader",
                paxos::ReconfigureRefusal::NotServing => "change refused: not serving",
                paxos::ReconfigureRefusal::Stale(_) => "change refused: stale",
                paxos::ReconfigureRefusal::UnderWay => "change refused: under way",
                paxos::ReconfigureRefusal::NotInStep(_) => "change refused: not in step",
                paxos::ReconfigureRefusal::Invalid(_) => "change refused: invalid",
            }),
            None => {}
        }
    }

    /// A candidate gets entries: perhaps ones that only a log replica has.
    pub(crate) fn watch_fetched(&mut self, node: NodeId, group: GroupId, message: &Message) {
        let Body::Fetched { entries, .. } = &message.body else {
            return;
        };
        let log = matches!(self.identity(node, group), Some((Role::Log, _)));
        let Some(last) = entries.last().filter(|_| log) else {
            return;
        };
        let elsewhere = self.hosts.values().any(|host| {
            let disk = host.disk.groups.get(&group);
            let has = disk.is_some_and(|disk| disk.ballot_at(last.index) == Some(last.ballot));
            host.node != node && host.up && has
        });
        if !elsewhere {
            self.coverage.hit("adopted what only a log replica had");
        }
    }

    /// Role and incarnation of a replica that runs.
    pub(crate) fn identity(&self, node: NodeId, group: GroupId) -> Option<(Role, u64)> {
        let hosted = self.hosts.get(&node)?.groups.get(&group)?;
        let identity = hosted.replica.identity();
        Some((identity.role, identity.incarnation))
    }
}
