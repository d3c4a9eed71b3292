//! Splits (ADR 0006): the rules by which a partition becomes two. Owns what a replica does next about its children's B-trees, which
//! keys they take, what the children begin with, and when a leader may commit. Never reads or writes a B-tree.

use bytes::Bytes;
use model::key::COLLECTION_BYTES;
use model::{EncodedKey, KeyRange};
use paxos::{
    Configuration, FollowerStatus, GroupId, Identity, Member, NodeId, Position, Restored, Role,
};
use protocol::changes::{Ancestor, ChangeState};
use protocol::split::{CommittedSplit, ReplicaStage, Split, SplitReport};
use serde::{Deserialize, Serialize};

use crate::change::{belongs, change_keys};
use crate::{Batch, PartitionState};

/// For how long a partition's end is remembered, milliseconds: records are kept for a day at most.
const LINEAGE_MS: u64 = 25 * 3_600_000;

/// One of the two children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The keys below the split's point.
    Left,
    /// The others.
    Right,
}

/// Both, in the order in which they are filled.
pub const SIDES: [Side; 2] = [Side::Left, Side::Right];

/// How far a child's B-tree is filled. Stored in it, in the same transaction as the items that it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filling {
    /// Of the keys up to this one the child holds what the parent's B-tree holds; none: of no key yet.
    pub cursor: Option<EncodedKey>,
    /// Of all keys.
    pub done: bool,
}

impl Filling {
    /// All items are there, and no change record: they come next.
    pub fn items_done() -> Filling {
        Filling {
            cursor: Some(change_keys().start),
            done: false,
        }
    }

    /// Items are done, change records are next.
    pub fn at_changes(&self) -> bool {
        let start = change_keys().start;
        self.cursor.as_ref().is_some_and(|cursor| *cursor >= start)
    }

    /// Everything is there.
    pub const FULL: Filling = Filling {
        cursor: None,
        done: true,
    };

    /// Whether a change of this key, which lies in the child's range, must be made in the child, too. What lies behind the cursor
    /// is copied later, as it is then.
    pub fn covers(&self, key: &[u8]) -> bool {
        self.done
            || self
                .cursor
                .as_ref()
                .is_some_and(|cursor| key <= &cursor[..])
    }

    /// After the next chunk, which ends with this key, was copied.
    pub fn advanced(&self, last: Option<&Bytes>, is_last: bool) -> Filling {
        Filling {
            cursor: last.cloned().or_else(|| self.cursor.clone()),
            done: is_last,
        }
    }
}

/// The child's number.
pub fn child_of(split: &Split, side: Side) -> GroupId {
    match side {
        Side::Left => split.left,
        Side::Right => split.right,
    }
}

/// The child's keys.
pub fn range_of(parent: &KeyRange, split: &Split, side: Side) -> KeyRange {
    match side {
        Side::Left => KeyRange {
            start: parent.start.clone(),
            end: split.point.clone(),
        },
        Side::Right => KeyRange {
            start: split.point.clone(),
            end: parent.end.clone(),
        },
    }
}

/// What the B-tree of a child holds before it is filled.
pub fn empty_child(
    parent: &PartitionState,
    id: GroupId,
    split: &Split,
    side: Side,
) -> PartitionState {
    PartitionState {
        parent: Some(id),
        time_ms: parent.time_ms,
        filling: Some(Filling::default()),
        ..PartitionState::empty(
            Configuration::default(),
            range_of(&parent.range, split, side),
            parent.table.clone(),
            parent.members.clone(),
        )
    }
}

/// What a child begins with, once its B-tree is filled: the parent as of `CommitSplit`. Its log begins behind the parent's last
/// position, so an empty replica that joins always needs a copy. The position's ballot is the least there is: the children's
/// ballots start anew, and every entry must be of a higher one than what is below it.
pub fn begun_child(
    parent: &PartitionState,
    id: GroupId,
    split: &Split,
    committed: &CommittedSplit,
    side: Side,
) -> PartitionState {
    PartitionState {
        applied: committed.at,
        begins: committed.at,
        backfills: parent.backfills.clone(),
        sources: parent.sources.clone(),
        transactions: parent
            .transactions
            .within(&range_of(&parent.range, split, side)),
        changes: inherited(parent, id, committed),
        configuration: Configuration::founding(committed.configuration.members.clone()),
        filling: None,
        ..empty_child(parent, id, split, side)
    }
}

