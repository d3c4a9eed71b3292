//! The rebuild of a partition from the archive alone: the newest good snapshot at or before a target, then the log up to it. Owns the order in which
//! objects are tried: what is damaged is passed over in favour of an overlapping segment, an older snapshot and a longer replay, or the parent
//! that the partition was split off from; a hole is an error that names it. Holds one object and one batch at a time.

mod error;
mod replay;

use std::sync::Arc;
use std::time::Duration;

use archive::{
    Birth, Chain, Origin, PartitionRef, Refusal, Segment, SegmentManifest, SegmentName,
    SnapshotName, SplitMark, Tail,
};
use model::KeyRange;
use partition::transactions::Prepared;
use partition::{Ahead, Batch, Limits, Partition, PartitionState};
use paxos::Index;

use crate::error::ReadError;
use crate::reader::ArchiveReader;
use crate::sink::{Sink, SinkError};

pub use error::RebuildError;
use replay::{Replay, born};

/// Changes that are brought into the sink at a time, bytes.
const BATCH_BYTES: usize = 8 << 20;

/// Up to where a partition is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Up to this position.
    Index(Index),
    /// All commands up to the first that is later than this, milliseconds since the epoch; of transactions that were pending then all, if they count
    /// at this time (ADR 0010).
    Time(u64),
    /// Everything that is in the archive.
    End,
}

/// What was rebuilt.
#[derive(Clone, Debug, PartialEq)]
pub struct Rebuilt {
    /// The state at the end.
    pub state: PartitionState,
    /// Where the log was cut.
    pub tail: Tail,
    /// The archive has entries behind the target; if not, it ends there, and later ones may exist outside of it.
    pub beyond: bool,
    /// Damaged objects that were passed over.
    pub damaged: Vec<Refusal>,
    /// The snapshot that it began with.
    pub snapshot: Option<(PartitionRef, SnapshotName)>,
    /// Items, as the log or the sink counts them; none: neither does (a part of a partition, in a sink that does not count).
    pub items: Option<u64>,
    /// What is pending by a transaction whose end is not known: it is left out. To a position nobody asks, and it is empty.
    pub undecided: Vec<Prepared>,
    /// Entries replayed.
    pub entries: u64,
    /// Bytes of the segments and parts read.
    pub bytes: u64,
}

/// A rebuild to be made.
#[derive(Clone, Debug)]
pub struct Rebuild {
    reader: ArchiveReader,
    partition: PartitionRef,
    target: Target,
    cut: Option<KeyRange>,
    patience: Duration,
}

impl Rebuild {
    /// Of this partition, up to this target.
    pub fn new(reader: ArchiveReader, partition: PartitionRef, target: Target) -> Rebuild {
        Rebuild {
            reader,
            partition,
            target,
            cut: None,
            patience: Duration::ZERO,
        }
    }

    /// Waits so long, at most, for the ends of transactions that were pending at the target, if they are not in the archive yet.
    pub fn patient(mut self, patience: Duration) -> Rebuild {
        self.patience = patience;
        self
    }

    /// Only of these keys.
    pub fn only(mut self, range: KeyRange) -> Rebuild {
        self.cut = Some(range);
        self
    }

    /// Carries it out. The sink comes back when all went well; its calls run on threads for blocking work.
    pub async fn run<S: Sink>(self, sink: S) -> Result<(S, Rebuilt), RebuildError> {
        let birth = birth_of(&self.reader, &self.partition).await?;
        let mut work = Work {
            reader: self.reader,
            cut: match &self.cut {
                Some(cut) => birth.range.intersection(cut),
                None => birth.range.clone(),
            },
            counting: sink.counts(),
            sink: Some(sink),
            damaged: Vec::new(),
            snapshot: None,
            items: None,
            patience: self.patience,
            undecided: Vec::new(),
            entries: 0,
            bytes: 0,
        };
        let (point, beyond) = work.run(birth, self.target).await?;
        let sink = work
            .sink
            .ok_or_else(|| SinkError("it is gone".to_owned()))?;
        let rebuilt = Rebuilt {
            state: point.state,
            tail: point.tail,
            beyond,
            damaged: work.damaged,
            snapshot: work.snapshot,
            items: work.items,
            undecided: work.undecided,
            entries: work.entries,
            bytes: work.bytes,
        };
        Ok((sink, rebuilt))
    }
}

