//! The operator's side of the control plane: `evenkeel ctl` → the active admin.

use std::collections::BTreeMap;

use model::TableId;
use paxos::{GroupId, NodeId, Role};
use serde::{Deserialize, Serialize};

use crate::health::ArchiveHealth;

/// An admin recorded something about a table; whoever gives orders may go on with it at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Nudge {
    /// Name of the table.
    pub table: String,
}

/// Every cache of routes is to be empty: what a mesh looks like after all routers were restarted at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ForgetRoutes {}

/// What the operator wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// All storage nodes.
    Nodes,
    /// Partitions, at most 1,000 an answer.
    Partitions {
        /// Of this table only.
        #[serde(default)]
        table: Option<String>,
        /// Behind this partition; 0 = from the start.
        #[serde(default)]
        after: GroupId,
    },
    /// Whether the mesh is all right.
    Health,
    /// Move leaders and replicas off a node, for good.
    Drain {
        /// The node.
        node: NodeId,
    },
    /// Let a node that is being drained stay.
    CancelDrain {
        /// The node.
        node: NodeId,
    },
    /// Hand a partition's leadership over.
    TransferLeader {
        /// The partition.
        partition: GroupId,
        /// The next leader.
        to: NodeId,
    },
    /// Split a partition in two.
    Split {
        /// Its table.
        table: String,
        /// The partition.
        partition: GroupId,
        /// First key of the right half: the key attributes as DynamoDB JSON; the partition key alone stands for its item collection.
        /// None: in the middle of its bytes.
        #[serde(default)]
        at: Option<String>,
    },
    /// Build a partition's replica anew on another node (or on the same).
    Replace {
        /// The partition.
        partition: GroupId,
        /// Node of the replica that goes.
        from: NodeId,
        /// Node of the one that comes.
        to: NodeId,
    },
    /// Empty the route caches of all routers.
    FlushRoutes,
    /// Tables as global admission control sees them, at most 1,000 an answer.
    Throughput {
        /// This one only.
        #[serde(default)]
        table: Option<String>,
        /// Behind this one; 0 = from the start.
        #[serde(default)]
        after: TableId,
    },
    /// From a scrubber: this replica differs from the others. Its node is to fence it, and it is healed.
    Condemn {
        /// The partition.
        partition: GroupId,
        /// Node of the replica.
        node: NodeId,
        /// Which replica.
        incarnation: u64,
        /// What was found, in words.
        why: String,
    },
}

/// The active admin's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To `Nodes`.
    Nodes(Vec<NodeStatus>),
    /// To `Partitions`.
    Partitions {
        /// In the order of their numbers.
        partitions: Vec<PartitionStatus>,
        /// Where to continue; none = complete.
        next: Option<GroupId>,
    },
    /// To `Throughput`.
    Throughput {
        /// In the order of their numbers.
        tables: Vec<ThroughputStatus>,
        /// Where to continue; none = complete.
        next: Option<TableId>,
    },
    /// To `Health`.
    Health(Box<MeshHealth>),
    /// Done, or begun: in words for the operator.
    Done(String),
    /// Not done, and why.
    Refused(String),
}

/// Whether a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vitality {
    /// Heard from.
    Alive,
    /// Silent here, or for most of its peers, but not for both.
    Suspect,
    /// Silent here and for most of its peers.
    Dead,
    /// Dead for so long that what it held is built anew elsewhere.
    Gone,
    /// A state of a later version.
    #[serde(other)]
    Unknown,
}

impl Vitality {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Gone => "gone",
            Self::Unknown => "unknown",
        }
    }
}

