//! The node-wide write-ahead log: one for all replicas of a storage node. Owns segments, records, group commit, recovery,
//! truncation below floors, and the node's identity on disk. Never decides what to write (`paxos` does) and never
//! interprets commands.

pub mod error;
mod group;
pub mod identity;
mod log;
pub mod options;
mod queue;
mod reader;
mod record;
mod recovery;
mod segment;
mod shared;
mod spare;
#[cfg(test)]
mod tests;
mod unreadable;
mod witness;
mod writer;

pub use error::{Overloaded, WalError};
pub use identity::{DataDir, replace_file};
pub use log::{FoundGroup, RecoveredGroup, Recovery, Wal, WalMetrics};
pub use options::{OnFatal, WalOptions};
pub use shared::SYNC_BOUNDS_US;
