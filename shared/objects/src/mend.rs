//! Heals damaged objects from what the archive has beside them: a segment's manifest from the segment and what was before it, a part of a snapshot from an
//! older snapshot and the log behind it. What is written is what was there, byte by byte, or nothing is written. Asks no replica.

use archive::check::check;
use archive::snapshot::{Pair, Part};
use archive::{
    Birth, Digest, ObjectName, PartitionRef, Segment, SegmentName, SnapshotManifest, Tail,
};
use bytes::Bytes;
use model::KeyRange;
use paxos::{Entry, Index};

use crate::error::ReadError;
use crate::reader::ArchiveReader;
use crate::rebuild::{Rebuild, Target};
use crate::sink::MemorySink;
use crate::writer::ArchiveWriter;

/// An object cannot be healed, or not now; in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MendError(pub String);

fn failed(error: impl ToString) -> MendError {
    MendError(error.to_string())
}

/// Heals objects.
#[derive(Clone, Debug)]
pub struct Mender {
    reader: ArchiveReader,
    writer: ArchiveWriter,
}

impl Mender {
    /// In this archive.
    pub fn new(reader: ArchiveReader, writer: ArchiveWriter) -> Mender {
        Mender { reader, writer }
    }

    /// What the archive has of a segment, whatever its manifest says; none: nothing that is what its name says.
    ///
    /// # Errors
    /// The store's.
    pub async fn content(
        &self,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<Option<Segment>, MendError> {
        let key = partition.key(&ObjectName::Segment(name.clone()));
        match self.reader.objects().get(&key).await {
            Err(error) if error.is_transient() => Err(failed(error)),
            Err(_) => Ok(None),
            Ok(bytes) => {
                let named = SegmentName::new(name.first, name.last, &Digest::of(&bytes));
                let whole = (named == *name).then(|| Segment::decode(partition, &bytes));
                Ok(whole.and_then(Result::ok))
            }
        }
    }

    /// Writes a segment again that these bytes are of.
    ///
    /// # Errors
    /// When it is not this segment, or the store says so.
    pub async fn segment(
        &self,
        partition: &PartitionRef,
        name: &SegmentName,
        bytes: Bytes,
    ) -> Result<(), MendError> {
        if SegmentName::new(name.first, name.last, &Digest::of(&bytes)) != *name {
            return Err(failed("that is another segment"));
        }
        let key = partition.key(&ObjectName::Segment(name.clone()));
        self.writer.mend(&key, bytes).await.map_err(failed)
    }

    /// Writes a manifest again if it is damaged: all that it says follows from the segment's entries, and from what was before them.
    ///
    /// # Errors
    /// When what was before is not known, or the store says so.
    pub async fn manifest(
        &self,
        partition: &PartitionRef,
        name: &SegmentName,
        entries: &[Entry],
    ) -> Result<(), MendError> {
        match self.reader.manifest(partition, name).await {
            Ok(_) => return Ok(()),
            Err(ReadError::Refused(_)) => {}
            Err(error) => return Err(failed(error)),
        }
        let birth = self.reader.birth(partition).await.map_err(failed)?;
        let birth = birth.ok_or_else(|| failed("its partition has no birth in the archive"))?;
        let before = self.before(partition, &birth, name.first).await?;
        let checked = check(&birth, &before, entries).map_err(failed)?;
        if checked.manifest.name() != *name {
            return Err(failed("its entries make another segment"));
        }
        let bytes = checked.manifest.encode().map_err(failed)?;
        let key = partition.key(&ObjectName::SegmentManifest(name.clone()));
        self.writer.mend(&key, bytes).await.map_err(failed)
    }

    /// What is known of the log before a position.
    async fn before(
        &self,
        partition: &PartitionRef,
        birth: &Birth,
        first: Index,
    ) -> Result<Tail, MendError> {
        if birth.begins() + 1 == first {
            return Ok(birth.tail());
        }
        let chain = self.reader.chain(partition).await.map_err(failed)?;
        for name in chain.names().filter(|name| name.last + 1 == first) {
            match self.reader.manifest(partition, name).await {
                Ok(manifest) => return Ok(manifest.tail()),
                Err(error) if error.is_transient() => return Err(failed(error)),
                Err(_) => {}
            }
        }
        Err(failed("no whole manifest says what was before it"))
    }

    /// Writes a part of a snapshot again; its keys are rebuilt in memory.
    ///
    /// # Errors
    /// When nothing in the archive leads to it, or the store says so.
    pub async fn part(&self, manifest: &SnapshotManifest, part: &Part) -> Result<(), MendError> {
        let (partition, applied) = (&manifest.partition, manifest.applied);
        // The rebuild passes over the damaged part, and begins with an older snapshot or the partition's birth.
        let target = Target::Index(applied);
        let rebuild = Rebuild::new(self.reader.clone(), partition.clone(), target);
        let rebuild = rebuild.only(keys_of(part)).run(MemorySink::default());
        let (sink, rebuilt) = rebuild.await.map_err(failed)?;
        if rebuilt.tail.index != applied {
            let end = rebuilt.tail.index;
            return Err(failed(format!("the archive ends at {end}")));
        }
        let pairs: Vec<Pair> = sink.items.into_iter().collect();
        let encoded = Part::encode(partition, applied, part.number, &pairs);
        let (again, bytes) = encoded.map_err(failed)?;
        if again != *part {
            return Err(failed("the log says something else"));
        }
        let key = partition.key(&part.name(applied));
        self.writer.mend(&key, bytes).await.map_err(failed)
    }
}

/// The keys of a part.
fn keys_of(part: &Part) -> KeyRange {
    let mut behind = part.last.to_vec();
    behind.push(0);
    KeyRange {
        start: part.first.clone(),
        end: behind.into(),
    }
}
