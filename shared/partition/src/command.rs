//! Commands: what the partition's log entries carry. Physical: the after-image of an item, never an expression.
//!
//! Layout, integers big endian:
//! `version (1) ‖ kind (1) ‖ time_ms (8) ‖ body`; body of Put and Delete:
//! `old size (4) ‖ new size (4) ‖ key length (2) ‖ key ‖ item (Put only, to the end)`; those of TrackedPut and TrackedDelete, which leave a change
//! record: the same up to the key, then what `protocol::changes::Tracking` writes; bodies of the others: the definition, the
//! split, or the marker, as a MessagePack map. A reader that does not know a kind refuses the command by its number.
//!
//! A write that changes entries of local indexes is wrapped: body of Indexed:
//! `write units of the entries (4) ‖ number of entries (2) ‖ entries, each key length (2) ‖ key ‖ value length (4, all ones: removed) ‖ value ‖
//! the write, a whole command (to the end)`.

use bytes::{BufMut, Bytes, BytesMut};
use model::index::EntryChange;
use model::{EncodedKey, TableDefinition, Units, capacity};
use paxos::{GroupId, Index};
use protocol::changes::{ChangeRecord, Tracking, Trim, new_image_in};
use protocol::propagate::{Backfill, SourceMark};
use protocol::scrub::Marker;
use protocol::split::Split;
use protocol::transact::Settle;
use serde::{Deserialize, Serialize};

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
const INDEXED: u8 = 24;
const ENTRIES: u8 = 25;
const BACKFILL: u8 = 26;
/// Length of the value of an entry that is removed.
const REMOVED: u32 = u32::MAX;
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
    /// Entries of a global index are brought in.
    Entries(Box<EntriesCommand>),
    /// Items are entered into a new index so far.
    Backfill(Backfill),
}

/// Entries of a global index that were propagated together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntriesCommand {
    /// Whose changes they come from, up to where.
    pub mark: SourceMark,
    /// The entries.
    pub writes: Vec<EntryWrite>,
}

/// The after-image of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryWrite {
    /// Its key.
    #[serde(rename = "k")]
    pub key: EncodedKey,
    /// Its attributes; none = removed.
    #[serde(rename = "i")]
    pub item: Option<Bytes>,
    /// Size before in bytes, 0 = absent.
    #[serde(rename = "o")]
    pub old_size_bytes: u32,
    /// Size after in bytes, 0 = absent.
    #[serde(rename = "n")]
    pub new_size_bytes: u32,
}

