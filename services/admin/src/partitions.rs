//! The partitions as their leaders push them. Owns the newest word of each; never decides.

use std::collections::{BTreeMap, BTreeSet};

use model::TableId;
use model::table::TableCounts;
use paxos::{GroupId, NodeId, Role};
use protocol::directory::{PartitionInfo, PlacedMember, Push};
use protocol::split::SplitStage;

/// Partitions kept at most: beyond it, new ones are not watched.
const PARTITIONS_MAX: usize = 2_000_000;
/// A leader pushes every few seconds; a partition that was silent for so long has none, milliseconds.
pub(crate) const FRESH_MS: u64 = 15_000;

/// A partition.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) info: PartitionInfo,
    pub(crate) heard_ms: u64,
}

impl Seen {
    pub(crate) fn fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms) < FRESH_MS
    }

    /// All replicas, voters first; a node may have two (its old one and a new one).
    pub(crate) fn replicas(&self) -> impl Iterator<Item = &PlacedMember> {
        self.info.members.iter().chain(&self.info.learners)
    }

    /// It has been split, or is at the point of it: its members stay as they are, and it serves nobody any more.
    pub(crate) fn ended(&self) -> bool {
        let split = self.info.split.as_ref();
        split.is_some_and(|split| split.stage != SplitStage::Preparing)
    }

    /// Whether there is a replica of it on `node`.
    pub(crate) fn on(&self, node: NodeId) -> bool {
        self.replicas().any(|m| m.member.node == node)
    }
}

/// Partitions that have ended, remembered at most.
const ENDED_MAX: usize = 10_000;

/// All partitions.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    seen: BTreeMap<GroupId, Seen>,
    /// Partitions that were split and are being dropped: their late pushes say nothing new. Numbers are never used again.
    ended: BTreeSet<GroupId>,
}

impl Partitions {
    /// Takes in a push.
    pub(crate) fn learn(&mut self, push: Push, now_ms: u64) {
        for partition in push.dropped {
            self.seen.remove(&partition);
        }
        let ended = &self.ended;
        let pushed = push.partitions.into_iter();
        for info in pushed.filter(|info| !ended.contains(&info.partition)) {
            let full = self.seen.len() >= PARTITIONS_MAX;
            let id = info.partition;
            match self.seen.get_mut(&id) {
                // A leader that lost office and does not know it yet says nothing new.
                Some(seen) if seen.info.newer_than(&info) => {}
                Some(seen) => {
                    // A new leader counts anew.
                    let index_counts = info.index_counts.or(seen.info.index_counts.take());
                    *seen = Seen {
                        info: PartitionInfo {
                            index_counts,
                            ..info
                        },
                        heard_ms: now_ms,
                    };
                }
                None if !full => {
                    let seen = Seen {
                        info,
                        heard_ms: now_ms,
                    };
                    self.seen.insert(id, seen);
                }
                None => {}
            }
        }
    }

    pub(crate) fn get(&self, partition: GroupId) -> Option<&Seen> {
        self.seen.get(&partition)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (GroupId, &Seen)> {
        self.seen.iter().map(|(&id, seen)| (id, seen))
    }

    /// Forgets what `keep` does not want: partitions of tables that are gone.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(GroupId, &Seen) -> bool) {
        self.seen.retain(|&id, seen| keep(id, seen));
    }

    /// Forgets a partition that has ended, for good.
    pub(crate) fn end(&mut self, partition: GroupId) {
        self.seen.remove(&partition);
        self.ended.insert(partition);
        while self.ended.len() > ENDED_MAX {
            self.ended.pop_first();
        }
    }

    /// Partitions that have ended in two children, both of which are heard: the parents' last word counts no more.
    pub(crate) fn superseded(&self) -> BTreeSet<GroupId> {
        let mut heard: BTreeMap<GroupId, u8> = BTreeMap::new();
        for parent in self.seen.values().filter_map(|seen| seen.info.parent) {
            *heard.entry(parent).or_insert(0) += 1;
        }
        let both = heard.into_iter().filter(|&(_, children)| children >= 2);
        both.map(|(parent, _)| parent).collect()
    }

    /// Items and bytes of a table, as far as its leaders have spoken. Keys that are a parent's and a child's at the moment count once.
    pub(crate) fn counts(&self, table: TableId) -> TableCounts {
        let mut counts = TableCounts::default();
        let superseded = self.superseded();
        let counted = |(id, seen): &(&GroupId, &Seen)| {
            let waits =
                |parent: &GroupId| self.seen.contains_key(parent) && !superseded.contains(parent);
            seen.info.table == table
                && !superseded.contains(id)
                && !seen.info.parent.as_ref().is_some_and(waits)
        };
        for (_, seen) in self.seen.iter().filter(counted) {
            counts.items += seen.info.items;
            counts.size_bytes += seen.info.bytes;
            for count in seen.info.index_counts.iter().flatten() {
                let (items, bytes) = counts.local_indexes.entry(count.index).or_default();
                *items += count.items;
                *bytes += count.bytes;
            }
        }
        counts
    }

