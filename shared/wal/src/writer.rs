//! The log thread: takes what waits, writes it with one write, makes it durable with one sync, then says so. Owns the open
//! segment, rotation and garbage collection. A failed write or sync is never retried: what reached the disk is unknown.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use paxos::{GroupId, PersistOp};

use crate::WalOptions;
use crate::error::WalError;
use crate::group::{Ends, Place};
use crate::queue::{Change, Done, Job, Taken};
use crate::record::{self, Header, Kind};
use crate::segment::{self, Owner};
use crate::shared::{SYNC_BOUNDS_US, Segment, Shared};
use crate::spare::Spare;
use crate::witness::{Newest, Witness};

/// After so long without work, what is durable is marked, so that later damage to it cannot pass as a torn write.
const MARK_AFTER: Duration = Duration::from_millis(20);
/// After so long without work, the mark is made durable, too: then not even a power cut takes it.
const SYNC_MARK_AFTER: Duration = Duration::from_secs(1);
/// The longest rest between two syncs.
const REST_MAX: Duration = Duration::from_millis(1);
/// Pages of the page cache.
const PAGE_BYTES: usize = 4 << 10;
/// Memory for pages that is kept from write to write.
const PAGES_KEPT_BYTES: usize = 256 << 10;
/// A checkpoint is split into records of about this size.
const CHECKPOINT_BYTES: usize = 1 << 20;

/// The segment that is written.
struct Open {
    number: u32,
    file: Arc<File>,
    /// End of what is written.
    len: usize,
    /// End of what is durable: only a mark can lie behind it.
    durable: usize,
    /// End of the checkpoint.
    start: usize,
    /// The file's blocks were written before: syncs need no journal of the file system.
    prepared: bool,
    /// What was written of the last page.
    page: Vec<u8>,
    /// A mark says that everything before it is durable.
    marked: bool,
    /// The mark is durable itself.
    mark_synced: bool,
}

impl Open {
    /// As readers see it.
    fn segment(&self) -> Segment {
        Segment {
            file: self.file.clone(),
            bytes: self.len as u64,
            sound: true,
        }
    }

    /// Writes at the end. Whole pages, if the file was prepared: of a part, the kernel would first have to read the rest, since a prepared file is
    /// rarely in the page cache.
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<()> {
        if !self.prepared {
            return self.file.write_all_at(buffer, self.len as u64);
        }
        let start = (self.len - self.page.len()) as u64;
        self.page.extend_from_slice(buffer);
        let end = self.page.len();
        self.page.resize(end.next_multiple_of(PAGE_BYTES), 0);
        self.file.write_all_at(&self.page, start)?;
        self.page.truncate(end);
        self.page.drain(..end - end % PAGE_BYTES);
        self.page.shrink_to(PAGES_KEPT_BYTES);
        Ok(())
    }
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    options: WalOptions,
    owner: Owner,
    spare: Spare,
    witness: Witness,
    open: Open,
}

/// A job on its way through a batch.
struct Written {
    group: GroupId,
    /// Sequence number, operations and place; none for a removal, or if the job was refused.
    change: Outcome,
    done: Done,
}

enum Outcome {
    Ops {
        sequence: u64,
        ops: Vec<PersistOp>,
        place: Place,
    },
    Removed,
    Answered(Result<(), WalError>),
}

impl Writer {
    /// Starts segment `number`; its checkpoint is durable when this returns.
    pub(crate) fn start(
        shared: Arc<Shared>,
        options: WalOptions,
        number: u32,
    ) -> Result<Self, WalError> {
        let owner = Owner {
            node: options.node,
            incarnation: options.incarnation,
        };
        let mut spare = Spare::new(&shared.dir, u64::from(options.segment_bytes), options.spare);
        let witness = Witness::open(&shared.dir)?;
        let mut buffer = Vec::new();
        let open = open_segment(&shared, &mut spare, owner, number, &mut buffer)?;
        let mut writer = Self {
            shared,
            options,
            owner,
            spare,
            witness,
            open,
        };
        writer.write(&buffer)?;
        writer.open.len = buffer.len();
        writer.open.durable = buffer.len();
        segment::sync_dir(&writer.shared.dir)?;
        writer.bear_witness(buffer.len())?;
        let segment = writer.open.segment();
        writer.shared.state.lock().segments.insert(number, segment);
        writer.collect();
        Ok(writer)
    }

