//! What a replica stores beside its items, and the batches in which items and state reach the B-tree together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{KeyRange, TableDefinition};
use paxos::{Ballot, Configuration, Index};
use protocol::directory::PlacedMember;
use serde::{Deserialize, Serialize};

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
}

/// Writes to bring into the B-tree in one transaction, together with the state they lead to.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The state after the batch; `state.applied` is the position that becomes durable.
    pub state: PartitionState,
    /// New item by key, in key order; none = removed.
    pub items: Arc<BTreeMap<Bytes, Option<Bytes>>>,
}
