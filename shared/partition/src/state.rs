//! What a replica stores beside its items, and the batches in which items and state reach the B-tree together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{KeyRange, TableDefinition};
use paxos::{Ballot, Configuration, GroupId, Index};
use protocol::changes::ChangeState;
use protocol::directory::PlacedMember;
use protocol::propagate::{Backfill, SourceMark};
use protocol::scrub::Marker;
use protocol::split::Split;
use serde::{Deserialize, Serialize};

use crate::Transactions;
use crate::split::Filling;

/// Everything about a replica that is not an item, at one log position. Stored in the B-tree in the same transaction as
/// the items of that position (MessagePack map with named fields: unknown fields are ignored, missing ones defaulted).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    /// Position of the last applied entry; 0 = none …
    pub applied: Index,
    /// … and its ballot.
    pub ballot: Ballot,
    /// Newest configuration at or below `applied`.
    pub configuration: Configuration,
    /// Keys of the partition.
    pub range: KeyRange,
    /// Definition of its table.
    pub table: TableDefinition,
    /// Zones of the members, for the directory.
    #[serde(default)]
    pub members: Vec<PlacedMember>,
    /// Items in the partition.
    #[serde(default)]
    pub items: u64,
    /// Their sizes as DynamoDB counts them, summed.
    #[serde(default)]
    pub bytes: u64,
    /// Entries of local secondary indexes in the partition.
    #[serde(default)]
    pub entries: u64,
    /// Of a table with global secondary indexes: how far items from before an index are entered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backfills: Vec<Backfill>,
    /// Of a global secondary index: how far the changes of the table's partitions are in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceMark>,
    /// Greatest `time_ms` of all commands applied, its parent's included: the time of this position, milliseconds since the epoch. It
    /// never goes back, whatever the leaders' clocks do.
    #[serde(default)]
    pub time_ms: u64,
    /// Position behind which its log begins: that of its parent's `CommitSplit`; 0 for a partition that its table was made with (and for children
    /// of splits by version 0.1).
    #[serde(default)]
    pub begins: Index,
    /// Change records.
    #[serde(default, skip_serializing_if = "ChangeState::is_default")]
    pub changes: ChangeState,
    /// The partition that this one was split off from.
    #[serde(default)]
    pub parent: Option<GroupId>,
    /// The split that was begun and not abandoned.
    #[serde(default)]
    pub split: Option<Split>,
    /// Transactions that are pending on its items, and those that ended lately.
    #[serde(default, skip_serializing_if = "Transactions::is_empty")]
    pub transactions: Transactions,
    /// This replica's part in its committed split is done: the children's replicas are here, durably, or were. Not replicated.
    #[serde(default)]
    pub installed: bool,
    /// This is the B-tree of a split's child that is no replica yet. Not replicated.
    #[serde(default)]
    pub filling: Option<Filling>,
}

impl PartitionState {
    /// The state of a replica that has nothing yet.
    pub fn empty(
        configuration: Configuration,
        range: KeyRange,
        table: TableDefinition,
        members: Vec<PlacedMember>,
    ) -> Self {
        Self {
            applied: 0,
            ballot: Ballot::default(),
            configuration,
            range,
            table,
            members,
            items: 0,
            bytes: 0,
            entries: 0,
            backfills: Vec::new(),
            sources: Vec::new(),
            time_ms: 0,
            begins: 0,
            changes: ChangeState::default(),
            parent: None,
            split: None,
            transactions: Transactions::default(),
            installed: false,
            filling: None,
        }
    }

    /// Whether the partition has ended: its children serve its keys.
    pub fn has_ended(&self) -> bool {
        self.split.as_ref().is_some_and(|s| s.committed.is_some())
    }
}

/// Writes to bring into the B-tree in one transaction, together with the state they lead to.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The state after the batch; `state.applied` is the position that becomes durable.
    pub state: PartitionState,
    /// New item by key, in key order; none = removed.
    pub items: Arc<BTreeMap<Bytes, Option<Bytes>>>,
    /// The batch ends at this marker: the B-tree as it is behind it, and before any other batch, is wanted for a scrub.
    pub marked: Option<Marked>,
}

/// A marker that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The marker.
    pub marker: Marker,
    /// When the leader made it, milliseconds since the epoch.
    pub time_ms: u64,
}
