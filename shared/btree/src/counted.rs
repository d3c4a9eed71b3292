//! What an entry of the B-tree counts for in the state: as an item or as a change record. Owns nothing.

use std::path::Path;

use partition::{PartitionState, change};

use super::error::TreeError;
use super::value;

/// One entry.
pub(super) enum Counted<'a> {
    /// An item: with the folder and the key, for errors.
    Item(&'a Path, &'a [u8]),
    /// A change record.
    Change,
}

impl<'a> Counted<'a> {
    /// The entry with this key.
    pub(super) fn of(path: &'a Path, key: &'a [u8]) -> Self {
        match change::is_change_key(key) {
            true => Self::Change,
            false => Self::Item(path, key),
        }
    }

    /// It comes.
    pub(super) fn add(&self, state: &mut PartitionState, value: &[u8]) -> Result<(), TreeError> {
        match self {
            Self::Item(path, key) => {
                state.items += 1;
                state.bytes += value::item_bytes(path, key, value)?;
            }
            Self::Change => {
                state.changes.count += 1;
                state.changes.bytes += change::record_bytes(value);
            }
        }
        Ok(())
    }

    /// It goes.
    pub(super) fn remove(&self, state: &mut PartitionState, value: &[u8]) -> Result<(), TreeError> {
        match self {
            Self::Item(path, key) => {
                state.items = state.items.saturating_sub(1);
                let bytes = value::item_bytes(path, key, value)?;
                state.bytes = state.bytes.saturating_sub(bytes);
            }
            Self::Change => {
                let changes = &mut state.changes;
                changes.count = changes.count.saturating_sub(1);
                changes.bytes = changes.bytes.saturating_sub(change::record_bytes(value));
            }
        }
        Ok(())
    }
}
