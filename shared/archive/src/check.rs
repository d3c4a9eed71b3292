//! The checks before an upload. Owns what must hold of entries before they become a segment; nothing that fails here is ever archived.

use bytes::Bytes;
use partition::command::CommandKind;
use paxos::{Ballot, Entry, Index, Payload};

use crate::segment::{self, SegmentDigest};
use crate::tail::command_of;
use crate::{Birth, Digest, Fault, SegmentManifest, Tail};

/// Entries are not what may follow in this partition's log: whoever sent them is broken, or they are another's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// There are none.
    #[error("no entries")]
    Empty,
    /// An entry is missing, doubled, or out of order.
    #[error("entry {found} came where {due} was due")]
    Gap {
        /// What had to come.
        due: Index,
        /// What came.
        found: Index,
    },
    /// Ballots never fall in a log.
    #[error("entry {index} is of ballot {found:?}, the one before it of {before:?}")]
    BallotFalls {
        /// The entry.
        index: Index,
        /// Its ballot.
        found: Ballot,
        /// The ballot before it.
        before: Ballot,
    },
    /// Generations of configurations never fall.
    #[error("entry {index} is configuration {found}, {before} was in force before it")]
    GenerationFalls {
        /// The entry.
        index: Index,
        /// Its generation.
        found: u64,
        /// The generation before it.
        before: u64,
    },
    /// A command cannot be decoded.
    #[error("the command of entry {index} cannot be read: {why}")]
    BadCommand {
        /// The entry.
        index: Index,
        /// Why.
        why: String,
    },
    /// A key is not the partition's.
    #[error("entry {index} writes key {} outside of the partition's range", hex::encode(.key))]
    ForeignKey {
        /// The entry.
        index: Index,
        /// Its key.
        key: Bytes,
    },
    /// A definition of another table.
    #[error("entry {index} is the definition of table {uuid:?}")]
    ForeignTable {
        /// The entry.
        index: Index,
        /// UUID in it.
        uuid: String,
    },
    /// Nothing changes a partition behind its split.
    #[error("entry {index} changes the partition behind its split")]
    AfterSplit {
        /// The entry.
        index: Index,
    },
    /// It cannot be encoded.
    #[error(transparent)]
    Encoding(#[from] Fault),
}

/// What passed: ready to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The segment's bytes.
    pub segment: Bytes,
    /// Its manifest.
    pub manifest: SegmentManifest,
}

/// Checks entries that shall follow `before` in the archive of the partition with this birth, and encodes them.
pub fn check(birth: &Birth, before: &Tail, entries: &[Entry]) -> Result<Checked, CheckError> {
    if entries.is_empty() {
        return Err(CheckError::Empty);
    }
    let mut tail = *before;
    for entry in entries {
        tail = follow(birth, &tail, entry)?;
    }
    let segment = segment::encode(&birth.partition, entries)?;
    let digest = SegmentDigest {
        sha256: Digest::of(&segment),
        bytes: segment.len() as u64,
    };
    let manifest = SegmentManifest::of(&birth.partition, before, entries, digest)?;
    Ok(Checked { segment, manifest })
}

/// Whether the entry may follow; the tail behind it.
pub fn follow(birth: &Birth, tail: &Tail, entry: &Entry) -> Result<Tail, CheckError> {
    let index = entry.index;
    if index != tail.index + 1 {
        return Err(CheckError::Gap {
            due: tail.index + 1,
            found: index,
        });
    }
    if entry.ballot < tail.ballot {
        return Err(CheckError::BallotFalls {
            index,
            found: entry.ballot,
            before: tail.ballot,
        });
    }
    if let Payload::Config(configuration) = &entry.payload
        && configuration.generation < tail.generation
    {
        return Err(CheckError::GenerationFalls {
            index,
            found: configuration.generation,
            before: tail.generation,
        });
    }
    let command = command_of(entry).map_err(|why| CheckError::BadCommand { index, why })?;
    match command.as_ref().map(|command| &command.kind) {
        Some(
            CommandKind::Write(_)
            | CommandKind::Entries(_)
            | CommandKind::SetTable(_)
            | CommandKind::Prepare(_)
            | CommandKind::Finish(_),
        ) if tail.split.is_some() => {
            return Err(CheckError::AfterSplit { index });
        }
        Some(CommandKind::Write(write)) if !birth.range.contains(&write.key) => {
            return Err(CheckError::ForeignKey {
                index,
                key: write.key.clone(),
            });
        }
        Some(CommandKind::Entries(entries)) => {
            let mut writes = entries.writes.iter();
            if let Some(write) = writes.find(|write| !birth.range.contains(&write.key)) {
                return Err(CheckError::ForeignKey {
                    index,
                    key: write.key.clone(),
                });
            }
        }
        Some(CommandKind::SetTable(table)) if table.uuid != birth.partition.table.as_str() => {
            return Err(CheckError::ForeignTable {
                index,
                uuid: table.uuid.clone(),
            });
        }
        _ => {}
    }
    Ok(tail.after(entry, command.as_ref()))
}
