//! Space on the node's disk: how much is free, and whether so little that the node takes no more writes. Owns the measuring and
//! the two thresholds. Never deletes anything.

use std::fs;
use std::path::Path;

use crate::settings::Limits;

/// Above the reserve by this part of it, writes are taken again: the node must not waver.
const SLACK_DIVISOR: u64 = 4;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Bytes free for this node: on its file system, and within its quota.
    pub(crate) free_bytes: u64,
    /// So little that the rest is kept for what must go on: promises, flushes, truncation.
    pub(crate) low: bool,
}

impl Space {
    /// Measures the disk of `data_dir`. Blocks. None when the system does not tell: then what was known stays.
    pub(crate) fn measure(data_dir: &Path, limits: &Limits, before: Space) -> Option<Space> {
        let system = rustix::fs::statvfs(data_dir).ok()?;
        let mut free = system.f_bavail.saturating_mul(system.f_frsize);
        if limits.disk_bytes_max > 0 {
            free = free.min(limits.disk_bytes_max.saturating_sub(used(data_dir)));
        }
        Some(before.after(free, limits.disk_reserve_bytes))
    }

    fn after(self, free_bytes: u64, reserve: u64) -> Space {
        let enough = match self.low {
            true => reserve.saturating_add(reserve / SLACK_DIVISOR),
            false => reserve,
        };
        Space {
            free_bytes,
            low: free_bytes < enough,
        }
    }
}

/// Bytes of all files below a folder, as far as they can be seen.
fn used(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_waver_at_the_threshold() {
        let mut space = Space::default();
        let mut low = |free| {
            space = space.after(free, 100);
            space.low
        };
        assert!(!low(100));
        assert!(low(99));
        assert!(low(124), "not enough yet to take writes again");
        assert!(!low(125));
        assert!(!low(101));
    }

    #[test]
    fn the_quota_counts_what_lies_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits {
            disk_bytes_max: 1 << 20,
            disk_reserve_bytes: 512 << 10,
            ..Limits::default()
        };
        let measure = |before| Space::measure(folder.path(), &limits, before).unwrap();
        let empty = measure(Space::default());
        assert!(!empty.low, "{empty:?}");
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(folder.path().join("inner/file"), vec![1; 700 << 10]).unwrap();
        let full = measure(empty);
        assert!(full.low && full.free_bytes < 512 << 10, "{full:?}");
        fs::remove_file(folder.path().join("inner/file")).unwrap();
        assert!(!measure(full).low);
    }
}
