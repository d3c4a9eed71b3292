//! What lies where in the object store. Owns the keys below the archive's prefix, both ways, and their order: positions have 20 digits, so
//! keys sort as positions do. Two different contents never have one key: each name holds a digest of what is in it.
//!
//! ```text
//! tables/<table uuid>/<partition>/births/<digest>.json
//! tables/<table uuid>/<partition>/segments/<first>-<last>-<digest>.seg      entries first..=last
//! tables/<table uuid>/<partition>/segments/<first>-<last>-<digest>.json     its manifest, written after it
//! tables/<table uuid>/<partition>/parts/<applied>/<number>-<digest>.part    pairs of a snapshot, in key order
//! tables/<table uuid>/<partition>/snapshots/<applied>-<digest>.json         its manifest, written last
//! evidence/<time>-<partition>-<node>.json                                   what a scrub found
//! scrubs/<table uuid>.json                                                  what is remembered of the scrubs of a table's partitions
//! ```

use paxos::{GroupId, Index};
use serde::{Deserialize, Serialize};

use crate::{Digest, Fault};

/// Folder of all tables.
pub const TABLES: &str = "tables/";
/// Folder of what scrubs found.
pub const EVIDENCE: &str = "evidence/";
/// Folder of what is remembered of scrubs.
pub const SCRUBS: &str = "scrubs/";

/// A table's UUID, fit to be part of a key: 1 to 64 of `0-9`, `a-z`, `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TableUuid(String);

impl TableUuid {
    /// Checks a UUID.
    pub fn parse(text: &str) -> Option<TableUuid> {
        let fits = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'-');
        ((1..=64).contains(&text.len()) && text.bytes().all(fits))
            .then(|| TableUuid(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Folder of the table's partitions.
    pub fn folder(&self) -> String {
        format!("{TABLES}{}/", self.0)
    }
}

impl TryFrom<String> for TableUuid {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        TableUuid::parse(&text).ok_or_else(|| format!("{text:?} is no table UUID"))
    }
}

impl From<TableUuid> for String {
    fn from(uuid: TableUuid) -> String {
        uuid.0
    }
}

impl std::fmt::Display for TableUuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A partition in the archive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionRef {
    /// Its table.
    pub table: TableUuid,
    /// Its number.
    pub partition: GroupId,
}

impl std::fmt::Display for PartitionRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {} of table {}", self.partition.0, self.table)
    }
}

/// Name of a segment: its range and its digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// First position in it.
    pub first: Index,
    /// Last position in it.
    pub last: Index,
    /// First 16 hexadecimal digits of its SHA-256.
    pub digest: String,
}

impl SegmentName {
    /// The name of a segment with these bytes.
    pub fn new(first: Index, last: Index, digest: &Digest) -> SegmentName {
        SegmentName {
            first,
            last,
            digest: digest.short(),
        }
    }
}

/// Name of a snapshot: its position and the digest of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName {
    /// Position that it stands for.
    pub applied: Index,
    /// First 16 hexadecimal digits of the manifest's SHA-256.
    pub digest: String,
}

/// An object of a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectName {
    /// A birth, by the first 16 hexadecimal digits of its SHA-256.
    Birth(String),
    /// Entries.
    Segment(SegmentName),
    /// The manifest of a segment.
    SegmentManifest(SegmentName),
    /// A part of snapshots at this position: number, and first 16 hexadecimal digits of its SHA-256.
    Part {
        /// Position that the snapshot stands for.
        applied: Index,
        /// Number of the part, from 0.
        number: u32,
        /// First 16 hexadecimal digits of its SHA-256.
        digest: String,
    },
    /// The manifest of a snapshot.
    SnapshotManifest(SnapshotName),
}

/// A kind of objects of a partition: a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// `births/`
    Births,
    /// `segments/`: segments and their manifests
    Segments,
    /// `parts/`
    Parts,
    /// `snapshots/`: manifests only
    Snapshots,
}

impl Folder {
    fn name(self) -> &'static str {
        match self {
            Folder::Births => "births",
            Folder::Segments => "segments",
            Folder::Parts => "parts",
            Folder::Snapshots => "snapshots",
        }
    }
}

