//! A storage node: hosts replicas of partitions. Owns the write-ahead log, the B-trees, the shards that drive replication groups,
//! and the node's subjects on the bus. What is decided is decided by the pure cores `paxos` and `partition`; this is their shell.
//!
//! Threads: one a shard (an actix actor on its own arbiter, never blocks), one of the log, and a few for flushes, log reads,
//! copies and orders. A request comes in on a thread of the bus, waits in its shard's inbox, and is answered by the shard.

mod archiver_calls;
mod capacity;
mod children;
mod copier;
pub mod copy;
mod env;
mod epochs;
mod fence;
mod flusher;
mod forwarder;
mod group;
mod inbox;
mod intake;
mod joiner;
mod log_reader;
mod metrics;
mod middle;
mod node;
mod orders;
mod outgoing;
mod peers;
mod pool;
mod pressure;
mod propagator;
mod recovery;
mod reporter;
mod running;
mod scrub;
mod settings;
mod shard;
mod space;

pub use running::{Running, incarnation, start};
pub use settings::{Admission, Limits, StorageSettings};
