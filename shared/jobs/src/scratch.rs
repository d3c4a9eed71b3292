//! Where partitions are rebuilt: a folder of this process, and how much of the disk all rebuilds together may take. Owns the folder from its start to its
//! end, and deletes what earlier processes left beside it; knows nothing of what is rebuilt.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

/// What the folders of processes are called.
const PREFIX: &str = "rebuilds-";
/// Locked by whoever lives, in its own folder; and beside the folders while one is made or swept away.
const LOCK: &str = "lock";

/// The room for rebuilds.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    bytes_max: u64,
    taken: Mutex<Taken>,
    /// Held until the folder is gone.
    _lock: File,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: u64,
    /// Shares that there ever were: names of their folders.
    shares: u64,
}

/// There is no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Others take the rest: later there may be.
    Shared,
    /// Not even if there was nobody else.
    Alone,
}

impl Scratch {
    /// Makes a folder of one's own below `parent` (empty: in the system's temporary folder), and deletes those whose processes are gone. Blocks.
    ///
    /// # Errors
    /// When the disk says so.
    pub(crate) fn open(parent: &Path, bytes_max: u64) -> io::Result<Arc<Self>> {
        let parent = match parent.as_os_str().is_empty() {
            true => std::env::temp_dir().join("evenkeel-archiver"),
            false => parent.to_owned(),
        };
        fs::create_dir_all(&parent)?;
        // Whoever makes a folder has not locked it yet for a moment.
        let sweeping = lock_file(&parent)?;
        sweeping.lock()?;
        for entry in fs::read_dir(&parent)? {
            let entry = entry?;
            let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
            if is_one && entry.file_type()?.is_dir() {
                sweep(&entry.path());
            }
        }
        let folder = parent.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
        fs::create_dir(&folder)?;
        let lock = lock_file(&folder)?;
        lock.lock()?;
        Ok(Arc::new(Self {
            folder,
            bytes_max,
            taken: Mutex::default(),
            _lock: lock,
        }))
    }

    /// Room for one rebuild; nothing is taken yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        let mut taken = self.taken.lock();
        taken.shares += 1;
        Share {
            scratch: self.clone(),
            number: taken.shares,
            bytes: 0,
        }
    }

    /// All that may be taken, bytes.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}

fn lock_file(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(folder.join(LOCK))
}

/// Deletes a folder if nobody holds it.
fn sweep(folder: &Path) {
    let swept = match lock_file(folder) {
        Ok(lock) if lock.try_lock().is_err() => return,
        _ => fs::remove_dir_all(folder),
    };
    match swept {
        Ok(()) => {
            tracing::info!(folder = %folder.display(), "deleted what an earlier process had rebuilt")
        }
        Err(error) => {
            tracing::warn!(folder = %folder.display(), %error, "what an earlier process had rebuilt stays");
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "the folder of rebuilds stays");
        }
    }
}

/// What one rebuild takes of the room; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    scratch: Arc<Scratch>,
    number: u64,
    bytes: u64,
}

impl Share {
    /// A folder for it alone; not made yet.
    pub(crate) fn folder(&self) -> PathBuf {
        self.scratch.folder.join(self.number.to_string())
    }

    /// It takes so many bytes by now.
    ///
    /// # Errors
    /// If that is too much; it counts all the same until the share is dropped.
    pub(crate) fn takes(&mut self, bytes: u64) -> Result<(), Full> {
        let mut taken = self.scratch.taken.lock();
        taken.bytes = taken.bytes.saturating_sub(self.bytes) + bytes;
        self.bytes = bytes;
        match taken.bytes <= self.scratch.bytes_max {
            true => Ok(()),
            false if bytes <= self.scratch.bytes_max => Err(Full::Shared),
            false => Err(Full::Alone),
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.scratch.taken.lock();
        taken.bytes = taken.bytes.saturating_sub(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(parent: &Path) -> usize {
        let entries = fs::read_dir(parent).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir())
            .count()
    }

    #[test]
    fn what_a_process_that_is_gone_left_is_deleted_and_what_a_living_one_has_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join("rebuilds-of-the-dead");
        fs::create_dir_all(left.join("1")).unwrap();
        fs::write(left.join(LOCK), b"").unwrap();
        fs::create_dir(parent.path().join("somebody-elses")).unwrap();
        let first = Scratch::open(parent.path(), 1).unwrap();
        assert!(!left.exists());
        let second = Scratch::open(parent.path(), 1).unwrap();
        assert_eq!(folders(parent.path()), 3);
        drop(first);
        drop(second);
        assert_eq!(folders(parent.path()), 1, "somebody else's");
    }

    #[test]
    fn the_room_is_shared_and_given_back() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(parent.path(), 100).unwrap();
        let (mut one, mut other) = (scratch.share(), scratch.share());
        assert_ne!(one.folder(), other.folder());
        assert_eq!(one.takes(60), Ok(()));
        assert_eq!(one.takes(70), Ok(()));
        assert_eq!(other.takes(31), Err(Full::Shared));
        assert_eq!(other.takes(101), Err(Full::Alone));
        drop(other);
        let mut third = scratch.share();
        assert_eq!(third.takes(30), Ok(()));
        drop(one);
        assert_eq!(third.takes(100), Ok(()));
    }
}
