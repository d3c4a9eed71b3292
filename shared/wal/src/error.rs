//! What can go wrong with a write-ahead log, in words for the operator.

use std::path::PathBuf;

use paxos::{GroupId, Index};

/// An error of the write-ahead log. Cloneable, since one failed sync fails every append that waited for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WalError {
    /// The file system is full. Fatal: the process must stop; free space and start it again.
    #[error(
        "the disk of the write-ahead log {path} is full ({operation}): free space, then start this node again"
    )]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused an operation. After a failed write or sync this is fatal: what reached the disk is
    /// unknown, so it is never retried.
    #[error("write-ahead log {path}: {operation} failed: {message}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// A file was written by a newer version of this software.
    #[error(
        "{path} has format version {found}, this program understands up to {supported}: upgrade it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest that is understood.
        supported: u32,
    },
    /// The data folder belongs to another node, or its files to another disk.
    #[error(
        "{path} belongs to {found}, but this process is {expected}: check data_dir and node_id"
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who asks.
        expected: String,
    },
    /// Another process has the data folder open.
    #[error("{path} is in use by another process: stop it first")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file or record is not what was written.
    #[error("{path} is damaged at byte {offset}: {what}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// The group lost records to damage; it accepts nothing until it is removed.
    #[error("the log of group {} is damaged: the replica is fenced and must be replaced", group.0)]
    Damaged {
        /// The group.
        group: GroupId,
    },
    /// The log has nothing of this group.
    #[error("the write-ahead log does not know group {}", group.0)]
    UnknownGroup {
        /// The group.
        group: GroupId,
    },
    /// The wanted entries were dropped: the reader needs a full copy.
    #[error("group {}: entries up to {floor} were dropped from the write-ahead log", group.0)]
    BelowFloor {
        /// The group.
        group: GroupId,
        /// Last dropped position.
        floor: Index,
    },
    /// An operation does not fit the log that is there (a gap, or entries below the floor): a bug in the caller.
    #[error("group {}: operation refused: {what}", group.0)]
    Refused {
        /// The group.
        group: GroupId,
        /// Why.
        what: String,
    },
    /// The log stopped after an earlier fatal error, or is closed.
    #[error("the write-ahead log has stopped")]
    Stopped,
}

impl WalError {
    /// Builds the error for a failed system call, setting a full disk apart.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { operation, path }
            }
            _ => Self::Io {
                operation,
                path,
                message: error.to_string(),
            },
        }
    }
}

/// The log's queue is full: the operations were not taken, shed the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the write-ahead log's queue is full")]
pub struct Overloaded;
