//! How a partition began: with which keys, definition and position. Owns the format of births. Several may be written of one partition, by
//! nodes that saw it first at different times; what counts must be the same in all of them.

use bytes::Bytes;
use model::{KeyRange, TableDefinition};
use partition::PartitionState;
use paxos::{Configuration, GroupId, Index};
use serde::{Deserialize, Serialize};

use crate::bytes_of::hexadecimal;
use crate::key::{ObjectName, PartitionRef};
use crate::{Digest, Fault, Tail, document};

const KIND: &str = "birth";
/// Version of the format that this code writes and reads.
pub const FORMAT: u32 = 1;

/// What a partition began as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Made with its table: its log begins at position 1.
    Founded,
    /// A split's child.
    Split {
        /// The partition that it was split off from.
        parent: GroupId,
        /// Position of the parent's `CommitSplit`: its own log begins behind it.
        at: Index,
    },
    /// It was there before the archive, and its log up to here is gone: only a snapshot at or behind it begins its archive.
    Adopted {
        /// Position of the last entry that is gone.
        at: Index,
    },
}

/// A partition's birth.
#[derive(Clone, Debug, PartialEq)]
pub struct Birth {
    /// Which partition.
    pub partition: PartitionRef,
    /// Its keys.
    pub range: KeyRange,
    /// How it began.
    pub origin: Origin,
    /// The definition that it began with, or a later one: entries of the log bring newer ones.
    pub table: TableDefinition,
}

#[derive(Serialize, Deserialize)]
struct Body {
    table_uuid: crate::TableUuid,
    partition: GroupId,
    #[serde(with = "hexadecimal")]
    start: Bytes,
    #[serde(with = "hexadecimal")]
    end: Bytes,
    origin: Origin,
    table: TableDefinition,
}

impl Birth {
    /// Its bytes, always the same, and its name.
    ///
    /// # Errors
    /// `Foreign` when the definition is another table's.
    pub fn encode(&self) -> Result<(ObjectName, Bytes), Fault> {
        self.check()?;
        let bytes = document::seal(
            KIND,
            FORMAT,
            &Body {
                table_uuid: self.partition.table.clone(),
                partition: self.partition.partition,
                start: self.range.start.clone(),
                end: self.range.end.clone(),
                origin: self.origin,
                table: self.table.clone(),
            },
        )?;
        Ok((ObjectName::Birth(Digest::of(&bytes).short()), bytes))
    }

    /// Reads the birth of this partition.
    pub fn decode(partition: &PartitionRef, bytes: &[u8]) -> Result<Birth, Fault> {
        let body: Body = document::open(KIND, FORMAT, bytes)?;
        let birth = Birth {
            partition: PartitionRef {
                table: body.table_uuid,
                partition: body.partition,
            },
            range: KeyRange {
                start: body.start,
                end: body.end,
            },
            origin: body.origin,
            table: body.table,
        };
        if birth.partition != *partition {
            return Err(Fault::foreign(format!("it is of {}", birth.partition)));
        }
        birth.check()?;
        Ok(birth)
    }

    fn check(&self) -> Result<(), Fault> {
        if self.table.uuid != self.partition.table.as_str() {
            let uuid = &self.table.uuid;
            return Err(Fault::foreign(format!("its definition is of table {uuid}")));
        }
        if self.range.is_empty() {
            return Err(Fault::contradicts("its range of keys is empty"));
        }
        Ok(())
    }

    /// What several births of one partition say together; none of none.
    ///
    /// # Errors
    /// `Contradicts` when they do not agree on range or origin.
    pub fn agree(births: impl IntoIterator<Item = Birth>) -> Result<Option<Birth>, Fault> {
        let mut agreed: Option<Birth> = None;
        for birth in births {
            let Some(so_far) = &mut agreed else {
                agreed = Some(birth);
                continue;
            };
            let same_origin = match (so_far.origin, birth.origin) {
                (Origin::Adopted { .. }, Origin::Adopted { .. }) => true,
                (one, other) => one == other,
            };
            if so_far.range != birth.range || !same_origin {
                let partition = &birth.partition;
                return Err(Fault::contradicts(format!("births of {partition} differ")));
            }
            let (one, other) = (so_far.begins(), birth.begins());
            if (birth.table.version, other) < (so_far.table.version, one) {
                *so_far = birth;
            }
        }
        Ok(agreed)
    }

    /// Position before its first entry.
    pub fn begins(&self) -> Index {
        match self.origin {
            Origin::Founded => 0,
            Origin::Split { at, .. } | Origin::Adopted { at } => at,
        }
    }

    /// Where its log begins.
    pub fn tail(&self) -> Tail {
        Tail {
            index: self.begins(),
            generation: match self.origin {
                Origin::Founded | Origin::Split { .. } => 1,
                Origin::Adopted { .. } => 0,
            },
            ..Tail::default()
        }
    }

    /// The state of a replica at its birth, without items.
    pub fn state(&self) -> PartitionState {
        PartitionState {
            applied: self.begins(),
            begins: self.begins(),
            parent: match self.origin {
                Origin::Split { parent, .. } => Some(parent),
                Origin::Founded | Origin::Adopted { .. } => None,
            },
            ..PartitionState::empty(
                Configuration {
                    generation: self.tail().generation,
                    ..Configuration::default()
                },
                self.range.clone(),
                self.table.clone(),
                Vec::new(),
            )
        }
    }
}
