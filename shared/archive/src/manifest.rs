//! The manifest of a segment: what it holds, said independently of it. Owns the format. Canonical like the segment: everything in it follows
//! from the partition's log up to the segment's end.

use bytes::Bytes;
use paxos::{Ballot, Entry, GroupId, Index};
use serde::{Deserialize, Serialize};

use crate::key::{PartitionRef, SegmentName, TableUuid};
use crate::segment::{Segment, SegmentDigest};
use crate::tail::command_of;
use crate::{Digest, Fault, SplitMark, Tail, document};

const KIND: &str = "segment";
/// Version of the format that this code writes and reads.
pub const FORMAT: u32 = 1;

/// From where on entries are of a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BallotStart {
    /// First position in the segment …
    pub first: Index,
    /// … of entries of this ballot.
    pub ballot: Ballot,
}

/// A segment's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentManifest {
    /// UUID of the table.
    pub table_uuid: TableUuid,
    /// The partition.
    pub partition: GroupId,
    /// Generation of the newest configuration up to the last entry.
    pub generation: u64,
    /// Position of the first entry.
    pub first: Index,
    /// Position of the last entry.
    pub last: Index,
    /// Running maximum of the time at the first entry, milliseconds since the epoch.
    pub first_time_ms: u64,
    /// Running maximum of the time at the last entry: all commands up to there are of this time or earlier.
    pub last_time_ms: u64,
    /// The ballots, ascending.
    pub ballots: Vec<BallotStart>,
    /// How many entries.
    pub entries: u64,
    /// How many bytes the segment has.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Where the partition ended, if it did at or before the last entry.
    pub split: Option<SplitMark>,
}

impl SegmentManifest {
    /// The manifest of these entries, at least one, behind this tail.
    ///
    /// # Errors
    /// `Contradicts` when there are none, or a command cannot be read. What else must hold, `check` sees to.
    pub fn of(
        partition: &PartitionRef,
        before: &Tail,
        entries: &[Entry],
        digest: SegmentDigest,
    ) -> Result<SegmentManifest, Fault> {
        let mut tail = *before;
        let mut first_time_ms = None;
        let mut ballots: Vec<BallotStart> = Vec::new();
        for entry in entries {
            let command = command_of(entry);
            let command = command
                .map_err(|why| Fault::contradicts(format!("entry {}: {why}", entry.index)))?;
            tail = tail.after(entry, command.as_ref());
            first_time_ms.get_or_insert(tail.time_ms);
            if ballots
                .last()
                .is_none_or(|last| last.ballot != entry.ballot)
            {
                ballots.push(BallotStart {
                    first: entry.index,
                    ballot: entry.ballot,
                });
            }
        }
        let (Some(first), Some(first_time_ms)) = (entries.first(), first_time_ms) else {
            return Err(Fault::contradicts("a segment without entries"));
        };
        Ok(SegmentManifest {
            table_uuid: partition.table.clone(),
            partition: partition.partition,
            generation: tail.generation,
            first: first.index,
            last: tail.index,
            first_time_ms,
            last_time_ms: tail.time_ms,
            ballots,
            entries: entries.len() as u64,
            bytes: digest.bytes,
            sha256: digest.sha256,
            split: tail.split,
        })
    }

    /// Its bytes, always the same.
    pub fn encode(&self) -> Result<Bytes, Fault> {
        document::seal(KIND, FORMAT, self)
    }

    /// Reads the manifest of the segment with this name.
    pub fn decode(
        partition: &PartitionRef,
        name: &SegmentName,
        bytes: &[u8],
    ) -> Result<SegmentManifest, Fault> {
        let manifest: SegmentManifest = document::open(KIND, FORMAT, bytes)?;
        if manifest.partition() != *partition {
            return Err(Fault::foreign(format!("it is of {}", manifest.partition())));
        }
        if manifest.name() != *name {
            let (first, last) = (manifest.first, manifest.last);
            return Err(Fault::foreign(format!(
                "it is of the segment {first} to {last}, {}",
                manifest.sha256
            )));
        }
        let consistent = manifest.last.checked_sub(manifest.first)
            == manifest.entries.checked_sub(1)
            && manifest.first_time_ms <= manifest.last_time_ms
            && manifest
                .ballots
                .first()
                .is_some_and(|b| b.first == manifest.first)
            && manifest
                .ballots
                .is_sorted_by(|a, b| a.first < b.first && a.ballot < b.ballot);
        match consistent {
            true => Ok(manifest),
            false => Err(Fault::contradicts("its numbers do not fit each other")),
        }
    }

    /// Whose segment it describes.
    pub fn partition(&self) -> PartitionRef {
        PartitionRef {
            table: self.table_uuid.clone(),
            partition: self.partition,
        }
    }

    /// Name of the segment.
    pub fn name(&self) -> SegmentName {
        SegmentName::new(self.first, self.last, &self.sha256)
    }

    /// Where the log stands behind the segment.
    pub fn tail(&self) -> Tail {
        Tail {
            index: self.last,
            ballot: self
                .ballots
                .last()
                .map(|last| last.ballot)
                .unwrap_or_default(),
            time_ms: self.last_time_ms,
            generation: self.generation,
            split: self.split,
        }
    }

    /// Reads the segment that this manifest describes: length, SHA-256, every checksum, and what the manifest says of its entries.
    pub fn open(&self, bytes: &Bytes) -> Result<Segment, Fault> {
        if bytes.len() as u64 != self.bytes {
            return Err(Fault::damaged(format!(
                "it has {} bytes, its manifest says {}",
                bytes.len(),
                self.bytes
            )));
        }
        if Digest::of(bytes) != self.sha256 {
            return Err(Fault::damaged("its SHA-256 is not the one in its manifest"));
        }
        let segment = Segment::decode(&self.partition(), bytes)?;
        // Times and generation depend on what came before: with the manifest's own as a start they can only stay as they are.
        let before = Tail {
            index: self.first.saturating_sub(1),
            time_ms: self.first_time_ms,
            generation: 0,
            split: self.split.filter(|split| split.at < self.first),
            ..Tail::default()
        };
        let digest = SegmentDigest {
            sha256: self.sha256,
            bytes: self.bytes,
        };
        let mut found = SegmentManifest::of(&self.partition(), &before, &segment.entries, digest)?;
        if found.generation == 0 {
            found.generation = self.generation;
        }
        match found == *self {
            true => Ok(segment),
            false => Err(Fault::contradicts(
                "its entries are not what its manifest says",
            )),
        }
    }
}
