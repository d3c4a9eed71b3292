//! Commands: what the partition's log entries carry. Physical: the after-image of an item, never an expression.
//!
//! Layout, integers big endian:
//! `version (1) ‖ kind (1) ‖ time_ms (8) ‖ body`; body of Put and Delete:
//! `old size (4) ‖ new size (4) ‖ key length (2) ‖ key ‖ item (Put only, to the end)`; those of TrackedPut and TrackedDelete, which leave a change
//! record: the same up to the key, then what `protocol::changes::Tracking` writes; bodies of the others: the definition, the
//! split, or the marker, as a MessagePack map. A reader that does not know a kind refuses the command by its number.

use bytes::{BufMut, Bytes, BytesMut};
use model::{EncodedKey, TableDefinition};
use paxos::{GroupId, Index};
use protocol::changes::{ChangeRecord, Tracking, Trim, new_image_in};
use protocol::scrub::Marker;
use protocol::split::Split;
use protocol::transact::Settle;
use serde::Serialize;

use crate::transactions::Prepared;

/// Version of the layout that this code writes.
pub const VERSION: u8 = 1;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const SET_TABLE: u8 = 3;
const BEGIN_SPLIT: u8 = 4;
const COMMIT_SPLIT: u8 = 5;
const ABANDON_SPLIT: u8 = 6;
const MARKER: u8 = 7;
/// Of transactions.
const PREPARE: u8 = 32;
const FINISH: u8 = 33;
const TRACKED_PUT: u8 = 16;
const TRACKED_DELETE: u8 = 17;
const TRIM: u8 = 18;
const ACKNOWLEDGE: u8 = 19;
const HEAD_BYTES: usize = 10;
const WRITE_HEAD_BYTES: usize = HEAD_BYTES + 10;

/// A decoded command; keys and items share the entry's buffer.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// When the leader made it, milliseconds since the epoch.
    pub time_ms: u64,
    /// What to do.
    pub kind: CommandKind,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandKind {
    /// Set or (without an item) remove an item.
    Write(WriteCommand),
    /// A newer definition of the table.
    SetTable(Box<TableDefinition>),
    /// Begin to make this split's children.
    BeginSplit(Box<Split>),
    /// The partition ends here, and the children of the split with this left child begin.
    CommitSplit(GroupId),
    /// The split with this left child is given up.
    AbandonSplit(GroupId),
    /// A transaction's outcome is pending on an item.
    Prepare(Box<Prepared>),
    /// A transaction has ended at an item: whatever it had pending there is gone. If it was committed, the write came just before.
    Finish(Box<Settle>),
    /// Nothing changes; the B-tree as of here is wanted for a scrub.
    Marker(Marker),
    /// Change records go.
    Trim(Trim),
    /// Changes up to this position are in the global indexes.
    Acknowledge(Index),
}

/// The after-image of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteCommand {
    /// Its key.
    pub key: EncodedKey,
    /// The item; none = removed.
    pub item: Option<Bytes>,
    /// Size of the item before in bytes, 0 = absent.
    pub old_size_bytes: u32,
    /// Size of the item after in bytes, 0 = absent.
    pub new_size_bytes: u32,
    /// Value of the change record that it leaves.
    pub change: Option<Bytes>,
}

/// Encodes a write. The key must be at most [`crate::KEY_BYTES_MAX`] long.
pub fn encode_write(
    time_ms: u64,
    key: &[u8],
    item: Option<&[u8]>,
    old_size: u64,
    new_size: u64,
) -> Bytes {
    let item_bytes = item.map_or(0, <[u8]>::len);
    let mut out = BytesMut::with_capacity(WRITE_HEAD_BYTES + key.len() + item_bytes);
    out.put_u8(VERSION);
    out.put_u8(if item.is_some() { PUT } else { DELETE });
    out.put_u64(time_ms);
    out.put_u32(u32::try_from(old_size).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(new_size).unwrap_or(u32::MAX));
    out.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
    out.put_slice(key);
    out.put_slice(item.unwrap_or_default());
    out.freeze()
}

