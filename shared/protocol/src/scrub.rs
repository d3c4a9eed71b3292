//! Scrubs of partitions (ADR 0007): the marker that the log carries, and what a scrubber says to storage nodes on `node.<id>.scrub`.
//!
//! A scrub of a partition: `Begin` at the leader puts the marker into the log; each storage replica opens a view of its B-tree at exactly
//! that position and digests it; `Digest`, repeated, tells how far it is and then hands out the buckets; `Keys` names single items where
//! buckets differ; `End` lets go of the view. What nobody asks for ends by itself.

use bytes::Bytes;
use model::{EncodedKey, KeyRange};
use paxos::{GroupId, Index, Member};
use serde::{Deserialize, Serialize};

/// A command without effect: where it stands in the log, all replicas are to be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Number of the scrub, drawn by the scrubber, never 0.
    pub scrub: u64,
    /// Bytes a second at which each replica digests its B-tree; 0 = as fast as its node allows.
    #[serde(default)]
    pub bytes_per_second: u64,
}

/// What a scrubber wants of a storage node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScrubCall {
    /// The partition.
    pub partition: GroupId,
    /// Number of the scrub.
    pub scrub: u64,
    /// What.
    pub what: ScrubRequest,
}

/// The requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ScrubRequest {
    /// To the leader: put a marker into the log. Answered with `Begun` as soon as it is proposed.
    Begin {
        /// See [`Marker`].
        bytes_per_second: u64,
    },
    /// How far is the replica's digest, and if it is complete: its buckets from this number on.
    Digest {
        /// Number of the first bucket wanted.
        from: u64,
    },
    /// Hashes of the single items in this range, in key order.
    Keys {
        /// The range.
        range: KeyRange,
        /// Behind this key; none = from the start of the range.
        #[serde(default)]
        after: Option<EncodedKey>,
    },
    /// Nothing more is wanted.
    End,
}

/// The answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ScrubReply {
    /// The marker is proposed; storage members of the partition, and the leader's state.
    Begun {
        /// Members with a B-tree and a vote.
        members: Vec<Member>,
        /// The leader's term, so to speak: generation of the members.
        generation: u64,
    },
    /// Not the leader.
    NotLeader,
    /// Not now: another scrub is under way on this node, or the replica is being copied; in words.
    Busy(String),
    /// This replica knows nothing of this scrub: the marker did not reach it (yet), or its view is gone. In words.
    Unknown(String),
    /// The view had to be given up: the scrub is void, and may be repeated.
    Void(String),
    /// What is stored is damaged, as the replica found itself: it is fenced.
    Damaged(String),
    /// The digest is under way.
    Digesting {
        /// Bytes of keys and items so far.
        bytes: u64,
    },
    /// The digest is complete.
    Digest(Box<Digest>),
    /// Hashes of items.
    Keys {
        /// In key order.
        keys: Vec<KeyDigest>,
        /// These are the last.
        is_last: bool,
    },
}

/// The digest of a replica at a marker, or a part of its buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The replica.
    pub incarnation: u64,
    /// What it says of itself.
    pub head: Head,
    /// Bytes read from the disk past the page cache, to see whether they are what the cache says; 0 = the system does not let us.
    #[serde(default)]
    pub disk_bytes: u64,
    /// Number of all buckets.
    pub buckets_total: u64,
    /// Number of the first one here.
    pub from: u64,
    /// Buckets.
    pub buckets: Vec<Bucket>,
}

/// What must be equal at all replicas beside the items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Position of the marker.
    pub index: Index,
    /// Time of the marker's command, milliseconds since the epoch.
    pub time_ms: u64,
    /// The table's uuid …
    pub table: String,
    /// … and its number.
    pub table_id: u64,
    /// Version of its definition.
    pub table_version: u64,
    /// Generation of the members.
    pub generation: u64,
    /// Keys of the partition.
    pub range: KeyRange,
    /// Items, as the replica counts them.
    pub items: u64,
    /// Entries of its local secondary indexes.
    #[serde(default)]
    pub entries: u64,
    /// Their sizes as DynamoDB counts them.
    pub bytes: u64,
    /// Left child of a split under way.
    #[serde(default)]
    pub splits_into: Option<GroupId>,
}

/// Consecutive items whose last key ends a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Its last key.
    pub last: EncodedKey,
    /// Number of items.
    pub items: u64,
    /// Bytes of keys and encoded items.
    pub bytes: u64,
    /// SHA-256 of the items, each as `key length (4, big endian) ‖ key ‖ item length (4) ‖ item`.
    pub digest: Bytes,
}

/// An item without its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDigest {
    /// Its key.
    pub key: EncodedKey,
    /// First 16 bytes of the SHA-256 of the encoded item.
    pub digest: Bytes,
}

/// What an operator wants of the active scrubber.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Question {
    /// Of this table only.
    #[serde(default)]
    pub table: Option<String>,
    /// Behind this partition; 0 = from the start.
    #[serde(default)]
    pub after: GroupId,
    /// Scrub these partitions before all others.
    #[serde(default)]
    pub now: bool,
}

/// How the scrubs go.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Overview {
    /// The scrubber that answers.
    pub instance: u64,
    /// Its wall clock, milliseconds since the epoch.
    pub now_ms: u64,
    /// Bytes a second at which a node's replicas are read.
    pub bytes_per_second: u64,
    /// Compared with the archive, too; and if not, why, in words.
    pub archive: String,
    /// In the order of their numbers, at most 1,000.
    pub partitions: Vec<PartitionScrub>,
    /// Where to continue; none = complete.
    pub next: Option<GroupId>,
    /// Global secondary indexes, compared with their tables; in the first answer, at most 2,000.
    #[serde(default)]
    pub indexes: Vec<IndexScrub>,
}

/// The comparisons of a global secondary index with its table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IndexScrub {
    /// Name of the table that holds its entries: `TABLE/index/INDEX`.
    pub table: String,
    /// What goes on, or how the last comparison ended, in words.
    pub state: String,
    /// When one that found no difference began, milliseconds since the epoch; none: never, as far as is known.
    pub clean_ms: Option<u64>,
    /// When one last came to its end, whatever came of it.
    pub compared_ms: Option<u64>,
    /// What was found, in words; empty = nothing.
    pub finding: String,
}

/// The scrubs of one partition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionScrub {
    /// The partition.
    pub partition: GroupId,
    /// Name of its table.
    pub table: String,
    /// Bytes of its items.
    pub bytes: u64,
    /// What goes on, or how the last scrub ended, in words.
    pub state: String,
    /// Number of the scrub under way; none: there is none.
    #[serde(default)]
    pub running: Option<u64>,
    /// When all replicas were last found equal (as of the marker), milliseconds since the epoch; none: never, as far as is known.
    #[serde(default)]
    pub clean_ms: Option<u64>,
    /// When they were last found equal to what the archive says.
    #[serde(default)]
    pub archive_clean_ms: Option<u64>,
    /// When replicas were last compared, whatever came of it, by the scrubber's clock.
    #[serde(default)]
    pub compared_ms: Option<u64>,
    /// What was found since then, in words; empty = nothing.
    #[serde(default)]
    pub finding: String,
    /// Replicas of the last comparison.
    #[serde(default)]
    pub replicas: u64,
    /// How often in a row no comparison came about.
    #[serde(default)]
    pub failures: u64,
}
