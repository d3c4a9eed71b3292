//! Segments: a range of a partition's committed entries as one object. Owns their format, which is *canonical*: it depends on the entries
//! alone, so that whoever writes a range writes the same bytes, and replicas can be compared by the digest of what they would write.
//!
//! Layout, integers big endian:
//! `"EVKLSEG\n" ‖ format (2) ‖ length of the uuid (1) ‖ table uuid ‖ partition (8) ‖ first (8) ‖ last (8) ‖ CRC32C of all that (4)`, then each entry:
//! `index (8) ‖ ballot's round (8) ‖ ballot's node (8) ‖ kind (1) ‖ length (4) ‖ content ‖ CRC32C of table uuid ‖ partition ‖ all that (4)`.
//! An entry's checksum names its partition, so another partition's entry is refused wherever it is put.

use bytes::{BufMut, Bytes};
use paxos::{Ballot, Configuration, Entry, GroupId, Index, Member, NodeId, Payload, Role};
use sha2::{Digest as _, Sha256};

use crate::bytes_of::Reader;
use crate::key::{PartitionRef, SegmentName, TableUuid};
use crate::{Digest, Fault};

const MAGIC: &[u8; 8] = b"EVKLSEG\n";
/// Version of the format that this code writes and reads.
pub const FORMAT: u16 = 1;

const NOOP: u8 = 0;
const CONFIGURATION: u8 = 1;
const COMMAND: u8 = 2;
const ENTRY_BYTES_FIXED: usize = 29 + 4;

/// Bytes that an entry takes in a segment.
pub fn entry_bytes(entry: &Entry) -> usize {
    let content = match &entry.payload {
        Payload::Noop => 0,
        Payload::Command(command) => command.len(),
        Payload::Config(configuration) => {
            let joint = configuration.joint.as_ref().map_or(0, Vec::len);
            let members = configuration.members.len() + joint + configuration.learners.len();
            8 + 3 * 4 + 1 + 17 * members
        }
    };
    ENTRY_BYTES_FIXED + content
}

/// A decoded segment; commands share its buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose entries these are.
    pub partition: PartitionRef,
    /// Consecutive entries, at least one.
    pub entries: Vec<Entry>,
}

/// Digest and length of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentDigest {
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// How many bytes.
    pub bytes: u64,
}

/// Writes the entries of one segment in order; what is written goes out in pieces, so that nobody has to hold all of it.
struct Writer {
    seed: u32,
    next: Index,
    last: Index,
}

impl Writer {
    fn new(
        partition: &PartitionRef,
        first: Index,
        last: Index,
        out: &mut Vec<u8>,
    ) -> Result<Writer, Fault> {
        if first == 0 || last < first || last == Index::MAX {
            return Err(Fault::contradicts(format!(
                "no segment is {first} to {last}"
            )));
        }
        let uuid = partition.table.as_str().as_bytes();
        let start = out.len();
        out.put_slice(MAGIC);
        out.put_u16(FORMAT);
        out.put_u8(uuid.len() as u8);
        out.put_slice(uuid);
        out.put_u64(partition.partition.0);
        out.put_u64(first);
        out.put_u64(last);
        out.put_u32(crc32c::crc32c(&out[start..]));
        Ok(Writer {
            seed: seed(partition),
            next: first,
            last,
        })
    }

