//! Settings of an admin, each with its unit and its reason.

use serde::{Deserialize, Serialize};

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
    /// A dropped table's name is free again even if a node that holds its replicas was silent for so long, milliseconds; the node is
    /// told when it comes back.
    pub drop_patience_ms: u64,
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
            order_ms_max: 3_000,
            catalog_ms_max: 5_000,
            calls_max: 64,
            partitions_max: 64,
            on_demand_partitions: 4,
            free_bytes_min: 256 << 20,
            drop_patience_ms: 10_000,
        }
    }
}