/// What a child of partition `id` knows of change records to begin with. How many it has is counted in its B-tree.
fn inherited(parent: &PartitionState, id: GroupId, committed: &CommittedSplit) -> ChangeState {
    let changes = &parent.changes;
    let ended_ms = committed.time_ms;
    let older = changes.lineage.iter();
    let older = older.filter(|a| a.ended_ms + LINEAGE_MS > ended_ms);
    let last = Ancestor {
        partition: id,
        range: parent.range.clone(),
        begins: parent.begins,
        ends: committed.at,
        ended_ms,
    };
    ChangeState {
        count: 0,
        bytes: 0,
        trimmed: changes.trimmed,
        acknowledged: changes.acknowledged,
        lineage: older.cloned().chain([last]).collect(),
    }
}

/// What the replica of a child starts from, where the parent's replica was this member.
pub fn restored_child(state: &PartitionState, member: &Member) -> Restored {
    let position = Position {
        ballot: state.ballot,
        index: state.applied,
    };
    Restored {
        floor: position,
        applied: position,
        ..Restored::founding(child_identity(member), state.configuration.clone())
    }
}

/// What the replica of a child is, where the parent's replica was this member.
pub fn child_identity(member: &Member) -> Identity {
    Identity {
        incarnation: member.incarnation,
        role: member.role,
        generation: 1,
    }
}

/// The changes of a batch of the parent that must be made in a child with this state.
pub fn changes_for(batch: &Batch, child: &PartitionState) -> Vec<(Bytes, Option<Bytes>)> {
    let Some(filling) = &child.filling else {
        return Vec::new();
    };
    let taken = batch.items.iter();
    taken
        .filter(|(key, item)| belongs(&child.range, key, item.as_deref()) && filling.covers(key))
        .map(|(key, item)| (key.clone(), item.clone()))
        .collect()
}

/// What is known on a node of a parent and its children's B-trees.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// The parent's state in its B-tree, durable.
    pub durable: &'a PartitionState,
    /// The parent's applied state.
    pub applied: &'a PartitionState,
    /// This replica.
    pub me: (NodeId, u64),
    /// The split that there are, or may be, children's B-trees of, by its left child; none: there are none.
    pub children: Option<GroupId>,
    /// How far they are; none: they are not open.
    pub fillings: Option<[&'a Filling; 2]>,
}

/// What a replica of a parent does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing, for the moment.
    Rest,
    /// Delete the children's B-trees: their split is no more, or its children are nothing to this replica.
    Discard,
    /// Open the children's B-trees, or make them.
    Create,
    /// Copy the next chunk into this child.
    Fill(Side),
    /// Bring what is applied into the B-trees at once.
    Flush,
    /// Turn the children's B-trees into replicas, then note that in the parent's B-tree, then let them begin.
    Install,
}

/// What to do next. The children's B-trees are made only when the parent's B-tree durably knows of the split: so whoever finds them
/// after a crash knows what they are, and no flush ever passes them by.
pub fn next_task(local: &Local<'_>) -> Task {
    let wanted = local.applied.split.as_ref().filter(|split| {
        let named = |c: &CommittedSplit| {
            let mut members = c.configuration.members.iter();
            members.any(|m| m.is(local.me.0, local.me.1) && m.role == Role::Storage)
        };
        !local.applied.installed && split.committed.as_ref().is_none_or(named)
    });
    let Some(split) = wanted else {
        return match local.children {
            Some(_) => Task::Discard,
            None => Task::Rest,
        };
    };
    let known = local.durable.split.as_ref();
    if known.is_none_or(|known| known.left != split.left) {
        return match local.children {
            Some(_) => Task::Discard,
            None => Task::Flush,
        };
    }
    if local.children.is_some_and(|left| left != split.left) {
        return Task::Discard;
    }
    let Some(fillings) = local.fillings.filter(|_| local.children.is_some()) else {
        return Task::Create;
    };
    if let Some((side, _)) = SIDES.into_iter().zip(fillings).find(|(_, f)| !f.done) {
        return Task::Fill(side);
    }
    match &split.committed {
        None => Task::Rest,
        Some(committed) if local.durable.applied < committed.at => Task::Flush,
        Some(_) => Task::Install,
    }
}