/// One partition on the way from the base to the target.
struct Leg {
    birth: Birth,
    target: Target,
}

/// Where a rebuild stands.
struct Point {
    state: PartitionState,
    tail: Tail,
}

struct Work<S> {
    reader: ArchiveReader,
    cut: KeyRange,
    sink: Option<S>,
    damaged: Vec<Refusal>,
    snapshot: Option<(PartitionRef, SnapshotName)>,
    items: Option<u64>,
    patience: Duration,
    undecided: Vec<Prepared>,
    entries: u64,
    bytes: u64,
    /// The sink counts its items.
    counting: bool,
}

impl<S: Sink> Work<S> {
    async fn run(&mut self, birth: Birth, target: Target) -> Result<(Point, bool), RebuildError> {
        let mut legs = vec![Leg { birth, target }];
        let mut point = self.start(&mut legs).await?;
        // Whether the log counts what is in the sink: not when the sink takes a part only.
        let mut counts = self.cut == point.state.range;
        let mut beyond = false;
        while let Some(leg) = legs.pop() {
            (point, beyond) = self.replay(&leg, point).await?;
            if counts && self.counting {
                self.count(&leg, &point).await?;
            }
            if let Some(child) = legs.last() {
                counts = false;
                point = born(&leg, &child.birth, &point)?;
            }
        }
        let last = Batch {
            state: self.shown(&point.state),
            items: Arc::default(),
            marked: None,
        };
        self.with(move |sink| sink.flush(&last)).await?;
        self.items = match self.counting {
            true => Some(self.with(S::items).await?),
            false => counts.then_some(point.state.items),
        };
        point.state.items = self.items.unwrap_or(point.state.items);
        Ok((point, beyond))
    }

    /// Fills the sink with a snapshot or with nothing; adds a leg for each partition that must be rebuilt before.
    async fn start(&mut self, legs: &mut Vec<Leg>) -> Result<Point, RebuildError> {
        loop {
            let Some(leg) = legs.last() else {
                return Err(SinkError("there is nothing to rebuild".to_owned()).into());
            };
            let birth = &leg.birth;
            if let Some(point) = self.base(birth, leg.target).await? {
                return Ok(point);
            }
            match birth.origin {
                Origin::Founded => {
                    let (state, tail) = (birth.state(), birth.tail());
                    let shown = self.shown(&state);
                    self.with(move |sink| sink.begin(&shown)).await?;
                    return Ok(Point { state, tail });
                }
                Origin::Split { parent, at } => {
                    let parent = PartitionRef {
                        table: birth.partition.table.clone(),
                        partition: parent,
                    };
                    legs.push(Leg {
                        birth: birth_of(&self.reader, &parent).await?,
                        target: Target::Index(at),
                    });
                }
                Origin::Adopted { .. } => {
                    return Err(RebuildError::NoSnapshot {
                        partition: birth.partition.clone(),
                        damaged: std::mem::take(&mut self.damaged),
                    });
                }
            }
        }
    }

