//! Full copies of a replica's B-tree between nodes: `source` serves them, `receiver` pulls them. Owns sessions and files. Never
//! decides that a copy is needed (`paxos` does), never sends anything itself; runs on threads of its own, never on a shard's.

pub mod receiver;
pub mod source;
#[cfg(test)]
mod tests;

pub use receiver::{CopyError, Incoming, ReceiveOptions, receive, tidy};
pub use source::{Busy, CopySource, SourceOptions};