    /// Storage replicas by node, as the leaders place them.
    pub(crate) fn storage_replicas(&self) -> BTreeMap<NodeId, u64> {
        let mut counts = BTreeMap::new();
        for seen in self.seen.values() {
            let storage = seen.replicas().filter(|m| m.member.role == Role::Storage);
            for member in storage {
                *counts.entry(member.member.node).or_insert(0) += 1;
            }
        }
        counts
    }

    /// Who talks to whom all the time: leaders and those who follow them.
    pub(crate) fn talking(&self, now_ms: u64) -> BTreeSet<(NodeId, NodeId)> {
        let mut pairs = BTreeSet::new();
        for seen in self.seen.values().filter(|seen| seen.fresh(now_ms)) {
            let leader = seen.info.leader.into_iter();
            let followers = |leader| seen.replicas().map(move |m| (leader, m.member.node));
            pairs.extend(leader.flat_map(followers));
        }
        pairs
    }

    /// Leaders by node.
    pub(crate) fn leaders(&self, now_ms: u64) -> BTreeMap<NodeId, u64> {
        let mut counts = BTreeMap::new();
        for seen in self.seen.values().filter(|seen| seen.fresh(now_ms)) {
            if let Some(leader) = seen.info.leader {
                *counts.entry(leader).or_insert(0) += 1;
            }
        }
        counts
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use model::key::table_range;
    use paxos::{Ballot, Member};

    pub(crate) fn storage_member(node: u64, zone: &str, incarnation: u64) -> PlacedMember {
        let member = Member {
            node: NodeId(node),
            role: Role::Storage,
            incarnation,
        };
        PlacedMember {
            member,
            zone: zone.to_owned(),
        }
    }

    /// A partition on these nodes (and zones), led by the first.
    pub(crate) fn info(id: u64, members: &[(u64, &str)]) -> PartitionInfo {
        let members: Vec<_> = members
            .iter()
            .map(|&(node, zone)| storage_member(node, zone, 1))
            .collect();
        PartitionInfo {
            partition: GroupId(id),
            table: TableId(16),
            range: table_range(TableId(16)),
            generation: 1,
            ballot: Ballot {
                round: 1,
                node: members[0].member.node,
            },
            leader: Some(members[0].member.node),
            members,
            learners: Vec::new(),
            progress: Vec::new(),
            changing: false,
            table_version: 1,
            items: 10,
            bytes: 100,
            ..PartitionInfo::default()
        }
    }

    pub(crate) fn push(partitions: Vec<PartitionInfo>) -> Push {
        Push {
            node: NodeId(1),
            partitions,
            tables: Vec::new(),
            dropped: Vec::new(),
        }
    }

    #[test]
    fn the_newest_word_counts_and_the_same_word_brings_news() {
        let mut partitions = Partitions::default();
        let old = info(20, &[(1, "az1"), (2, "az2"), (3, "az3")]);
        let mut new = old.clone();
        new.ballot.round = 2;
        new.leader = Some(NodeId(2));
        partitions.learn(push(vec![new.clone()]), 100);
        partitions.learn(push(vec![old]), 200);
        let seen = partitions.get(GroupId(20)).unwrap();
        assert_eq!((seen.info.leader, seen.heard_ms), (Some(NodeId(2)), 100));
        new.items = 12;
        partitions.learn(push(vec![new]), 300);
        assert_eq!(partitions.get(GroupId(20)).unwrap().heard_ms, 300);
        partitions.learn(
            push(vec![info(21, &[(1, "az1"), (2, "az2"), (4, "az3")])]),
            300,
        );
        let counts = partitions.counts(TableId(16));
        assert_eq!((counts.items, counts.size_bytes), (22, 200));
        assert_eq!(partitions.counts(TableId(17)), TableCounts::default());
        assert_eq!(partitions.storage_replicas()[&NodeId(1)], 2);
        assert_eq!(
            partitions.leaders(300),
            BTreeMap::from([(NodeId(1), 1), (NodeId(2), 1)])
        );
        assert!(partitions.leaders(300 + FRESH_MS).is_empty());
        let mut gone = push(vec![]);
        gone.dropped.push(GroupId(20));
        partitions.learn(gone, 400);
        assert!(partitions.get(GroupId(20)).is_none());
    }

    #[test]
    fn items_count_once_while_a_partition_becomes_two() {
        let members = [(1, "az1"), (2, "az2"), (3, "az3")];
        let child = |id| {
            let mut child = info(id, &members);
            (child.parent, child.items, child.bytes) = (Some(GroupId(20)), 5, 50);
            child
        };
        let mut partitions = Partitions::default();
        let mut items = |pushed| {
            partitions.learn(push(vec![pushed]), 0);
            partitions.counts(TableId(16)).items
        };
        assert_eq!(items(info(20, &members)), 10);
        assert_eq!(items(child(30)), 10, "one child: the parent still counts");
        assert_eq!(items(child(31)), 10, "both children");
        partitions.end(GroupId(20));
        partitions.learn(push(vec![info(20, &members)]), 0);
        assert!(partitions.get(GroupId(20)).is_none(), "a late push");
        assert_eq!(partitions.counts(TableId(16)).items, 10);
    }
}
