//! Heals damaged objects of the archive where what was in them is still to be had: a segment's manifest from the segment, a segment from a replica's log, a
//! part of a snapshot from an older snapshot and the log behind it. What is written is what was there, byte by byte, or nothing is written.

use std::time::Duration;

use archive::check::check;
use archive::snapshot::Part;
use archive::{
    Birth, Digest, ObjectName, PartitionRef, Segment, SegmentManifest, SegmentName,
    SnapshotManifest, Tail,
};
use bytes::Bytes;
use mesh::{Deadline, TraceContext};
use model::KeyRange;
use objects::{ReadError, Rebuild, Target, TreeSink};
use paxos::{Entry, GroupId, Index, NodeId};
use protocol::archive::{ArchiveCall, ArchiveReply, SnapshotWish};
use protocol::subjects;

use super::{Archive, Wanted};

/// Time for one answer of a storage node.
const ANSWER_MAX: Duration = Duration::from_secs(5);

fn words(error: impl ToString) -> String {
    error.to_string()
}

impl Archive {
    /// Heals a segment or its manifest; how, in words.
    pub(super) async fn mend_segment(
        &self,
        wanted: &Wanted,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<String, String> {
        let entries = match self.content(partition, name).await? {
            Some(segment) => segment.entries,
            None => {
                let (entries, bytes) = self.from_logs(wanted, partition, name).await?;
                let key = partition.key(&ObjectName::Segment(name.clone()));
                self.writer.mend(&key, bytes).await.map_err(words)?;
                entries
            }
        };
        match self.reader.manifest(partition, name).await {
            Ok(_) => {}
            Err(ReadError::Refused(_)) => {
                self.mend_manifest(partition, name, &entries).await?;
            }
            Err(error) => return Err(error.to_string()),
        }
        let manifest = self.reader.manifest(partition, name).await;
        let read = self.reader.segment(&manifest.map_err(words)?).await;
        read.map(|_| "from the log".to_owned()).map_err(words)
    }

    /// What the archive has of a segment; none: nothing that is whole.
    async fn content(
        &self,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<Option<Segment>, String> {
        let key = partition.key(&ObjectName::Segment(name.clone()));
        match self.reader.objects().get(&key).await {
            Err(error) if error.is_transient() => Err(error.to_string()),
            Err(_) => Ok(None),
            Ok(bytes) => {
                let named = SegmentName::new(name.first, name.last, &Digest::of(&bytes));
                let whole = (named == *name).then(|| Segment::decode(partition, &bytes));
                Ok(whole.and_then(Result::ok))
            }
        }
    }

    /// Writes a manifest again: all that it says follows from the entries, and from what was before them.
    async fn mend_manifest(
        &self,
        partition: &PartitionRef,
        name: &SegmentName,
        entries: &[Entry],
    ) -> Result<(), String> {
        let birth = self.reader.birth(partition).await.map_err(words)?;
        let birth = birth.ok_or("its partition has no birth in the archive")?;
        let before = self.before(partition, &birth, name.first).await?;
        let checked = check(&birth, &before, entries).map_err(words)?;
        if checked.manifest.name() != *name {
            return Err("its entries make another segment".to_owned());
        }
        let bytes = checked.manifest.encode().map_err(words)?;
        let key = partition.key(&ObjectName::SegmentManifest(name.clone()));
        self.writer.mend(&key, bytes).await.map_err(words)
    }

    /// What is known of the log before a position.
    async fn before(
        &self,
        partition: &PartitionRef,
        birth: &Birth,
        first: Index,
    ) -> Result<Tail, String> {
        if birth.begins() + 1 == first {
            return Ok(birth.tail());
        }
        let chain = self.reader.chain(partition).await.map_err(words)?;
        for name in chain.names().filter(|name| name.last + 1 == first) {
            match self.reader.manifest(partition, name).await {
                Ok(manifest) => return Ok(SegmentManifest::tail(&manifest)),
                Err(error) if error.is_transient() => return Err(error.to_string()),
                Err(_) => {}
            }
        }
        Err("no whole manifest says what was before it".to_owned())
    }

    /// A segment from the first replica's log that still has exactly this one.
    async fn from_logs(
        &self,
        wanted: &Wanted,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<(Vec<Entry>, Bytes), String> {
        let mut why = vec!["its content is gone".to_owned()];
        for &node in &wanted.nodes {
            let entries = match self.entries(node, wanted.partition, name).await {
                Ok(entries) => entries,
                Err(error) => {
                    why.push(error);
                    continue;
                }
            };
            let bytes = archive::segment::encode(partition, &entries).map_err(words)?;
            if SegmentName::new(name.first, name.last, &Digest::of(&bytes)) == *name {
                return Ok((entries, bytes));
            }
            why.push(format!("node {}'s log says something else", node.0));
        }
        Err(why.join(", "))
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
            match asked.map_err(words)? {
                ArchiveReply::Entries(more) if !more.is_empty() => all.extend(more),
                ArchiveReply::Gone { floor } => {
                    return Err(format!(
                        "node {}'s log begins behind {floor} by now",
                        node.0
                    ));
                }
                ArchiveReply::Unavailable(why) => return Err(why),
                _ => return Err(format!("node {} has no such entries", node.0)),
            }
        }
    }

    /// Heals a part of a snapshot from what the archive has beside it; how, in words.
    pub(super) async fn mend_part(
        &self,
        partition: &PartitionRef,
        manifest: &SnapshotManifest,
        part: &Part,
    ) -> Result<String, String> {
        let folder = self.folder.join(format!("{}-part", partition.partition.0));
        // The rebuild passes over the damaged part, and begins with an older snapshot or the partition's birth.
        let target = Target::Index(manifest.applied);
        let rebuild = Rebuild::new(self.reader.clone(), partition.clone(), target);
        let rebuild = rebuild.only(from_to(part));
        let (sink, rebuilt) = rebuild.run(TreeSink::new(&folder)).await.map_err(words)?;
        if rebuilt.tail.index != manifest.applied {
            return Err(format!("the archive ends at {}", rebuilt.tail.index));
        }
        let pairs = tokio::task::spawn_blocking(move || {
            let view = sink.snapshot().map_err(words)?;
            view.pairs(None, usize::MAX).map_err(words)
        });
        let (pairs, _) = pairs.await.map_err(words)??;
        let encoded = Part::encode(partition, manifest.applied, part.number, &pairs);
        let (again, bytes) = encoded.map_err(words)?;
        if again != *part {
            return Err("the log says something else".to_owned());
        }
        let key = partition.key(&part.name(manifest.applied));
        self.writer.mend(&key, bytes).await.map_err(words)?;
        Ok("from an older snapshot and the log behind it".to_owned())
    }

    /// Asks the archivers for a new snapshot of a partition.
    pub(super) fn wish_snapshot(&self, partition: GroupId) {
        // A wish that is lost is made again: the object is found damaged again.
        let _ = self
            .mesh
            .cast(subjects::ARCHIVE_SNAPSHOTS, &SnapshotWish { partition });
    }
}

/// The keys of a part.
fn from_to(part: &Part) -> KeyRange {
    let mut behind = part.last.to_vec();
    behind.push(0);
    KeyRange {
        start: part.first.clone().into(),
        end: behind.into(),
    }
}
