//! The log as its users see it: open, append, read, remove, close. Owns the thread's life.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use paxos::{
    Ballot, Configuration, Entry, GroupId, Identity, Index, Outline, PersistOp, Position, Restored,
};

use crate::error::{Overloaded, WalError};
use crate::options::WalOptions;
use crate::queue::{Change, Job, Queue};
use crate::recovery::{self, Replayed};
use crate::segment::{self, Owner};
use crate::shared::{Counters, Faults, SYNC_BOUNDS_US, Segment, Shared, State};
use crate::writer::Writer;
use crate::{reader, record, witness};

/// A group that was found whole; [`Wal::load`] reads its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundGroup {
    /// What the replica is, if the log says it.
    identity: Option<Identity>,
    promised: Ballot,
    configuration: Option<Configuration>,
    floor: Position,
}

impl FoundGroup {
    /// The replica's identity; `disk` is the incarnation of the node's disk.
    pub fn identity(&self, disk: u64) -> Identity {
        identity_or_disk(self.identity, disk)
    }

    fn with(self, (outlines, entries): (Vec<Outline>, Vec<Entry>)) -> RecoveredGroup {
        RecoveredGroup {
            promised: self.promised,
            configuration: self.configuration,
            floor: self.floor,
            outlines,
            entries,
            identity: self.identity,
        }
    }
}

fn identity_or_disk(identity: Option<Identity>, disk: u64) -> Identity {
    let of_disk = Identity {
        incarnation: disk,
        ..record::OF_THE_DISK
    };
    let own = |identity: &Identity| identity.incarnation != record::OF_THE_DISK.incarnation;
    identity.filter(own).unwrap_or(of_disk)
}

/// What was durable of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// Highest ballot promised.
    pub promised: Ballot,
    /// Configuration at the floor (later ones are among the entries); none only for a group that never got any.
    pub configuration: Option<Configuration>,
    /// Entries up to here are not in the log: they are in the B-tree.
    pub floor: Position,
    /// The entries above the floor that are applied, or all of a log replica, in outline: see [`Wal::load`].
    pub outlines: Vec<Outline>,
    /// The entries behind them, without a gap.
    pub entries: Vec<Entry>,
    /// What the replica is; none: a founding member with the incarnation of the node's disk (version 0.1 stored none).
    pub identity: Option<Identity>,
}

impl RecoveredGroup {
    /// The replica's identity; `disk` is the incarnation of the node's disk.
    pub fn identity(&self, disk: u64) -> Identity {
        identity_or_disk(self.identity, disk)
    }

    /// As the replication core takes it (`outlines` beside it), together with what the B-tree holds (a log replica: nothing).
    /// `disk` is the incarnation of the node's disk.
    pub fn restored(
        self,
        disk: u64,
        applied: Position,
        applied_configuration: Option<Configuration>,
    ) -> Restored {
        Restored {
            identity: self.identity(disk),
            promised: self.promised,
            floor: self.floor,
            configuration: self.configuration.unwrap_or_default(),
            entries: self.entries,
            applied,
            applied_configuration,
            fresh: false,
        }
    }
}

/// What was found on opening.
#[derive(Debug, Default)]
pub struct Recovery {
    /// The groups that are whole.
    pub groups: BTreeMap<GroupId, FoundGroup>,
    /// Groups that lost records to damage, and how: fence and replace them. Appends are refused until `remove_group`.
    pub damaged: BTreeMap<GroupId, String>,
    /// Set when damaged bytes may have held groups that nothing else in the log mentions: replicas on disk that are in
    /// neither map must be fenced, too. Stays set for good.
    pub unattributed_damage: bool,
    /// Bytes of a torn tail that were cut (never acknowledged); at least these.
    pub torn_bytes: u64,
}

/// Entries read at a time when a group is loaded, bytes.
const LOAD_BYTES: usize = 4 << 20;

/// Whether the outlines end with the applied position.
fn agrees(outlines: &[Outline], applied: Position) -> bool {
    outlines.last().is_none_or(|last| last.position == applied)
}

/// Counters since opening, and sizes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalMetrics {
    /// Records written.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Syncs, nearly one a batch.
    pub syncs: u64,
    /// Time spent in write and sync, microseconds.
    pub sync_us: u64,
    /// Batches by the duration of their write and sync, see [`SYNC_BOUNDS_US`].
    pub sync_buckets: [u64; SYNC_BOUNDS_US.len() + 1],
    /// Appends refused because the queue was full.
    pub overloaded: u64,
    /// Appends waiting now.
    pub queue_len: u64,
    /// Segments on disk.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Groups known.
    pub groups: u64,
    /// Entries that can be read.
    pub entries: u64,
}