    /// Works until the queue is closed. Returns the error that stopped it.
    pub(crate) fn run(mut self) -> Result<(), WalError> {
        loop {
            let wait = match (self.open.marked, self.open.mark_synced) {
                (false, _) => Some(MARK_AFTER),
                (true, false) => Some(SYNC_MARK_AFTER),
                (true, true) => None,
            };
            let done = match self.shared.queue.take(self.options.batch_bytes_max, wait) {
                Taken::Jobs(jobs) => {
                    let disk = self.batch(jobs)?;
                    let rest = rest(disk, self.shared.queue.len());
                    if !rest.is_zero() {
                        std::thread::sleep(rest);
                    }
                    continue;
                }
                Taken::Idle if self.open.marked => self.sync_mark().map(|()| false),
                Taken::Idle => self.mark().map(|()| false),
                Taken::Closed => self.mark().and_then(|()| self.sync()).map(|()| true),
            };
            if done.map_err(|error| self.fail(std::iter::empty(), error))? {
                return Ok(());
            }
        }
    }

    /// Makes jobs durable; gives how long the disk took for it.
    fn batch(&mut self, jobs: Vec<Job>) -> Result<Duration, WalError> {
        let bytes: usize = jobs.iter().map(Job::bytes).sum();
        let mut buffer = Vec::with_capacity(bytes + 4096);
        let full = self.open.len - self.open.start + bytes > self.options.segment_bytes as usize;
        // Syncs of a file that grows are dear and slow: it is left as soon as there is a better one.
        let outdone = !self.open.prepared && self.spare.ready();
        let rotate = (full || outdone) && self.open.len > self.open.start;
        if rotate {
            if let Err(error) = self.mark() {
                return Err(self.fail(jobs.into_iter().map(|job| job.done), error));
            }
            let number = self.open.number + 1;
            let (shared, spare) = (&self.shared, &mut self.spare);
            self.open = match open_segment(shared, spare, self.owner, number, &mut buffer) {
                Ok(open) => open,
                Err(error) => return Err(self.fail(jobs.into_iter().map(|job| job.done), error)),
            };
        }
        // A log that gets so far will fill the segment, and its next one is not to grow.
        if self.open.prepared && self.open.len >= self.options.segment_bytes as usize / 2 {
            self.spare.fill();
        }
        let at = self.open.len;
        let written = self.encode(jobs, &mut buffer);
        let (started, began_ns) = (Instant::now(), unix_ns());
        let mut result = if buffer.is_empty() {
            Ok(())
        } else {
            self.write(&buffer)
        };
        if rotate && result.is_ok() {
            let durable = at + buffer.len();
            result = segment::sync_dir(&self.shared.dir).and_then(|()| self.bear_witness(durable));
        }
        if let Err(error) = result {
            return Err(self.fail(written.into_iter().map(|w| w.done), error));
        }
        let disk = started.elapsed();
        let counters = &self.shared.counters;
        counters.sync_began_ns.store(began_ns, Ordering::Relaxed);
        let ended_ns = began_ns + disk.as_nanos() as u64;
        counters.sync_ended_ns.store(ended_ns, Ordering::Relaxed);
        let disk_us = disk.as_micros() as u64;
        counters.sync_us.fetch_add(disk_us, Ordering::Relaxed);
        if !buffer.is_empty() {
            let bucket = SYNC_BOUNDS_US.iter().position(|&bound| disk_us <= bound);
            counters.sync_buckets[bucket.unwrap_or(SYNC_BOUNDS_US.len())]
                .fetch_add(1, Ordering::Relaxed);
        }
        counters
            .bytes
            .fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.open.len = at + buffer.len();
        self.open.durable = self.open.len;
        self.open.marked &= buffer.is_empty();
        let answers = self.apply(written);
        answers.into_iter().for_each(|(done, result)| done(result));
        self.collect();
        Ok(disk)
    }

    /// Says that the log is at its end, first to the process, then to those who wait.
    fn fail(&self, jobs: impl Iterator<Item = Done>, error: WalError) -> WalError {
        (self.options.on_fatal)(&error);
        jobs.for_each(|done| done(Err(error.clone())));
        error
    }

