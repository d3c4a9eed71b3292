//! Groups among their relatives: which came from which, what their logs say that they hold, and the checks of that.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::KeyRange;
use partition::Command;
use partition::split::{self, SIDES};
use paxos::{Entry, GroupId, NodeId, Payload};

use crate::checks::blame;
use crate::fixture;
use crate::host::Host;
use crate::world::{Violation, World, broken};

/// A group among its relatives, and what its log says that it holds.
#[derive(Clone, Debug)]
pub struct Line {
    /// The group with which it all began.
    pub root: GroupId,
    /// Its keys.
    pub range: KeyRange,
    /// What it was split into, once that is committed.
    pub children: Option<[GroupId; 2]>,
    /// Items by key, as of the last entry that anybody applied.
    pub items: BTreeMap<Bytes, Bytes>,
    /// Position of that entry.
    applied: u64,
}

impl Line {
    /// A group that was there from the beginning.
    pub fn root(root: GroupId) -> Line {
        Line {
            root,
            range: fixture::whole_range(),
            children: None,
            items: BTreeMap::new(),
            applied: 0,
        }
    }

    fn apply(&mut self, entry: &Entry) {
        if entry.index != self.applied + 1 {
            return;
        }
        self.applied = entry.index;
        let Payload::Command(bytes) = &entry.payload else {
            return;
        };
        if let Ok(Command {
            kind: partition::command::CommandKind::Write(write),
            ..
        }) = Command::decode(bytes)
        {
            match write.item {
                Some(item) => drop(self.items.insert(write.key, item)),
                None => drop(self.items.remove(&write.key)),
            }
        }
    }
}

impl World {
    /// Follows what the log of a group says.
    pub(crate) fn follow_log(&mut self, group: GroupId, committed: &[Entry]) {
        if let Some(line) = self.lines.get_mut(&group) {
            committed.iter().for_each(|entry| line.apply(entry));
        }
    }

    /// The group that has this key now.
    pub(crate) fn owner(&self, root: GroupId, key: u64) -> GroupId {
        let mut owner = root;
        while let Some(child) = self.child_with(owner, key) {
            owner = child;
        }
        owner
    }

    /// The child of a group that ended which has this key.
    pub(crate) fn child_with(&self, group: GroupId, key: u64) -> Option<GroupId> {
        let children = self.lines.get(&group)?.children?;
        let key = fixture::key(key);
        let has = |child: &GroupId| {
            self.lines
                .get(child)
                .is_some_and(|l| l.range.contains(&key))
        };
        children.into_iter().find(has)
    }

    /// The first replica applied the end of its partition: the world knows the children from now on.
    pub(crate) fn notice_end(&mut self, node: NodeId, group: GroupId) -> Result<(), Violation> {
        let known = self
            .lines
            .get(&group)
            .is_none_or(|line| line.children.is_some());
        let Some(hosted) = self.hosted(node, group).filter(|_| !known) else {
            return Ok(());
        };
        let state = hosted.partition.state().clone();
        let Some(split) = &state.split else {
            return Ok(());
        };
        let Some(committed) = &split.committed else {
            return Ok(());
        };
        self.coverage.hit("split committed");
        let Some(line) = self.lines.get_mut(&group) else {
            return Ok(());
        };
        line.children = Some([split.left, split.right]);
        let (root, items) = (line.root, line.items.clone());
        for side in SIDES {
            let id = split::child_of(split, side);
            let begun = split::begun_child(&state, group, split, committed, side);
            let items = items.clone().into_iter();
            let line = Line {
                root,
                items: items.filter(|(key, _)| begun.range.contains(key)).collect(),
                range: begun.range,
                children: None,
                applied: begun.applied,
            };
            self.lines.insert(id, line);
            for invariant in &mut self.invariants {
                invariant.founded(id, &begun.configuration);
            }
            self.registry.found(id, &begun.configuration);
            self.scenario.groups.push((id, begun.configuration));
        }
        Ok(())
    }

