//! What the log thread and its callers share: groups, open segments, counters. The lock is held for memory work only.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use paxos::GroupId;

use crate::group::Group;
use crate::queue::Queue;
use crate::recovery::LiveRuns;

/// A segment on disk.
pub(crate) struct Segment {
    pub(crate) file: Arc<File>,
    pub(crate) bytes: u64,
    /// Its checkpoint is whole: replay can start here.
    pub(crate) sound: bool,
}

impl State {
    /// The segments at the old end in which nothing lives any more; the one behind them is sound.
    pub(crate) fn dead_segments(&self) -> Vec<u32> {
        let mut dead = Vec::new();
        let mut sound_prefix = 0;
        for (number, segment) in &self.segments {
            if segment.sound {
                sound_prefix = dead.len();
            }
            if self.live.get(number).is_some_and(|runs| *runs > 0) {
                break;
            }
            dead.push(*number);
        }
        dead.truncate(sound_prefix);
        dead
    }
}

/// What is durable.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) groups: BTreeMap<GroupId, Group>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// Damage may have taken groups that nobody knows of.
    pub(crate) unattributed_damage: bool,
    /// Runs that live in each segment.
    pub(crate) live: LiveRuns,
}

/// Upper bounds of the buckets of write and sync durations, microseconds; one more is for what takes longer.
pub const SYNC_BOUNDS_US: [u64; 12] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
];

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) records: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) sync_us: AtomicU64,
    /// When the last write with a sync began and ended, Unix nanoseconds.
    pub(crate) sync_began_ns: AtomicU64,
    pub(crate) sync_ended_ns: AtomicU64,
    /// Syncs by duration, see `SYNC_BOUNDS_US`.
    pub(crate) sync_buckets: [AtomicU64; SYNC_BOUNDS_US.len() + 1],
    pub(crate) overloaded: AtomicU64,
}

pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) state: Mutex<State>,
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    pub(crate) faults: Faults,
}

/// Failures that tests ask for.
#[derive(Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    pub(crate) next_write: Mutex<Option<std::io::ErrorKind>>,
    #[cfg(test)]
    pub(crate) next_sync: Mutex<Option<std::io::ErrorKind>>,
    #[cfg(test)]
    pub(crate) next_read: Mutex<Option<std::io::ErrorKind>>,
}

impl Faults {
    #[cfg(test)]
    pub(crate) fn write(&self) -> std::io::Result<()> {
        self.next_write
            .lock()
            .take()
            .map_or(Ok(()), |kind| Err(kind.into()))
    }

    #[cfg(test)]
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        self.next_sync
            .lock()
            .take()
            .map_or(Ok(()), |kind| Err(kind.into()))
    }

    #[cfg(test)]
    pub(crate) fn read(&self) -> std::io::Result<()> {
        self.next_read
            .lock()
            .take()
            .map_or(Ok(()), |kind| Err(kind.into()))
    }

    #[cfg(not(test))]
    pub(crate) fn read(&self) -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    pub(crate) fn write(&self) -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(not(test))]
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
}
