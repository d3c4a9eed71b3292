//! A node's disk: one log for all its groups, written in order and durable only after a sync, and a B-tree a group. A
//! crash keeps an arbitrary prefix of what was written and not synced, down to the single entry.

use std::collections::{BTreeMap, VecDeque};

use partition::split::Side;
use partition::{Batch, PartitionState};
use paxos::{
    Ballot, Configuration, Entry, GroupId, Identity, Index, PersistOp, Position, Restored, Token,
};

use crate::fixture::MapTree;
use crate::splits::Children;

/// What of one group is durable.
#[derive(Clone, Debug)]
pub struct GroupDisk {
    /// What the replica is.
    pub identity: Identity,
    /// Promised ballot.
    pub promised: Ballot,
    /// Truncation floor.
    pub floor: Position,
    /// Configuration at the floor.
    pub configuration: Configuration,
    /// Entries above the floor.
    pub entries: BTreeMap<Index, Entry>,
    /// Whether the founding record was written.
    pub founded: bool,
    /// Items.
    pub tree: MapTree,
    /// State beside the items.
    pub state: PartitionState,
}

impl GroupDisk {
    /// A disk that knows nothing of the group but the order to found it.
    pub fn new(state: PartitionState, identity: Identity) -> GroupDisk {
        GroupDisk {
            identity,
            promised: Ballot::default(),
            floor: Position::default(),
            configuration: state.configuration.clone(),
            entries: BTreeMap::new(),
            founded: false,
            tree: MapTree::default(),
            state,
        }
    }

    /// The configuration in force, as far as it is durable.
    pub fn in_force(&self) -> &Configuration {
        let of = |entry: &'_ Entry| matches!(entry.payload, paxos::Payload::Config(_));
        match self.entries.values().rev().find(|entry| of(entry)) {
            Some(Entry {
                payload: paxos::Payload::Config(configuration),
                ..
            }) => configuration,
            _ => &self.configuration,
        }
    }

    /// Last durable position.
    pub fn last(&self) -> Position {
        self.entries
            .values()
            .next_back()
            .map_or(self.floor, Entry::position)
    }

    /// Ballot at `index`, if the log has it.
    pub fn ballot_at(&self, index: Index) -> Option<Ballot> {
        if index == self.floor.index {
            return Some(self.floor.ballot);
        }
        self.entries.get(&index).map(|entry| entry.ballot)
    }

    /// What a node finds when it starts.
    pub fn restored(&self) -> Restored {
        if !self.founded {
            return Restored::founding(self.identity, self.configuration.clone());
        }
        Restored {
            promised: self.promised,
            floor: self.floor,
            configuration: self.configuration.clone(),
            entries: self.entries.values().cloned().collect(),
            applied: Position {
                ballot: self.state.ballot,
                index: self.state.applied,
            },
            applied_configuration: Some(self.state.configuration.clone()),
            fresh: false,
            identity: self.identity,
        }
    }

    fn write(&mut self, op: PersistOp) {
        match op {
            PersistOp::Promise(ballot) => self.promised = ballot,
            PersistOp::TruncateFrom(index) => drop(self.entries.split_off(&index)),
            PersistOp::Append(entries) => {
                self.entries
                    .extend(entries.into_iter().map(|entry| (entry.index, entry)));
            }
            PersistOp::Install {
                index,
                ballot,
                configuration,
                identity,
            } => {
                self.founded = true;
                self.identity = identity;
                self.entries.clear();
                self.floor = Position { ballot, index };
                self.configuration = configuration;
            }
            PersistOp::Floor {
                index,
                ballot,
                configuration,
            } => {
                self.entries = self.entries.split_off(&(index + 1));
                self.floor = Position { ballot, index };
                self.configuration = configuration;
            }
        }
    }

    /// A flush became durable.
    pub fn flush(&mut self, batch: Batch) {
        for (key, item) in batch.items.iter() {
            match item {
                Some(item) => drop(self.tree.0.insert(key.clone(), item.clone())),
                None => drop(self.tree.0.remove(key)),
            }
        }
        self.state = batch.state;
    }

    /// A copy takes the place of the B-tree.
    pub fn install(&mut self, tree: MapTree, state: PartitionState) {
        self.tree = tree;
        self.state = state;
    }
}

/// A batch of one group under way.
#[derive(Debug)]
struct Write {
    group: GroupId,
    /// The replica that wrote it: nothing of it reaches another one of the same group.
    incarnation: u64,
    token: Token,
    ops: Vec<PersistOp>,
}

/// A batch that became durable.
#[derive(Debug)]
pub struct Synced {
    /// Its group.
    pub group: GroupId,
    /// Its token.
    pub token: Token,
    /// What it holds.
    pub ops: Vec<PersistOp>,
}

/// A node's disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// Durable state by group.
    pub groups: BTreeMap<GroupId, GroupDisk>,
    /// B-trees of splits' children, by parent.
    pub children: BTreeMap<GroupId, Children>,
    queue: VecDeque<Write>,
    /// How many of the queue the sync under way covers.
    syncing: usize,
}

impl Disk {
    /// A disk that holds these groups.
    pub fn new(groups: BTreeMap<GroupId, GroupDisk>) -> Disk {
        Disk {
            groups,
            ..Disk::default()
        }
    }

