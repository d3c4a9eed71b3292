//! Records: the framing of everything in a segment, and the encoding of a group's operations. Owns bytes; never does I/O.
//!
//! A record is a header of 48 bytes (little endian) and a body, padded to 8 bytes:
//!
//! | at | bytes | field |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | CRC32C of bytes 8..48 |
//! | 8 | 4 | offset of the record in its segment |
//! | 12 | 4 | number of the segment |
//! | 16 | 8 | group |
//! | 24 | 8 | sequence number within the group: its life (24 bits, from the place of its first record), and a count from 1 |
//! | 32 | 4 | `synced`: when this record was written, its segment was durable up to here |
//! | 36 | 4 | length of the body |
//! | 40 | 4 | CRC32C of the body |
//! | 44 | 1 | kind |
//!
//! Since its place is part of a record, what a recycled file held before is never taken for a record of the new segment.
//! Since `synced` is, a hole that was acknowledged (damage) can be told from one that was not (a torn write).

use bytes::Bytes;
use paxos::{
    Ballot, Configuration, Entry, GroupId, Identity, Index, NodeId, Payload, PersistOp, Role,
};

/// Bytes of a record's header.
pub(crate) const HEADER_BYTES: usize = 48;
/// Records start at multiples of this.
pub(crate) const ALIGN_BYTES: usize = 8;
/// Longest body; what is larger is refused before it is queued.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;

const MAGIC: u32 = 0x524b_5645; // "EVKR"

/// Stands for the identity of a founding member: its incarnation is the one of the node's disk.
pub(crate) const OF_THE_DISK: Identity = Identity {
    incarnation: 0,
    role: Role::Storage,
    generation: 1,
};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Operations of a group.
    Ops,
    /// The group is gone.
    Tombstone,
    /// A part of the hard states of all groups; only at the start of a segment.
    Checkpoint,
    /// Says that what precedes it is durable.
    Mark,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        match byte {
            1 => Some(Kind::Ops),
            2 => Some(Kind::Tombstone),
            3 => Some(Kind::Checkpoint),
            4 => Some(Kind::Mark),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Kind::Ops => 1,
            Kind::Tombstone => 2,
            Kind::Checkpoint => 3,
            Kind::Mark => 4,
        }
    }
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) group: GroupId,
    pub(crate) sequence: u64,
    pub(crate) synced: u32,
    pub(crate) body_len: u32,
    pub(crate) body_crc: u32,
    pub(crate) kind: Kind,
}

impl Header {
    /// Bytes that the record takes in the segment.
    pub(crate) fn record_len(&self) -> usize {
        record_len(self.body_len as usize)
    }

    /// Bytes of header and body.
    pub(crate) fn written_len(&self) -> usize {
        HEADER_BYTES + self.body_len as usize
    }

    /// Appends header, body and padding.
    pub(crate) fn write(&self, body: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.group.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        out.extend_from_slice(&[self.kind.byte(), 0, 0, 0]);
        let crc = crc32c::crc32c(&out[start + 8..start + HEADER_BYTES]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(body);
        out.resize(start + self.record_len(), 0);
    }

    /// Reads the header at the start of `bytes`, if there is a valid one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let mut reader = Reader(bytes);
        if reader.u32()? != MAGIC || reader.u32()? != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        Some(Header {
            offset: reader.u32()?,
            segment: reader.u32()?,
            group: GroupId(reader.u64()?),
            sequence: reader.u64()?,
            synced: reader.u32()?,
            body_len: reader.u32()?,
            body_crc: reader.u32()?,
            kind: Kind::from_byte(reader.u8()?)?,
        })
    }
}

/// Bits of a sequence number that count.
const COUNT_BITS: u32 = 40;

/// The sequence number of a group's first record, from its place. A group that was removed and made again counts anew: its two
/// lives must not be taken for each other when the records in between are lost.
pub(crate) fn first_sequence(segment: u32, offset: u32) -> u64 {
    let place = [segment.to_le_bytes(), offset.to_le_bytes()].concat();
    let life = u64::from(crc32c::crc32c(&place) >> 8);
    life << COUNT_BITS | 1
}

/// Whether a group's life starts with this record.
pub(crate) fn is_first(sequence: u64) -> bool {
    sequence & ((1 << COUNT_BITS) - 1) == 1
}

/// Bytes that a record with such a body takes.
pub(crate) fn record_len(body_len: usize) -> usize {
    (HEADER_BYTES + body_len).next_multiple_of(ALIGN_BYTES)
}

/// Takes little-endian fields off a slice; none when it is too short.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)
            .and_then(|b| b.try_into().ok())
            .map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)
            .and_then(|b| b.try_into().ok())
            .map(u64::from_le_bytes)
    }

    pub(crate) fn ballot(&mut self) -> Option<Ballot> {
        Some(Ballot {
            round: self.u64()?,
            node: NodeId(self.u64()?),
        })
    }

    pub(crate) fn identity(&mut self) -> Option<Identity> {
        let incarnation = self.u64()?;
        let role = match self.u8()? {
            0 => Role::Storage,
            1 => Role::Log,
            _ => return None,
        };
        Some(Identity {
            incarnation,
            role,
            generation: self.u64()?,
        })
    }

    pub(crate) fn configuration(&mut self) -> Option<Configuration> {
        let len = self.u32()? as usize;
        rmp_serde::from_slice(self.take(len)?).ok()
    }
}

