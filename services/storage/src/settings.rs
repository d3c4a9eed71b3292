//! Every setting and limit of a storage node, each with its unit and its reason. Owns defaults only.

use std::path::PathBuf;

use paxos::Timing;
use serde::{Deserialize, Serialize};

/// Settings of a storage node (section `storage` of the file).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageSettings {
    /// Number of the node, unique in the mesh; must never be given to another disk while the old one lives.
    pub node_id: u64,
    /// Availability zone.
    pub zone: String,
    /// Folder of the WAL and the B-trees. One process at a time.
    pub data_dir: PathBuf,
    /// Shards: threads that drive replication groups. Half the cores by default: the log, the bus and the disk threads need the
    /// rest, and what one shard does in a turn shares frames, log records and syncs (two shards on two cores cost a write a third more CPU).
    pub shards: usize,
    /// Address of `/healthz`, `/readyz`, `/metrics`, `host:port`; empty = none (another part of the process serves them).
    pub http: String,
    /// Durations and limits of the replication core.
    pub timing: Timing,
    /// When and how leaders heal their groups.
    pub healing: healing::Settings,
    /// How leaders sample what is consumed of a partition, for splits.
    pub heat: heat::Settings,
    /// Archivers run, and the log is kept until they have it. Without an archiver it grows to `limits.wal_full_bytes`, and then the node
    /// takes no more writes: a mesh that has none must say so here.
    pub archive: bool,
    /// Limits of this service.
    pub limits: Limits,
    /// How many capacity units partitions and the node spend.
    pub admission: Admission,
    /// Change records: of streams, and for global indexes.
    pub changes: Changes,
    /// How fast expired items are deleted.
    pub ttl: Ttl,
    /// What local indexes hold.
    pub index_counts: IndexCounts,
}

impl Default for StorageSettings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            node_id: 0,
            zone: String::new(),
            data_dir: PathBuf::new(),
            shards: (cores / 2).clamp(1, 8),
            http: String::new(),
            timing: Timing::default(),
            healing: healing::Settings::default(),
            heat: heat::Settings::default(),
            archive: true,
            limits: Limits::default(),
            admission: Admission::default(),
            changes: Changes::default(),
            ttl: Ttl::default(),
            index_counts: IndexCounts::default(),
        }
    }
}

impl StorageSettings {
    /// Refuses settings with which no node can run, in words for the operator.
    pub fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.node_id > 0, "storage.node_id must be set, and not 0");
        anyhow::ensure!(!self.zone.is_empty(), "storage.zone must be set");
        anyhow::ensure!(
            self.data_dir != PathBuf::new(),
            "storage.data_dir must be set"
        );
        anyhow::ensure!(
            (1..=256).contains(&self.shards),
            "storage.shards must be 1 to 256"
        );
        Ok(())
    }
}

/// Limits and timings of the service (section `storage.limits`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Item requests that one shard holds, queued or waiting for a commit; more are shed.
    pub requests_max: usize,
    /// Bytes of those requests.
    pub request_bytes_max: usize,
    /// Replication messages queued for one shard; more are dropped (the core sends again).
    pub messages_max: usize,
    /// Bytes of those messages, roughly.
    pub message_bytes_max: usize,
    /// How often a shard looks at the time, milliseconds: the resolution of all timers.
    pub tick_ms: u64,
    /// A follower answers eventual reads only if it heard from a leader within this time, milliseconds.
    pub eventual_age_ms_max: u64,
    /// An overlay is flushed once it holds this many bytes …
    pub flush_bytes: usize,
    /// … or this old an entry, milliseconds: bounds what a restart has to replay. Longer while many flushes wait.
    pub flush_age_ms: u64,
    /// A leader takes no writes while the overlay of a group holds this many bytes: the flush is behind.
    pub overlay_bytes_max: usize,
    /// The same for all overlays of the node together: bounds its memory, whatever the number of groups.
    pub overlays_bytes_max: usize,
    /// Flush threads: disks do few synced transactions at a time.
    pub flush_threads: usize,
    /// Leaders push what they lead to memds this often, milliseconds, changes or not (constant work).
    pub push_every_ms: u64,
    /// Partitions in one push.
    pub push_partitions_max: usize,
    /// How long a stopping node tries to hand leadership over, milliseconds; 0 = not at all.
    pub transfer_ms_max: u64,
    /// How long a stopping node waits for its last flushes, milliseconds. The WAL holds what they miss.
    pub drain_ms_max: u64,
    /// One chunk of a full copy must arrive within this time, milliseconds.
    pub copy_chunk_ms_max: u64,
    /// What a node gives away in full copies, bytes a second over all of them: copies must not starve the service.
    pub copy_bytes_per_second_max: u64,
    /// What a node reads for scrubs, bytes a second: a scrub must not starve the service, and holds pages of its B-tree for as long as it
    /// takes.
    pub scrub_bytes_per_second_max: u64,
    /// What a node writes into the B-trees of splits' children, bytes a second over all of them: splits must not starve the service.
    pub split_bytes_per_second_max: u64,
    /// Bytes copied in one transaction of a split: flushes wait for it.
    pub split_chunk_bytes: usize,
    /// Replicas of a node whose children are filled at the same time; others wait.
    pub splits_max: usize,
    /// A node is under pressure, and says so, when it uses more than this share of the units that it is rated for, or of its disk,
    /// thousandths: before there is no room for its tenants' bursts.
    pub pressed_permille: u64,
    /// Size of a WAL segment, bytes.
    pub wal_segment_bytes: u32,
    /// Above this size of the WAL on disk, bytes, the groups that keep its oldest segments alive are made to let go.
    pub wal_bytes_max: u64,
    /// When the WAL on disk is this large, bytes, and waits for the archive, the node takes no writes until it shrinks: an hour without the
    /// object store at the write units that a small node is rated for.
    pub wal_full_bytes: u64,
    /// While fewer bytes are free, the node takes no writes and hands leadership away: what is left is for what must go on (the
    /// WAL's queue, flushes, a segment). At least a few times `wal_segment_bytes`.
    pub disk_reserve_bytes: u64,
    /// Bytes that the data folder may take, for nodes that share a disk; 0 = all that the file system has.
    pub disk_bytes_max: u64,
    /// Virtual size of a new B-tree's memory map, bytes (it grows by doubling).
    pub map_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_max: 16_384,
            request_bytes_max: 64 << 20,
            messages_max: 16_384,
            message_bytes_max: 64 << 20,
            tick_ms: 50,
            eventual_age_ms_max: 3_000,
            flush_bytes: 4 << 20,
            flush_age_ms: 2_000,
            overlay_bytes_max: 64 << 20,
            overlays_bytes_max: 512 << 20,
            flush_threads: 2,
            push_every_ms: 3_000,
            push_partitions_max: 256,
            transfer_ms_max: 3_000,
            drain_ms_max: 10_000,
            copy_chunk_ms_max: 5_000,
            copy_bytes_per_second_max: 32 << 20,
            scrub_bytes_per_second_max: 32 << 20,
            split_bytes_per_second_max: 32 << 20,
            split_chunk_bytes: 1 << 20,
            splits_max: 4,
            pressed_permille: 750,
            wal_segment_bytes: 64 << 20,
            wal_bytes_max: 512 << 20,
            wal_full_bytes: 32 << 30,
            disk_reserve_bytes: 512 << 20,
            disk_bytes_max: 0,
            map_bytes: 64 << 20,
        }
    }
}