/// The log. Cheap to clone; the last clone that is dropped closes it.
#[derive(Clone)]
pub struct Wal {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Wal {
    /// Opens or creates the log in `dir` and starts its thread. What is reported as recovered is durable when this
    /// returns. The caller holds the data folder's lock ([`crate::DataDir`]).
    pub fn open(dir: &Path, mut options: WalOptions) -> Result<(Wal, Recovery), WalError> {
        options.segment_bytes = options.segment_bytes.min(1 << 30);
        fs::create_dir_all(dir).map_err(|e| WalError::io("create", dir, &e))?;
        let owner = Owner {
            node: options.node,
            incarnation: options.incarnation,
        };
        let newest = witness::read(dir)?;
        let (replayed, live) = recovery::replay(dir, owner, newest, options.must_exist)?;
        let segments = settle(dir, &replayed)?;
        let Replayed {
            groups,
            why_damaged,
            unattributed_damage,
            torn_bytes,
            ..
        } = replayed;
        // The number of a segment that was lost is not used again.
        let last = replayed.segments.last().map_or(0, |last| last.number);
        let next = last.max(newest.map_or(0, |newest| newest.segment)) + 1;
        let shared = Arc::new(Shared {
            dir: dir.into(),
            state: Mutex::new(State {
                groups,
                segments,
                unattributed_damage,
                live,
            }),
            queue: Queue::new(options.queue_len_max, options.queue_bytes_max),
            counters: Counters::default(),
            faults: Faults::default(),
        });
        let recovery = Recovery {
            groups: found(&shared),
            damaged: why_damaged,
            unattributed_damage,
            torn_bytes,
        };
        let on_fatal = options.on_fatal.clone();
        let writer = Writer::start(shared.clone(), options, next)?;
        let queue_owner = shared.clone();
        let thread = std::thread::Builder::new()
            .name("wal".into())
            .spawn(move || {
                let run = std::panic::AssertUnwindSafe(|| writer.run());
                if std::panic::catch_unwind(run).is_err() {
                    // A panic in a completion leaves nobody to write: as fatal as a failed sync.
                    on_fatal(&WalError::Stopped);
                }
                queue_owner.queue.fail();
            })
            .map_err(|e| WalError::io("start of thread", dir, &e))?;
        let handle = Handle {
            shared,
            thread: Mutex::new(Some(thread)),
        };
        Ok((
            Wal {
                handle: Arc::new(handle),
            },
            recovery,
        ))
    }

    /// Queues operations of one group, to be made durable as a whole and in order; `done` runs on the log's thread after
    /// the sync and must not block. Creates the group when it is new.
    pub fn append(
        &self,
        group: GroupId,
        ops: Vec<PersistOp>,
        done: impl FnOnce(Result<(), WalError>) + Send + 'static,
    ) -> Result<(), Overloaded> {
        let body = record::encode_ops(&ops);
        if body.len() > record::BODY_BYTES_MAX {
            let what = format!("{} bytes in one append", body.len());
            done(Err(WalError::Refused { group, what }));
            return Ok(());
        }
        let crc = crc32c::crc32c(&body);
        self.push(Job {
            group,
            change: Change::Ops { ops, body, crc },
            done: Box::new(done),
        })
    }

    /// Forgets a group for good; `done` runs after the tombstone is durable. Clears the mark of a damaged group.
    pub fn remove_group(
        &self,
        group: GroupId,
        done: impl FnOnce(Result<(), WalError>) + Send + 'static,
    ) -> Result<(), Overloaded> {
        self.push(Job {
            group,
            change: Change::Remove,
            done: Box::new(done),
        })
    }

