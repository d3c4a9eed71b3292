//! The state machine of a partition: evaluates item requests at the leader, applies commands at every replica, and serves
//! reads from overlay and B-tree. Owns the commands that go through the replicated log, the table of writes in flight, the
//! overlay of applied but not yet flushed writes, and what a replica stores beside its items. Never does I/O (the B-tree
//! comes in through [`BTree`]), never replicates (`paxos`), never looks at a clock.

pub mod btree;
pub mod state;

pub use btree::{BTree, BTreeError};
pub use state::{Batch, PartitionState};
