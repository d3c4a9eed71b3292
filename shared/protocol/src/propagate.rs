//! What the leader of a table's partition sends to the partitions of a global secondary index (ADR 0009).

use bytes::Bytes;
use model::{EncodedKey, KeyRange};
use paxos::Index;
use serde::{Deserialize, Serialize};

/// How far a source's changes are: log position, and number within the command.
pub type Upto = (Index, u32);

/// Bring these entries in: what the index must hold of a source's items once all of its changes up to a place are in it. Entries that a
/// later place was already brought in for are left as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagate {
    /// Keys of the partition that the items lie in.
    pub source: KeyRange,
    /// Every change up to here is in these entries, or came earlier.
    pub upto: Upto,
    /// Entries by key, each once.
    pub entries: Vec<IndexChange>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexChange {
    /// Its key.
    #[serde(rename = "k")]
    pub key: EncodedKey,
    /// Its attributes, encoded; none: it is gone.
    #[serde(rename = "i")]
    pub item: Option<Bytes>,
}

/// How far the changes of items with keys in a range are in a partition of an index. Part of its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceMark {
    /// Keys of the items' partition.
    pub source: KeyRange,
    /// Everything up to here.
    pub upto: Upto,
}

/// How far the items of a partition are entered into an index that was made after them. Part of the partition's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backfill {
    /// The index.
    pub index: model::IndexId,
    /// Items up to this key are; none: none is.
    #[serde(default)]
    pub cursor: Option<EncodedKey>,
    /// All are.
    #[serde(default)]
    pub done: bool,
}