/// Change records (section `storage.changes`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Changes {
    /// For how long streams show a change, milliseconds: DynamoDB's 24 hours.
    pub retention_ms: u64,
    /// Bytes of records of one partition above which the oldest go before their time. What global indexes have not got stays: writes wait.
    pub bytes_max: u64,
    /// How often a leader looks for what is too old, milliseconds.
    pub trim_every_ms: u64,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            retention_ms: 86_400_000,
            bytes_max: 8 << 30,
            trim_every_ms: 10_000,
        }
    }
}

/// The deletion of expired items (section `storage.ttl`): by the leader of each partition, in rounds over its items.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ttl {
    /// Items that a leader looks at in one turn.
    pub items_per_turn: usize,
    /// Items that it deletes in one turn at most.
    pub deletes_per_turn: usize,
    /// Between two turns of a round, milliseconds.
    pub turn_every_ms: u64,
    /// Between two rounds, milliseconds.
    pub round_every_ms: u64,
}

impl Default for Ttl {
    fn default() -> Self {
        // 2,500 items a second looked at, 250 deleted, a partition: a small part of what it serves.
        Self {
            items_per_turn: 250,
            deletes_per_turn: 25,
            turn_every_ms: 100,
            round_every_ms: 60_000,
        }
    }
}

/// The count of what local indexes hold (section `storage.index_counts`): by the leader of each partition, in rounds over its items, which take at
/// most a tenth of the time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexCounts {
    /// Items and entries that a leader looks at in one turn.
    pub items_per_turn: usize,
    /// Between two turns of a round, milliseconds.
    pub turn_every_ms: u64,
    /// Between two rounds at least, milliseconds.
    pub round_every_ms: u64,
}

impl Default for IndexCounts {
    fn default() -> Self {
        // 1,000 a second: ten million are counted within three hours. DynamoDB's counts are about six hours old.
        Self {
            items_per_turn: 200,
            turn_every_ms: 200,
            round_every_ms: 60_000,
        }
    }
}

/// Capacity units that may be spent (section `storage.admission`). Equal on all nodes, or a table's throughput depends on where
/// its leaders are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Read units a second that one partition serves at each of its replicas; 0 = no limit, whatever the table's throughput.
    pub partition_read_units_max: u64,
    /// Write units a second that one partition takes; 0 = no limit, whatever the table's throughput.
    pub partition_write_units_max: u64,
    /// Seconds for which what a partition did not use of its rate is kept for a burst; 0 = no bursts.
    pub burst_s: u64,
    /// Read units a second that the node's hardware is rated for: above it there are no bursts; 0 = bursts always.
    pub node_read_units: u64,
    /// Write units a second, those of followers included; 0 = bursts always.
    pub node_write_units: u64,
}

impl Default for Admission {
    fn default() -> Self {
        // DynamoDB's caps and burst; a small node's rates.
        Self {
            partition_read_units_max: 3_000,
            partition_write_units_max: 1_000,
            burst_s: 300,
            node_read_units: 20_000,
            node_write_units: 7_000,
        }
    }
}
