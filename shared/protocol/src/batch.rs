//! Many replication messages in few bytes: everything that the groups of one node say to another node in one turn. Owns the layout;
//! never looks into a command.
//!
//! A batch is a row of records, integers little endian:
//!
//! ```text
//! record  = u8 kind, u32 length of what follows, fields      a reader skips kinds and trailing fields that it does not know
//! common  = u64 group, u64 sender's incarnation, u64 receiver's incarnation, u64 generation
//! append  = common, ballot, u64 sent, position, u64 commit, u64 floor, u8 healthy, u32 count, entries
//! ack     = common, ballot, u64 sent, u64 matched, u64 received, u64 flushed
//! other   = a `GroupMessage` as MessagePack
//! entry   = u64 index, ballot, u8 kind (0 nothing, 1 command, 2 configuration), except for 0: u32 length, bytes
//! ballot  = u64 round, u64 node        position = ballot, u64 index
//! ```
//!
//! Heartbeats are appends without entries: about a hundred bytes, written and read without an allocation.

use bytes::{Buf, BufMut, Bytes};
use paxos::{
    Ack, Append, Ballot, Body, Entry, GroupId, Message, Millis, NodeId, Payload, Position,
};

use crate::replication::GroupMessage;

const APPEND: u8 = 1;
const ACK: u8 = 2;
const OTHER: u8 = 3;

const NOTHING: u8 = 0;
const COMMAND: u8 = 1;
const CONFIGURATION: u8 = 2;

/// Bytes before a record's fields.
const HEAD_BYTES: usize = 5;
/// The least that an entry takes.
const ENTRY_BYTES_MIN: usize = 25;

/// A record is not laid out as it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Puts messages of one node into a batch.
#[derive(Debug, Default)]
pub struct BatchWriter {
    bytes: Vec<u8>,
    messages: usize,
}

impl BatchWriter {
    /// Adds a message of the replica of `group` that has this incarnation. An error says why it cannot be encoded; the batch is as
    /// it was then.
    pub fn push(
        &mut self,
        from: NodeId,
        group: GroupId,
        incarnation: u64,
        message: Message,
    ) -> Result<(), String> {
        let start = self.bytes.len();
        let out = &mut self.bytes;
        out.put_u8(0);
        out.put_u32_le(0);
        let common = |out: &mut Vec<u8>, message: &Message| {
            out.put_u64_le(group.0);
            out.put_u64_le(incarnation);
            out.put_u64_le(message.to_incarnation);
            out.put_u64_le(message.generation);
        };
        let written = match &message.body {
            Body::Append(append) => {
                common(out, &message);
                put_append(append, out).map(|()| APPEND)
            }
            Body::Ack(ack) => {
                common(out, &message);
                put_ack(ack, out);
                Ok(ACK)
            }
            _ => {
                let message = GroupMessage::new(group, from, incarnation, message);
                rmp_serde::encode::write_named(out, &message)
                    .map_err(|error| error.to_string())
                    .map(|()| OTHER)
            }
        };
        let length = u32::try_from(out.len() - start - HEAD_BYTES);
        match (written, length) {
            (Ok(kind), Ok(length)) => {
                out[start] = kind;
                out[start + 1..start + HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
                self.messages += 1;
                Ok(())
            }
            (written, _) => {
                out.truncate(start);
                Err(written
                    .err()
                    .unwrap_or_else(|| "a message is too large".to_owned()))
            }
        }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Messages so far.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Starts over; keeps at most `bytes_max` of memory.
    pub fn clear(&mut self, bytes_max: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(bytes_max);
        self.messages = 0;
    }
}

fn put_append(append: &Append, out: &mut Vec<u8>) -> Result<(), String> {
    put_ballot(append.ballot, out);
    out.put_u64_le(append.sent.0);
    put_ballot(append.prev.ballot, out);
    out.put_u64_le(append.prev.index);
    out.put_u64_le(append.commit);
    out.put_u64_le(append.floor);
    out.put_u8(u8::from(append.healthy));
    put_length(append.entries.len(), out)?;
    for entry in &append.entries {
        out.put_u64_le(entry.index);
        put_ballot(entry.ballot, out);
        match &entry.payload {
            Payload::Noop => out.put_u8(NOTHING),
            Payload::Command(command) => {
                out.put_u8(COMMAND);
                put_length(command.len(), out)?;
                out.put_slice(command);
            }
            Payload::Config(configuration) => {
                let encoded =
                    rmp_serde::to_vec_named(configuration).map_err(|error| error.to_string())?;
                out.put_u8(CONFIGURATION);
                put_length(encoded.len(), out)?;
                out.put_slice(&encoded);
            }
        }
    }
    Ok(())
}

fn put_ack(ack: &Ack, out: &mut Vec<u8>) {
    put_ballot(ack.ballot, out);
    out.put_u64_le(ack.sent.0);
    out.put_u64_le(ack.matched);
    out.put_u64_le(ack.received);
    out.put_u64_le(ack.flushed);
}

fn put_ballot(ballot: Ballot, out: &mut Vec<u8>) {
    out.put_u64_le(ballot.round);
    out.put_u64_le(ballot.node.0);
}

fn put_length(length: usize, out: &mut Vec<u8>) -> Result<(), String> {
    let length = u32::try_from(length).map_err(|_| "a message is too large".to_owned())?;
    out.put_u32_le(length);
    Ok(())
}

/// Takes the messages out of a batch, one after the other. Any bytes are safe input: a malformed record is an error and the reader goes
/// on behind it; when its length is wrong, nothing comes after it.
#[derive(Debug)]
pub struct BatchReader<'a> {
    from: NodeId,
    rest: &'a [u8],
}

impl<'a> BatchReader<'a> {
    /// Reads what `from` sent.
    pub fn new(from: NodeId, batch: &'a [u8]) -> Self {
        Self { from, rest: batch }
    }