/// Encodes a write that leaves a change record. The same bounds hold.
pub fn encode_change(
    time_ms: u64,
    key: &[u8],
    item: Option<&[u8]>,
    (old_size, new_size): (u64, u64),
    tracking: &Tracking<'_>,
) -> Bytes {
    let mut out = BytesMut::with_capacity(WRITE_HEAD_BYTES + key.len() + tracking.len(item));
    out.put_u8(VERSION);
    out.put_u8(if item.is_some() {
        TRACKED_PUT
    } else {
        TRACKED_DELETE
    });
    out.put_u64(time_ms);
    out.put_u32(u32::try_from(old_size).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(new_size).unwrap_or(u32::MAX));
    out.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
    out.put_slice(key);
    tracking.put(item, &mut out);
    out.freeze()
}

/// Sizes of the item before and after an encoded write, bytes; none for other commands.
pub fn sizes(command: &[u8]) -> Option<(u64, u64)> {
    let head = command.get(..WRITE_HEAD_BYTES)?;
    let is_write = matches!(head[1], PUT | DELETE | TRACKED_PUT | TRACKED_DELETE);
    let write = head[0] == VERSION && is_write;
    write.then(|| {
        let fixed = &head[HEAD_BYTES..];
        (be(&fixed[..4]), be(&fixed[4..8]))
    })
}

/// Where the item lies within an encoded Put, so that the leader's after-image can share the command's buffer.
pub(crate) fn image_of(command: &Bytes, key: &[u8]) -> Bytes {
    let at = WRITE_HEAD_BYTES + key.len();
    match new_image_in(&command[at..]).filter(|_| command[1] == TRACKED_PUT) {
        Some((start, bytes)) => command.slice(at + start..at + start + bytes),
        None => command.slice(at..),
    }
}

/// The key within an encoded write, sharing its buffer.
pub(crate) fn key_of(command: &Bytes, key_bytes: usize) -> Bytes {
    command.slice(WRITE_HEAD_BYTES..WRITE_HEAD_BYTES + key_bytes)
}

/// Encodes a change of the table's definition.
pub fn encode_set_table(time_ms: u64, table: &TableDefinition) -> Result<Bytes, String> {
    encode(SET_TABLE, time_ms, table)
}

/// Encodes the beginning of a split.
pub fn encode_begin_split(time_ms: u64, split: &Split) -> Result<Bytes, String> {
    encode(BEGIN_SPLIT, time_ms, split)
}

/// Encodes the commitment of the split with this left child.
pub fn encode_commit_split(time_ms: u64, left: GroupId) -> Result<Bytes, String> {
    encode(COMMIT_SPLIT, time_ms, &left)
}

/// Encodes the end of the split with this left child before it is committed.
pub fn encode_abandon_split(time_ms: u64, left: GroupId) -> Result<Bytes, String> {
    encode(ABANDON_SPLIT, time_ms, &left)
}

/// Encodes what is to be pending on an item.
pub fn encode_prepare(time_ms: u64, prepared: &Prepared) -> Result<Bytes, String> {
    encode(PREPARE, time_ms, prepared)
}

/// Encodes the end of a transaction at an item.
pub fn encode_finish(time_ms: u64, settle: &Settle) -> Result<Bytes, String> {
    encode(FINISH, time_ms, settle)
}

/// Encodes a marker of a scrub.
pub fn encode_marker(time_ms: u64, marker: &Marker) -> Result<Bytes, String> {
    encode(MARKER, time_ms, marker)
}

/// Encodes the removal of change records.
pub fn encode_trim(time_ms: u64, trim: &Trim) -> Result<Bytes, String> {
    encode(TRIM, time_ms, trim)
}

/// Encodes how far the propagation to the indexes is.
pub fn encode_acknowledge(time_ms: u64, upto: Index) -> Result<Bytes, String> {
    encode(ACKNOWLEDGE, time_ms, &upto)
}

fn encode(kind: u8, time_ms: u64, body: &impl Serialize) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(512);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u64(time_ms);
    rmp_serde::encode::write_named(&mut out, body).map_err(|e| e.to_string())?;
    Ok(out.into())
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    rmp_serde::from_slice(body).map_err(|error| error.to_string())
}

