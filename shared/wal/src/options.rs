//! Limits and identity of a log.

use std::sync::Arc;

use paxos::NodeId;

use crate::error::WalError;

/// What to call when the log can no longer promise durability (failed write or sync, full disk). Must not return in
/// production; when it does (tests), everything queued and later is answered with [`WalError::Stopped`].
pub type OnFatal = Arc<dyn Fn(&WalError) + Send + Sync>;

/// Limits and identity of a log.
#[derive(Clone)]
pub struct WalOptions {
    /// Identity of the node, written into every segment.
    pub node: NodeId,
    /// Identity of the disk, written into every segment.
    pub incarnation: u64,
    /// A segment is closed once it holds this many bytes beside its checkpoint; at most 1 GiB.
    pub segment_bytes: u32,
    /// Keep one file of `segment_bytes` ready: each sync gets cheaper, for twice the disk space of a small log.
    pub spare: bool,
    /// Most operations waiting for the log thread.
    pub queue_len_max: usize,
    /// Most bytes waiting for the log thread.
    pub queue_bytes_max: usize,
    /// Most bytes in one write (a single larger append is written alone).
    pub batch_bytes_max: usize,
    /// There are replicas on this disk: a folder without any segment has lost its log, it is not new.
    pub must_exist: bool,
    /// Called on fatal errors.
    pub on_fatal: OnFatal,
}

impl WalOptions {
    /// Production limits; fatal errors are logged and abort the process.
    pub fn new(node: NodeId, incarnation: u64) -> Self {
        Self {
            node,
            incarnation,
            segment_bytes: 64 << 20,
            spare: true,
            queue_len_max: 16_384,
            queue_bytes_max: 64 << 20,
            batch_bytes_max: 4 << 20,
            must_exist: false,
            on_fatal: Arc::new(|error| {
                tracing::error!(%error, "the write-ahead log failed, stopping the process");
                eprintln!("fatal: {error}");
                std::process::abort();
            }),
        }
    }
}