    /// Appends the jobs' records; those that do not fit their group's log are refused.
    fn encode(&self, jobs: Vec<Job>, buffer: &mut Vec<u8>) -> Vec<Written> {
        struct Tail {
            ends: Ends,
            sequence: u64,
            damaged: bool,
        }
        let state = self.shared.state.lock();
        // A new segment's head and checkpoint may be in the buffer already.
        let base = self.open.len;
        let synced = self.open.durable as u32;
        let mut tails: BTreeMap<GroupId, Option<Tail>> = BTreeMap::new();
        let mut written = Vec::with_capacity(jobs.len());
        for Job {
            group,
            change,
            done,
        } in jobs
        {
            let tail = tails.entry(group).or_insert_with(|| {
                let group = state.groups.get(&group)?;
                let (ends, damaged) = (group.ends(), group.damaged);
                Some(Tail {
                    ends,
                    sequence: group.sequence,
                    damaged,
                })
            });
            let (segment, offset) = (self.open.number, (base + buffer.len()) as u32);
            let mut header = Header {
                segment,
                offset,
                group,
                sequence: match tail {
                    Some(tail) => tail.sequence + 1,
                    None => record::first_sequence(segment, offset),
                },
                synced,
                body_len: 0,
                body_crc: 0,
                kind: Kind::Tombstone,
            };
            let change = match change {
                Change::Remove if tail.is_none() => Outcome::Answered(Ok(())),
                Change::Remove => {
                    *tail = None;
                    header.write(&[], buffer);
                    Outcome::Removed
                }
                Change::Ops { .. } if tail.as_ref().is_some_and(|tail| tail.damaged) => {
                    Outcome::Answered(Err(WalError::Damaged { group }))
                }
                Change::Ops { ops, body, crc } => {
                    let ends = tail.as_ref().map_or(Ends::default(), |tail| tail.ends);
                    match ends.after(&ops) {
                        Err(what) => Outcome::Answered(Err(WalError::Refused { group, what })),
                        Ok(ends) => {
                            header.kind = Kind::Ops;
                            header.body_len = body.len() as u32;
                            header.body_crc = crc;
                            header.write(&body, buffer);
                            let sequence = header.sequence;
                            *tail = Some(Tail {
                                ends,
                                sequence,
                                damaged: false,
                            });
                            let place = Place {
                                segment: header.segment,
                                offset: header.offset,
                                len: header.written_len() as u32,
                            };
                            Outcome::Ops {
                                sequence,
                                ops,
                                place,
                            }
                        }
                    }
                }
            };
            written.push(Written {
                group,
                change,
                done,
            });
        }
        written
    }

    /// Makes the batch visible to readers, in one step with the segment that it is in: a reader that saw the one without the other
    /// would take a new segment for one that is gone.
    fn apply(&self, written: Vec<Written>) -> Vec<(Done, Result<(), WalError>)> {
        let mut state = self.shared.state.lock();
        let state = &mut *state;
        state.segments.insert(self.open.number, self.open.segment());
        let mut answers = Vec::with_capacity(written.len());
        let mut records = 0;
        for Written {
            group,
            change,
            done,
        } in written
        {
            let result = match change {
                Outcome::Ops {
                    sequence,
                    ops,
                    place,
                } => {
                    let group = state.groups.entry(group).or_default();
                    group.apply(&ops, place, &mut state.live);
                    group.sequence = sequence;
                    records += 1;
                    Ok(())
                }
                Outcome::Removed => {
                    if let Some(mut group) = state.groups.remove(&group) {
                        group.clear_runs(&mut state.live);
                    }
                    records += 1;
                    Ok(())
                }
                Outcome::Answered(result) => result,
            };
            answers.push((done, result));
        }
        self.shared
            .counters
            .records
            .fetch_add(records, Ordering::Relaxed);
        answers
    }

    /// Gives up segments at the old end in which nothing lives any more.
    fn collect(&mut self) {
        let retired: Vec<(u32, Option<Segment>)> = {
            let mut state = self.shared.state.lock();
            let dead = state.dead_segments().into_iter();
            dead.map(|number| {
                state.live.remove(&number);
                (number, state.segments.remove(&number))
            })
            .collect()
        };
        for (number, segment) in retired {
            // A reader that still holds the file must not see it overwritten.
            let reusable = segment.is_some_and(|s| Arc::into_inner(s.file).is_some());
            if let Err(error) = self.spare.retire(number, reusable) {
                // It only takes space, and the next start tries again.
                tracing::warn!(%error, "an old segment stays");
            }
        }
    }

