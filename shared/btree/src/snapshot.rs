//! A consistent view of a B-tree for copies and scrubs: stays as it was while flushes go on. Owns one read transaction, which is taken
//! away when the map must grow or the replica is closed.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use model::KeyRange;
use partition::PartitionState;

use super::crash_note::CrashNote;
use super::disk;
use super::environment::{Revocable, Table};
use super::error::TreeError;
use super::value;

/// Key-value pairs in key order.
pub type Pairs = Vec<(Bytes, Bytes)>;

/// A view of one moment.
pub struct Snapshot {
    pub(super) path: std::path::PathBuf,
    pub(super) note: Arc<CrashNote>,
    pub(super) reading: Revocable,
    pub(super) items: Table,
    pub(super) state: PartitionState,
}

impl Snapshot {
    /// The state of that moment.
    pub fn state(&self) -> &PartitionState {
        &self.state
    }

    /// The first of these pairs that a search for its key does not find: pages lead past it.
    pub fn hidden<'a>(&self, pairs: &'a Pairs) -> Result<Option<&'a Bytes>, TreeError> {
        let reading = self.reading.lock();
        let Some(transaction) = reading.as_ref() else {
            return Err(TreeError::SnapshotGone {
                path: self.path.clone(),
            });
        };
        let _working = self.note.working();
        for (key, item) in pairs {
            let stored = self.items.get(transaction, key);
            let stored = stored.map_err(|error| TreeError::heed(&self.path, "search", error))?;
            let found = stored.map(|stored| value::open(&self.path, key, stored));
            if found.transpose()? != Some(item) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The error for damage that the reader of a view found.
    pub fn damaged(&self, what: impl Into<String>) -> TreeError {
        TreeError::corrupt(&self.path, what)
    }

    /// Looks whether the disk holds what the page cache says of the B-tree's file. `read` is told the bytes of each block that was read, and
    /// says whether to go on. Returns whether it did to the end. Blocks.
    ///
    /// # Errors
    /// `Corrupt` when it does not; or the disk's error.
    pub fn compare_disk(&self, read: impl FnMut(u64) -> bool) -> Result<bool, TreeError> {
        disk::compare(&self.path, read)
    }

    /// Pairs behind `after` (from the start if none), at least one if there is one, then while keys and values fit into
    /// `bytes_max`; and whether these are the last.
    pub fn pairs(
        &self,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<(Pairs, bool), TreeError> {
        self.pairs_of(&KeyRange::default(), after, bytes_max)
    }

    /// The same, of the pairs with keys in a range.
    pub fn pairs_of(
        &self,
        range: &KeyRange,
        after: Option<&[u8]>,
        bytes_max: usize,
    ) -> Result<(Pairs, bool), TreeError> {
        let reading = self.reading.lock();
        let Some(transaction) = reading.as_ref() else {
            return Err(TreeError::SnapshotGone {
                path: self.path.clone(),
            });
        };
        let _working = self.note.working();
        let fail = |error| TreeError::heed(&self.path, "copy", error);
        let start = match &range.start[..] {
            [] => Bound::Unbounded,
            start => Bound::Included(start),
        };
        let from = after.map_or(start, Bound::Excluded);
        let end = match &range.end[..] {
            [] => Bound::Unbounded,
            end => Bound::Excluded(end),
        };
        let range: (Bound<&[u8]>, Bound<&[u8]>) = (from, end);
        let mut pairs = Vec::new();
        let mut bytes = 0;
        for pair in self.items.range(transaction, &range).map_err(fail)? {
            let (key, stored) = pair.map_err(fail)?;
            let item = value::open(&self.path, key, stored)?;
            bytes += key.len() + item.len();
            if bytes > bytes_max && !pairs.is_empty() {
                return Ok((pairs, false));
            }
            pairs.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(item)));
        }
        Ok((pairs, true))
    }
}
