//! Snapshots: all pairs of a partition at one position. Owns the formats of their parts and manifests. A part is named by its content, so one
//! that is copied again after an interruption is the same object.
//!
//! Layout of a part, integers big endian:
//! `"EVKLSNP\n" ‖ format (2) ‖ length of the uuid (1) ‖ table uuid ‖ partition (8) ‖ applied (8) ‖ number (4) ‖ pairs (4)`, then each pair
//! `length of the key (4) ‖ length of the item (4) ‖ key ‖ item`, at the end the CRC32C of everything before (4).

use bytes::{BufMut, Bytes};
use model::{KeyRange, TableDefinition};
use partition::{PartitionState, Transactions};
use paxos::{Ballot, Configuration, GroupId, Index};
use protocol::split::{CommittedSplit, Split};
use serde::{Deserialize, Serialize};

use crate::bytes_of::{Reader, hexadecimal};
use crate::key::{ObjectName, PartitionRef, SnapshotName, TableUuid};
use crate::{Digest, Fault, Tail, document};

const MAGIC: &[u8; 8] = b"EVKLSNP\n";
const KIND: &str = "snapshot";
/// Version of the formats that this code writes and reads.
pub const FORMAT: u16 = 1;
/// Parts are closed when they are this large, bytes.
pub const PART_BYTES: usize = 16 << 20;

/// A key and its item.
pub type Pair = (Bytes, Bytes);

/// A part as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Number, from 0.
    pub number: u32,
    /// How many pairs, at least one.
    pub pairs: u64,
    /// First key in it.
    #[serde(with = "hexadecimal")]
    pub first: Bytes,
    /// Last key in it.
    #[serde(with = "hexadecimal")]
    pub last: Bytes,
    /// How many bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl Part {
    /// Encodes pairs, in key order, as part `number` of a snapshot at `applied`.
    ///
    /// # Errors
    /// `Contradicts` when there are none, or their keys do not ascend.
    pub fn encode(
        partition: &PartitionRef,
        applied: Index,
        number: u32,
        pairs: &[Pair],
    ) -> Result<(Part, Bytes), Fault> {
        let (Some((first, _)), Some((last, _))) = (pairs.first(), pairs.last()) else {
            return Err(Fault::contradicts("a part without pairs"));
        };
        if !pairs.is_sorted_by(|(one, _), (next, _)| one < next) {
            return Err(Fault::contradicts("keys that do not ascend"));
        }
        let length = |bytes: &Bytes| {
            u32::try_from(bytes.len()).map_err(|_| Fault::contradicts("an item of 4 GiB"))
        };
        let uuid = partition.table.as_str().as_bytes();
        let content = pairs.iter().map(|(key, item)| 8 + key.len() + item.len());
        let mut out = Vec::with_capacity(64 + uuid.len() + content.sum::<usize>());
        out.put_slice(MAGIC);
        out.put_u16(FORMAT);
        out.put_u8(uuid.len() as u8);
        out.put_slice(uuid);
        out.put_u64(partition.partition.0);
        out.put_u64(applied);
        out.put_u32(number);
        out.put_u32(u32::try_from(pairs.len()).map_err(|_| Fault::contradicts("too many pairs"))?);
        for (key, item) in pairs {
            out.put_u32(length(key)?);
            out.put_u32(length(item)?);
            out.put_slice(key);
            out.put_slice(item);
        }
        out.put_u32(crc32c::crc32c(&out));
        let part = Part {
            number,
            pairs: pairs.len() as u64,
            first: first.clone(),
            last: last.clone(),
            bytes: out.len() as u64,
            sha256: Digest::of(&out),
        };
        Ok((part, out.into()))
    }

    /// Name of the part in a snapshot at this position.
    pub fn name(&self, applied: Index) -> ObjectName {
        ObjectName::Part {
            applied,
            number: self.number,
            digest: self.sha256.short(),
        }
    }

    /// Reads the part that this describes: length, SHA-256, checksum, keys.
    pub fn open(
        &self,
        partition: &PartitionRef,
        applied: Index,
        bytes: &Bytes,
    ) -> Result<Vec<Pair>, Fault> {
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
        let mut reader = Reader::new(bytes);
        let magic = reader.take(MAGIC.len())?;
        let format = reader.u16()?;
        if magic != MAGIC[..] || format != FORMAT {
            return Err(Fault::UnknownFormat(format!(
                "magic {magic:02x?}, version {format}"
            )));
        }
        let length = usize::from(reader.u8()?);
        let uuid = reader.take(length)?;
        let found = (reader.u64()?, reader.u64()?, reader.u32()?);
        if uuid != partition.table.as_str().as_bytes()
            || found != (partition.partition.0, applied, self.number)
        {
            return Err(Fault::foreign(format!(
                "it is part {} of a snapshot of partition {} at {}",
                found.2, found.0, found.1
            )));
        }
        let count = reader.u32()?;
        let mut pairs = Vec::new();
        for _ in 0..count {
            let (key, item) = (reader.u32()? as usize, reader.u32()? as usize);
            pairs.push((reader.take(key)?, reader.take(item)?));
        }
        let written = reader.since(0);
        if reader.u32()? != crc32c::crc32c(written) || !reader.is_at_end() {
            return Err(Fault::damaged("its checksum is wrong"));
        }
        let ends = (pairs.first().map(|p| &p.0), pairs.last().map(|p| &p.0));
        let fits = ends == (Some(&self.first), Some(&self.last))
            && pairs.len() as u64 == self.pairs
            && pairs.is_sorted_by(|(one, _), (next, _)| one < next);
        match fits {
            true => Ok(pairs),
            false => Err(Fault::contradicts(
                "its keys are not what its manifest says",
            )),
        }
    }
}