    fn entry(&mut self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), Fault> {
        if entry.index != self.next || entry.index > self.last {
            let (due, found) = (self.next, entry.index);
            return Err(Fault::contradicts(format!(
                "entry {found} came where {due} was due"
            )));
        }
        let start = out.len();
        out.put_u64(entry.index);
        out.put_u64(entry.ballot.round);
        out.put_u64(entry.ballot.node.0);
        match &entry.payload {
            Payload::Noop => {
                out.put_u8(NOOP);
                out.put_u32(0);
            }
            Payload::Command(command) => {
                let length = u32::try_from(command.len());
                let length = length.map_err(|_| Fault::contradicts("a command of 4 GiB"))?;
                out.put_u8(COMMAND);
                out.put_u32(length);
                out.put_slice(command);
            }
            Payload::Config(configuration) => {
                out.put_u8(CONFIGURATION);
                let length_at = out.len();
                out.put_u32(0);
                put_configuration(configuration, out);
                let length = (out.len() - length_at - 4) as u32;
                out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
        out.put_u32(crc32c::crc32c_append(self.seed, &out[start..]));
        self.next += 1;
        Ok(())
    }

    fn finish(&self) -> Result<(), Fault> {
        match self.next > self.last {
            true => Ok(()),
            false => Err(Fault::contradicts(format!(
                "entries from {} on are missing",
                self.next
            ))),
        }
    }
}

/// What every entry's checksum begins with.
fn seed(partition: &PartitionRef) -> u32 {
    let of_table = crc32c::crc32c(partition.table.as_str().as_bytes());
    crc32c::crc32c_append(of_table, &partition.partition.0.to_be_bytes())
}

fn put_configuration(configuration: &Configuration, out: &mut Vec<u8>) {
    let put = |members: &[Member], out: &mut Vec<u8>| {
        out.put_u32(members.len() as u32);
        for member in members {
            out.put_u64(member.node.0);
            out.put_u8(match member.role {
                Role::Storage => 0,
                Role::Log => 1,
            });
            out.put_u64(member.incarnation);
        }
    };
    out.put_u64(configuration.generation);
    put(&configuration.members, out);
    out.put_u8(u8::from(configuration.joint.is_some()));
    put(configuration.joint.as_deref().unwrap_or_default(), out);
    put(&configuration.learners, out);
}

fn configuration(content: &Bytes) -> Result<Configuration, Fault> {
    let mut reader = Reader::new(content);
    let members = |reader: &mut Reader<'_>| {
        let count = reader.u32()?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(Member {
                node: NodeId(reader.u64()?),
                role: match reader.u8()? {
                    0 => Role::Storage,
                    1 => Role::Log,
                    other => return Err(Fault::damaged(format!("role {other}"))),
                },
                incarnation: reader.u64()?,
            });
        }
        Ok(members)
    };
    let generation = reader.u64()?;
    let voters = members(&mut reader)?;
    let is_joint = reader.u8()?;
    let joint = members(&mut reader)?;
    let learners = members(&mut reader)?;
    if !reader.is_at_end() || is_joint > 1 || (is_joint == 0 && !joint.is_empty()) {
        return Err(Fault::damaged("a configuration of another length"));
    }
    Ok(Configuration {
        generation,
        members: voters,
        joint: (is_joint == 1).then_some(joint),
        learners,
    })
}

/// Encodes consecutive entries, at least one.
///
/// # Errors
/// `Contradicts` when they are not consecutive.
pub fn encode(partition: &PartitionRef, entries: &[Entry]) -> Result<Bytes, Fault> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
        return Err(Fault::contradicts("a segment without entries"));
    };
    let mut out = Vec::with_capacity(128 + entries.iter().map(entry_bytes).sum::<usize>());
    let mut writer = Writer::new(partition, first.index, last.index, &mut out)?;
    for entry in entries {
        writer.entry(entry, &mut out)?;
    }
    writer.finish()?;
    Ok(out.into())
}

/// The digest of the segment `first..=last`, from entries that are handed in bit by bit.
pub struct Digester {
    writer: Writer,
    hash: Sha256,
    bytes: u64,
    scratch: Vec<u8>,
}

impl Digester {
    /// Begins with the segment's head.
    pub fn new(partition: &PartitionRef, first: Index, last: Index) -> Result<Digester, Fault> {
        let mut scratch = Vec::with_capacity(1024);
        let writer = Writer::new(partition, first, last, &mut scratch)?;
        let mut digester = Digester {
            writer,
            hash: Sha256::new(),
            bytes: 0,
            scratch,
        };
        digester.absorb();
        Ok(digester)
    }

