//! The route directory: storage nodes push, memds holds, routers look up.

use bytes::Bytes;
use model::{EncodedKey, IndexId, KeyRange, TableDefinition, TableId, Units};
use paxos::{Ballot, GroupId, Member, NodeId};
use serde::{Deserialize, Serialize};

use crate::split::SplitProgress;

/// A partition as its leader describes it. Newer = larger (`generation`, `ballot`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// Partition and replication group.
    pub partition: GroupId,
    /// Its table.
    pub table: TableId,
    /// Its keys.
    pub range: KeyRange,
    /// Configuration generation.
    pub generation: u64,
    /// Ballot of the leader that said so.
    pub ballot: Ballot,
    /// The leader.
    pub leader: Option<NodeId>,
    /// Voters of the configuration in force, with their zones; also those that are about to leave.
    pub members: Vec<PlacedMember>,
    /// Replicas without a vote: being filled, or silent for long.
    #[serde(default)]
    pub learners: Vec<PlacedMember>,
    /// How far the leader's followers are; empty if it says nothing of it.
    #[serde(default)]
    pub progress: Vec<ReplicaProgress>,
    /// A change of the members is under way.
    #[serde(default)]
    pub changing: bool,
    /// Version of the table's definition that this partition works with.
    pub table_version: u64,
    /// Items that it holds, as of the leader's last applied write.
    #[serde(default)]
    pub items: u64,
    /// Their sizes, summed, bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Read units a second that its replicas served, a mean over the last seconds: at the leader, and as the followers told it.
    #[serde(default)]
    pub read_units_s: Units,
    /// Write units a second.
    #[serde(default)]
    pub write_units_s: Units,
    /// Units a second, of both kinds, that were refused because the partition had none left.
    #[serde(default)]
    pub refused_units_s: Units,
    /// The partition that it was split off from; none for a partition that its table was made with.
    #[serde(default)]
    pub parent: Option<GroupId>,
    /// The split of this partition that is under way or done.
    #[serde(default)]
    pub split: Option<SplitProgress>,
    /// Not all that its leader has committed is archived, as far as the leader knows; never where nothing is archived.
    #[serde(default)]
    pub unarchived: bool,
    /// New global indexes that all of its items are in. (Never left out: memds keeps this structure as an array.)
    #[serde(default)]
    pub backfilled: Vec<IndexId>,
    /// Where its leader would split it for consumption, or why nowhere; none: it says nothing of it.
    #[serde(default)]
    pub advice: Option<heat::Advice>,
    /// What local indexes hold of its items, as its leader counted last; none: it has not counted yet.
    #[serde(default)]
    pub index_counts: Option<Vec<IndexCount>>,
}

/// What a local secondary index holds of a partition's items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexCount {
    /// The index.
    pub index: IndexId,
    /// Its entries.
    pub items: u64,
    /// Their sizes, summed, bytes.
    pub bytes: u64,
}

/// A follower as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaProgress {
    /// Its node.
    pub node: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Log entries that it lacks.
    pub behind_entries: u64,
    /// For how long nothing came from it, milliseconds.
    pub silent_ms: u64,
    /// It pulls a full copy of the B-tree.
    pub copying: bool,
    /// It could be a voter.
    pub in_step: bool,
}

/// A member and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedMember {
    /// The member.
    pub member: Member,
    /// Its availability zone.
    pub zone: String,
}

impl PartitionInfo {
    /// Whether this says something newer than `other`.
    pub fn newer_than(&self, other: &Self) -> bool {
        (self.generation, self.ballot) > (other.generation, other.ballot)
    }
}

/// Leader → every memds node, on change, on `Hydrate`, and every few seconds for all partitions that it leads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Push {
    /// The sender.
    pub node: NodeId,
    /// Partitions that it leads.
    pub partitions: Vec<PartitionInfo>,
    /// Definitions of their tables (each at least once with a changed version, all of them on `Hydrate`).
    pub tables: Vec<TableDefinition>,
    /// Partitions that were dropped (their table is deleted).
    #[serde(default)]
    pub dropped: Vec<GroupId>,
}

/// "Push everything to me": memds → all storage nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hydrate {
    /// The asking memds instance.
    pub instance: u64,
}

/// Which table a lookup means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TableRef {
    /// By name: from the API.
    Name(String),
    /// By number: system tables.
    Id(TableId),
}

/// One route lookup; every item request sends one, hit or miss.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lookup {
    /// The table.
    pub table: TableRef,
    /// The key whose partition is wanted; none for the table's definition alone.
    pub key: Option<EncodedKey>,
    /// Version of the definition that the asker has; 0 = none. Not sent back when still the newest.
    pub known_table_version: u64,
    /// (generation, ballot) of the partition that the asker has. Not sent back when still the newest.
    pub known_partition: Option<(u64, Ballot)>,
    /// Its number: after a split or a merge the key is another partition's, whatever the generations are.
    #[serde(default)]
    pub known_id: Option<GroupId>,
}

/// Lookups that share a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LookupRequest {
    /// The lookups; at most 1,024.
    pub lookups: Vec<Lookup>,
}

/// Answers, in the order of the lookups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LookupReply {
    /// One a lookup.
    pub answers: Vec<LookupAnswer>,
}

/// One answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LookupAnswer {
    /// This memds node is not hydrated yet: ask another.
    NotReady,
    /// There is no such table.
    NoTable,
    /// What the asker has is the newest.
    Unchanged,
    /// What changed.
    Found {
        /// The definition, when newer than the asker's.
        table: Option<Box<TableDefinition>>,
        /// The partition, when a key was given and it is newer than the asker's.
        partition: Option<Box<PartitionInfo>>,
    },
}

/// memds → memds: give me everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SyncRequest {
    /// Continue behind this partition number; 0 = from the start.
    pub after: GroupId,
}

/// A part of the map.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SyncReply {
    /// Whether the sender is hydrated; if not, the rest is empty.
    pub ready: bool,
    /// Partitions in ascending order of their numbers.
    pub partitions: Vec<PartitionInfo>,
    /// Definitions of their tables.
    pub tables: Vec<TableDefinition>,
    /// Where to continue; none = complete.
    pub next: Option<GroupId>,
}

/// memds → memds, once a second: "these are my hashes, what have you there?"
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompareRequest {
    /// How keys, versions and hashes are made (`memds`' business). Another scheme can't be compared.
    pub scheme: u32,
    /// The hashes.
    pub question: perkle::Question,
}

/// The answer to `CompareRequest`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompareReply {
    /// The answering node's scheme; when it is another one, the answer is empty.
    pub scheme: u32,
    /// What the answering node has.
    pub answer: perkle::Answer,
}

/// memds → memds: "take this, and give me those". Answered with a `Push`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RepairRequest {
    /// What the asking node has and the other has not, or has older.
    pub offered: Push,
    /// Keys of the tree that the asking node wants; at most 1,000.
    pub wanted: Vec<Bytes>,
}