/// A snapshot's manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotManifest {
    /// Whose snapshot it is.
    pub partition: PartitionRef,
    /// Its keys.
    pub range: KeyRange,
    /// Position that it stands for …
    pub applied: Index,
    /// … and that entry's ballot.
    pub ballot: Ballot,
    /// Running maximum of the time there, its parents' included, milliseconds since the epoch.
    pub time_ms: u64,
    /// Configuration there.
    pub configuration: Configuration,
    /// Definition of the table there.
    pub table: TableDefinition,
    /// Items in it.
    pub items: u64,
    /// Entries of local indexes in it, which lie among the items.
    pub entries: u64,
    /// Their sizes as DynamoDB counts them, summed.
    pub item_bytes: u64,
    /// The partition that it was split off from.
    pub parent: Option<GroupId>,
    /// The split that was begun, or ended it.
    pub split: Option<Split>,
    /// Transactions that are pending in it.
    pub transactions: Transactions,
    /// Parts, in key order.
    pub parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    table_uuid: TableUuid,
    partition: GroupId,
    #[serde(with = "hexadecimal")]
    start: Bytes,
    #[serde(with = "hexadecimal")]
    end: Bytes,
    applied: Index,
    ballot: Ballot,
    time_ms: u64,
    configuration: Configuration,
    table: TableDefinition,
    items: u64,
    /// Left out where there are none, as in manifests from before local indexes.
    #[serde(default, skip_serializing_if = "is_zero")]
    entries: u64,
    item_bytes: u64,
    parent: Option<GroupId>,
    split: Option<SplitBody>,
    /// As `partition::Transactions` encodes them; left out where nothing is pending, as in older manifests, which did not say.
    #[serde(default, with = "hexadecimal", skip_serializing_if = "Bytes::is_empty")]
    transactions: Bytes,
    parts: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct SplitBody {
    #[serde(with = "hexadecimal")]
    point: Bytes,
    left: GroupId,
    right: GroupId,
    committed: Option<CommittedSplit>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl SnapshotManifest {
    /// The manifest of a snapshot of this state, whose log has this tail at `state.applied`.
    pub fn of(
        partition: &PartitionRef,
        state: &PartitionState,
        tail: &Tail,
        parts: Vec<Part>,
    ) -> SnapshotManifest {
        SnapshotManifest {
            partition: partition.clone(),
            range: state.range.clone(),
            applied: state.applied,
            ballot: state.ballot,
            time_ms: state.time_ms.max(tail.time_ms),
            configuration: state.configuration.clone(),
            table: state.table.clone(),
            items: state.items,
            entries: state.entries,
            item_bytes: state.bytes,
            parent: state.parent,
            split: state.split.clone(),
            transactions: state.transactions.only_pending(),
            parts,
        }
    }

    /// Its bytes and its name.
    ///
    /// # Errors
    /// When it contradicts itself: pairs are missing, or keys lie outside of the range.
    pub fn encode(&self) -> Result<(SnapshotName, Bytes), Fault> {
        self.check()?;
        let bytes = document::seal(
            KIND,
            u32::from(FORMAT),
            &Body {
                table_uuid: self.partition.table.clone(),
                partition: self.partition.partition,
                start: self.range.start.clone(),
                end: self.range.end.clone(),
                applied: self.applied,
                ballot: self.ballot,
                time_ms: self.time_ms,
                configuration: self.configuration.clone(),
                table: self.table.clone(),
                items: self.items,
                entries: self.entries,
                item_bytes: self.item_bytes,
                parent: self.parent,
                split: self.split.as_ref().map(|split| SplitBody {
                    point: split.point.clone(),
                    left: split.left,
                    right: split.right,
                    committed: split.committed.clone(),
                }),
                transactions: self.transactions.encode(),
                parts: self.parts.clone(),
            },
        )?;
        let name = SnapshotName {
            applied: self.applied,
            digest: Digest::of(&bytes).short(),
        };
        Ok((name, bytes))
    }

    /// Reads the snapshot manifest with this name.
    pub fn decode(
        partition: &PartitionRef,
        name: &SnapshotName,
        bytes: &[u8],
    ) -> Result<SnapshotManifest, Fault> {
        let body: Body = document::open(KIND, u32::from(FORMAT), bytes)?;
        let manifest = SnapshotManifest {
            partition: PartitionRef {
                table: body.table_uuid,
                partition: body.partition,
            },
            range: KeyRange {
                start: body.start,
                end: body.end,
            },
            applied: body.applied,
            ballot: body.ballot,
            time_ms: body.time_ms,
            configuration: body.configuration,
            table: body.table,
            items: body.items,
            entries: body.entries,
            item_bytes: body.item_bytes,
            parent: body.parent,
            split: body.split.map(|split| Split {
                point: split.point,
                left: split.left,
                right: split.right,
                committed: split.committed,
            }),
            transactions: Transactions::decode(&body.transactions).map_err(Fault::damaged)?,
            parts: body.parts,
        };
        if manifest.partition != *partition || manifest.applied != name.applied {
            let of = (&manifest.partition, manifest.applied);
            return Err(Fault::foreign(format!("it is of {} at {}", of.0, of.1)));
        }
        if Digest::of(bytes).short() != name.digest {
            return Err(Fault::damaged("its SHA-256 is not the one in its name"));
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), Fault> {
        let numbered = self.parts.iter().zip(0..).all(|(part, n)| part.number == n);
        let keys = self.parts.iter().flat_map(|part| [&part.first, &part.last]);
        let within = keys.clone().all(|key| self.range.contains(key));
        let ascending = self.parts.iter().all(|part| part.first <= part.last)
            && self.parts.is_sorted_by(|one, next| one.last < next.first);
        let pairs = self.parts.iter().map(|part| part.pairs).sum::<u64>();
        if Some(pairs) != self.items.checked_add(self.entries) {
            return Err(Fault::contradicts(format!(
                "its parts hold {pairs} items and entries of indexes, it says {} and {}",
                self.items, self.entries
            )));
        }
        if self.table.uuid != self.partition.table.as_str() {
            let uuid = &self.table.uuid;
            return Err(Fault::foreign(format!("its definition is of table {uuid}")));
        }
        match numbered && within && ascending {
            true => Ok(()),
            false => Err(Fault::contradicts(
                "its parts are not in order, or not in its range",
            )),
        }
    }

    /// Bytes of all its parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// The state of a replica that was filled from it.
    pub fn state(&self) -> PartitionState {
        PartitionState {
            applied: self.applied,
            ballot: self.ballot,
            items: self.items,
            entries: self.entries,
            bytes: self.item_bytes,
            time_ms: self.time_ms,
            parent: self.parent,
            split: self.split.clone(),
            transactions: self.transactions.clone(),
            ..PartitionState::empty(
                self.configuration.clone(),
                self.range.clone(),
                self.table.clone(),
                Vec::new(),
            )
        }
    }
}