    /// Says in the log that everything so far is durable. Not synced: it only guards against later damage.
    fn mark(&mut self) -> Result<(), WalError> {
        if self.open.marked {
            return Ok(());
        }
        let header = Header {
            segment: self.open.number,
            offset: self.open.len as u32,
            group: GroupId(0),
            sequence: 0,
            synced: self.open.durable as u32,
            body_len: 0,
            body_crc: 0,
            kind: Kind::Mark,
        };
        let mut buffer = Vec::new();
        header.write(&[], &mut buffer);
        self.write_unsynced(&buffer)?;
        self.open.len += buffer.len();
        self.open.marked = true;
        self.open.mark_synced = false;
        Ok(())
    }

    fn sync_mark(&mut self) -> Result<(), WalError> {
        self.sync()?;
        self.open.mark_synced = true;
        Ok(())
    }

    /// Says durably that the open segment is the newest, and that it is durable up to `durable`. Before anything in it is
    /// acknowledged.
    fn bear_witness(&self, durable: usize) -> Result<(), WalError> {
        self.witness.note(Newest {
            segment: self.open.number,
            durable: durable as u32,
        })
    }

    fn write(&mut self, buffer: &[u8]) -> Result<(), WalError> {
        self.write_unsynced(buffer)?;
        self.sync()
    }

    /// Writes behind what is written.
    fn write_unsynced(&mut self, buffer: &[u8]) -> Result<(), WalError> {
        let written = self.shared.faults.write();
        written.and_then(|()| self.open.write(buffer)).map_err(|e| {
            let path = segment::path(&self.shared.dir, self.open.number);
            WalError::io("write", path, &e)
        })
    }

    fn sync(&self) -> Result<(), WalError> {
        self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let synced = self
            .shared
            .faults
            .sync()
            .and_then(|()| self.open.file.sync_data());
        synced.map_err(|e| {
            WalError::io(
                "sync",
                segment::path(&self.shared.dir, self.open.number),
                &e,
            )
        })
    }
}

/// Wall clock, for those who lay out what several machines did.
fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_nanos() as u64
}

/// How long to let changes gather before the next sync: as long as the last one took the disk, but only if there is a next one to
/// come already. So a log with little to do syncs at once, and a busy one spends half its time waiting for more: fewer syncs, and
/// fewer messages and wake-ups for all that hangs on each of them (on a busy machine a write costs the whole mesh an eighth less CPU;
/// docs/benchmarks.md).
fn rest(disk: Duration, waiting: usize) -> Duration {
    if waiting == 0 {
        Duration::ZERO
    } else {
        disk.min(REST_MAX)
    }
}

/// Creates a segment's file; its head and checkpoint go into `buffer`.
fn open_segment(
    shared: &Shared,
    spare: &mut Spare,
    owner: Owner,
    number: u32,
    buffer: &mut Vec<u8>,
) -> Result<Open, WalError> {
    let (file, prepared) = spare.create(number)?;
    let file = Arc::new(file);
    segment::write_head(number, owner, buffer);
    write_checkpoint(shared, number, buffer);
    Ok(Open {
        number,
        file,
        len: 0,
        durable: 0,
        start: buffer.len(),
        prepared,
        page: Vec::new(),
        marked: false,
        mark_synced: false,
    })
}

/// Appends the hard states of all groups.
fn write_checkpoint(shared: &Shared, number: u32, buffer: &mut Vec<u8>) {
    let state = shared.state.lock();
    let mut groups = state.groups.iter().peekable();
    let mut chunk = 0;
    loop {
        let mut body = vec![0];
        while body.len() < CHECKPOINT_BYTES
            && let Some((id, group)) = groups.next()
        {
            group.write_hard_state(*id, &mut body);
        }
        let is_last = groups.peek().is_none();
        body[0] = u8::from(is_last) | u8::from(state.unattributed_damage) << 1;
        let header = Header {
            segment: number,
            offset: buffer.len() as u32,
            group: GroupId(0),
            sequence: chunk,
            synced: 0,
            body_len: body.len() as u32,
            body_crc: crc32c::crc32c(&body),
            kind: Kind::Checkpoint,
        };
        header.write(&body, buffer);
        chunk += 1;
        if is_last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_log_rests_as_long_as_its_disk_worked_and_an_idle_one_not_at_all() {
        let fast = Duration::from_micros(200);
        assert_eq!(rest(fast, 3), fast);
        assert_eq!(rest(fast, 0), Duration::ZERO, "nobody would join");
        let stuck = Duration::from_secs(2);
        assert_eq!(rest(stuck, 1), REST_MAX, "a slow disk is not made slower");
    }
}
