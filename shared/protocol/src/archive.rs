//! Archiving: archivers ask storage nodes for logs (`node.<id>.archive`) and the admin for policies (`admin.archive`).

use bytes::Bytes;
use model::{KeyRange, TableDefinition, TableId};
use paxos::{Entry, GroupId, Index, NodeId, Role};
use serde::{Deserialize, Serialize};

/// Archiver → storage node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ArchiveCall {
    /// The logs that the node leads: `ArchiveReply::Status`.
    Status {
        /// Behind this partition; 0 = from the start.
        #[serde(default)]
        after: GroupId,
    },
    /// Committed, durable entries: `ArchiveReply::Entries`.
    Entries {
        /// The partition.
        partition: GroupId,
        /// The first.
        first: Index,
        /// The last; the answer may end before it.
        last: Index,
    },
    /// SHA-256 of the canonical segment of a range, made from the node's own log: `ArchiveReply::Digest`.
    Digest {
        /// The partition.
        partition: GroupId,
        /// `TableDefinition::uuid`.
        table_uuid: String,
        /// The first entry.
        first: Index,
        /// The last entry.
        last: Index,
    },
    /// Everything up to here is archived: `ArchiveReply::Noted`.
    Archived {
        /// The partition.
        partition: GroupId,
        /// Position.
        index: Index,
    },
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ArchiveReply {
    /// To `Status`.
    Status {
        /// At most `LOGS_MAX`, in the order of the partitions' numbers.
        logs: Vec<LedLog>,
        /// Where to continue; none = complete.
        next: Option<GroupId>,
    },
    /// To `Entries`: consecutive from the first that was asked for, at least one, about 400 KiB.
    Entries(Vec<Entry>),
    /// To `Digest`.
    Digest(Bytes),
    /// To `Archived`.
    Noted,
    /// To `Entries` and `Digest`: the replica's log begins behind this position, what was before is no longer in it.
    Gone {
        /// Its floor.
        floor: Index,
    },
    /// The node does not lead the partition (`Archived`), has no replica of it, or not these entries yet, and why.
    Unavailable(String),
}

/// Logs in one `ArchiveReply::Status`.
pub const LOGS_MAX: usize = 256;

/// A log as its leader describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedLog {
    /// The partition.
    pub partition: GroupId,
    /// Its table.
    pub table: TableId,
    /// `TableDefinition::uuid`; empty for the system table of a mesh that was founded before it had one.
    pub table_uuid: String,
    /// Version of the table's definition.
    pub table_version: u64,
    /// The definition; only where `archived` is 0: who archived nothing of it yet may need it.
    pub definition: Option<Box<TableDefinition>>,
    /// Its keys.
    pub range: KeyRange,
    /// The partition that it was split off from.
    pub parent: Option<GroupId>,
    /// Position behind which the log begins that the partition ever had (what is left of it begins behind `floor`).
    pub begins: Index,
    /// It has ended: its children serve its keys.
    pub ended: bool,
    /// Generation of the configuration, and all replicas in it.
    pub generation: u64,
    /// Their nodes, with what they are; the leader included.
    pub replicas: Vec<LogReplica>,
    /// Round of the leader's ballot: another leader knows nothing of what this one was told.
    pub round: u64,
    /// The leader's log begins behind this position.
    pub floor: Index,
    /// Committed and durable at the leader.
    pub committed: Index,
    /// What the leader knows to be archived; 0 = it was not told yet.
    pub archived: Index,
    /// Bytes of the entries above that, within some 64 KiB.
    pub unarchived_bytes: u64,
    /// Age of the oldest entry above that, as far as this leader knows, milliseconds.
    pub unarchived_ms: u64,
    /// Every command stamped up to this wall-clock time, milliseconds since the epoch …
    pub closed_ms: u64,
    /// … is at or below this position.
    pub closed: Index,
    /// Items, and their sizes summed, bytes.
    pub items: u64,
    /// See `items`.
    pub bytes: u64,
}

/// A replica of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReplica {
    /// Its node.
    pub node: NodeId,
    /// Which replica.
    #[serde(default)]
    pub incarnation: u64,
    /// With a B-tree or without.
    pub role: Role,
    /// It has a vote.
    pub votes: bool,
}

/// Scrubber → archivers: what the archive has of a partition's snapshots is damaged, take another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotWish {
    /// The partition.
    pub partition: GroupId,
}

/// Archiver instance → admin, every few seconds: how far it is, and "what am I to keep and do?" → `ArchivePlan`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchiveReport {
    /// The instance.
    pub instance: u64,
    /// Its zone.
    pub zone: String,
    /// The tables of which it looks after partitions.
    pub tables: Vec<ArchivedTable>,
    /// Behind this uuid of a table are the policies wanted; empty = from the start.
    pub after: String,
}

/// How far an archiver is with a table's partitions that it looks after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchivedTable {
    /// The table.
    pub table: TableId,
    /// `TableDefinition::uuid`.
    pub uuid: String,
    /// Partitions of it that this instance looks after, those that have ended but are not archived to their end included.
    pub partitions: Vec<GroupId>,
    /// Every command of these partitions that was stamped up to this time is archived, milliseconds since the epoch.
    pub through_ms: u64,
}

/// The admin's answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchivePlan {
    /// What is to be kept, in the order of the tables' uuids. Of a table that is missing everything is kept.
    pub policies: Vec<TablePolicy>,
    /// Where to continue (`ArchiveReport::after`); none = complete.
    pub next: Option<String>,
}

/// What is to be kept of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TablePolicy {
    /// `TableDefinition::uuid`.
    pub uuid: String,
    /// Point-in-time recovery is on since, or reaches back to, this time, milliseconds since the epoch; none: it is off.
    pub window_from_ms: Option<u64>,
    /// Times to which a restore must stay possible (backups), milliseconds since the epoch.
    pub pins: Vec<u64>,
    /// The table is deleted: nothing is kept for disaster recovery.
    pub deleted: bool,
}
