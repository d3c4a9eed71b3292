//! Settings of an admin, each with its unit and its reason.

use serde::{Deserialize, Serialize};

use crate::console::ConsoleSettings;
use crate::throughput::Quotas;

/// Settings of an admin.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// Instance number, unique among admins. The lowest one alive founds an empty mesh.
    pub instance: u64,
    /// Availability zone.
    pub zone: String,
    /// Address of `/healthz`, `/readyz` and `/metrics`, `host:port`; empty = none (another part of the process serves them).
    pub http: String,
    /// Region in the Amazon Resource Names of tables.
    pub region: String,
    /// How long storage nodes of three zones must have been seen before an empty mesh is founded, milliseconds: nodes that
    /// hold the mesh's data may be slower to start than the others.
    pub found_after_ms: u64,
    /// Time between looks at what is unfinished, milliseconds.
    pub reconcile_every_ms: u64,
    /// How long CreateTable and DeleteTable wait for the end of their work before they answer, milliseconds. SDKs poll
    /// every 20 s after the first look, so that a second here saves their users much more.
    pub answer_wait_ms: u64,
    /// Between two changes of a table's time to live, milliseconds: DynamoDB's hour.
    pub ttl_change_every_ms: u64,
    /// Time for one order to a storage node, milliseconds; it makes or drops a B-tree.
    pub order_ms_max: u64,
    /// Time for one read or write of the system table, milliseconds: longer than an election.
    pub catalog_ms_max: u64,
    /// API calls under way at once; above it they are shed.
    pub calls_max: usize,
    /// Partitions of a new table at most.
    pub partitions_max: u32,
    /// Partitions of a new on-demand table.
    pub on_demand_partitions: u32,
    /// A node with less free disk than this gets no new replicas, bytes.
    pub free_bytes_min: u64,
    /// For how long other admins leave the lease alone after it was renewed, milliseconds: how long nobody heals when the active admin
    /// dies. Renewed four times in that time.
    pub lease_ms: u64,
    /// What one table and all tables together may have.
    pub quotas: Quotas,
    /// Healing, balancing and leaders.
    pub healing: HealingSettings,
    /// Splits of partitions.
    pub splits: SplitSettings,
    /// A restore or export that the archive does not come far enough for, or a job that no archiver is there for, fails after so long, milliseconds.
    pub job_wait_ms_max: u64,
    /// A dropped table's name is free again even if a node that holds its replicas was silent for so long, milliseconds; the node is
    /// told when it comes back.
    pub drop_patience_ms: u64,
    /// The operator's web page.
    pub console: ConsoleSettings,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self {
            instance: 1,
            zone: "az1".to_owned(),
            http: String::new(),
            region: "us-east-1".to_owned(),
            found_after_ms: 1_500,
            reconcile_every_ms: 1_000,
            answer_wait_ms: 1_000,
            ttl_change_every_ms: 3_600_000,
            order_ms_max: 3_000,
            catalog_ms_max: 5_000,
            calls_max: 64,
            partitions_max: 64,
            on_demand_partitions: 4,
            free_bytes_min: 256 << 20,
            job_wait_ms_max: 3_600_000,
            drop_patience_ms: 10_000,
            lease_ms: 4_000,
            quotas: Quotas::default(),
            healing: HealingSettings::default(),
            splits: SplitSettings::default(),
            console: ConsoleSettings::default(),
        }
    }
}