pub(crate) fn write_ballot(ballot: Ballot, out: &mut Vec<u8>) {
    out.extend_from_slice(&ballot.round.to_le_bytes());
    out.extend_from_slice(&ballot.node.0.to_le_bytes());
}

pub(crate) fn write_identity(identity: Identity, out: &mut Vec<u8>) {
    out.extend_from_slice(&identity.incarnation.to_le_bytes());
    out.push(u8::from(identity.role == Role::Log));
    out.extend_from_slice(&identity.generation.to_le_bytes());
}

pub(crate) fn write_configuration(configuration: &Configuration, out: &mut Vec<u8>) {
    // A configuration is plain data with string field names: writing it to memory cannot fail.
    let bytes = rmp_serde::to_vec_named(configuration).unwrap_or_default();
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Bytes that the encoded operations take, nearly.
fn ops_len(ops: &[PersistOp]) -> usize {
    ops.iter()
        .map(|op| match op {
            PersistOp::Append(entries) => {
                16 + entries.iter().map(|e| e.bytes() as usize).sum::<usize>()
            }
            _ => 256,
        })
        .sum()
}

/// Encodes a group's operations as a record's body.
pub(crate) fn encode_ops(ops: &[PersistOp]) -> Vec<u8> {
    let mut out = Vec::with_capacity(ops_len(ops));
    for op in ops {
        match op {
            PersistOp::Promise(ballot) => {
                out.push(1);
                write_ballot(*ballot, &mut out);
            }
            PersistOp::TruncateFrom(index) => {
                out.push(2);
                out.extend_from_slice(&index.to_le_bytes());
            }
            PersistOp::Append(entries) => {
                out.push(3);
                out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
                entries
                    .iter()
                    .for_each(|entry| write_entry(entry, &mut out));
            }
            PersistOp::Install {
                index,
                ballot,
                configuration,
                identity,
            } => {
                out.push(6);
                out.extend_from_slice(&index.to_le_bytes());
                write_ballot(*ballot, &mut out);
                write_configuration(configuration, &mut out);
                write_identity(*identity, &mut out);
            }
            PersistOp::Floor {
                index,
                ballot,
                configuration,
            } => {
                out.push(5);
                out.extend_from_slice(&index.to_le_bytes());
                write_ballot(*ballot, &mut out);
                write_configuration(configuration, &mut out);
            }
        }
    }
    out
}

fn write_entry(entry: &Entry, out: &mut Vec<u8>) {
    out.extend_from_slice(&entry.index.to_le_bytes());
    write_ballot(entry.ballot, out);
    match &entry.payload {
        Payload::Noop => out.push(0),
        Payload::Command(bytes) => {
            out.push(1);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
        Payload::Config(configuration) => {
            out.push(2);
            write_configuration(configuration, out);
        }
    }
}

fn read_entry(reader: &mut Reader<'_>) -> Option<Entry> {
    let index: Index = reader.u64()?;
    let ballot = reader.ballot()?;
    let payload = match reader.u8()? {
        0 => Payload::Noop,
        1 => {
            let len = reader.u32()? as usize;
            Payload::Command(Bytes::copy_from_slice(reader.take(len)?))
        }
        2 => Payload::Config(reader.configuration()?),
        _ => return None,
    };
    Some(Entry {
        index,
        ballot,
        payload,
    })
}

/// Decodes a body; none when it is not one. Any bytes are safe input.
pub(crate) fn decode_ops(body: &[u8]) -> Option<Vec<PersistOp>> {
    let mut reader = Reader(body);
    let mut ops = Vec::new();
    while !reader.0.is_empty() {
        ops.push(match reader.u8()? {
            1 => PersistOp::Promise(reader.ballot()?),
            2 => PersistOp::TruncateFrom(reader.u64()?),
            3 => {
                let count = reader.u32()? as usize;
                // An entry takes at least 25 bytes, so a wild count cannot reserve more than the body is worth.
                let mut entries = Vec::with_capacity(count.min(reader.0.len() / 25));
                for _ in 0..count {
                    entries.push(read_entry(&mut reader)?);
                }
                PersistOp::Append(entries)
            }
            // Written by version 0.1 before replicas had an identity of their own.
            4 => PersistOp::Install {
                index: reader.u64()?,
                ballot: reader.ballot()?,
                configuration: reader.configuration()?,
                identity: OF_THE_DISK,
            },
            6 => PersistOp::Install {
                index: reader.u64()?,
                ballot: reader.ballot()?,
                configuration: reader.configuration()?,
                identity: reader.identity()?,
            },
            5 => PersistOp::Floor {
                index: reader.u64()?,
                ballot: reader.ballot()?,
                configuration: reader.configuration()?,
            },
            _ => return None,
        });
    }
    Some(ops)
}

/// Goes through the entries of an encoded record without building those that `want` does not want; the last of equal
/// indices wins, as it did when the record was applied.
pub(crate) fn entries_of(body: &[u8], want: impl Fn(Index) -> bool) -> Option<Vec<Entry>> {
    let mut found: Vec<Entry> = Vec::new();
    for op in decode_ops(body)? {
        if let PersistOp::Append(entries) = op {
            for entry in entries {
                if want(entry.index) {
                    found.retain(|e| e.index < entry.index);
                    found.push(entry);
                }
            }
        }
    }
    Some(found)
}
