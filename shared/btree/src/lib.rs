//! The B-tree of a replica: one LMDB environment in `<data>/replicas/<group>/`. Owns the files, the synced flush that
//! brings items and state in together, snapshots for copies, and growth of the map. Never merges with the overlay
//! (`partition` does), never decides when to flush.

mod counted;
mod crash_note;
#[cfg(test)]
mod damage_tests;
mod disk;
mod environment;
mod error;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
mod integrity;
mod snapshot;
#[cfg(test)]
mod tests;
mod value;

use std::fs::{self, File};
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use heed::{RoTxn, RwTxn};
use model::KeyRange;
use parking_lot::Mutex;
use partition::change::{self, ChangeState};
use partition::{BTree, BTreeError, Batch, PartitionState};

pub use crash_note::CRASHED_MARK;
pub use error::TreeError;
pub use snapshot::{Pairs, Snapshot};

use counted::Counted;
use crash_note::CrashNote;
use environment::{DATA_FILE, Environment, Handles, Table};
use integrity::Length;

/// Longest key that LMDB takes; nothing longer can be stored.
const KEY_BYTES_MAX: usize = 1_982;
const STATE: &[u8] = b"state";
/// Read at a time by `verify`, bytes.
const VERIFY_BYTES: usize = 1 << 20;

/// Limits of a B-tree.
#[derive(Clone, Copy, Debug)]
pub struct TreeOptions {
    /// Virtual size of the memory map at first, bytes; doubles when it is full.
    pub map_bytes: usize,
    /// The map never grows over this, bytes.
    pub map_bytes_max: usize,
}

impl Default for TreeOptions {
    fn default() -> Self {
        Self {
            map_bytes: 64 << 20,
            map_bytes_max: 256 << 30,
        }
    }
}

/// The B-tree of one replica. Reads from any thread; one flush at a time.
pub struct ReplicaTree {
    path: PathBuf,
    note: Arc<CrashNote>,
    options: TreeOptions,
    environment: Mutex<Environment>,
    /// Held by the one who writes; always taken before the environment.
    flushing: Mutex<()>,
}

