//! Splits of partitions (ADR 0006): what a replica keeps of one, what replicas tell their leader, what a leader tells the
//! directory. Owns shapes only; the rules are `partition`'s.

use model::EncodedKey;
use paxos::{Configuration, GroupId, Index, NodeId};
use serde::{Deserialize, Serialize};

/// A split as the parent's log has it: begun, perhaps committed, not abandoned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// First key of the right child.
    pub point: EncodedKey,
    /// The child with the keys below the point. Its number was never used before, so it names this split.
    pub left: GroupId,
    /// The child with the others.
    pub right: GroupId,
    /// Set from `CommitSplit` on: the parent has ended.
    #[serde(default)]
    pub committed: Option<CommittedSplit>,
}

/// Where a parent ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedSplit {
    /// Position of `CommitSplit`: the children are the parent as of here.
    pub at: Index,
    /// Time of that command, milliseconds since the epoch; 0: not known.
    #[serde(default)]
    pub time_ms: u64,
    /// The parent's configuration there: who has replicas of the children.
    pub configuration: Configuration,
}

/// How far a split is, as the parent's leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitProgress {
    /// First key of the right child.
    pub point: EncodedKey,
    /// The left child.
    pub left: GroupId,
    /// The right child.
    pub right: GroupId,
    /// What the parent does.
    pub stage: SplitStage,
    /// `Preparing`: nodes whose children hold everything. `Committed`: nodes that have installed the children's replicas.
    pub done: Vec<NodeId>,
}

/// What a parent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SplitStage {
    /// The children's B-trees are being made; the parent serves, and the split can be abandoned.
    Preparing,
    /// `CommitSplit` is proposed: nobody serves.
    Committing,
    /// The children serve.
    Committed,
}

/// From a replica of the parent to its leader, one way, again and again: how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// The parent.
    pub partition: GroupId,
    /// The left child, which names the split.
    pub left: GroupId,
    /// Node of the reporting replica.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// How far it is.
    pub stage: ReplicaStage,
}

/// How far a replica is with a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReplicaStage {
    /// Its children's B-trees do not hold everything yet.
    Filling,
    /// They do, and are kept so.
    Ready,
    /// The children's replicas are installed, durably.
    Installed,
}
