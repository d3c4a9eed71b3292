//! A Perkle tree: Patricia (radix tree with compressed paths) + Merkle (each subtree knows a hash of what is in it), over keys,
//! versions and values that are byte strings. Owns sorted access, what is newer than what, the hash of the content, and how two
//! trees find their differences; never knows what a value means and never talks to anyone. Layout and hashing:
//! docs/adr/0004-perkle-tree.md.

mod arena;
mod compare;
pub mod counter;
mod hash;
mod iter;
mod node;
mod search;
mod tree;

pub use compare::{Answer, Comparison, Part, PartAnswer, Question, Stamp};
pub use hash::Hash;
pub use iter::Range;
pub use tree::{Entry, EntryRef, Perkle, PerkleError, Summary, Updated};

/// Longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Longest version, in bytes.
pub const VERSION_BYTES_MAX: usize = 255;
/// Longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;
