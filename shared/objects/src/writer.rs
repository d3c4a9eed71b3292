//! Writing the archive. Owns that what is said to be written is there, byte by byte: `Create`, and where an object exists already, or the settings
//! say so, it is read and compared. An object's name holds its digest, so two writers of one name have the same bytes, or one of them is broken.

use archive::check::Checked;
use archive::key::{ObjectName, PartitionRef, SegmentName, SnapshotName};
use archive::snapshot::{Pair, Part};
use archive::{Birth, Digest, Refusal, SegmentManifest, SnapshotManifest};
use bytes::Bytes;
use paxos::Index;

use crate::error::{ObjectError, Reason};
use crate::store::{Objects, Put, PutMode};

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there now.
    New,
    /// It was there already, and is the same.
    Same,
    /// Something damaged was there, and a good copy is there now.
    Mended,
}

/// A write failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store's fault: it may be there or not, try again later.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// Under this name there is something else: nothing may rest on it.
    #[error("archived object {key} should have SHA-256 {expected}, it has {found}")]
    Different {
        /// Its key.
        key: String,
        /// What was to be written.
        expected: Digest,
        /// What is there.
        found: Digest,
    },
    /// What was to be written contradicts itself.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl WriteError {
    /// Whether the same may succeed later, without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, WriteError::Store(error) if error.is_transient())
    }
}

/// Writes into the archive. Everything may be repeated.
#[derive(Clone, Debug)]
pub struct ArchiveWriter {
    objects: Objects,
}

impl ArchiveWriter {
    /// Writes to this store.
    pub fn new(objects: Objects) -> ArchiveWriter {
        ArchiveWriter { objects }
    }

    /// The store.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Writes how a partition began.
    pub async fn birth(&self, birth: &Birth) -> Result<Written, WriteError> {
        let encoded = birth.encode();
        let (name, bytes) = encoded.map_err(|fault| fault.at(birth.partition.folder()))?;
        self.put_named(&birth.partition.key(&name), bytes).await
    }

    /// Writes a segment, then its manifest. `New` if either was missing.
    pub async fn segment(&self, checked: &Checked) -> Result<Written, WriteError> {
        let first = self.content(checked).await?;
        let second = self.manifest(checked).await?;
        Ok(match (first, second) {
            (Written::Mended, _) | (_, Written::Mended) => Written::Mended,
            (Written::Same, Written::Same) => Written::Same,
            _ => Written::New,
        })
    }

    /// Writes a segment without its manifest: nothing counts on it yet.
    pub async fn content(&self, checked: &Checked) -> Result<Written, WriteError> {
        let (partition, name) = (checked.manifest.partition(), checked.manifest.name());
        let key = partition.key(&ObjectName::Segment(name));
        self.put_named(&key, checked.segment.clone()).await
    }

    /// Writes the manifest of a segment that is written: from now on it counts.
    pub async fn manifest(&self, checked: &Checked) -> Result<Written, WriteError> {
        let manifest = &checked.manifest;
        let (partition, name) = (manifest.partition(), manifest.name());
        let encoded = manifest.encode();
        let key = partition.key(&ObjectName::SegmentManifest(name.clone()));
        let encoded = encoded.map_err(|fault| fault.at(&key))?;
        let whole = |found: &Bytes| SegmentManifest::decode(&partition, &name, found).is_ok();
        self.put(&key, encoded, whole).await
    }

    /// Writes part `number` of a snapshot at `applied`; what it returns goes into the manifest.
    pub async fn part(
        &self,
        partition: &PartitionRef,
        applied: Index,
        number: u32,
        pairs: &[Pair],
    ) -> Result<Part, WriteError> {
        let encoded = Part::encode(partition, applied, number, pairs);
        let (part, bytes) = encoded.map_err(|fault| fault.at(partition.folder()))?;
        self.put_named(&partition.key(&part.name(applied)), bytes)
            .await?;
        Ok(part)
    }

    /// Writes a snapshot's manifest, all parts of which are written.
    pub async fn snapshot(&self, manifest: &SnapshotManifest) -> Result<SnapshotName, WriteError> {
        let encoded = manifest.encode();
        let (name, bytes) = encoded.map_err(|fault| fault.at(manifest.partition.folder()))?;
        let key = manifest
            .partition
            .key(&ObjectName::SnapshotManifest(name.clone()));
        self.put_named(&key, bytes).await?;
        Ok(name)
    }

    /// Writes a good copy over a damaged object.
    pub async fn mend(&self, key: &str, bytes: Bytes) -> Result<(), WriteError> {
        self.objects
            .put(key, bytes.clone(), PutMode::Replace)
            .await?;
        match self.compare(key, &bytes).await? {
            None => Ok(()),
            Some(found) => Err(different(key, &bytes, &found)),
        }
    }

    /// Deletes a segment: its manifest first, so that nobody looks for what is half gone.
    pub async fn delete_segment(
        &self,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<(), WriteError> {
        for object in [
            ObjectName::SegmentManifest(name.clone()),
            ObjectName::Segment(name.clone()),
        ] {
            self.objects.delete(&partition.key(&object)).await?;
        }
        Ok(())
    }

    /// Deletes a snapshot's manifest. Its parts may be another's, too: whoever knows all manifests deletes them.
    pub async fn delete_snapshot(
        &self,
        partition: &PartitionRef,
        name: &SnapshotName,
    ) -> Result<(), WriteError> {
        let key = partition.key(&ObjectName::SnapshotManifest(name.clone()));
        Ok(self.objects.delete(&key).await?)
    }

    /// Puts an object whose name holds its own digest: whatever else is there is damaged.
    async fn put_named(&self, key: &str, bytes: Bytes) -> Result<Written, WriteError> {
        let digest = Digest::of(&bytes);
        self.put(key, bytes, |found| {
            Digest::of(found).short() == digest.short()
        })
        .await
    }

    /// Puts an object. What is there instead must be the same, or not `whole`: then it is replaced.
    async fn put(
        &self,
        key: &str,
        bytes: Bytes,
        whole: impl Fn(&Bytes) -> bool,
    ) -> Result<Written, WriteError> {
        let put = self
            .objects
            .put(key, bytes.clone(), PutMode::Create)
            .await?;
        let written = match put {
            Put::Written if self.objects.settings().read_back => Written::New,
            Put::Written => return Ok(Written::New),
            Put::Exists => Written::Same,
        };
        match self.compare(key, &bytes).await? {
            None => Ok(written),
            Some(found) if whole(&found) => Err(different(key, &bytes, &found)),
            Some(_) => {
                tracing::warn!(key, "an archived object is damaged, it is written again");
                self.mend(key, bytes).await?;
                Ok(Written::Mended)
            }
        }
    }

    /// What is there, if it is not these bytes. It is read twice before it is called different: a body may be cut off on its way.
    async fn compare(&self, key: &str, bytes: &Bytes) -> Result<Option<Bytes>, WriteError> {
        let mut found = self.read(key).await?;
        if found != *bytes {
            found = self.read(key).await?;
        }
        Ok((found != *bytes).then_some(found))
    }

    /// What is there; nothing if there is nothing (a store that loses what it acknowledged).
    async fn read(&self, key: &str) -> Result<Bytes, WriteError> {
        match self.objects.get(key).await {
            Err(error) if error.reason == Reason::NotFound => Ok(Bytes::new()),
            found => Ok(found?),
        }
    }
}

fn different(key: &str, expected: &Bytes, found: &Bytes) -> WriteError {
    WriteError::Different {
        key: key.to_owned(),
        expected: Digest::of(expected),
        found: Digest::of(found),
    }
}