impl EntriesCommand {
    fn units(&self) -> Units {
        let sizes = self.writes.iter();
        let sizes = sizes.map(|write| write.old_size_bytes.max(write.new_size_bytes));
        sizes
            .map(|bytes| capacity::write_units(u64::from(bytes)))
            .sum()
    }
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
    /// Entries of local indexes that change with it.
    pub entries: Vec<EntryChange>,
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

/// A write together with the entries of local indexes that it changes, and what writing these costs.
pub fn with_entries(time_ms: u64, write: Bytes, entries: &[EntryChange], units: Units) -> Bytes {
    if entries.is_empty() && units.is_zero() {
        return write;
    }
    let value_bytes = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    let bytes = entries
        .iter()
        .map(|(key, value)| 6 + key.len() + value_bytes(value))
        .sum::<usize>();
    let mut out = BytesMut::with_capacity(HEAD_BYTES + 6 + bytes + write.len());
    out.put_u8(VERSION);
    out.put_u8(INDEXED);
    out.put_u64(time_ms);
    out.put_u32(u32::try_from(units.thousandths() / 1_000).unwrap_or(u32::MAX));
    out.put_u16(u16::try_from(entries.len()).unwrap_or(u16::MAX));
    for (key, value) in entries {
        out.put_u16(u16::try_from(key.len()).unwrap_or(u16::MAX));
        out.put_slice(key);
        match value {
            Some(value) => {
                out.put_u32(u32::try_from(value.len()).unwrap_or(REMOVED));
                out.put_slice(value);
            }
            None => out.put_u32(REMOVED),
        }
    }
    out.put_slice(&write);
    out.freeze()
}

/// What an encoded write costs, its entries of local indexes included; none for other commands.
pub fn units(command: &Bytes) -> Option<Units> {
    if command.get(..2) == Some(&[VERSION, ENTRIES]) {
        let units = command.get(HEAD_BYTES..HEAD_BYTES + 4)?;
        return Some(Units::new(be(units)));
    }
    let (entries, write) = match unwrap(command) {
        Ok(Some(wrapped)) => (Units::new(u64::from(wrapped.units)), wrapped.write),
        Ok(None) => (Units::ZERO, command.clone()),
        Err(_) => return None,
    };
    let (old, new) = sizes(&write)?;
    Some(capacity::write_units(old.max(new)).saturating_add(entries))
}

/// What is in an Indexed.
struct Wrapped {
    units: u32,
    entries: Vec<EntryChange>,
    write: Bytes,
}

/// Takes an Indexed apart; none: it is another command.
fn unwrap(command: &Bytes) -> Result<Option<Wrapped>, String> {
    if command.get(..2) != Some(&[VERSION, INDEXED]) {
        return Ok(None);
    }
    let mut at = HEAD_BYTES;
    let mut take = |bytes: usize| {
        let taken = command
            .get(at..at + bytes)
            .map(|_| command.slice(at..at + bytes));
        at += bytes;
        taken.ok_or_else(|| format!("only {} bytes", command.len()))
    };
    let units = be(&take(4)?) as u32;
    let mut entries = Vec::new();
    for _ in 0..be(&take(2)?) {
        let key_bytes = be(&take(2)?) as usize;
        let key = take(key_bytes)?;
        let value = match be(&take(4)?) as u32 {
            REMOVED => None,
            bytes => Some(take(bytes as usize)?),
        };
        entries.push((key, value));
    }
    let write = command.slice(at..);
    Ok(Some(Wrapped {
        units,
        entries,
        write,
    }))
}

/// Sizes of the item before and after an encoded write (one without entries), bytes; none for other commands.
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

/// Encodes entries of a global index: `write units (4) ‖ the entries, as a MessagePack map`.
pub fn encode_entries(time_ms: u64, entries: &EntriesCommand) -> Result<Bytes, String> {
    let mut out = Vec::with_capacity(512);
    out.put_u8(VERSION);
    out.put_u8(ENTRIES);
    out.put_u64(time_ms);
    let units = entries.units().thousandths() / 1_000;
    out.put_u32(u32::try_from(units).unwrap_or(u32::MAX));
    rmp_serde::encode::write_named(&mut out, entries).map_err(|e| e.to_string())?;
    Ok(out.into())
}

/// Encodes how far a backfill is.
pub fn encode_backfill(time_ms: u64, backfill: &Backfill) -> Result<Bytes, String> {
    encode(BACKFILL, time_ms, backfill)
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
        if let Some(wrapped) = unwrap(bytes)? {
            return Self::decode_wrapped(wrapped);
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
                    entries: Vec::new(),
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
                    entries: Vec::new(),
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
            ENTRIES => {
                let body = bytes.get(HEAD_BYTES + 4..).ok_or_else(too_short)?;
                CommandKind::Entries(decode(body)?)
            }
            BACKFILL => CommandKind::Backfill(decode(&bytes[HEAD_BYTES..])?),
            other => return Err(format!("kind {other} is not known")),
        };
        Ok(Self { time_ms, kind })
    }

    fn decode_wrapped(wrapped: Wrapped) -> Result<Self, String> {
        if wrapped.write.get(1) == Some(&INDEXED) {
            return Err("an indexed write within an indexed write".to_owned());
        }
        let mut command = Self::decode(&wrapped.write)?;
        let CommandKind::Write(write) = &mut command.kind else {
            return Err("entries come with something that is no write".to_owned());
        };
        write.entries = wrapped.entries;
        Ok(command)
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
    fn a_write_keeps_its_entries_and_shares_its_buffer() {
        let write = encode_write(9, b"key", Some(b"item"), 3, 2048);
        assert_eq!(with_entries(9, write.clone(), &[], Units::ZERO), write);
        let entries = vec![
            (Bytes::from_static(b"old"), None),
            (
                Bytes::from_static(b"new"),
                Some(Bytes::from_static(b"value")),
            ),
        ];
        let wrapped = with_entries(9, write.clone(), &entries, Units::new(3));
        let Command { time_ms, kind } = Command::decode(&wrapped).unwrap();
        let CommandKind::Write(decoded) = kind else {
            panic!("{kind:?}");
        };
        assert_eq!((time_ms, &decoded.entries), (9, &entries));
        assert_eq!(decoded.item.as_deref(), Some(&b"item"[..]));
        assert_eq!(units(&wrapped), Some(Units::new(5)));
        assert_eq!(units(&write), Some(Units::new(2)));
        for cut in 0..wrapped.len() {
            let _ = Command::decode(&wrapped.slice(..cut));
        }
        let twice = with_entries(9, wrapped, &entries, Units::ONE);
        assert!(Command::decode(&twice).is_err());
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
