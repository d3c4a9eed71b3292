//! Comparison with the archive. What the replicas agreed on at a marker waits here until the archive reaches that position; then the partition is
//! rebuilt from the archive alone, beside the mesh, and digested like a replica; and all its archived objects are read and verified against
//! their manifests. Costs the storage nodes nothing. A segment that is damaged is written again from the log of the partition's leader, if it still has it.

mod digest;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use archive::{ObjectName, PartitionRef, SegmentName};
use mesh::{Deadline, Mesh, TraceContext};
use model::KeyRange;
use objects::{
    ArchiveReader, ArchiveSettings, ArchiveWriter, Objects, ReadError, Rebuild, RebuildError,
    Target, TreeSink,
};
use parking_lot::Mutex;
use paxos::{Entry, GroupId, NodeId};
use protocol::archive::{ArchiveCall, ArchiveReply};
use protocol::scrub::{Bucket, Head};
use protocol::subjects;

use digest::digest;

/// Between two looks whether the archive has reached a position.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Partitions that wait at a time; the next scrub of others comes again.
const WAITING_MAX: usize = 256;
/// Time for one answer of a storage node.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// The archive, and who waits for it.
pub(crate) struct Archive {
    reader: ArchiveReader,
    writer: ArchiveWriter,
    mesh: Mesh,
    folder: PathBuf,
    bytes_per_second: u64,
    wait_max: Duration,
    waiting: Mutex<BTreeMap<GroupId, Wanted>>,
}

/// What all replicas of a partition hold at a marker.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) partition: GroupId,
    pub(crate) table: String,
    pub(crate) leader: Option<NodeId>,
    pub(crate) head: Head,
    pub(crate) buckets: Vec<Bucket>,
    since: Instant,
    looked: Option<Instant>,
}

impl Wanted {
    pub(crate) fn new(
        partition: GroupId,
        table: String,
        leader: Option<NodeId>,
        head: Head,
        buckets: Vec<Bucket>,
    ) -> Self {
        Self {
            partition,
            table,
            leader,
            head,
            buckets,
            since: Instant::now(),
            looked: None,
        }
    }
}

/// What came of a comparison.
#[derive(Debug)]
pub(crate) enum Compared {
    /// The archive says what the replicas hold, and its objects are whole.
    Clean,
    /// It does not, or objects are damaged: in words, with the ranges that differ, and what was done.
    Wrong {
        finding: String,
        ranges: Vec<KeyRange>,
        done: Vec<String>,
    },
    /// It came to nothing, and why.
    Void(String),
}

impl Archive {
    /// Connects to the store; touches nothing.
    ///
    /// # Errors
    /// When the settings make no sense, in words.
    pub(crate) fn connect(
        settings: &ArchiveSettings,
        mesh: Mesh,
        folder: PathBuf,
        bytes_per_second: u64,
        wait_ms_max: u64,
    ) -> Result<Self, String> {
        settings.check()?;
        let objects = Objects::connect(settings)?;
        Ok(Self {
            reader: ArchiveReader::new(objects.clone()),
            writer: ArchiveWriter::new(objects),
            mesh,
            folder,
            bytes_per_second: bytes_per_second.max(1),
            wait_max: Duration::from_millis(wait_ms_max),
            waiting: Mutex::default(),
        })
    }

    /// A comparison is wanted. While an earlier one of the partition waits it has precedence: the archive reaches it first.
    pub(crate) fn want(&self, wanted: Wanted) {
        let mut waiting = self.waiting.lock();
        if waiting.contains_key(&wanted.partition) || waiting.len() < WAITING_MAX {
            waiting.entry(wanted.partition).or_insert(wanted);
        }
    }

    /// Comparisons that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Whatever can be compared now: the partition, and what came of it.
    pub(crate) async fn next(&self) -> Option<(Wanted, Compared)> {
        let wanted = {
            let mut waiting = self.waiting.lock();
            let due = |wanted: &&mut Wanted| {
                wanted
                    .looked
                    .is_none_or(|looked| looked.elapsed() >= LOOK_EVERY)
            };
            let wanted = waiting.values_mut().find(due)?;
            wanted.looked = Some(Instant::now());
            wanted.clone()
        };
        let compared = self.look(&wanted).await?;
        self.waiting.lock().remove(&wanted.partition);
        Some((wanted, compared))
    }

