//! Comparison with the archive. What the replicas agreed on at a marker waits here until the archive reaches that position; then the partition is
//! rebuilt from the archive alone, beside the mesh, and digested like a replica; and all its archived objects are read and verified against
//! their manifests. Costs the storage nodes nothing. What is damaged is written again (`mend`) where its content is still to be had.

mod digest;
mod mend;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use archive::snapshot::Part;
use archive::{ObjectName, PartitionRef, SegmentName, SnapshotManifest};
use mesh::{Mesh, TraceContext};
use model::KeyRange;
use objects::{
    ArchiveReader, ArchiveSettings, ArchiveWriter, Mender, Objects, ReadError, Rebuild,
    RebuildError, Target, TreeSink,
};
use parking_lot::Mutex;
use paxos::{GroupId, NodeId};
use protocol::scrub::{Bucket, Head};

use digest::digest;

/// Between two looks whether the archive has reached a position.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// Partitions that wait at a time; the next scrub of others comes again.
const WAITING_MAX: usize = 256;

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
    /// Nodes whose logs may have what the archive lost, the leader first.
    pub(crate) nodes: Vec<NodeId>,
    pub(crate) head: Head,
    pub(crate) buckets: Vec<Bucket>,
    /// The trace of the scrub that it comes of.
    pub(crate) cause: TraceContext,
    pub(crate) since: Instant,
    looked: Option<Instant>,
}

impl Wanted {
    pub(crate) fn new(
        partition: GroupId,
        table: String,
        nodes: Vec<NodeId>,
        head: Head,
        buckets: Vec<Bucket>,
        cause: TraceContext,
    ) -> Self {
        Self {
            partition,
            table,
            nodes,
            head,
            buckets,
            cause,
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

impl Compared {
    /// As a trace has it: what was found, or why it came to nothing, is an error.
    pub(crate) fn outcome(&self) -> Result<(), String> {
        match self {
            Self::Clean => Ok(()),
            Self::Wrong { finding, .. } => Err(finding.clone()),
            Self::Void(why) => Err(format!("came to nothing: {why}")),
        }
    }
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

    fn mender(&self) -> Mender {
        Mender::new(self.reader.clone(), self.writer.clone())
    }

    /// The store.
    pub(crate) fn objects(&self) -> &Objects {
        self.reader.objects()
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
            let mended = match &bad.object {
                BadObject::Segment(name) => self.mend_segment(wanted, partition, name).await,
                BadObject::Part(part) => self.mend_part(&part.0, &part.1).await,
                BadObject::Snapshot => Err("nobody remembers what was in it".to_owned()),
            };
            let said = match mended {
                Ok(how) => format!("written again {how}"),
                Err(why) => {
                    let wished = match &bad.object {
                        BadObject::Segment(_) => "",
                        BadObject::Part(_) | BadObject::Snapshot => {
                            self.wish_snapshot(wanted.partition);
                            "; a new snapshot is taken"
                        }
                    };
                    format!("not written again: {why}{wished}")
                }
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
            if let Some((key, why)) = self.judge(read.await, partition, &object).await? {
                let object = BadObject::Segment(name.clone());
                bad.push(Bad { key, why, object });
            }
        }
        let snapshots = self.reader.snapshots(partition).await;
        for name in snapshots.map_err(|error| error.to_string())? {
            let object = ObjectName::SnapshotManifest(name.clone());
            let manifest = match self.reader.snapshot(partition, &name).await {
                Ok(manifest) => manifest,
                Err(error) => {
                    if let Some((key, why)) = self.judge(Err(error), partition, &object).await? {
                        let object = BadObject::Snapshot;
                        bad.push(Bad { key, why, object });
                    }
                    continue;
                }
            };
            for part in &manifest.parts {
                let read = self.reader.part(&manifest, part).await;
                let read = read.map(|_| part.bytes);
                let object = part.name(manifest.applied);
                if let Some((key, why)) = self.judge(read, partition, &object).await? {
                    let object = BadObject::Part(Box::new((manifest.clone(), part.clone())));
                    bad.push(Bad { key, why, object });
                }
            }
        }
        Ok(bad)
    }

    /// If an object that was read is bad, its key and why; keeps to the rate.
    async fn judge(
        &self,
        read: Result<u64, ReadError>,
        partition: &PartitionRef,
        object: &ObjectName,
    ) -> Result<Option<(String, String)>, String> {
        let key = partition.key(object);
        let why = match read {
            Ok(bytes) => {
                let takes = bytes.saturating_mul(1_000_000) / self.bytes_per_second;
                tokio::time::sleep(Duration::from_micros(takes)).await;
                return Ok(None);
            }
            Err(error) if error.is_transient() => return Err(error.to_string()),
            Err(error) => error.to_string(),
        };
        // It may have been deleted since it was listed, as too old.
        let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
        let listed = self.reader.objects().list(&format!("{folder}/")).await;
        let listed = listed.map_err(|error| error.to_string())?;
        if !listed.iter().any(|listed| listed.key == key) {
            return Ok(None);
        }
        Ok(Some((key, why)))
    }
}

/// An object that is not what it must be.
struct Bad {
    key: String,
    why: String,
    object: BadObject,
}

/// What it is, as far as that decides how it is healed.
enum BadObject {
    /// A segment or its manifest.
    Segment(SegmentName),
    /// A part of a snapshot.
    Part(Box<(SnapshotManifest, Part)>),
    /// A snapshot's manifest.
    Snapshot,
}