/// A storage node as the admin sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Its availability zone; empty = never heard of.
    pub zone: String,
    /// Whether it lives.
    pub vitality: Vitality,
    /// Its peers wait for it far longer than for others.
    #[serde(default)]
    pub slow: bool,
    /// It says itself that it is stopping.
    #[serde(default)]
    pub stopping: bool,
    /// It is being drained.
    #[serde(default)]
    pub draining: bool,
    /// For how long no heartbeat came, milliseconds.
    #[serde(default)]
    pub silent_ms: u64,
    /// Replicas that the partitions' leaders place there.
    #[serde(default)]
    pub replicas: u64,
    /// Partitions that it leads.
    #[serde(default)]
    pub leading: u64,
    /// Replicas that it says it holds.
    #[serde(default)]
    pub hosted: u64,
    /// Bytes used.
    #[serde(default)]
    pub used_bytes: u64,
    /// Bytes free.
    #[serde(default)]
    pub free_bytes: u64,
    /// Fenced replicas.
    #[serde(default)]
    pub fenced: u64,
    /// Mean duration of a WAL sync, microseconds; 0 = not measured lately.
    #[serde(default)]
    pub sync_us: u64,
    /// Median time in which it acknowledges, as its peers see it, microseconds; 0 = not measured lately.
    #[serde(default)]
    pub acknowledged_us: u64,
    /// Software version.
    #[serde(default)]
    pub version: String,
}

/// A replica as the admin sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its node.
    pub node: NodeId,
    /// Its availability zone.
    pub zone: String,
    /// With a B-tree or without.
    pub role: Role,
    /// Has a vote.
    pub votes: bool,
    /// Nothing is wrong with it, as far as is known.
    pub healthy: bool,
    /// In words: `in step`, `copying`, `120 entries behind`, `node dead`, `fenced` …
    #[serde(default)]
    pub state: String,
}

/// A partition as the admin sees it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: GroupId,
    /// Name of its table.
    pub table: String,
    /// `TableDefinition::uuid`; empty: not known, or the system table's.
    #[serde(default)]
    pub table_uuid: String,
    /// Its leader.
    pub leader: Option<NodeId>,
    /// Generation of its members.
    #[serde(default)]
    pub generation: u64,
    /// All its replicas.
    #[serde(default)]
    pub replicas: Vec<ReplicaStatus>,
    /// Storage replicas with which nothing is wrong.
    #[serde(default)]
    pub healthy_copies: u64,
    /// Items.
    #[serde(default)]
    pub items: u64,
    /// Bytes.
    #[serde(default)]
    pub bytes: u64,
    /// What is being done about it, in words; empty = nothing.
    #[serde(default)]
    pub healing: String,
    /// The partition that it was split off from.
    #[serde(default)]
    pub parent: Option<GroupId>,
    /// Read units a second.
    #[serde(default)]
    pub read_units_s: f64,
    /// Write units a second.
    #[serde(default)]
    pub write_units_s: f64,
    /// Units a second that were refused.
    #[serde(default)]
    pub refused_units_s: f64,
    /// What it consumes of what it may, thousandths.
    #[serde(default)]
    pub heat_permille: u64,
    /// How its split goes, or why a hot or large partition is not split, in words; empty = neither.
    #[serde(default)]
    pub split: String,
    /// The children of the split that is under way.
    #[serde(default)]
    pub children: Vec<GroupId>,
    /// Where it begins: the first 8 bytes of its first key's hash in hexadecimal; empty = at the table's beginning.
    #[serde(default)]
    pub start: String,
    /// Where it ends, likewise; empty = at the table's end.
    #[serde(default)]
    pub end: String,
    /// Since its leader spoke, milliseconds; none = it never did.
    #[serde(default)]
    pub heard_ms: Option<u64>,
}

/// A table, and what its partitions add up to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TableSums {
    /// Its name.
    pub name: String,
    /// Number of its partitions.
    pub partitions: u64,
    /// Items.
    pub items: u64,
    /// Bytes.
    pub bytes: u64,
    /// Read units a second.
    pub read_units_s: f64,
    /// Write units a second.
    pub write_units_s: f64,
    /// Units a second that were refused.
    pub refused_units_s: f64,
    /// What its hottest partition consumes of what it may, thousandths.
    pub heat_permille: u64,
    /// Partitions without a leader that is heard.
    pub without_leader: u64,
    /// Partitions with fewer than three healthy copies.
    pub endangered: u64,
}

