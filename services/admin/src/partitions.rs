//! The partitions as their leaders push them. Owns the newest word of each; never decides.

use std::collections::{BTreeMap, BTreeSet};

use model::TableId;
use model::table::TableCounts;
use paxos::{GroupId, NodeId, Role};
use protocol::directory::{PartitionInfo, PlacedMember, Push};

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

    /// Whether there is a replica of it on `node`.
    pub(crate) fn on(&self, node: NodeId) -> bool {
        self.replicas().any(|m| m.member.node == node)
    }
}

/// All partitions.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    seen: BTreeMap<GroupId, Seen>,
}

impl Partitions {
    /// Takes in a push.
    pub(crate) fn learn(&mut self, push: Push, now_ms: u64) {
        for partition in push.dropped {
            self.seen.remove(&partition);
        }
        for info in push.partitions {
            let full = self.seen.len() >= PARTITIONS_MAX;
            let id = info.partition;
            match self.seen.get_mut(&id) {
                // A leader that lost office and does not know it yet says nothing new.
                Some(seen) if seen.info.newer_than(&info) => {}
                Some(seen) => {
                    *seen = Seen {
                        info,
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

    /// Items and bytes of a table, as far as its leaders have spoken.
    pub(crate) fn counts(&self, table: TableId) -> TableCounts {
        let mut counts = TableCounts::default();
        for seen in self.seen.values().filter(|seen| seen.info.table == table) {
            counts.items += seen.info.items;
            counts.size_bytes += seen.info.bytes;
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
}