    /// Position of the entry that must come next.
    pub fn next(&self) -> Index {
        self.writer.next
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// `Contradicts` when it is not the next one, or beyond the last.
    pub fn push(&mut self, entry: &Entry) -> Result<(), Fault> {
        self.writer.entry(entry, &mut self.scratch)?;
        self.absorb();
        Ok(())
    }

    fn absorb(&mut self) {
        self.hash.update(&self.scratch);
        self.bytes += self.scratch.len() as u64;
        self.scratch.clear();
    }

    /// The digest.
    ///
    /// # Errors
    /// `Contradicts` when entries are missing.
    pub fn finish(self) -> Result<SegmentDigest, Fault> {
        self.writer.finish()?;
        let sha256: [u8; 32] = self.hash.finalize().into();
        Ok(SegmentDigest {
            sha256: sha256.into(),
            bytes: self.bytes,
        })
    }
}

impl Segment {
    /// Reads a segment of this partition, whatever its name is; every checksum is verified.
    pub fn decode(partition: &PartitionRef, bytes: &Bytes) -> Result<Segment, Fault> {
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
        let number = GroupId(reader.u64()?);
        let (first, last) = (reader.u64()?, reader.u64()?);
        let head = reader.since(0);
        if reader.u32()? != crc32c::crc32c(head) {
            return Err(Fault::damaged("the checksum of its head is wrong"));
        }
        let table = std::str::from_utf8(&uuid).ok().and_then(TableUuid::parse);
        let table = table.ok_or_else(|| Fault::damaged("its table has no UUID"))?;
        let found = PartitionRef {
            table,
            partition: number,
        };
        if found != *partition {
            return Err(Fault::foreign(format!("it is of {found}")));
        }
        if first == 0 || last < first || last == Index::MAX {
            return Err(Fault::damaged(format!("no segment is {first} to {last}")));
        }
        let seed = seed(partition);
        let mut entries = Vec::new();
        let mut due = first;
        while !reader.is_at_end() {
            let entry = entry(&mut reader, seed)?;
            if entry.index != due || due > last {
                let found = entry.index;
                return Err(Fault::damaged(format!(
                    "entry {found} stands where {due} was due"
                )));
            }
            due += 1;
            entries.push(entry);
        }
        if due <= last {
            return Err(Fault::damaged(format!(
                "entries {due} to {last} are missing"
            )));
        }
        Ok(Segment {
            partition: partition.clone(),
            entries,
        })
    }

    /// Reads the segment with this name, and verifies that it is it.
    pub fn decode_named(
        partition: &PartitionRef,
        name: &SegmentName,
        bytes: &Bytes,
    ) -> Result<Segment, Fault> {
        if Digest::of(bytes).short() != name.digest {
            return Err(Fault::damaged("its SHA-256 is not the one in its name"));
        }
        let segment = Segment::decode(partition, bytes)?;
        let range = (segment.first(), segment.last());
        if range != (name.first, name.last) {
            return Err(Fault::foreign(format!(
                "it holds entries {} to {}",
                range.0, range.1
            )));
        }
        Ok(segment)
    }

    /// Position of the first entry.
    pub fn first(&self) -> Index {
        self.entries.first().map_or(0, |entry| entry.index)
    }

    /// Position of the last entry.
    pub fn last(&self) -> Index {
        self.entries.last().map_or(0, |entry| entry.index)
    }
}

fn entry(reader: &mut Reader<'_>, seed: u32) -> Result<Entry, Fault> {
    let start = reader.at();
    let index = reader.u64()?;
    let ballot = Ballot {
        round: reader.u64()?,
        node: NodeId(reader.u64()?),
    };
    let kind = reader.u8()?;
    let length = reader.u32()? as usize;
    let content = reader.take(length)?;
    let written = reader.since(start);
    if reader.u32()? != crc32c::crc32c_append(seed, written) {
        let what = format!(
            "the checksum of the entry at byte {start} is wrong, or it is another partition's"
        );
        return Err(Fault::damaged(what));
    }
    let payload = match kind {
        NOOP if content.is_empty() => Payload::Noop,
        CONFIGURATION => Payload::Config(configuration(&content)?),
        COMMAND => Payload::Command(content),
        other => return Err(Fault::damaged(format!("entry {index} is of kind {other}"))),
    };
    Ok(Entry {
        index,
        ballot,
        payload,
    })
}
