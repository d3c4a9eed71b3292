//! Why a replica is fenced: taken out of service for good, its files left for the operator until it is dropped or replaced. Owns the
//! reasons and the mark by which a fenced replica stays fenced over a restart. Never decides that a replica is to be fenced.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use btree::{CRASHED_MARK, TreeError};
use partition::PartitionError;
use paxos::GroupId;
use wal::WalError;

/// File in a replica's folder: it was fenced, and why.
const FENCED_MARK: &str = "fenced";
/// Longest mark that is read, bytes.
const MARK_BYTES_MAX: usize = 4_096;

/// Why a replica is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The write-ahead log lost records of it, or cannot be read where they are.
    LogDamaged,
    /// The write-ahead log has nothing of it.
    LogMissing,
    /// Its B-tree is not what was written.
    TreeDamaged,
    /// Its B-tree is not there.
    TreeMissing,
    /// The disk refused to read, write or sync its B-tree.
    DiskFailed,
    /// The process died in its B-tree.
    Crashed,
    /// Its B-tree reached the size that the settings allow.
    TooLarge,
    /// A committed entry cannot be applied: written by a newer version, or a bug.
    CannotApply,
    /// A scrub found that it differs from the others.
    ScrubMismatch,
    /// Its drop was ordered and could not be completed.
    DropFailed,
}

impl Reason {
    /// The reason's name in metrics and marks.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LogDamaged => "log_damaged",
            Self::LogMissing => "log_missing",
            Self::TreeDamaged => "tree_damaged",
            Self::TreeMissing => "tree_missing",
            Self::DiskFailed => "disk_failed",
            Self::Crashed => "crashed",
            Self::TooLarge => "too_large",
            Self::CannotApply => "cannot_apply",
            Self::ScrubMismatch => "scrub_mismatch",
            Self::DropFailed => "drop_failed",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        let marked = [
            Self::LogDamaged,
            Self::TreeDamaged,
            Self::DiskFailed,
            Self::Crashed,
            Self::ScrubMismatch,
        ];
        marked.into_iter().find(|reason| reason.name() == name)
    }

    /// Whether the replica must stay fenced when the node starts again. The other reasons are found again if they still hold.
    fn stays(self) -> bool {
        Self::of_name(self.name()).is_some()
    }
}

/// A reason, and what was found in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) reason: Reason,
    pub(crate) why: String,
}

impl Fence {
    pub(crate) fn new(reason: Reason, why: impl Into<String>) -> Self {
        let why = why.into();
        Self { reason, why }
    }

    /// What an earlier life left in a replica's folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn marked(folder: &Path) -> io::Result<Option<Self>> {
        let read = |name| match fs::read(folder.join(name)) {
            Ok(mut bytes) => {
                bytes.truncate(MARK_BYTES_MAX);
                Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        if let Some(mark) = read(FENCED_MARK)? {
            let (name, why) = mark.split_once('\n').unwrap_or((&mark, "no reason noted"));
            let reason = Reason::of_name(name).unwrap_or(Reason::TreeDamaged);
            return Ok(Some(Self::new(reason, why)));
        }
        let crashed = read(CRASHED_MARK)?;
        Ok(crashed.map(|why| {
            let what = format!("the process died in its B-tree: {why}");
            Self::new(Reason::Crashed, what)
        }))
    }

    /// Says in the log that a replica is fenced; to be called once.
    pub(crate) fn log(&self, group: GroupId) {
        let (reason, why) = (self.reason.name(), &self.why);
        tracing::error!(
            group = group.0,
            reason,
            why,
            "replica fenced: it must be replaced"
        );
    }

    /// Whether `mark` has to be called.
    pub(crate) fn needs_mark(&self) -> bool {
        self.reason.stays()
    }

    /// Notes the fence in the replica's folder, so that a restart does not serve it again. Blocks.
    ///
    /// # Errors
    /// When it cannot be written: then the next start finds the fault anew, or meets it in the first read.
    pub(crate) fn mark(&self, folder: &Path) -> io::Result<()> {
        let mut file = File::create(folder.join(FENCED_MARK))?;
        writeln!(file, "{}\n{}", self.reason.name(), self.why)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<TreeError> for Fence {
    fn from(error: TreeError) -> Self {
        let reason = match &error {
            TreeError::Corrupt { .. } | TreeError::Backwards { .. } => Reason::TreeDamaged,
            TreeError::Missing { .. } | TreeError::Exists { .. } => Reason::TreeMissing,
            TreeError::TooLarge { .. } => Reason::TooLarge,
            TreeError::Io { .. } | TreeError::DiskFull { .. } | TreeError::SnapshotGone { .. } => {
                Reason::DiskFailed
            }
        };
        Self::new(reason, error.to_string())
    }
}

impl From<PartitionError> for Fence {
    fn from(error: PartitionError) -> Self {
        let reason = match error {
            PartitionError::BTree(_) | PartitionError::CorruptItem(_) => Reason::TreeDamaged,
            PartitionError::BadCommand(_)
            | PartitionError::AfterSplit(_)
            | PartitionError::Gap { .. } => Reason::CannotApply,
        };
        Self::new(reason, error.to_string())
    }
}

impl From<WalError> for Fence {
    fn from(error: WalError) -> Self {
        Self::new(Reason::LogDamaged, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_the_reason_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Fence::marked(folder.path()).unwrap(), None);
        let crash = "SIGBUS: x\n";
        fs::write(folder.path().join(CRASHED_MARK), crash).unwrap();
        let found = Fence::marked(folder.path()).unwrap().unwrap();
        assert_eq!(found.reason, Reason::Crashed);
        assert!(found.why.contains("SIGBUS"), "{found}");
        let fence = Fence::new(Reason::TreeDamaged, "checksum of item [1]");
        assert!(fence.needs_mark());
        fence.mark(folder.path()).unwrap();
        assert_eq!(Fence::marked(folder.path()).unwrap(), Some(fence));
    }

    #[test]
    fn a_replica_that_a_scrub_condemned_stays_fenced() {
        let folder = tempfile::tempdir().unwrap();
        let fence = Fence::new(Reason::ScrubMismatch, "it stands alone");
        assert!(fence.needs_mark());
        fence.mark(folder.path()).unwrap();
        assert_eq!(Fence::marked(folder.path()).unwrap(), Some(fence));
    }

    #[test]
    fn what_is_found_again_is_not_marked() {
        for reason in [Reason::TooLarge, Reason::CannotApply, Reason::TreeMissing] {
            assert!(!Fence::new(reason, "x").needs_mark());
        }
    }
}
