//! Replication between storage nodes.

use bytes::Bytes;
use model::{KeyRange, TableDefinition};
use paxos::{Ballot, Configuration, GroupId, Index, NodeId};
use serde::{Deserialize, Serialize};

use crate::directory::PlacedMember;

/// A message between two members of a replication group; one way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GroupMessage {
    /// The group.
    #[serde(rename = "g")]
    pub group: GroupId,
    /// The sending node.
    #[serde(rename = "n")]
    pub from: NodeId,
    /// The sender's incarnation (identity of its disk).
    #[serde(rename = "i")]
    pub incarnation: u64,
    /// The message; it names the receiver's incarnation itself.
    #[serde(rename = "m")]
    pub message: paxos::Message,
}

/// Pull one chunk of a consistent copy of a replica's B-tree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyRequest {
    /// The group.
    pub group: GroupId,
    /// Who asks.
    pub to: NodeId,
    /// Session number from the first chunk; 0 opens a session.
    pub session: u64,
    /// Number of the wanted chunk, from 0; a repeated number gives the same chunk again.
    pub chunk: u64,
}

/// One chunk, at most about 512 KiB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyChunk {
    /// Session to continue with.
    pub session: u64,
    /// Key-value pairs, in key order.
    pub pairs: Vec<(Bytes, Bytes)>,
    /// CRC32C over all keys and values of this chunk.
    pub crc32c: u32,
    /// Set on the last chunk.
    pub end: Option<CopyEnd>,
    /// The session is unknown (expired): start again.
    #[serde(default)]
    pub expired: bool,
}

/// What the copy stands for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyEnd {
    /// Log position of the copied state …
    pub applied: Index,
    /// … and the ballot of that entry.
    pub ballot: Ballot,
    /// Configuration at that position.
    pub configuration: Configuration,
    /// Table definition at that position.
    pub table: TableDefinition,
    /// Keys.
    pub range: KeyRange,
    /// Zones of the members, for the directory.
    #[serde(default)]
    pub members: Vec<PlacedMember>,
    /// Items in the copy, for the receiver to check.
    #[serde(default)]
    pub items: Option<u64>,
}
