//! Heartbeats of service instances, on the bus once a second. Losing one means nothing by itself.

use serde::{Deserialize, Serialize};

/// "I am here."
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// `storage`, `memds`, `router`, `admin`.
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
}
