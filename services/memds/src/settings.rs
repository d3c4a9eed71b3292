//! Settings of a memds node, each with its unit and its reason.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Settings of a memds node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemdsSettings {
    /// Instance number, unique among memds nodes.
    pub instance: u64,
    /// Availability zone.
    pub zone: String,
    /// Address of `/healthz`, `/readyz` and `/metrics`; none = no server.
    pub http: Option<SocketAddr>,
    /// Time between questions to storage nodes while the map is not complete, milliseconds.
    pub hydrate_every_ms: u64,
    /// Time between comparisons with a peer, milliseconds. A lost push is repaired within about twice this; the cost is one small
    /// message each way.
    pub compare_every_ms: u64,
    /// Time for one question to a peer or a storage node, milliseconds.
    pub call_ms_max: u64,
}

impl Default for MemdsSettings {
    fn default() -> Self {
        Self {
            instance: 1,
            zone: "az1".to_owned(),
            http: None,
            hydrate_every_ms: 100,
            compare_every_ms: 1_000,
            call_ms_max: 1_000,
        }
    }
}
