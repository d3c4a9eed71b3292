//! The B-trees of a split's children on a simulated disk, before and while they become replicas.

use partition::PartitionState;
use partition::split::{self, Filling, SIDES, Side};
use paxos::GroupId;
use protocol::split::Split;

use crate::disk::GroupDisk;
use crate::fixture::MapTree;
use crate::host::Host;

/// A child's B-tree that is no replica yet.
#[derive(Clone, Debug)]
pub struct ChildDisk {
    /// Items.
    pub tree: MapTree,
    /// State beside them, with the cursor.
    pub state: PartitionState,
    /// Steps of its installation that are done: first state, folder's name, log.
    pub installed: u8,
}

/// The steps of a child's installation.
pub(super) const INSTALL_STEPS: u8 = 3;

/// The children's B-trees of one split on a node.
#[derive(Clone, Debug)]
pub struct Children {
    /// The split.
    pub split: Split,
    /// Left and right, if they are made.
    pub trees: [Option<ChildDisk>; 2],
    /// Greatest position of a batch that any of them got: after a crash they may be ahead of the parent.
    pub reached: u64,
    /// A cursor that is to be moved in a transaction of its own: a deliberate bug.
    pub(super) owed: [Option<Filling>; 2],
}

impl Children {
    pub(super) fn of(split: &Split) -> Children {
        Children {
            split: split.clone(),
            trees: [None, None],
            reached: 0,
            owed: [None, None],
        }
    }

    /// The part of a parent's batch that concerns a child, in one transaction.
    pub fn flush(&mut self, side: Side, batch: &partition::Batch) {
        let Some(child) = &mut self.trees[side as usize] else {
            return;
        };
        self.reached = self.reached.max(batch.state.applied);
        for (key, item) in split::changes_for(batch, &child.state) {
            match item {
                Some(item) => drop(child.tree.0.insert(key, item)),
                None => drop(child.tree.0.remove(&key)),
            }
        }
    }

    pub(super) fn fillings(&self) -> Option<[Filling; 2]> {
        let of = |child: &ChildDisk| child.state.filling.clone().unwrap_or(Filling::FULL);
        match &self.trees {
            [Some(left), Some(right)] => Some([of(left), of(right)]),
            _ => None,
        }
    }
}

impl Host {
    /// Goes on with installations that a crash interrupted, as a node does when it starts: what is complete is noted, what is not
    /// is taken back.
    pub(crate) fn complete_installs(&mut self) {
        let parents: Vec<GroupId> = self.disk.children.keys().copied().collect();
        for parent in parents {
            let Some(mut children) = self.disk.children.remove(&parent) else {
                continue;
            };
            let Some(disk) = self.disk.groups.get(&parent) else {
                continue;
            };
            let named = disk.state.split.as_ref().map(|split| split.left);
            if disk.state.installed || named != Some(children.split.left) {
                // Nobody knows of them.
                continue;
            }
            let done = SIDES.into_iter().all(|side| {
                let joined = self
                    .disk
                    .groups
                    .contains_key(&split::child_of(&children.split, side));
                let child = &children.trees[side as usize];
                joined
                    || child
                        .as_ref()
                        .is_some_and(|child| child.installed == INSTALL_STEPS)
            });
            if disk.state.has_ended() && done {
                self.note_installed(parent, children);
                if let Some(disk) = self.disk.groups.get_mut(&parent) {
                    disk.state.installed = true;
                }
                continue;
            }
            for child in children.trees.iter_mut().flatten() {
                child.installed = child.installed.min(1);
            }
            self.disk.children.insert(parent, children);
        }
    }

    /// The children's B-trees are replicas from now on. Returns which.
    pub(crate) fn note_installed(&mut self, parent: GroupId, children: Children) -> Vec<GroupId> {
        let Some(disk) = self.disk.groups.get(&parent) else {
            return Vec::new();
        };
        let member = paxos::Member {
            node: self.node,
            role: disk.identity.role,
            incarnation: disk.identity.incarnation,
        };
        let mut made = Vec::new();
        for (side, child) in SIDES.into_iter().zip(children.trees) {
            let id = split::child_of(&children.split, side);
            let Some(child) = child.filter(|_| !self.disk.groups.contains_key(&id)) else {
                continue;
            };
            let restored = split::restored_child(&child.state, &member);
            let disk = GroupDisk {
                floor: restored.floor,
                founded: true,
                tree: child.tree,
                ..GroupDisk::new(child.state, restored.identity)
            };
            self.disk.groups.insert(id, disk);
            made.push(id);
        }
        made
    }

    /// Whether a number is kept for a child that is being installed.
    pub(crate) fn reserves(&self, group: GroupId) -> bool {
        self.disk.children.values().any(|children| {
            SIDES.into_iter().zip(&children.trees).any(|(side, child)| {
                let is_it = split::child_of(&children.split, side) == group;
                is_it && child.as_ref().is_some_and(|child| child.installed > 0)
            })
        })
    }
}