/// What the partitions of each table add up to, by name.
pub fn table_sums(partitions: &[PartitionStatus]) -> Vec<TableSums> {
    let mut tables: BTreeMap<&str, TableSums> = BTreeMap::new();
    for partition in partitions {
        let sums = tables.entry(&partition.table).or_default();
        sums.partitions += 1;
        sums.items += partition.items;
        sums.bytes += partition.bytes;
        sums.read_units_s += partition.read_units_s;
        sums.write_units_s += partition.write_units_s;
        sums.refused_units_s += partition.refused_units_s;
        sums.heat_permille = sums.heat_permille.max(partition.heat_permille);
        sums.without_leader += u64::from(partition.leader.is_none());
        sums.endangered += u64::from(partition.healthy_copies < 3);
    }
    let named = |(name, sums): (&str, TableSums)| TableSums {
        name: name.to_owned(),
        ..sums
    };
    tables.into_iter().map(named).collect()
}

/// A table as a GAC instance sees it. For a moment after instances came or went there may be two of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThroughputStatus {
    /// Name of the table.
    pub table: String,
    /// The instance that is responsible for it.
    #[serde(default)]
    pub instance: u64,
    /// Routers that use it and were heard lately.
    #[serde(default)]
    pub routers: u64,
    /// Reads.
    #[serde(default)]
    pub read: ThroughputSide,
    /// Writes.
    #[serde(default)]
    pub write: ThroughputSide,
}

/// One direction of a table, in capacity units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThroughputSide {
    /// A second: what the table may consume.
    pub rate_s: f64,
    /// A second: what its clients want.
    pub demand_s: f64,
    /// A second: what its routers hold.
    pub shares_s: f64,
    /// Saved for bursts.
    pub saved: f64,
    /// Owed: given beyond the rate, and held back until it is paid.
    pub owed: f64,
}

/// A fenced replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FencedStatus {
    /// Its node.
    pub node: NodeId,
    /// Its partition.
    pub partition: GroupId,
}

/// Whether the mesh is all right.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MeshHealth {
    /// Nothing wants the operator's attention, and nothing is being healed.
    pub healthy: bool,
    /// The admin that answers …
    #[serde(default)]
    pub admin: u64,
    /// … and the epoch of its lease.
    #[serde(default)]
    pub epoch: u64,
    /// All admins that are alive.
    #[serde(default)]
    pub admins: Vec<u64>,
    /// All storage nodes.
    #[serde(default)]
    pub nodes: Vec<NodeStatus>,
    /// Partitions whose leaders spoke lately.
    #[serde(default)]
    pub partitions: u64,
    /// Partitions that are recorded or were heard of, and whose leader is silent (at most 100).
    #[serde(default)]
    pub without_leader: Vec<GroupId>,
    /// Number of partitions with fewer than three healthy storage copies.
    #[serde(default)]
    pub endangered: u64,
    /// The most endangered of them (at most 20).
    #[serde(default)]
    pub most_endangered: Vec<PartitionStatus>,
    /// Replicas that are to be replaced, at the worst moment since all was well …
    #[serde(default)]
    pub healing_total: u64,
    /// … how many of them are done …
    #[serde(default)]
    pub healing_done: u64,
    /// … and how many are under way right now.
    #[serde(default)]
    pub healing_running: u64,
    /// Why replacements wait, in words, each once (at most 10).
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Fenced replicas (at most 100).
    #[serde(default)]
    pub fenced: Vec<FencedStatus>,
    /// What the nodes and the services that look after the data say themselves, in words (at most 50).
    #[serde(default)]
    pub troubles: Vec<String>,
    /// How far the archivers are, all together; none: no archiver was heard from.
    #[serde(default)]
    pub archive: Option<ArchiveHealth>,
}
