//! A table in the archive: its partitions over all splits. Owns reading what `archive::lineage` decides on.

use std::collections::BTreeMap;

use archive::lineage::{Life, LineageError, Moment, Piece, pieces};
use archive::retention::{Kept, KeptSegment, KeptSnapshot};
use archive::{Origin, PartitionRef, SplitMark, TableUuid};
use model::key::table_range;
use model::{KeyRange, TableId};
use paxos::{GroupId, Index};

use crate::error::ReadError;
use crate::reader::ArchiveReader;
use crate::rebuild::Target;

/// A table cannot be put together.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    /// The archive could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its partitions do not make a table.
    #[error("table {table} at {moment:?}: {error}")]
    Lineage {
        /// Its UUID.
        table: TableUuid,
        /// When.
        moment: Moment,
        /// Why.
        error: Box<LineageError>,
    },
}

/// What the archive knows of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedTable {
    /// Its UUID.
    pub uuid: TableUuid,
    /// Its partitions, those that ended included.
    pub lives: BTreeMap<GroupId, Life>,
}

impl From<Moment> for Target {
    fn from(moment: Moment) -> Self {
        match moment {
            Moment::Time(time_ms) => Target::Time(time_ms),
            Moment::End => Target::End,
        }
    }
}

impl ArchivedTable {
    /// Reads births and ends of all partitions of a table.
    pub async fn read(
        reader: &ArchiveReader,
        uuid: &TableUuid,
    ) -> Result<ArchivedTable, ReadError> {
        let mut lives = BTreeMap::new();
        for partition in reader.partitions(uuid).await? {
            // What has no birth any more is left over from a deletion; if it is not, its keys are missed.
            if let Some(birth) = reader.birth(&partition).await? {
                lives.insert(partition.partition, Life { birth, end: None });
            }
        }
        let ends: Vec<(GroupId, Index)> = lives
            .values()
            .filter_map(|life| match life.birth.origin {
                Origin::Split { parent, at } => Some((parent, at)),
                Origin::Founded | Origin::Adopted { .. } => None,
            })
            .collect();
        for (parent, at) in ends {
            if let Some(life) = lives.get_mut(&parent)
                && life.end.is_none()
            {
                life.end = end_of(reader, &life.birth.partition, at).await?;
            }
        }
        Ok(ArchivedTable {
            uuid: uuid.clone(),
            lives,
        })
    }

    /// What there is of each partition, for retention. Manifests are read once: what is in `known`, from an earlier call, is not read again. What
    /// cannot be read is left out, so it is never deleted.
    pub async fn kept(
        &self,
        reader: &ArchiveReader,
        known: &BTreeMap<GroupId, Kept>,
    ) -> Result<BTreeMap<GroupId, Kept>, ReadError> {
        let mut all = BTreeMap::new();
        for (id, life) in &self.lives {
            let partition = &life.birth.partition;
            let known = known.get(id);
            let mut segments = Vec::new();
            for name in reader.chain(partition).await?.names() {
                if let Some(known) = known.and_then(|k| k.segments.iter().find(|s| s.name == *name))
                {
                    segments.push(known.clone());
                } else if let Some(manifest) = whole(reader.manifest(partition, name).await)? {
                    segments.push(KeptSegment {
                        name: name.clone(),
                        last_time_ms: manifest.last_time_ms,
                    });
                }
            }
            let mut snapshots = Vec::new();
            for name in reader.snapshots(partition).await? {
                if let Some(known) = known.and_then(|k| k.snapshots.iter().find(|s| s.name == name))
                {
                    snapshots.push(known.clone());
                } else if let Some(manifest) = whole(reader.snapshot(partition, &name).await)? {
                    snapshots.push(KeptSnapshot {
                        name,
                        time_ms: manifest.time_ms,
                        damaged: false,
                    });
                }
            }
            let kept = Kept {
                birth: life.birth.clone(),
                end: life.end,
                segments,
                snapshots,
            };
            all.insert(*id, kept);
        }
        Ok(all)
    }

    /// Number of the table in the mesh that it was made in.
    pub fn table(&self) -> Option<TableId> {
        self.lives.values().next().map(|life| life.birth.table.id)
    }

    /// All of its keys.
    pub fn range(&self) -> KeyRange {
        self.table().map(table_range).unwrap_or_default()
    }

    /// Its pieces at a moment, in key order: rebuild each (`Rebuild::only` its range) up to the moment.
    pub fn pieces(&self, moment: Moment) -> Result<Vec<Piece>, TableError> {
        pieces(&self.lives, &self.range(), moment).map_err(|error| TableError::Lineage {
            table: self.uuid.clone(),
            moment,
            error: Box::new(error),
        })
    }

    /// A partition of this table.
    pub fn partition(&self, partition: GroupId) -> PartitionRef {
        PartitionRef {
            table: self.uuid.clone(),
            partition,
        }
    }
}

/// What was read; nothing if it is damaged.
fn whole<T>(read: Result<T, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(ReadError::Refused(refusal)) => {
            tracing::warn!(%refusal, "left out of retention");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Where a partition ended, by any good manifest at or behind that position.
async fn end_of(
    reader: &ArchiveReader,
    partition: &PartitionRef,
    at: Index,
) -> Result<Option<SplitMark>, ReadError> {
    let chain = reader.chain(partition).await?;
    let mut refused = None;
    for name in chain.names().rev().filter(|name| name.last >= at) {
        match reader.manifest(partition, name).await {
            Ok(manifest) => return Ok(manifest.split),
            Err(ReadError::Refused(refusal)) => refused = Some(refusal),
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(refusal) => Err(refusal.into()),
        None => Ok(None),
    }
}
