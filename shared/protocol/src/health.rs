//! Heartbeats of service instances, on the bus once a second. Losing one means nothing by itself.

use model::Units;
use paxos::{GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// "I am here."
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// `storage`, `memds`, `router`, `admin`, `gac`, `archiver`.
    pub service: String,
    /// Storage: the node id. Others: the instance number.
    pub instance: u64,
    /// Availability zone.
    pub zone: String,
    /// Storage: identity of the disk. Others: drawn at start.
    pub incarnation: u64,
    /// Address of `/healthz`, `/readyz`, `/metrics` (host:port).
    pub http: String,
    /// Ready to serve.
    pub ready: bool,
    /// Going away: send nothing new.
    pub draining: bool,
    /// Software version.
    pub version: String,
    /// Storage only.
    #[serde(default)]
    pub storage: Option<StorageHealth>,
    /// Archivers only.
    #[serde(default)]
    pub archive: Option<ArchiveHealth>,
    /// Other services than storage: what an operator has to look at, in words (at most 256).
    #[serde(default)]
    pub troubles: Vec<String>,
}

/// How far an archiver is with the partitions that it looks after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchiveHealth {
    /// Partitions that it looks after.
    pub partitions: u64,
    /// Bytes of committed log entries that are not archived.
    pub unarchived_bytes: u64,
    /// Age of the oldest of them, milliseconds; 0 = there are none.
    pub lag_ms: u64,
    /// The store answers.
    pub store_up: bool,
}

/// What placement needs to know of a storage node.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct StorageHealth {
    /// Replicas hosted.
    pub replicas: u64,
    /// Groups led.
    pub leading: u64,
    /// Bytes used by the B-trees and the WAL.
    pub used_bytes: u64,
    /// Bytes free on the disk.
    pub free_bytes: u64,
    /// Replicas that are fenced or behind, in words for the operator.
    #[serde(default)]
    pub troubles: Vec<String>,
    /// Fenced replicas: they must be replaced (at most 256).
    #[serde(default)]
    pub fenced: Vec<GroupId>,
    /// Replicas that have heard of no leader for a minute (at most 256): the admin looks whether they are still wanted.
    #[serde(default)]
    pub leaderless: Vec<LeaderlessReplica>,
    /// What this node sees of the others that it shares groups with.
    #[serde(default)]
    pub peers: Vec<PeerHealth>,
    /// Mean duration of a WAL sync since the last heartbeat, microseconds; 0 = there was none.
    #[serde(default)]
    pub sync_us: u64,
    /// What is left of the capacity units that the node is rated for; none: it does not say.
    #[serde(default)]
    pub room: Option<NodeRoom>,
    /// Capacity units a second that it is rated for; nothing: it does not say.
    #[serde(default)]
    pub rated: NodeRoom,
    /// It works near what it is rated for, or its disk fills up: some of its replicas had better be elsewhere.
    #[serde(default)]
    pub pressed: bool,
    /// While it is `pressed`: what it leads, the most used and the largest first (at most 32).
    #[serde(default)]
    pub candidates: Vec<Candidate>,
    /// What a partition may consume here; none: it does not say.
    #[serde(default)]
    pub caps: Option<PartitionCaps>,
}

/// Capacity units a second that one partition may consume at a replica; 0 = no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCaps {
    /// Read units.
    pub read_units: u64,
    /// Write units.
    pub write_units: u64,
}

/// A partition that a node under pressure leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The partition.
    pub partition: GroupId,
    /// Sizes of its items, summed, bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Read units a second.
    #[serde(default)]
    pub read_units_s: Units,
    /// Write units a second.
    #[serde(default)]
    pub write_units_s: Units,
}

/// Capacity units that a node has left for bursts, beyond what its partitions are allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRoom {
    /// Read units, of the last second.
    #[serde(default)]
    pub read: Units,
    /// Write units, of the last second.
    #[serde(default)]
    pub write: Units,
}

/// A replica that hears of no leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderlessReplica {
    /// Its group.
    pub partition: GroupId,
    /// Its incarnation.
    pub incarnation: u64,
    /// Generation of the newest configuration that it knows.
    pub generation: u64,
}

/// Another storage node as one sees it from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHealth {
    /// The other node.
    pub node: NodeId,
    /// For how long no replication message came from it, milliseconds.
    pub silent_ms: u64,
    /// Median time from an append to its acknowledgement since the last heartbeat, microseconds; 0 = none was measured.
    pub acknowledged_us: u64,
}
