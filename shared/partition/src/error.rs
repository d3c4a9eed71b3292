//! Why a replica cannot go on. Nothing here is a client's fault: the shell fences the replica.

use paxos::Index;

use crate::BTreeError;

/// The replica's data or its log is not what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionError {
    /// The B-tree could not be read.
    BTree(BTreeError),
    /// A stored item is not an encoded item.
    CorruptItem(&'static str),
    /// A committed command cannot be decoded (corrupt, or written by a newer version).
    BadCommand(String),
    /// A committed command changes a partition that has ended: no leader proposes that.
    AfterSplit(Index),
    /// A committed entry is missing between the applied position and this one.
    Gap {
        /// Position that had to come.
        expected: Index,
        /// Position that came.
        found: Index,
    },
}

impl std::fmt::Display for PartitionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BTree(error) => error.fmt(f),
            Self::CorruptItem(why) => write!(f, "a stored item is corrupt: {why}"),
            Self::BadCommand(why) => write!(f, "a committed command cannot be applied: {why}"),
            Self::AfterSplit(index) => {
                write!(f, "entry {index} changes the partition behind its split")
            }
            Self::Gap { expected, found } => {
                write!(f, "entry {found} came where {expected} was due")
            }
        }
    }
}
impl std::error::Error for PartitionError {}

impl From<BTreeError> for PartitionError {
    fn from(error: BTreeError) -> Self {
        Self::BTree(error)
    }
}
impl From<model::codec::CodecError> for PartitionError {
    fn from(error: model::codec::CodecError) -> Self {
        Self::CorruptItem(error.0)
    }
}