    /// None: the archive is not there yet.
    async fn look(&self, wanted: &Wanted) -> Option<Compared> {
        let late = wanted.since.elapsed() >= self.wait_max;
        let void = |why: String| late.then_some(Compared::Void(why));
        let partition = match PartitionRef::new(&wanted.head.table, wanted.partition) {
            Ok(partition) => partition,
            Err(fault) => return Some(Compared::Void(fault.to_string())),
        };
        let chain = match self.reader.chain(&partition).await {
            Ok(chain) => chain,
            Err(error) => return void(error.to_string()),
        };
        if chain.last() < wanted.head.index {
            return void(format!(
                "the archive has not reached position {}: it is at {}",
                wanted.head.index,
                chain.last()
            ));
        }
        match self.compare(wanted, &partition).await {
            Ok(compared) => Some(compared),
            // The store's fault: later.
            Err(why) => void(why),
        }
    }

    async fn compare(&self, wanted: &Wanted, partition: &PartitionRef) -> Result<Compared, String> {
        let (mut words, mut ranges, mut done) = (Vec::new(), Vec::new(), Vec::new());
        let index = wanted.head.index;
        let folder = self.folder.join(wanted.partition.0.to_string());
        let rebuild = Rebuild::new(self.reader.clone(), partition.clone(), Target::Index(index));
        match rebuild.run(TreeSink::new(&folder)).await {
            Err(RebuildError::Store(error)) if error.is_transient() => {
                return Err(error.to_string());
            }
            Err(RebuildError::Sink(error)) => return Err(error.to_string()),
            Err(error) => words.push(format!("it cannot be rebuilt from the archive: {error}")),
            Ok((_, rebuilt)) if rebuilt.tail.index != index => {
                return Err(format!("the archive ends at {}", rebuilt.tail.index));
            }
            Ok((sink, rebuilt)) => {
                let digested = tokio::task::spawn_blocking(move || digest(&sink)).await;
                let digested = digested.map_err(|error| error.to_string())?;
                let digested = digested.map_err(|error| error.to_string())?;
                ranges = scrub::differences(&wanted.head.range, &wanted.buckets, &digested);
                if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
                    words.push(format!(
                        "the archive differs from all replicas at position {index} between '{}' and '{}'",
                        first.start.escape_ascii(),
                        last.end.escape_ascii()
                    ));
                }
                if rebuilt.state.items != wanted.head.items {
                    let (found, items) = (rebuilt.state.items, wanted.head.items);
                    words.push(format!(
                        "the archive has {found} items, the replicas {items}"
                    ));
                }
            }
        }
        for bad in self.verify(partition).await? {
            let said = match bad.segment {
                Some(name) => match self.mend(wanted, partition, &name).await {
                    Ok(()) => "written again from the log".to_owned(),
                    Err(why) => format!("not written again: {why}"),
                },
                None => "not written again: the next snapshot takes its place".to_owned(),
            };
            done.push(format!("{}: {said}", bad.key));
            words.push(bad.why);
        }
        Ok(match words.is_empty() {
            true => Compared::Clean,
            false => Compared::Wrong {
                finding: words.join("; "),
                ranges,
                done,
            },
        })
    }

    /// Reads all objects of a partition; those that are not what their names and manifests say.
    async fn verify(&self, partition: &PartitionRef) -> Result<Vec<Bad>, String> {
        let mut bad = Vec::new();
        let chain = self.reader.chain(partition).await;
        let chain = chain.map_err(|error| error.to_string())?;
        for name in chain.names() {
            let read = async {
                let manifest = self.reader.manifest(partition, name).await?;
                self.reader.segment(&manifest).await?;
                Ok(manifest.bytes)
            };
            let object = ObjectName::SegmentManifest(name.clone());
            if self.judge(read.await, partition, &object, &mut bad).await? {
                let mended = bad.last_mut();
                mended
                    .into_iter()
                    .for_each(|bad| bad.segment = Some(name.clone()));
            }
        }
        let snapshots = self.reader.snapshots(partition).await;
        for name in snapshots.map_err(|error| error.to_string())? {
            let object = ObjectName::SnapshotManifest(name.clone());
            let manifest = match self.reader.snapshot(partition, &name).await {
                Ok(manifest) => manifest,
                Err(error) => {
                    self.judge(Err(error), partition, &object, &mut bad).await?;
                    continue;
                }
            };
            for part in &manifest.parts {
                let read = self.reader.part(&manifest, part).await;
                let read = read.map(|_| part.bytes);
                let object = part.name(manifest.applied);
                self.judge(read, partition, &object, &mut bad).await?;
            }
        }
        Ok(bad)
    }

    /// Whether an object that was read is bad; keeps to the rate.
    async fn judge(
        &self,
        read: Result<u64, ReadError>,
        partition: &PartitionRef,
        object: &ObjectName,
        bad: &mut Vec<Bad>,
    ) -> Result<bool, String> {
        let key = partition.key(object);
        let why = match read {
            Ok(bytes) => {
                let takes = bytes.saturating_mul(1_000_000) / self.bytes_per_second;
                tokio::time::sleep(Duration::from_micros(takes)).await;
                return Ok(false);
            }
            Err(error) if error.is_transient() => return Err(error.to_string()),
            Err(error) => error.to_string(),
        };
        // It may have been deleted since it was listed, as too old.
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let listed = self.reader.objects().list(&format!("{folder}/")).await;
        let listed = listed.map_err(|error| error.to_string())?;
        if !listed.iter().any(|listed| listed.key == key) {
            return Ok(false);
        }
        bad.push(Bad {
            key,
            why,
            segment: None,
        });
        Ok(true)
    }

    /// Writes a segment again from the log of the partition's leader.
    async fn mend(
        &self,
        wanted: &Wanted,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<(), String> {
        let leader = wanted.leader.ok_or("it has no leader")?;
        let entries = self.entries(leader, wanted.partition, name).await?;
        let bytes = archive::segment::encode(partition, &entries);
        let bytes = bytes.map_err(|fault| fault.to_string())?;
        if SegmentName::new(name.first, name.last, &archive::Digest::of(&bytes)) != *name {
            return Err("the leader's log says something else".to_owned());
        }
        let key = partition.key(&ObjectName::Segment(name.clone()));
        let mended = self.writer.mend(&key, bytes).await;
        mended.map_err(|error| error.to_string())?;
        // It may be the manifest that is damaged.
        let manifest = self.reader.manifest(partition, name).await;
        let manifest = manifest.map_err(|error| error.to_string())?;
        let read = self.reader.segment(&manifest).await;
        read.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The entries of a segment, from a node's log.
    async fn entries(
        &self,
        node: NodeId,
        partition: GroupId,
        name: &SegmentName,
    ) -> Result<Vec<Entry>, String> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let first = all.last().map_or(name.first, |last| last.index + 1);
            if first > name.last {
                return Ok(all);
            }
            let call = ArchiveCall::Entries {
                partition,
                first,
                last: name.last,
            };
            let subject = subjects::node_archive(node);
            let (deadline, trace) = (Deadline::after(ANSWER_MAX), TraceContext::default());
            let asked = self.mesh.call(&subject, &call, deadline, &trace).await;
            match asked.map_err(|error| error.to_string())? {
                ArchiveReply::Entries(more) if !more.is_empty() => all.extend(more),
                ArchiveReply::Gone { floor } => {
                    return Err(format!("the leader's log begins behind {floor} by now"));
                }
                ArchiveReply::Unavailable(why) => return Err(why),
                _ => return Err("the leader has no such entries".to_owned()),
            }
        }
    }
}

/// An object that is not what it must be.
struct Bad {
    key: String,
    why: String,
    /// It belongs to this segment.
    segment: Option<SegmentName>,
}
