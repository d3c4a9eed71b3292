//! The state machine of a partition: evaluates item requests at the leader, applies commands at every replica, and serves
//! reads from overlay and B-tree. Owns the commands that go through the replicated log, the table of writes in flight, the
//! overlay of applied but not yet flushed writes, and what a replica stores beside its items. Never does I/O (the B-tree
//! comes in through [`BTree`]), never replicates (`paxos`), never looks at a clock.
//!
//! The flow at a leader: [`Partition::evaluate`] turns a write into a command → the shell proposes it →
//! [`Partition::proposed`] says where it landed → [`Partition::apply`] on the committed entry gives back the caller and its
//! answer. Every replica: `apply` → [`Partition::seal`] → the shell writes the batch into the B-tree →
//! [`Partition::flushed`].

pub mod ahead;
pub mod btree;
pub mod change;
pub mod command;
mod commits;
mod entries;
pub mod error;
mod evaluate;
mod flight;
mod index_counts;
mod middle;
#[cfg(feature = "mutations")]
mod mutations;
mod overlay;
mod partition;
pub mod propagation;
mod read;
pub mod split;
mod splitting;
pub mod state;
mod transacting;
pub mod transactions;
mod walk;

pub use ahead::Ahead;
pub use btree::{BTree, BTreeError, Visitor};
pub use command::Command;
pub use commits::Commits;
pub use error::PartitionError;
pub use middle::Middle;
#[cfg(feature = "mutations")]
pub use mutations::{MUTATIONS, Mutation};
pub use partition::{Evaluated, Limits, Partition};
pub use state::{Batch, Marked, PartitionState};
pub use transacting::Transacted;
pub use transactions::Transactions;

/// Longest encoded key that a partition accepts, in bytes: of an entry with four sort keys of an index, delimited. Below LMDB's limit of
/// 1,982.
pub const KEY_BYTES_MAX: usize = 1_400;