    fn push(&self, job: Job) -> Result<(), Overloaded> {
        let shared = &self.handle.shared;
        let pushed = shared.queue.push(job);
        if pushed.is_err() {
            shared.counters.overloaded.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Durable entries from `from` on, at least one if there is one, then while they fit into `max_bytes`. Blocks on disk.
    pub fn read(
        &self,
        group: GroupId,
        from: Index,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, WalError> {
        reader::read(&self.handle.shared, group, from, max_bytes)
    }

    /// Reads a group that was found on opening. Entries up to `applied` are only outlined, if the log agrees with it: the B-tree
    /// holds what they did, so that memory is bounded by what is not applied yet, whatever the size of the log. Blocks on disk.
    ///
    /// # Errors
    /// When the entries cannot be read back: fence the group.
    pub fn load(
        &self,
        group: GroupId,
        found: FoundGroup,
        applied: Position,
    ) -> Result<RecoveredGroup, WalError> {
        let read = match self.read_all(group, found.floor.index, applied.index)? {
            (outlines, entries) if agrees(&outlines, applied) => (outlines, entries),
            _ => self.read_all(group, found.floor.index, 0)?,
        };
        Ok(found.with(read))
    }

    /// The same of a log replica: all entries are only outlined, since nobody applies them. Blocks on disk.
    ///
    /// # Errors
    /// When the entries cannot be read back: fence the group.
    pub fn load_outlined(
        &self,
        group: GroupId,
        found: FoundGroup,
    ) -> Result<RecoveredGroup, WalError> {
        let read = self.read_all(group, found.floor.index, Index::MAX)?;
        Ok(found.with(read))
    }

    /// All entries above `floor`, those up to `outlined` in outline.
    fn read_all(
        &self,
        group: GroupId,
        floor: Index,
        outlined: Index,
    ) -> Result<(Vec<Outline>, Vec<Entry>), WalError> {
        let (mut outlines, mut entries) = (Vec::new(), Vec::new());
        let mut next = floor + 1;
        loop {
            let found = self.read(group, next, LOAD_BYTES)?;
            let Some(last) = found.last() else {
                return Ok((outlines, entries));
            };
            next = last.index + 1;
            for entry in found {
                match entry.index <= outlined {
                    true => Outline::push(&mut outlines, entry.outline()),
                    false => entries.push(entry),
                }
            }
        }
    }

    /// Groups whose floor keeps old segments alive, and how many bytes of segments each keeps, largest first. When the log
    /// grows over its budget: flush these, and raise their floors.
    pub fn pinned_groups(&self) -> Vec<(GroupId, u64)> {
        let state = self.handle.shared.state.lock();
        let Some((&open, _)) = state.segments.last_key_value() else {
            return Vec::new();
        };
        // Bytes of closed segments from each segment on.
        let mut bytes_from = BTreeMap::new();
        let mut sum = 0;
        for (&number, segment) in state.segments.range(..open).rev() {
            sum += segment.bytes;
            bytes_from.insert(number, sum);
        }
        let mut pinned: Vec<(GroupId, u64)> = state
            .groups
            .iter()
            .filter_map(|(id, group)| {
                let oldest = group.runs.front()?.place.segment;
                bytes_from.get(&oldest).map(|bytes| (*id, *bytes))
            })
            .collect();
        pinned.sort_by_key(|(id, bytes)| (std::cmp::Reverse(*bytes), *id));
        pinned
    }

    /// Number of the last sync, and when the write that it ended began and ended, Unix nanoseconds. In a completion: of the sync that made it
    /// durable.
    pub fn last_sync(&self) -> (u64, u64, u64) {
        let counters = &self.handle.shared.counters;
        (
            counters.syncs.load(Ordering::Relaxed),
            counters.sync_began_ns.load(Ordering::Relaxed),
            counters.sync_ended_ns.load(Ordering::Relaxed),
        )
    }

    /// Counters and sizes.
    pub fn metrics(&self) -> WalMetrics {
        let shared = &self.handle.shared;
        let counters = &shared.counters;
        let queue_len = shared.queue.len() as u64;
        let state = shared.state.lock();
        WalMetrics {
            records: counters.records.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            sync_us: counters.sync_us.load(Ordering::Relaxed),
            sync_buckets: std::array::from_fn(|bucket| {
                counters.sync_buckets[bucket].load(Ordering::Relaxed)
            }),
            overloaded: counters.overloaded.load(Ordering::Relaxed),
            queue_len,
            segments: state.segments.len() as u64,
            segment_bytes: state.segments.values().map(|segment| segment.bytes).sum(),
            groups: state.groups.len() as u64,
            entries: state
                .groups
                .values()
                .map(|group| group.last.saturating_sub(group.floor.index))
                .sum(),
        }
    }

    /// Writes what is queued, syncs, and stops the thread. Later appends are answered with [`WalError::Stopped`].
    pub fn close(&self) {
        self.handle.close();
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl Handle {
    fn close(&self) {
        self.shared.queue.close();
        let thread = self.thread.lock().take();
        // The last clone may die in a completion, on the log's own thread: it ends by itself then.
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// Cuts the torn tail, deletes what was never finished, and makes all that was found durable: after a crash of the process
/// alone it may be in the page cache only.
fn settle(dir: &Path, replayed: &Replayed) -> Result<BTreeMap<u32, Segment>, WalError> {
    if let Some(number) = replayed.unfinished {
        let path = segment::path(dir, number);
        fs::remove_file(&path).map_err(|e| WalError::io("delete", &path, &e))?;
    }
    let mut segments = BTreeMap::new();
    for kept in &replayed.segments {
        let path = segment::path(dir, kept.number);
        let io = |operation, e| WalError::io(operation, &path, &e);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|e| io("open", e))?;
        if Some(kept) == replayed.segments.last() {
            file.set_len(kept.bytes).map_err(|e| io("cut", e))?;
            file.sync_all().map_err(|e| io("sync", e))?;
        }
        let segment = Segment {
            file: Arc::new(file),
            bytes: kept.bytes,
            sound: kept.sound,
        };
        segments.insert(kept.number, segment);
    }
    segment::sync_dir(dir)?;
    Ok(segments)
}

/// The groups that are whole.
fn found(shared: &Shared) -> BTreeMap<GroupId, FoundGroup> {
    let state = shared.state.lock();
    let whole = state.groups.iter().filter(|(_, group)| group.whole());
    let found = whole.map(|(id, group)| {
        let found = FoundGroup {
            identity: group.identity,
            promised: group.promised,
            configuration: group.configuration.clone(),
            floor: group.floor,
        };
        (*id, found)
    });
    found.collect()
}
