//! The lock of a mesh that is one process: proof that no process which ran it before is alive. Owns the locked file.

use std::fs::{File, TryLockError};
use std::path::Path;

/// An exclusive lock on a file beside a mesh's data, held as long as this lives. Whoever runs that mesh in one process takes it first, and the
/// kernel gives it back only when all of a process has ended. So its holder knows that nothing of the mesh is alive but itself.
#[derive(Debug)]
pub struct MeshLock {
    _file: File,
}

impl MeshLock {
    /// Takes the lock; makes the file if it is not there.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it; else what the file system says.
    pub fn take(path: &Path) -> Result<Self, TryLockError> {
        let file = File::create(path).map_err(TryLockError::Error)?;
        file.try_lock()?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dev.lock");
        let lock = MeshLock::take(&path).unwrap();
        assert!(matches!(
            MeshLock::take(&path),
            Err(TryLockError::WouldBlock)
        ));
        drop(lock);
        MeshLock::take(&path).unwrap();
        let nowhere = folder.path().join("nowhere").join("dev.lock");
        assert!(matches!(
            MeshLock::take(&nowhere),
            Err(TryLockError::Error(_))
        ));
    }
}