impl Command {
    /// Decodes; any bytes are safe input.
    pub fn decode(bytes: &Bytes) -> Result<Self, String> {
        let too_short = || format!("only {} bytes", bytes.len());
        let head = bytes.get(..HEAD_BYTES).ok_or_else(too_short)?;
        if head[0] != VERSION {
            return Err(format!("version {} is not known", head[0]));
        }
        let time_ms = be(&head[2..10]);
        let kind = match head[1] {
            kind @ (PUT | DELETE) => {
                let fixed = bytes
                    .get(HEAD_BYTES..WRITE_HEAD_BYTES)
                    .ok_or_else(too_short)?;
                let key_end = WRITE_HEAD_BYTES + be(&fixed[8..10]) as usize;
                if bytes.len() < key_end || (kind == DELETE && bytes.len() != key_end) {
                    return Err(format!(
                        "{} bytes do not fit a key that ends at {key_end}",
                        bytes.len()
                    ));
                }
                CommandKind::Write(WriteCommand {
                    key: bytes.slice(WRITE_HEAD_BYTES..key_end),
                    item: (kind == PUT).then(|| bytes.slice(key_end..)),
                    old_size_bytes: be(&fixed[..4]) as u32,
                    new_size_bytes: be(&fixed[4..8]) as u32,
                    change: None,
                })
            }
            TRACKED_PUT | TRACKED_DELETE => {
                // The value of the record is the command without version and kind.
                let change = bytes.slice(2..);
                let record = ChangeRecord::decode(&change)?;
                let (old_size, new_size) = sizes(bytes).ok_or_else(too_short)?;
                CommandKind::Write(WriteCommand {
                    key: record.key,
                    item: record.new,
                    old_size_bytes: old_size as u32,
                    new_size_bytes: new_size as u32,
                    change: Some(change),
                })
            }
            TRIM => CommandKind::Trim(decode(&bytes[HEAD_BYTES..])?),
            ACKNOWLEDGE => CommandKind::Acknowledge(decode(&bytes[HEAD_BYTES..])?),
            SET_TABLE => CommandKind::SetTable(Box::new(decode(&bytes[HEAD_BYTES..])?)),
            BEGIN_SPLIT => CommandKind::BeginSplit(Box::new(decode(&bytes[HEAD_BYTES..])?)),
            COMMIT_SPLIT => CommandKind::CommitSplit(decode(&bytes[HEAD_BYTES..])?),
            ABANDON_SPLIT => CommandKind::AbandonSplit(decode(&bytes[HEAD_BYTES..])?),
            PREPARE => CommandKind::Prepare(Box::new(decode(&bytes[HEAD_BYTES..])?)),
            FINISH => CommandKind::Finish(Box::new(decode(&bytes[HEAD_BYTES..])?)),
            MARKER => CommandKind::Marker(decode(&bytes[HEAD_BYTES..])?),
            other => return Err(format!("kind {other} is not known")),
        };
        Ok(Self { time_ms, kind })
    }
}

/// A big-endian number of at most 8 bytes.
fn be(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_as_it_was_written_and_an_unknown_kind_is_refused_by_its_number() {
        let marker = Marker {
            scrub: 7,
            bytes_per_second: 9,
        };
        let command = encode_marker(5, &marker).unwrap();
        assert_eq!(
            Command::decode(&command),
            Ok(Command {
                time_ms: 5,
                kind: CommandKind::Marker(marker)
            })
        );
        assert_eq!(sizes(&command), None);
        let mut later = command.to_vec();
        later[1] = MARKER + 1;
        let refused = Command::decode(&later.into()).unwrap_err();
        assert!(refused.contains("kind 8"), "{refused}");
    }

    #[test]
    fn the_sizes_of_a_write_are_read_without_decoding_it() {
        let put = encode_write(1, b"k", Some(b"item"), 3, u64::from(u32::MAX));
        assert_eq!(sizes(&put), Some((3, u64::from(u32::MAX))));
        let delete = encode_write(1, b"", None, 1024, 0);
        assert_eq!(sizes(&delete), Some((1024, 0)));
        assert_eq!(sizes(&delete[..delete.len() - 1]), None, "cut off");
        assert_eq!(sizes(b""), None);
        let mut other = delete.to_vec();
        other[1] = SET_TABLE;
        assert_eq!(sizes(&other), None);
    }
}