    /// One of the three transactions of a flush: the children's, if there are any, then the parent's.
    pub fn flush(&mut self, group: GroupId, batch: &Batch, step: usize, parent_first: bool) {
        let side = match (step, parent_first) {
            (0, false) | (1, true) => Some(Side::Left),
            (1, false) | (2, true) => Some(Side::Right),
            _ => None,
        };
        match side {
            Some(side) => {
                if let Some(children) = self.children.get_mut(&group) {
                    children.flush(side, batch);
                }
            }
            None => {
                if let Some(disk) = self.groups.get_mut(&group) {
                    disk.flush(batch.clone());
                }
            }
        }
    }

    /// Puts a batch behind the others. True: no sync is under way, start one.
    pub fn write(
        &mut self,
        group: GroupId,
        incarnation: u64,
        token: Token,
        ops: Vec<PersistOp>,
    ) -> bool {
        self.queue.push_back(Write {
            group,
            incarnation,
            token,
            ops,
        });
        self.syncing == 0
    }

    /// The very replica, if it is (still) here.
    fn replica(&mut self, group: GroupId, incarnation: u64) -> Option<&mut GroupDisk> {
        let disk = self.groups.get_mut(&group)?;
        (disk.identity.incarnation == incarnation).then_some(disk)
    }

    /// Starts a sync of all that is queued (group commit). False: nothing is.
    pub fn begin_sync(&mut self) -> bool {
        self.syncing = self.queue.len();
        self.syncing > 0
    }

    /// The sync is done: what is durable now, in order.
    pub fn end_sync(&mut self) -> Vec<Synced> {
        let done: Vec<Write> = self.queue.drain(..self.syncing).collect();
        self.syncing = 0;
        let mut durable = Vec::with_capacity(done.len());
        for write in done {
            let Write {
                group,
                incarnation,
                token,
                ops,
            } = write;
            let Some(disk) = self.replica(group, incarnation) else {
                continue;
            };
            for op in &ops {
                disk.write(op.clone());
            }
            durable.push(Synced { group, token, ops });
        }
        durable
    }

    /// How much a crash may find of the unsynced queue: operations, entries counted singly.
    pub fn unsynced(&self) -> u64 {
        let of_op = |op: &PersistOp| match op {
            PersistOp::Append(entries) => entries.len() as u64,
            _ => 1,
        };
        let ops = self.queue.iter().flat_map(|write| &write.ops);
        ops.map(of_op).sum()
    }

    /// The node dies; the first `survive` unsynced operations reach the disk all the same. Returns what did, by group.
    pub fn crash(&mut self, mut survive: u64) -> Vec<(GroupId, Vec<PersistOp>)> {
        self.syncing = 0;
        let mut torn = Vec::new();
        for write in std::mem::take(&mut self.queue) {
            let (group, incarnation) = (write.group, write.incarnation);
            for mut op in write.ops {
                if survive == 0 {
                    continue;
                }
                if let PersistOp::Append(entries) = &mut op {
                    entries.truncate(survive as usize);
                    survive -= entries.len() as u64;
                } else {
                    survive -= 1;
                }
                if let Some(disk) = self.replica(group, incarnation) {
                    disk.write(op.clone());
                    torn.push((group, vec![op]));
                }
            }
        }
        torn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::founding_state;
    use paxos::Payload;

    fn entry(index: Index) -> Entry {
        Entry {
            index,
            ballot: Ballot::from((1, 1)),
            payload: Payload::Noop,
        }
    }

    fn disk() -> Disk {
        let mut disk = Disk::default();
        let state = founding_state(&Configuration::default());
        let identity = Identity {
            incarnation: 1,
            role: paxos::Role::Storage,
            generation: 1,
        };
        disk.groups
            .insert(GroupId(1), GroupDisk::new(state, identity));
        disk
    }

    #[test]
    fn a_crash_keeps_a_prefix_and_a_sync_keeps_all() {
        for survive in 0..=4 {
            let mut disk = disk();
            let promise = PersistOp::Promise(Ballot::from((1, 1)));
            let ops = vec![promise, PersistOp::Append(vec![entry(1), entry(2)])];
            assert!(disk.write(GroupId(1), 1, Token(1), ops));
            disk.write(GroupId(1), 1, Token(2), vec![PersistOp::TruncateFrom(1)]);
            assert_eq!(disk.unsynced(), 4);
            disk.crash(survive);
            let group = &disk.groups[&GroupId(1)];
            assert_eq!(group.promised.round, u64::from(survive > 0));
            let expected = [0, 0, 1, 2, 0][survive as usize];
            assert_eq!(group.entries.len(), expected, "{survive} operations");
        }
        let mut disk = disk();
        disk.write(
            GroupId(1),
            1,
            Token(1),
            vec![PersistOp::Append(vec![entry(1)])],
        );
        assert!(disk.begin_sync());
        assert!(!disk.write(
            GroupId(1),
            1,
            Token(2),
            vec![PersistOp::Append(vec![entry(2)])]
        ));
        assert_eq!(
            disk.end_sync().len(),
            1,
            "what came later waits for the next sync"
        );
        assert_eq!(disk.groups[&GroupId(1)].last().index, 1);
        assert!(disk.begin_sync());
    }
}
