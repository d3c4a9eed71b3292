//! Reading the archive. Owns that nothing is believed unverified: every object is checked against its name, its manifest and its own checksums,
//! and read once more before it is called damaged (a body may be cut off on its way).

use std::collections::BTreeMap;

use archive::key::{Folder, TABLES, parse, parse_folder};
use archive::snapshot::{Pair, Part};
use archive::{
    Birth, Chain, Fault, ObjectName, PartitionRef, Refusal, Segment, SegmentManifest, SegmentName,
    SnapshotManifest, SnapshotName, TableUuid,
};
use bytes::Bytes;
use paxos::Index;

use crate::error::{ReadError, Reason};
use crate::store::Objects;

/// Reads of an object before it is called damaged.
const READS: usize = 2;

/// Reads what is in the archive.
#[derive(Clone, Debug)]
pub struct ArchiveReader {
    objects: Objects,
}

impl ArchiveReader {
    /// Reads from this store.
    pub fn new(objects: Objects) -> ArchiveReader {
        ArchiveReader { objects }
    }

    /// The store.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// UUIDs of all tables that have anything in the archive.
    pub async fn tables(&self) -> Result<Vec<TableUuid>, ReadError> {
        let folders = self.objects.folders(TABLES).await?;
        let names = folders
            .iter()
            .filter_map(|folder| folder.strip_prefix(TABLES)?.strip_suffix('/'));
        Ok(names.filter_map(TableUuid::parse).collect())
    }

    /// All partitions of a table that have anything in the archive, ascending.
    pub async fn partitions(&self, table: &TableUuid) -> Result<Vec<PartitionRef>, ReadError> {
        let folders = self.objects.folders(&table.folder()).await?;
        Ok(folders
            .iter()
            .filter_map(|folder| parse_folder(folder))
            .collect())
    }

    /// How a partition began; none if the archive does not say. A damaged birth is passed over if there is a good one.
    pub async fn birth(&self, partition: &PartitionRef) -> Result<Option<Birth>, ReadError> {
        let folder = partition.folder_of(Folder::Births);
        let (mut births, mut refused) = (Vec::new(), None);
        for listed in self.objects.list(&folder).await? {
            let Some((_, name @ ObjectName::Birth(_))) = parse(&listed.key) else {
                continue;
            };
            match self
                .read(partition, &name, |bytes| Birth::decode(partition, bytes))
                .await
            {
                Ok(birth) => births.push(birth),
                Err(ReadError::Refused(refusal)) => refused = Some(refusal),
                Err(error) => return Err(error),
            }
        }
        let birth = Birth::agree(births).map_err(|fault| fault.at(&folder))?;
        match (birth, refused) {
            (None, Some(refusal)) => Err(refusal.into()),
            (birth, _) => Ok(birth),
        }
    }

    /// The chain of a partition's segments: those that have a manifest.
    pub async fn chain(&self, partition: &PartitionRef) -> Result<Chain, ReadError> {
        let listed = self
            .objects
            .list(&partition.folder_of(Folder::Segments))
            .await?;
        let names = listed.iter().filter_map(|listed| match parse(&listed.key) {
            Some((_, ObjectName::SegmentManifest(name))) => Some(name),
            _ => None,
        });
        Ok(names.collect())
    }

    /// The manifest of a segment.
    pub async fn manifest(
        &self,
        partition: &PartitionRef,
        name: &SegmentName,
    ) -> Result<SegmentManifest, ReadError> {
        let object = ObjectName::SegmentManifest(name.clone());
        self.read(partition, &object, |bytes| {
            SegmentManifest::decode(partition, name, bytes)
        })
        .await
    }

    /// The segment of a manifest.
    pub async fn segment(&self, manifest: &SegmentManifest) -> Result<Segment, ReadError> {
        let object = ObjectName::Segment(manifest.name());
        self.read(&manifest.partition(), &object, |bytes| manifest.open(bytes))
            .await
    }

    /// Names of a partition's snapshots, by position.
    pub async fn snapshots(
        &self,
        partition: &PartitionRef,
    ) -> Result<Vec<SnapshotName>, ReadError> {
        let listed = self
            .objects
            .list(&partition.folder_of(Folder::Snapshots))
            .await?;
        let names = listed.iter().filter_map(|listed| match parse(&listed.key) {
            Some((_, ObjectName::SnapshotManifest(name))) => Some(name),
            _ => None,
        });
        Ok(names.collect())
    }

    /// The manifest of a snapshot.
    pub async fn snapshot(
        &self,
        partition: &PartitionRef,
        name: &SnapshotName,
    ) -> Result<SnapshotManifest, ReadError> {
        let object = ObjectName::SnapshotManifest(name.clone());
        self.read(partition, &object, |bytes| {
            SnapshotManifest::decode(partition, name, bytes)
        })
        .await
    }

    /// The pairs of a snapshot's part, in key order.
    pub async fn part(
        &self,
        snapshot: &SnapshotManifest,
        part: &Part,
    ) -> Result<Vec<Pair>, ReadError> {
        let (partition, applied) = (&snapshot.partition, snapshot.applied);
        self.read(partition, &part.name(applied), |bytes| {
            part.open(partition, applied, bytes)
        })
        .await
    }

    /// Parts that lie there for a snapshot at any position, with their sizes in bytes and when they were written, by key: for who deletes
    /// what no manifest names.
    pub async fn parts(
        &self,
        partition: &PartitionRef,
    ) -> Result<BTreeMap<(Index, String), u64>, ReadError> {
        let listed = self
            .objects
            .list(&partition.folder_of(Folder::Parts))
            .await?;
        let parts = listed
            .into_iter()
            .filter_map(|listed| match parse(&listed.key) {
                Some((_, ObjectName::Part { applied, .. })) => {
                    Some(((applied, listed.key), listed.modified_ms))
                }
                _ => None,
            });
        Ok(parts.collect())
    }

    async fn read<T>(
        &self,
        partition: &PartitionRef,
        name: &ObjectName,
        open: impl Fn(&Bytes) -> Result<T, Fault>,
    ) -> Result<T, ReadError> {
        let key = partition.key(name);
        let mut refusal: Option<Refusal> = None;
        for _ in 0..READS {
            let fault = match self.objects.get(&key).await {
                Ok(bytes) => match open(&bytes) {
                    Ok(opened) => return Ok(opened),
                    Err(fault) => fault,
                },
                Err(error) if error.reason == Reason::NotFound => {
                    return Err(Fault::Damaged("it is missing".to_owned()).at(key).into());
                }
                Err(error) => return Err(error.into()),
            };
            refusal = Some(fault.at(&key));
        }
        let unread = || Fault::Damaged("it was not read".to_owned()).at(&key);
        Err(refusal.unwrap_or_else(unread).into())
    }
}