    /// At most one of a parent and its children serves a key at a time.
    pub(crate) fn check_family(&self, group: GroupId) -> Result<(), Violation> {
        let Some(root) = self.lines.get(&group).map(|line| line.root) else {
            return Ok(());
        };
        if self
            .lines
            .get(&root)
            .is_none_or(|line| line.children.is_none())
        {
            return Ok(());
        }
        let mut serving: Vec<(NodeId, GroupId, &KeyRange)> = Vec::new();
        for host in self.hosts.values().filter(|host| host.up) {
            let now = host.clock.at(self.now);
            for (id, hosted) in &host.groups {
                let Some(line) = self.lines.get(id).filter(|line| line.root == root) else {
                    continue;
                };
                let ballot = hosted.replica.status().promised;
                if hosted.replica.can_serve_reads(now) && hosted.partition.serves(ballot) {
                    serving.push((host.node, *id, &line.range));
                }
            }
        }
        for (number, (node, id, range)) in serving.iter().enumerate() {
            let other = serving[..number].iter();
            let mut other = other.filter(|(_, _, r)| !range.intersection(r).is_empty());
            if let Some((other, other_id, _)) = other.next() {
                let what = format!(
                    "node {} serves group {}, node {} group {}",
                    other.0, other_id.0, node.0, id.0
                );
                return broken("at most one of parent and children serves a key", what);
            }
        }
        Ok(())
    }

    /// Whether a partition ends, or has ended, as anybody knows: nobody changes its members any more.
    pub(crate) fn is_ending(&self, group: GroupId) -> bool {
        let ended = self
            .lines
            .get(&group)
            .is_some_and(|line| line.children.is_some());
        ended
            || self.hosts.values().any(|host| {
                host.groups.get(&group).is_some_and(|hosted| {
                    let ballot = hosted.replica.status().promised;
                    hosted.partition.is_committing(ballot)
                })
            })
    }

    /// Why a group's split, if it has one, is not over; none: it is.
    pub(crate) fn split_pending(&self, group: GroupId) -> Option<&'static str> {
        let ended = self
            .lines
            .get(&group)
            .is_some_and(|line| line.children.is_some());
        if ended {
            return Some("a parent is still there");
        }
        let begun = |host: &Host| {
            // What was made for a change that was undone hears of nothing.
            let known = self.registry.get(group);
            let identity = host.disk.groups.get(&group).map(|disk| disk.identity);
            let named = known.zip(identity).is_some_and(|(known, identity)| {
                known.committed.contains(host.node, identity.incarnation)
            });
            if !named {
                return false;
            }
            let hosted = host.groups.get(&group);
            let begun = hosted.is_some_and(|hosted| hosted.partition.state().split.is_some());
            begun || host.disk.children.contains_key(&group)
        };
        self.hosts
            .values()
            .any(begun)
            .then_some("a split is under way")
    }

    /// At the end, every replica of every group holds what the log of its group says, from the first group on.
    pub(crate) fn check_items(&self) -> Result<(), Violation> {
        for (group, _) in &self.scenario.groups {
            let Some(line) = self.lines.get(group) else {
                continue;
            };
            for host in self.hosts.values() {
                let (Some(hosted), Some(disk)) =
                    (host.groups.get(group), host.disk.groups.get(group))
                else {
                    continue;
                };
                let known = self.registry.get(*group);
                let named = known.is_some_and(|known| {
                    known
                        .committed
                        .contains(host.node, disk.identity.incarnation)
                });
                if !named || disk.identity.role == paxos::Role::Log {
                    continue;
                }
                for key in 0..self.scenario.keys {
                    if !line.range.contains(&fixture::key(key)) {
                        continue;
                    }
                    let get = fixture::get(key);
                    let found = hosted.partition.get(&disk.tree, &get);
                    let expected = line.items.get(&fixture::key(key));
                    let same = matches!(&found, Ok(protocol::item::ItemReply::Item { item, .. }) if item.as_ref() == expected);
                    if !same {
                        let what = format!(
                            "node {} of group {}, k{key}: {found:?}",
                            host.node.0, group.0
                        );
                        return blame("replicas hold what their log says", Err(what));
                    }
                }
            }
        }
        Ok(())
    }
}