    /// The newest good snapshot at or before the target, in the sink; none if there is none.
    async fn base(&mut self, birth: &Birth, target: Target) -> Result<Option<Point>, RebuildError> {
        let names = self.reader.snapshots(&birth.partition).await?;
        for name in names.into_iter().rev() {
            if matches!(target, Target::Index(index) if name.applied > index) {
                continue;
            }
            match self.load(birth, &name, target).await {
                Ok(Some(point)) => {
                    self.snapshot = Some((birth.partition.clone(), name));
                    return Ok(Some(point));
                }
                Ok(None) => {}
                Err(RebuildError::Refused(refusal)) => self.damaged.push(refusal),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Loads a snapshot; none if it is later than the target.
    async fn load(
        &mut self,
        birth: &Birth,
        name: &SnapshotName,
        target: Target,
    ) -> Result<Option<Point>, RebuildError> {
        let manifest = self.reader.snapshot(&birth.partition, name).await?;
        if matches!(target, Target::Time(time_ms) if manifest.time_ms > time_ms) {
            return Ok(None);
        }
        if manifest.range != birth.range {
            let key = birth
                .partition
                .key(&archive::ObjectName::SnapshotManifest(name.clone()));
            let fault = archive::Fault::Contradicts("its range is not the partition's".to_owned());
            return Err(fault.at(key).into());
        }
        let state = PartitionState {
            begins: birth.begins(),
            ..manifest.state()
        };
        let shown = self.shown(&state);
        self.with(move |sink| sink.begin(&shown)).await?;
        for part in &manifest.parts {
            let is_behind = !self.cut.end.is_empty() && part.first >= self.cut.end;
            if part.last < self.cut.start || is_behind {
                continue;
            }
            let mut pairs = self.reader.part(&manifest, part).await?;
            self.bytes += part.bytes;
            pairs.retain(|(key, _)| self.cut.contains(key));
            let shown = self.shown(&state);
            self.with(move |sink| sink.load(&shown, pairs)).await?;
        }
        let committed = state
            .split
            .as_ref()
            .and_then(|split| Some((split.left, split.committed.as_ref()?.at)));
        let tail = Tail {
            index: manifest.applied,
            ballot: manifest.ballot,
            time_ms: manifest.time_ms,
            generation: manifest.configuration.generation,
            split: committed.map(|(left, at)| SplitMark {
                at,
                time_ms: manifest.time_ms,
                left,
            }),
        };
        Ok(Some(Point { state, tail }))
    }

    /// Replays a partition's log up to the target. Says whether there is more behind it.
    async fn replay(&mut self, leg: &Leg, point: Point) -> Result<(Point, bool), RebuildError> {
        let partition = &leg.birth.partition;
        let mut chain = self.reader.chain(partition).await?;
        let known = chain.last();
        let mut replay = Replay {
            leg,
            machine: Partition::new(point.state, Limits::default()),
            inherited_ms: point.tail.time_ms,
            tail: point.tail,
            before: None,
            beyond: false,
        };
        loop {
            let due = replay.tail.index + 1;
            if matches!(leg.target, Target::Index(index) if due > index) {
                replay.beyond = known >= due;
                break;
            }
            let Some(name) = chain.covering(due).cloned() else {
                let end = match leg.target {
                    Target::Index(index) => index,
                    Target::Time(_) | Target::End => known,
                };
                if end < due {
                    break;
                }
                let hole = chain.holes(replay.tail.index, end).into_iter().next();
                return Err(RebuildError::Hole {
                    partition: partition.clone(),
                    missing: hole.unwrap_or(due..=end),
                    damaged: std::mem::take(&mut self.damaged),
                });
            };
            match self.segment(leg, &mut chain, &name, &replay).await {
                Ok(Some((manifest, segment))) => {
                    self.bytes += manifest.bytes;
                    self.take(&mut replay, &manifest, segment).await?;
                }
                Ok(None) => replay.beyond = true,
                Err(RebuildError::Refused(refusal)) => {
                    self.damaged.push(refusal);
                    chain.remove(&name);
                }
                Err(error) => return Err(error),
            }
            if replay.beyond {
                break;
            }
        }
        match leg.target {
            Target::Time(at_ms) => self.look_ahead(&mut replay, at_ms).await?,
            Target::End => {
                let pending = replay.machine.state().transactions.all_pending();
                let pending = pending.filter(|prepared| self.cut.contains(&prepared.key));
                self.undecided = pending.cloned().collect();
            }
            Target::Index(_) => {}
        }
        self.flush(&mut replay.machine).await?;
        let point = Point {
            state: replay.machine.state().clone(),
            tail: replay.tail,
        };
        Ok((point, replay.beyond))
    }

    /// Brings forward what transactions that count at the target wrote behind it.
    async fn look_ahead(
        &mut self,
        replay: &mut Replay<'_>,
        at_ms: u64,
    ) -> Result<(), RebuildError> {
        let state = replay.machine.state();
        if state.transactions.pending_len() == 0 {
            return Ok(());
        }
        let range = self.cut.clone();
        let mut ahead = Ahead::of(state, at_ms);
        let place = (&replay.leg.birth.partition, &range, replay.tail.index + 1);
        crate::ahead::look(&self.reader, place, at_ms, self.patience, &mut ahead).await?;
        let pending = replay.machine.state().transactions.all_pending();
        let open = pending
            .filter(|prepared| range.contains(&prepared.key) && ahead.is_open(&prepared.key));
        self.undecided = open.cloned().collect();
        replay.machine.bring_forward(ahead.into_writes());
        Ok(())
    }

    /// Reads a segment; none if it lies behind the target. Others of the same range must be damaged, or it is not to be trusted either.
    async fn segment(
        &mut self,
        leg: &Leg,
        chain: &mut Chain,
        name: &SegmentName,
        replay: &Replay<'_>,
    ) -> Result<Option<(SegmentManifest, Segment)>, RebuildError> {
        let partition = &leg.birth.partition;
        let manifest = self.reader.manifest(partition, name).await?;
        let is_next = manifest.first == replay.tail.index + 1;
        if is_next
            && matches!(leg.target, Target::Time(time_ms) if manifest.first_time_ms > time_ms)
        {
            return Ok(None);
        }
        let segment = self.reader.segment(&manifest).await?;
        let twins: Vec<SegmentName> = chain
            .names()
            .filter(|other| (other.first, other.last) == (name.first, name.last) && *other != name)
            .cloned()
            .collect();
        for twin in twins {
            let read = match self.reader.manifest(partition, &twin).await {
                Ok(manifest) => self.reader.segment(&manifest).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(_) => {
                    return Err(RebuildError::Contradiction {
                        partition: partition.clone(),
                        name: name.clone(),
                        why: format!("there is another one of the same range, {}", twin.digest),
                    });
                }
                Err(ReadError::Refused(refusal)) => {
                    self.damaged.push(refusal);
                    chain.remove(&twin);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some((manifest, segment)))
    }

    /// Applies a segment's entries up to the target.
    async fn take(
        &mut self,
        replay: &mut Replay<'_>,
        manifest: &SegmentManifest,
        segment: Segment,
    ) -> Result<(), RebuildError> {
        replay.compare(manifest, &segment)?;
        for entry in &segment.entries {
            if entry.index <= replay.tail.index {
                continue;
            }
            if !replay.apply(manifest, entry)? {
                return Ok(());
            }
            self.entries += 1;
            if replay.machine.unsealed_bytes() >= BATCH_BYTES {
                self.flush(&mut replay.machine).await?;
            }
        }
        replay.check_tail(manifest)?;
        replay.before = Some(segment);
        Ok(())
    }

    /// Brings what is applied into the sink.
    async fn flush(&mut self, machine: &mut Partition<()>) -> Result<(), RebuildError> {
        // A batch ends at a marker of a scrub: there may be another one behind it.
        while let Some(batch) = machine.seal() {
            let position = batch.state.applied;
            let items = batch.items.iter().filter(|(key, _)| self.cut.contains(key));
            let batch = Batch {
                items: Arc::new(
                    items
                        .map(|(key, item)| (key.clone(), item.clone()))
                        .collect(),
                ),
                state: self.shown(&batch.state),
                marked: None,
            };
            self.with(move |sink| sink.flush(&batch)).await?;
            machine.flushed(position);
        }
        Ok(())
    }

    async fn count(&mut self, leg: &Leg, point: &Point) -> Result<(), RebuildError> {
        let found = self.with(S::items).await?;
        let expected = point.state.items;
        match found == expected {
            true => Ok(()),
            false => Err(RebuildError::Count {
                partition: leg.birth.partition.clone(),
                index: point.tail.index,
                expected,
                found,
            }),
        }
    }

    /// The state as the sink sees it: of the keys that it gets.
    fn shown(&self, state: &PartitionState) -> PartitionState {
        PartitionState {
            range: self.cut.clone(),
            ..state.clone()
        }
    }

    /// Calls the sink where it may block.
    async fn with<T: Send + 'static>(
        &mut self,
        act: impl FnOnce(&mut S) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, RebuildError> {
        let gone = || SinkError("it is gone after a failure".to_owned());
        let mut sink = self.sink.take().ok_or_else(gone)?;
        let call = tokio::task::spawn_blocking(move || {
            let result = act(&mut sink);
            (sink, result)
        });
        let (sink, result) = call.await.map_err(|error| SinkError(error.to_string()))?;
        self.sink = Some(sink);
        Ok(result?)
    }
}

async fn birth_of(reader: &ArchiveReader, partition: &PartitionRef) -> Result<Birth, RebuildError> {
    let birth = reader.birth(partition).await?;
    birth.ok_or_else(|| RebuildError::Unknown(partition.clone()))
}
