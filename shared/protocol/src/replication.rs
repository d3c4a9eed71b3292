//! Replication between storage nodes.

use bytes::Bytes;
use model::{KeyRange, TableDefinition};
use paxos::{Ballot, Configuration, GroupId, Index, NodeId};
use serde::{Deserialize, Serialize};

use crate::changes::ChangeState;
use crate::directory::PlacedMember;
use crate::propagate::{Backfill, SourceMark};
use crate::split::Split;

/// `ReplicationFrame::knows` of senders that read batches.
pub const KNOWS_BATCHES: u8 = 1;

/// A message between two members of a replication group; one way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What the sender reads beside this form: see `ReplicationFrame::knows`.
    #[serde(rename = "k", default)]
    pub knows: u8,
}

impl GroupMessage {
    /// A message of a sender that reads batches.
    pub fn new(
        group: GroupId,
        from: NodeId,
        incarnation: u64,
        message: paxos::Message,
    ) -> GroupMessage {
        GroupMessage {
            group,
            from,
            incarnation,
            message,
            knows: KNOWS_BATCHES,
        }
    }
}

/// Replication messages from one node to another, in either form: a single `GroupMessage`, as version 0.1 knows it, or a batch
/// (`crate::batch`). A batch goes only to nodes that have said that they read it (`knows`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicationFrame {
    /// The sending node.
    #[serde(rename = "n")]
    pub from: NodeId,
    /// What the sender reads: 0 = single messages only, `KNOWS_BATCHES` = batches, too.
    #[serde(rename = "k", default)]
    pub knows: u8,
    /// A batch; empty in the single form.
    #[serde(rename = "b", default)]
    pub batch: Bytes,
    /// Of a single message: the group …
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// … the sender's incarnation …
    #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// … and the message.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub message: Option<paxos::Message>,
}

impl ReplicationFrame {
    /// A frame that carries a batch.
    pub fn of_batch(from: NodeId, batch: Bytes) -> ReplicationFrame {
        ReplicationFrame {
            from,
            knows: KNOWS_BATCHES,
            batch,
            group: None,
            incarnation: None,
            message: None,
        }
    }

    /// The single message, if it carries one.
    pub fn single(self) -> Option<GroupMessage> {
        Some(GroupMessage {
            group: self.group?,
            from: self.from,
            incarnation: self.incarnation?,
            message: self.message?,
            knows: self.knows,
        })
    }
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
    /// CRC32C over all keys and values of this chunk (`chunk_crc`).
    pub crc32c: u32,
    /// Log position of the copied state, in every chunk; 0: the sender does not say.
    #[serde(default)]
    pub applied: Index,
    /// Set on the last chunk.
    pub end: Option<CopyEnd>,
    /// The session is unknown (expired): start again.
    #[serde(default)]
    pub expired: bool,
}

/// CRC32C over all keys and values of a chunk.
pub fn chunk_crc(pairs: &[(Bytes, Bytes)]) -> u32 {
    pairs.iter().fold(0, |crc, (key, item)| {
        crc32c::crc32c_append(crc32c::crc32c_append(crc, key), item)
    })
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
    /// Entries of local indexes in the copy; none: the sender does not say.
    #[serde(default)]
    pub entries: Option<u64>,
    /// Their sizes as DynamoDB counts them, summed, bytes; 0: the sender does not say.
    #[serde(default)]
    pub bytes: u64,
    /// Time of that position: the greatest of all commands up to it, milliseconds since the epoch; 0: the sender does not know.
    #[serde(default)]
    pub time_ms: u64,
    /// Position behind which the partition's log begins.
    #[serde(default)]
    pub begins: Index,
    /// How far new global indexes are filled.
    #[serde(default)]
    pub backfills: Vec<Backfill>,
    /// Of an index: how far its table's partitions are.
    #[serde(default)]
    pub sources: Vec<SourceMark>,
    /// Its change records, which come with the items.
    #[serde(default)]
    pub changes: ChangeState,
    /// The partition that this one was split off from.
    #[serde(default)]
    pub parent: Option<GroupId>,
    /// Its split, as of that position.
    #[serde(default)]
    pub split: Option<Split>,
    /// Its pending and ended transactions, as `partition::Transactions` encodes them; empty: there are none.
    #[serde(default)]
    pub transactions: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> paxos::Message {
        paxos::Message {
            to_incarnation: 1,
            generation: 2,
            body: paxos::Body::Probe { attempt: 3 },
        }
    }

    #[test]
    fn the_single_form_of_version_0_1_is_read_and_says_nothing_of_batches() {
        #[derive(Serialize)]
        struct Old {
            g: GroupId,
            n: NodeId,
            i: u64,
            m: paxos::Message,
        }
        let old = Old {
            g: GroupId(5),
            n: NodeId(6),
            i: 7,
            m: message(),
        };
        let encoded = rmp_serde::to_vec_named(&old).expect("encodes");
        let frame: ReplicationFrame = rmp_serde::from_slice(&encoded).expect("decodes");
        assert_eq!(frame.knows, 0);
        let single = frame.single().expect("a single message");
        assert_eq!(
            (single.group, single.from, single.incarnation),
            (GroupId(5), NodeId(6), 7)
        );
        assert_eq!(single.message, message());
    }

    #[test]
    fn a_single_message_is_read_by_version_0_1() {
        #[derive(Deserialize)]
        struct Old {
            g: GroupId,
            m: paxos::Message,
        }
        let sent = GroupMessage::new(GroupId(5), NodeId(6), 7, message());
        let encoded = rmp_serde::to_vec_named(&sent).expect("encodes");
        let old: Old = rmp_serde::from_slice(&encoded).expect("decodes");
        assert_eq!((old.g, old.m), (GroupId(5), message()));
        let frame: ReplicationFrame = rmp_serde::from_slice(&encoded).expect("decodes");
        assert_eq!(frame.knows, KNOWS_BATCHES);
        assert_eq!(frame.single(), Some(sent));
    }

    #[test]
    fn a_batch_carries_no_single_message() {
        let sent = ReplicationFrame::of_batch(NodeId(6), Bytes::from_static(b"batch"));
        let encoded = rmp_serde::to_vec_named(&sent).expect("encodes");
        let frame: ReplicationFrame = rmp_serde::from_slice(&encoded).expect("decodes");
        assert_eq!((frame.from, &frame.batch[..]), (NodeId(6), &b"batch"[..]));
        assert!(frame.single().is_none());
    }
}