impl PartitionRef {
    /// The partition of a table with this UUID.
    ///
    /// # Errors
    /// When the text is no UUID: the table has no place in the archive.
    pub fn new(uuid: &str, partition: GroupId) -> Result<PartitionRef, Fault> {
        let table = TableUuid::parse(uuid);
        let table = table.ok_or_else(|| Fault::foreign(format!("{uuid:?} is no table UUID")))?;
        Ok(PartitionRef { table, partition })
    }

    /// Folder of all its objects.
    pub fn folder(&self) -> String {
        format!("{}{:020}/", self.table.folder(), self.partition.0)
    }

    /// Folder of one kind of its objects.
    pub fn folder_of(&self, folder: Folder) -> String {
        format!("{}{}/", self.folder(), folder.name())
    }

    /// Key of one of its objects.
    pub fn key(&self, name: &ObjectName) -> String {
        let (folder, file) = match name {
            ObjectName::Birth(digest) => (Folder::Births, format!("{digest}.json")),
            ObjectName::Segment(name) => (Folder::Segments, segment_file(name, "seg")),
            ObjectName::SegmentManifest(name) => (Folder::Segments, segment_file(name, "json")),
            ObjectName::Part {
                applied,
                number,
                digest,
            } => (
                Folder::Parts,
                format!("{applied:020}/{number:06}-{digest}.part"),
            ),
            ObjectName::SnapshotManifest(name) => (
                Folder::Snapshots,
                format!("{:020}-{}.json", name.applied, name.digest),
            ),
        };
        self.folder_of(folder) + &file
    }
}

fn segment_file(name: &SegmentName, extension: &str) -> String {
    let SegmentName {
        first,
        last,
        digest,
    } = name;
    format!("{first:020}-{last:020}-{digest}.{extension}")
}

/// What a key names; none if it is no partition's object.
pub fn parse(key: &str) -> Option<(PartitionRef, ObjectName)> {
    let mut steps = key.strip_prefix(TABLES)?.splitn(4, '/');
    let table = TableUuid::parse(steps.next()?)?;
    let partition = PartitionRef {
        table,
        partition: GroupId(position(steps.next()?)?),
    };
    let (folder, file) = (steps.next()?, steps.next()?);
    let name = match folder {
        "births" => ObjectName::Birth(short(file.strip_suffix(".json")?)?),
        "segments" => match file.rsplit_once('.')? {
            (name, "seg") => ObjectName::Segment(segment_name(name)?),
            (name, "json") => ObjectName::SegmentManifest(segment_name(name)?),
            _ => return None,
        },
        "parts" => {
            let (applied, file) = file.split_once('/')?;
            let (number, digest) = file.strip_suffix(".part")?.split_once('-')?;
            let number = digits(number, 6)?.parse().ok()?;
            ObjectName::Part {
                applied: position(applied)?,
                number,
                digest: short(digest)?,
            }
        }
        "snapshots" => {
            let (applied, digest) = file.strip_suffix(".json")?.split_once('-')?;
            ObjectName::SnapshotManifest(SnapshotName {
                applied: position(applied)?,
                digest: short(digest)?,
            })
        }
        _ => return None,
    };
    Some((partition, name))
}

/// The table and partition of a folder as `PartitionRef::folder` writes it.
pub fn parse_folder(folder: &str) -> Option<PartitionRef> {
    let (table, partition) = folder
        .strip_prefix(TABLES)?
        .strip_suffix('/')?
        .split_once('/')?;
    Some(PartitionRef {
        table: TableUuid::parse(table)?,
        partition: GroupId(position(partition)?),
    })
}

fn segment_name(name: &str) -> Option<SegmentName> {
    let mut parts = name.splitn(3, '-');
    let name = SegmentName {
        first: position(parts.next()?)?,
        last: position(parts.next()?)?,
        digest: short(parts.next()?)?,
    };
    ((1..=name.last).contains(&name.first) && name.last < Index::MAX).then_some(name)
}

fn digits(text: &str, count: usize) -> Option<&str> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

fn position(text: &str) -> Option<u64> {
    digits(text, 20)?.parse().ok()
}

fn short(text: &str) -> Option<String> {
    let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == 16 && text.bytes().all(lower)).then(|| text.to_owned())
}
