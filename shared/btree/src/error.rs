//! What can go wrong with a replica's B-tree, in words for the operator, and how LMDB's errors map to it.

use std::io;
use std::path::{Path, PathBuf};

use heed::MdbError;
use paxos::Index;

/// What can go wrong with a replica's B-tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The file system is full; nothing was changed, so it may be tried again.
    #[error("the disk of the B-tree {path} is full: free space")]
    DiskFull {
        /// The folder.
        path: PathBuf,
    },
    /// The operating system refused an operation.
    #[error("B-tree {path}: {operation} failed: {message}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What was being done.
        operation: &'static str,
        /// The system's words.
        message: String,
    },
    /// What is stored is not what was written: the replica must be fenced and replaced.
    #[error("B-tree {path} is damaged: {what}")]
    Corrupt {
        /// The folder.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// There is no B-tree in the folder, or its creation never finished.
    #[error("no B-tree in {path}")]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// There is one already.
    #[error("there is a B-tree in {path} already")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The map reached its limit.
    #[error("B-tree {path} would grow over {limit_bytes} bytes")]
    TooLarge {
        /// The folder.
        path: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// The batch leads back to an earlier position than the stored one: a bug in the caller.
    #[error("B-tree {path} is at {stored}, a batch would lead it back to {batch}")]
    Backwards {
        /// The folder.
        path: PathBuf,
        /// Stored position.
        stored: Index,
        /// Position of the batch.
        batch: Index,
    },
    /// The snapshot was given up so that the map could grow, or the replica was closed: start again.
    #[error("the snapshot of B-tree {path} is gone")]
    SnapshotGone {
        /// The folder.
        path: PathBuf,
    },
}

impl TreeError {
    /// An operation that the system refused.
    pub fn io(path: &Path, operation: &'static str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.into() }
            }
            _ => Self::Io {
                path: path.into(),
                operation,
                message: error.to_string(),
            },
        }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt {
            path: path.into(),
            what: what.into(),
        }
    }

    pub(crate) fn heed(path: &Path, operation: &'static str, error: heed::Error) -> Self {
        match error {
            heed::Error::Io(error) => Self::io(path, operation, &error),
            heed::Error::Mdb(MdbError::Other(code)) => {
                Self::io(path, operation, &io::Error::from_raw_os_error(code))
            }
            heed::Error::Mdb(
                error @ (MdbError::PageNotFound
                | MdbError::Corrupted
                | MdbError::Invalid
                | MdbError::VersionMismatch
                | MdbError::Incompatible
                | MdbError::PageFull
                | MdbError::CursorFull),
            ) => Self::corrupt(path, format!("{operation}: {error}")),
            heed::Error::Decoding(error) => Self::corrupt(path, format!("{operation}: {error}")),
            other => Self::Io {
                path: path.into(),
                operation,
                message: other.to_string(),
            },
        }
    }
}