/// How far a replica is, for its leader.
pub fn stage(local: &Local<'_>) -> ReplicaStage {
    let left = local.applied.split.as_ref().map(|split| split.left);
    let fillings = local.fillings.filter(|_| local.children == left);
    match fillings {
        _ if local.applied.installed => ReplicaStage::Installed,
        Some(fillings) if fillings.iter().all(|f| f.done) => ReplicaStage::Ready,
        _ => ReplicaStage::Filling,
    }
}

/// What the replicas of a parent said of a split to their leader. Volatile: they say it again.
#[derive(Debug, Default)]
pub struct Reports {
    left: GroupId,
    stages: Vec<(Member, ReplicaStage)>,
    /// A deliberate bug: a majority is enough.
    #[cfg(feature = "mutations")]
    pub quorum: bool,
}

/// The group as its leader sees it.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// The leader.
    pub me: (NodeId, u64),
    /// The configuration in force.
    pub configuration: &'a Configuration,
    /// It is committed, and no change is under way.
    pub settled: bool,
    /// The others.
    pub followers: &'a [FollowerStatus],
}

impl Reports {
    /// A replica of the group said how far it is. It may say that it is less far than before: it pulled a full copy.
    pub fn hear(&mut self, report: &SplitReport, group: &Group<'_>) {
        let mut members = group.configuration.all();
        let Some(member) = members.find(|m| m.is(report.node, report.incarnation)) else {
            return;
        };
        if self.left != report.left {
            self.left = report.left;
            self.stages.clear();
        }
        self.stages.retain(|(m, _)| m.node != member.node);
        self.stages.push((*member, report.stage));
    }

    /// Nodes that are as far as this, or further.
    pub fn at(&self, left: GroupId, stage: ReplicaStage) -> Vec<NodeId> {
        let of = self.stages.iter().filter(|_| self.left == left);
        let mut nodes: Vec<NodeId> = of
            .filter(|(_, reached)| *reached >= stage)
            .map(|(member, _)| member.node)
            .collect();
        nodes.sort_unstable();
        nodes
    }

    fn ready(&self, split: &Split, member: &Member) -> bool {
        let mut stages = self.stages.iter().filter(|_| self.left == split.left);
        stages.any(|(m, stage)| m == member && *stage >= ReplicaStage::Ready)
    }

    /// Whether the split may be committed: every voter is a storage replica, has said that its children are filled, and gets the log
    /// as it comes; and nobody is joining or leaving. That is for the sake of availability: the children begin with every replica at
    /// hand. (A replica that is not ready at `CommitSplit` fills its children then.)
    pub fn may_commit(&self, split: &Split, group: &Group<'_>) -> bool {
        let configuration = group.configuration;
        let at_rest =
            group.settled && configuration.joint.is_none() && configuration.learners.is_empty();
        let here = |member: &Member| {
            let mut followers = group.followers.iter();
            member.is(group.me.0, group.me.1)
                || followers.any(|f| f.member == *member && f.in_step && !f.copying)
        };
        let ready = |member: &&Member| {
            member.role == Role::Storage && self.ready(split, member) && here(member)
        };
        let members = configuration.members.iter();
        let count = members.filter(ready).count();
        let all = count == configuration.members.len();
        #[cfg(feature = "mutations")]
        let all = all || (self.quorum && count * 2 > configuration.members.len());
        split.committed.is_none() && at_rest && all
    }
}

/// Why a split does not begin, or end.
pub fn check_split(
    state: &PartitionState,
    id: GroupId,
    point: &[u8],
    (left, right): (GroupId, GroupId),
) -> Result<(), String> {
    let inside = state.range.contains(point) && point > &state.range.start[..];
    if state.split.is_some() {
        Err("another split is under way".to_owned())
    } else if point.len() > COLLECTION_BYTES && state.table.has_local_indexes() {
        Err("the point lies in an item collection, which its local indexes keep whole".to_owned())
    } else if !inside || point.len() > crate::KEY_BYTES_MAX {
        Err("the point does not lie inside of the partition's range".to_owned())
    } else if left <= id || right <= left {
        Err("the children's numbers must be greater than the partition's, and ascend".to_owned())
    } else {
        Ok(())
    }
}