    fn record(&mut self) -> Result<Option<GroupMessage>, Malformed> {
        let head = (self.rest.try_get_u8(), self.rest.try_get_u32_le());
        let (Ok(kind), Ok(length)) = head else {
            self.rest = &[];
            return Err(Malformed);
        };
        let Some((fields, rest)) = self.rest.split_at_checked(length as usize) else {
            self.rest = &[];
            return Err(Malformed);
        };
        self.rest = rest;
        let read = match kind {
            APPEND => read_common(fields, self.from, read_append),
            ACK => read_common(fields, self.from, read_ack),
            OTHER => rmp_serde::from_slice(fields)
                .ok()
                .map(|mut message: GroupMessage| {
                    message.from = self.from;
                    message
                }),
            // A newer sender's; like every message it may as well have been lost.
            _ => return Ok(None),
        };
        read.map(Some).ok_or(Malformed)
    }
}

impl Iterator for BatchReader<'_> {
    /// A message, and the bytes that it took.
    type Item = Result<(GroupMessage, usize), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let before = self.rest.len();
            match self.record() {
                Ok(Some(message)) => return Some(Ok((message, before - self.rest.len()))),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

fn read_common(
    mut fields: &[u8],
    from: NodeId,
    body: impl FnOnce(&mut &[u8]) -> Option<Body>,
) -> Option<GroupMessage> {
    let fields = &mut fields;
    let group = GroupId(fields.try_get_u64_le().ok()?);
    let incarnation = fields.try_get_u64_le().ok()?;
    let message = Message {
        to_incarnation: fields.try_get_u64_le().ok()?,
        generation: fields.try_get_u64_le().ok()?,
        body: body(fields)?,
    };
    Some(GroupMessage::new(group, from, incarnation, message))
}

fn read_append(fields: &mut &[u8]) -> Option<Body> {
    let ballot = read_ballot(fields)?;
    let sent = Millis(fields.try_get_u64_le().ok()?);
    let prev = Position {
        ballot: read_ballot(fields)?,
        index: fields.try_get_u64_le().ok()?,
    };
    let commit = fields.try_get_u64_le().ok()?;
    let floor = fields.try_get_u64_le().ok()?;
    let healthy = fields.try_get_u8().ok()? != 0;
    let count = fields.try_get_u32_le().ok()? as usize;
    // A wild count cannot reserve more than the record is worth.
    let mut entries = Vec::with_capacity(count.min(fields.len() / ENTRY_BYTES_MIN));
    for _ in 0..count {
        entries.push(read_entry(fields)?);
    }
    Some(Body::Append(Append {
        ballot,
        sent,
        prev,
        entries,
        commit,
        floor,
        healthy,
    }))
}

fn read_entry(fields: &mut &[u8]) -> Option<Entry> {
    let index = fields.try_get_u64_le().ok()?;
    let ballot = read_ballot(fields)?;
    let payload = match fields.try_get_u8().ok()? {
        NOTHING => Payload::Noop,
        // A buffer of its own: entries and the items in them outlive the batch by far, and must not keep all of it in memory.
        COMMAND => Payload::Command(Bytes::copy_from_slice(read_bytes(fields)?)),
        CONFIGURATION => Payload::Config(rmp_serde::from_slice(read_bytes(fields)?).ok()?),
        _ => return None,
    };
    Some(Entry {
        index,
        ballot,
        payload,
    })
}

fn read_ack(fields: &mut &[u8]) -> Option<Body> {
    Some(Body::Ack(Ack {
        ballot: read_ballot(fields)?,
        sent: Millis(fields.try_get_u64_le().ok()?),
        matched: fields.try_get_u64_le().ok()?,
        received: fields.try_get_u64_le().ok()?,
        flushed: fields.try_get_u64_le().ok()?,
    }))
}

fn read_ballot(fields: &mut &[u8]) -> Option<Ballot> {
    Some(Ballot {
        round: fields.try_get_u64_le().ok()?,
        node: NodeId(fields.try_get_u64_le().ok()?),
    })
}

fn read_bytes<'a>(fields: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = fields.try_get_u32_le().ok()? as usize;
    let (bytes, rest) = fields.split_at_checked(length)?;
    *fields = rest;
    Some(bytes)
}

#[cfg(test)]
mod tests;