impl ReplicaTree {
    /// Creates an empty B-tree with the first state of a replica; durable when this returns. What an interrupted creation
    /// left in the folder is replaced.
    pub fn create(
        folder: &Path,
        options: TreeOptions,
        state: &PartitionState,
    ) -> Result<Self, TreeError> {
        match Self::open(folder, options) {
            Ok(_) => {
                return Err(TreeError::Exists {
                    path: folder.into(),
                });
            }
            Err(TreeError::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
        let io = |operation, error| TreeError::io(folder, operation, &error);
        remove_folder(folder)?;
        fs::create_dir_all(folder).map_err(|error| io("creation of the folder", error))?;
        let first = PartitionState {
            items: 0,
            bytes: 0,
            entries: 0,
            changes: ChangeState {
                count: 0,
                bytes: 0,
                ..state.changes.clone()
            },
            ..state.clone()
        };
        integrity::reserve_lock_file(folder)?;
        let environment = Environment::create(folder, options, |transaction, meta| {
            let stored = value::encode_state(folder, &first, transaction.id() as u64);
            let stored = stored.map_err(|error| heed::Error::Encoding(error.to_string().into()))?;
            meta.put(transaction, STATE, &stored)
        })?;
        sync_dir(folder)?;
        sync_parent(folder)?;
        Ok(Self::new(folder, options, environment))
    }

    /// Opens what is there.
    pub fn open(folder: &Path, options: TreeOptions) -> Result<(Self, PartitionState), TreeError> {
        let missing = || TreeError::Missing {
            path: folder.into(),
        };
        if !folder.join(DATA_FILE).exists() {
            return Err(missing());
        }
        let length = integrity::check(folder)?;
        integrity::reserve_lock_file(folder)?;
        let note = CrashNote::new(folder);
        let _working = note.working();
        let environment = Environment::open(folder, options)?.ok_or_else(missing)?;
        let tree = Self::new(folder, options, environment);
        let state = tree.state()?;
        let stored = tree.environment.lock().read(|transaction, handles| {
            let items = handles.items.len(transaction);
            items.map_err(|error| TreeError::heed(folder, "opening", error))
        })?;
        let expected = state.items + state.entries + state.changes.count;
        if stored != expected {
            let what = format!("{stored} items, its state says {expected}");
            return Err(TreeError::corrupt(folder, what));
        }
        if let Length::Filled(bytes) = length {
            tracing::warn!(path = %folder.display(), bytes, "the B-tree's file is shorter than its last commit says, reading all of it");
            tree.verify().map_err(|error| {
                let what = format!("the file was {bytes} bytes short: {error}");
                TreeError::corrupt(folder, what)
            })?;
        }
        Ok((tree, state))
    }

    /// Reads everything: each item must be what was written, a search must find it, and none may be missing. Blocks for as long as that takes.
    ///
    /// # Errors
    /// `Corrupt`, or the disk's error.
    pub fn verify(&self) -> Result<(), TreeError> {
        let snapshot = self.snapshot()?;
        let (mut found, mut after) = (0, None);
        loop {
            let (pairs, is_last) = snapshot.pairs(after.as_deref(), VERIFY_BYTES)?;
            found += pairs.len() as u64;
            let keys = after.iter().chain(pairs.iter().map(|(key, _)| key));
            if !keys.is_sorted_by(|one, next| one < next) {
                return Err(TreeError::corrupt(&self.path, "keys do not ascend"));
            }
            if let Some(key) = snapshot.hidden(&pairs)? {
                let what = format!("item {key:02x?} is there, but a search does not find it");
                return Err(TreeError::corrupt(&self.path, what));
            }
            after = pairs.into_iter().next_back().map(|(key, _)| key);
            if is_last {
                break;
            }
        }
        let state = snapshot.state();
        let expected = state.items + state.entries + state.changes.count;
        if found == expected {
            return Ok(());
        }
        let what = format!("{found} items can be reached, there are {expected}");
        Err(TreeError::corrupt(&self.path, what))
    }

    fn new(folder: &Path, options: TreeOptions, environment: Environment) -> Self {
        let environment = Mutex::new(environment);
        Self {
            path: folder.into(),
            note: Arc::new(CrashNote::new(folder)),
            options,
            environment,
            flushing: Mutex::new(()),
        }
    }

    /// The state in the B-tree, as of the last flush.
    pub fn state(&self) -> Result<PartitionState, TreeError> {
        self.environment
            .lock()
            .read(|transaction, handles| self.stored_state(transaction, handles.meta))
    }

    /// The state, if it was written by the transaction that LMDB takes for the last one.
    fn stored_state(&self, transaction: &RoTxn, meta: Table) -> Result<PartitionState, TreeError> {
        let _working = self.note.working();
        let stored = meta.get(transaction, STATE);
        let stored = stored.map_err(|error| TreeError::heed(&self.path, "read", error))?;
        let stored = stored.ok_or_else(|| TreeError::corrupt(&self.path, "no state"))?;
        let (state, written_in) = value::decode_state(&self.path, stored)?;
        match written_in {
            Some(written_in) if written_in != transaction.id() as u64 => Err(TreeError::corrupt(
                &self.path,
                format!(
                    "its state is of transaction {written_in}, the meta page says {}",
                    transaction.id()
                ),
            )),
            _ => Ok(state),
        }
    }

    /// Brings a batch in, in one synced transaction, and counts items and bytes exactly. Blocks on disk. Returns the state
    /// as stored (`items` and `bytes` are computed here, whatever the batch says).
    pub fn flush(&self, batch: &Batch) -> Result<PartitionState, TreeError> {
        let state = batch.state.clone();
        let changes = batch
            .items
            .iter()
            .map(|(key, item)| (&key[..], item.as_deref()));
        self.write(state, changes)
    }

    /// Adds pairs of a copy that is being received.
    pub fn add(
        &self,
        state: &PartitionState,
        pairs: &[(Bytes, Bytes)],
    ) -> Result<PartitionState, TreeError> {
        let changes = pairs.iter().map(|(key, item)| (&key[..], Some(&item[..])));
        self.write(state.clone(), changes)
    }

    fn write<'a>(
        &self,
        state: PartitionState,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Result<PartitionState, TreeError> {
        let _one_at_a_time = self.flushing.lock();
        loop {
            match self.try_write(state.clone(), changes.clone()) {
                // The transaction is given up by now. Each growth doubles the map, so this ends at its limit.
                Ok(None) => self.environment.lock().grow()?,
                Ok(Some(stored)) => {
                    self.environment.lock().refresh();
                    return Ok(stored);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One transaction; none when the map was full.
    fn try_write<'a>(
        &self,
        mut state: PartitionState,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<Option<PartitionState>, TreeError> {
        let path = &self.path;
        let fail = |error| TreeError::heed(path, "flush", error);
        let Handles { env, items, meta } = self.environment.lock().handles()?;
        let _working = self.note.working();
        let mut transaction = env.write_txn().map_err(fail)?;
        // A write transaction is one further than what it finds.
        let before = self.state()?;
        if state.applied < before.applied {
            return Err(TreeError::Backwards {
                path: path.clone(),
                stored: before.applied,
                batch: state.applied,
            });
        }
        (state.items, state.bytes, state.entries) = (before.items, before.bytes, before.entries);
        let has_entries = state.table.has_local_indexes();
        (state.changes.count, state.changes.bytes) = (before.changes.count, before.changes.bytes);
        let trimmed = state.changes.trimmed;
        let full = |error: &heed::Error| matches!(error, heed::Error::Mdb(heed::MdbError::MapFull));
        let mut sealed = Vec::new();
        for (key, item) in changes {
            let place = change::place_of(key);
            if place.is_some_and(|(position, _)| position <= trimmed) {
                continue;
            }
            let counted = Counted::of(path, key);
            let old = items.get(&transaction, key).map_err(fail)?;
            let is_entry = has_entries && state.table.is_entry(key);
            if is_entry {
                let (old, new) = (u64::from(old.is_some()), u64::from(item.is_some()));
                state.entries = (state.entries + new).saturating_sub(old);
            } else if let Some(old) = old {
                let old = value::open(path, key, old)?;
                counted.remove(&mut state, old)?;
            }
            let written = match item {
                None if old.is_none() => Ok(()),
                None => items.delete(&mut transaction, key).map(|_| ()),
                Some(item) => {
                    if !is_entry {
                        counted.add(&mut state, item)?;
                    }
                    value::seal(key, item, &mut sealed);
                    items.put(&mut transaction, key, &sealed)
                }
            };
            match written {
                Err(error) if full(&error) => return Ok(None),
                written => written.map_err(fail)?,
            }
        }
        if trimmed > before.changes.trimmed {
            match self.trim(&mut transaction, items, &mut state) {
                Err(error) if full(&error) => return Ok(None),
                trimmed => trimmed.map_err(fail)?,
            }
        }
        let stored = value::encode_state(path, &state, transaction.id() as u64)?;
        let put = meta.put(&mut transaction, STATE, &stored);
        match put.and_then(|()| transaction.commit()) {
            Ok(()) => Ok(Some(state)),
            Err(error) if full(&error) => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Deletes the change records that the state says are gone.
    fn trim(
        &self,
        transaction: &mut RwTxn,
        items: Table,
        state: &mut PartitionState,
    ) -> Result<(), heed::Error> {
        let KeyRange { start, end } = change::change_keys_upto(state.changes.trimmed);
        let range = (Bound::Included(&start[..]), Bound::Excluded(&end[..]));
        for pair in items.range(transaction, &range)? {
            let (_, stored) = pair?;
            let value = stored.get(value::CRC_BYTES..).unwrap_or_default();
            state.changes.count = state.changes.count.saturating_sub(1);
            let bytes = change::record_bytes(value);
            state.changes.bytes = state.changes.bytes.saturating_sub(bytes);
        }
        items.delete_range(transaction, &range)?;
        Ok(())
    }

    /// A consistent view for a copy, as of the last flush. Holding it keeps LMDB from reusing pages: bound its life.
    pub fn snapshot(&self) -> Result<Snapshot, TreeError> {
        let (reading, Handles { items, meta, .. }) = {
            let mut environment = self.environment.lock();
            (environment.snapshot()?, environment.handles()?)
        };
        let state = match reading.lock().as_ref() {
            Some(transaction) => self.stored_state(transaction, meta)?,
            None => {
                return Err(TreeError::SnapshotGone {
                    path: self.path.clone(),
                });
            }
        };
        Ok(Snapshot {
            path: self.path.clone(),
            note: self.note.clone(),
            reading,
            items,
            state,
        })
    }

    /// Puts the B-tree that lies closed in `incoming` in the place of this one, durably, and deletes the old files. Reads
    /// wait meanwhile, and see the new one afterwards. On an error this B-tree is as it was, unless it cannot even be
    /// opened again: then all later calls fail.
    pub fn replace(&self, incoming: &Path) -> Result<PartitionState, TreeError> {
        let _no_flush = self.flushing.lock();
        let mut environment = self.environment.lock();
        environment.close();
        let replaced = exchange(incoming, &self.path).and_then(|()| {
            let opened = self.reopen(&mut environment);
            if opened.is_err() {
                environment.close();
                exchange(incoming, &self.path)?;
            }
            opened
        });
        match replaced {
            Ok(state) => {
                if let Err(error) = remove_folder(incoming) {
                    // It only takes space, and the next start tries again.
                    tracing::warn!(%error, "the replaced B-tree stays");
                }
                Ok(state)
            }
            Err(error) => {
                self.reopen(&mut environment)?;
                Err(error)
            }
        }
    }

    fn reopen(&self, environment: &mut Environment) -> Result<PartitionState, TreeError> {
        integrity::check(&self.path)?;
        let missing = || TreeError::Missing {
            path: self.path.clone(),
        };
        *environment = Environment::open(&self.path, self.options)?.ok_or_else(missing)?;
        environment.read(|transaction, handles| self.stored_state(transaction, handles.meta))
    }

    /// Closes the B-tree: all later calls, also on snapshots, fail.
    pub fn close(&self) {
        let _no_flush = self.flushing.lock();
        self.environment.lock().close();
    }

    /// Closes the B-tree and deletes its folder, durably. Open snapshots become `SnapshotGone`.
    pub fn destroy(self) -> Result<(), TreeError> {
        self.close();
        remove_folder(&self.path)?;
        sync_parent(&self.path)
    }

    /// Bytes of the files on disk.
    pub fn disk_bytes(&self) -> u64 {
        fs::metadata(self.path.join(DATA_FILE)).map_or(0, |file| file.len())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    #[cfg(test)]
    fn map_bytes(&self) -> usize {
        self.environment.lock().map_bytes()
    }
}

impl Drop for ReplicaTree {
    fn drop(&mut self) {
        // Snapshots may outlive it.
        self.environment.get_mut().close();
    }
}

impl BTree for ReplicaTree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BTreeError> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Ok(None);
        }
        let _working = self.note.working();
        let found = self.environment.lock().read(|transaction, handles| {
            let stored = handles.items.get(transaction, key);
            let stored = stored.map_err(|error| TreeError::heed(&self.path, "read", error))?;
            stored
                .map(|stored| value::open(&self.path, key, stored).map(Bytes::copy_from_slice))
                .transpose()
        });
        found.map_err(|error| BTreeError(error.to_string()))
    }

    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visitor: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BTreeError> {
        if !range.end.is_empty() && range.start >= range.end {
            return Ok(());
        }
        let start = match &range.start[..] {
            [] => Bound::Unbounded,
            start => Bound::Included(start),
        };
        let end = match &range.end[..] {
            [] => Bound::Unbounded,
            end => Bound::Excluded(end),
        };
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = (start, end);
        let _working = self.note.working();
        let scanned = self.environment.lock().read(|transaction, handles| {
            let items = handles.items;
            let fail = |error| TreeError::heed(&self.path, "scan", error);
            let mut visit = |pair: heed::Result<(&[u8], &[u8])>| {
                let (key, stored) = pair.map_err(fail)?;
                Ok(visitor(key, value::open(&self.path, key, stored)?))
            };
            let mut all = |pairs: &mut dyn Iterator<Item = _>| {
                for pair in pairs {
                    if visit(pair)?.is_break() {
                        break;
                    }
                }
                Ok(())
            };
            if reverse {
                all(&mut items.rev_range(transaction, &bounds).map_err(fail)?)
            } else {
                all(&mut items.range(transaction, &bounds).map_err(fail)?)
            }
        });
        scanned.map_err(|error: TreeError| BTreeError(error.to_string()))
    }
}

/// Deletes a folder whose B-tree is not open; one that is not there is fine.
pub fn remove_folder(folder: &Path) -> Result<(), TreeError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(TreeError::io(folder, "deletion", &error))
        }
        _ => Ok(()),
    }
}

/// Lets two folders change places, atomically and durably.
fn exchange(one: &Path, other: &Path) -> Result<(), TreeError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
        .map_err(|error| TreeError::io(other, "exchange of folders", &error.into()))?;
    sync_parent(other)
}

/// Makes the names in a folder durable.
pub fn sync_dir(folder: &Path) -> Result<(), TreeError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| TreeError::io(folder, "sync of the folder", &error))
}

/// Makes the name of a folder durable.
pub fn sync_parent(folder: &Path) -> Result<(), TreeError> {
    folder.parent().map_or(Ok(()), sync_dir)
}