/// When and how partitions are split (section `admin.splits`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitSettings {
    /// A partition with more than this is split in the middle, bytes. DynamoDB's limit is 10 GB.
    pub split_bytes: u64,
    /// Read units a second that one partition serves: as the storage nodes have it.
    pub partition_read_units: u64,
    /// Write units a second that one partition serves: as the storage nodes have it.
    pub partition_write_units: u64,
    /// A partition that consumes more than this share of what it may is hot, thousandths: below the cap, since a split takes a while.
    pub consumption_permille: u64,
    /// A partition is split for consumption once it was hot for so long, milliseconds: bursts have passed by then.
    pub sustained_ms: u64,
    /// Splits at once in all: what the control plane can follow.
    pub splits_max: usize,
    /// Splits at once on one node: it writes both children while it serves.
    pub splits_per_node_max: usize,
    /// Time between two looks, milliseconds.
    pub look_every_ms: u64,
    /// An order that is not seen done is given again after this, milliseconds.
    pub repeat_ms: u64,
    /// A split that makes no progress for so long is given up, milliseconds: longer than it takes to heal the group, which it waits for.
    pub abandon_after_ms: u64,
    /// A partition that could not be split is left alone for so long, milliseconds (most causes pass: its leader changed, its items are
    /// not flushed yet); doubled with each failure …
    pub backoff_ms: u64,
    /// … up to this.
    pub backoff_ms_max: u64,
    /// Time for a leader to find the middle of a partition's bytes, milliseconds; it reads all keys.
    pub middle_ms_max: u64,
}

impl Default for SplitSettings {
    fn default() -> Self {
        Self {
            split_bytes: 10 << 30,
            partition_read_units: 3_000,
            partition_write_units: 1_000,
            consumption_permille: 700,
            sustained_ms: 120_000,
            splits_max: 8,
            splits_per_node_max: 2,
            look_every_ms: 500,
            repeat_ms: 2_000,
            abandon_after_ms: 1_800_000,
            backoff_ms: 2_000,
            backoff_ms_max: 3_600_000,
            middle_ms_max: 300_000,
        }
    }
}

/// How replicas are built anew (section `admin.healing`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealingSettings {
    /// A node that was dead for so long gets its replicas built anew elsewhere, milliseconds: longer than a restart or an
    /// upgrade, since a node that comes back catches up from the log at a fraction of the cost.
    pub replace_after_ms: u64,
    /// While a zone lost all its nodes for less than this, its replicas are not crowded into the other zones, milliseconds: zones come
    /// back, and log replicas keep three copies of the log meanwhile.
    pub zone_lost_after_ms: u64,
    /// Time between two rounds of planning, milliseconds.
    pub plan_every_ms: u64,
    /// Replacements at once in all: what the control plane can follow.
    pub replacements_max: usize,
    /// Replacements at once onto one node: its disk writes them while it serves.
    pub replacements_per_target_max: usize,
    /// Replacements at once out of one leader's node: it reads and sends them while it serves.
    pub replacements_per_source_max: usize,
    /// Moves at once that only make the spread better; nobody waits for them.
    pub moves_max: usize,
    /// An order that is not seen done is given again after this, milliseconds.
    pub repeat_ms: u64,
    /// Longest wait after refusals, milliseconds.
    pub backoff_ms_max: u64,
    /// A replacement that is not done after this is planned anew, milliseconds.
    pub stuck_after_ms: u64,
    /// Hand-overs of leadership in one second.
    pub transfers_max: usize,
    /// A node takes replicas and leaders only below this share of what it is rated for, thousandths: from there on it reports that it
    /// is under pressure (`storage.limits.pressed_permille`).
    pub pressed_permille: u64,
    /// A node is relieved once it was under pressure for so long, milliseconds: bursts pass by themselves.
    pub pressed_after_ms: u64,
}

impl Default for HealingSettings {
    fn default() -> Self {
        Self {
            replace_after_ms: 300_000,
            zone_lost_after_ms: 3_600_000,
            plan_every_ms: 500,
            replacements_max: 64,
            replacements_per_target_max: 4,
            replacements_per_source_max: 4,
            moves_max: 2,
            repeat_ms: 5_000,
            backoff_ms_max: 60_000,
            stuck_after_ms: 3_600_000,
            transfers_max: 4,
            pressed_permille: 750,
            pressed_after_ms: 15_000,
        }
    }
}
