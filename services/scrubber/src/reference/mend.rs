//! Healing of damaged objects of the archive (`objects::Mender`) with what the replicas' logs still have. Owns whom to ask, and that a new snapshot is wished for
//! where nothing helps.

use std::time::Duration;

use archive::snapshot::Part;
use archive::{PartitionRef, SegmentName, SnapshotManifest};
use mesh::{Deadline, TraceContext};
use paxos::{Entry, GroupId, NodeId};
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
        let mender = self.mender();
        let content = mender.content(partition, name).await.map_err(words)?;
        let (entries, how) = match content {
            Some(segment) => (segment.entries, "from its segment"),
            None => (
                self.segment_of_logs(wanted, partition, name).await?,
                "from the log",
            ),
        };
        let mended = mender.manifest(partition, name, &entries).await;
        mended.map_err(words)?;
        let manifest = self.reader.manifest(partition, name).await;
        let read = self.reader.segment(&manifest.map_err(words)?).await;
        read.map(|_| how.to_owned()).map_err(words)
    }

    /// Writes a segment again from the first replica's log that still has exactly this one.
    async fn segment_of_logs(
        &self,
        wanted: &Wanted,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<Vec<Entry>, String> {
        let mut why = vec!["its content is gone".to_owned()];
        for &node in &wanted.nodes {
            let entries = match self.entries(node, wanted.partition, name).await {
                Ok(entries) => entries,
                Err(error) => {
                    why.push(format!("node {}: {error}", node.0));
                    continue;
                }
            };
            let bytes = archive::segment::encode(partition, &entries).map_err(words)?;
            match self.mender().segment(partition, name, bytes).await {
                Ok(()) => return Ok(entries),
                Err(error) => why.push(format!("node {}: {error}", node.0)),
            }
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
                    return Err(format!("its log begins behind {floor} by now"));
                }
                ArchiveReply::Unavailable(why) => return Err(why),
                _ => return Err("it has no such entries".to_owned()),
            }
        }
    }

    /// Heals a part of a snapshot; how, in words.
    pub(super) async fn mend_part(
        &self,
        manifest: &SnapshotManifest,
        part: &Part,
    ) -> Result<String, String> {
        let mended = self.mender().part(manifest, part).await;
        mended.map_err(words)?;
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
