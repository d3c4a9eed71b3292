//! Log entries, whole or in outline. Owns their shape and their accounted size; never looks into a command.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Ballot, Configuration, Index, Position};

/// Accounted bytes of an entry beside its command: header, framing, checksum.
pub const ENTRY_OVERHEAD_BYTES: u64 = 48;

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Payload {
    /// Proposed by each new leader.
    #[serde(rename = "n")]
    Noop,
    /// A membership change, in force as soon as it is in the log.
    #[serde(rename = "g")]
    Config(Configuration),
    /// A command of the partition's state machine (opaque here).
    #[serde(rename = "c")]
    Command(Bytes),
}

/// A log entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Position.
    #[serde(rename = "i")]
    pub index: Index,
    /// Ballot in which it was first proposed.
    #[serde(rename = "b")]
    pub ballot: Ballot,
    /// Content.
    #[serde(rename = "p")]
    pub payload: Payload,
}

/// What the log must know of entries whose content stays on disk: nobody needs it for correctness, since they are applied, or nobody here applies
/// them. One, or a run of neighbours of the same ballot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Index of the first.
    pub first: Index,
    /// Where the last stands.
    pub position: Position,
    /// `Entry::bytes`, summed.
    pub bytes: u64,
    /// The membership change that it carries; then it is of one entry.
    pub configuration: Option<Configuration>,
}

impl Outline {
    /// Bytes in one outline: the log accounts for what it holds no finer than that anyway.
    const BYTES_MAX: u64 = 64 << 10;

    /// Puts the outline of an entry behind those of the entries before it, in as few as possible: a long log takes little memory so.
    pub fn push(outlines: &mut Vec<Outline>, next: Outline) {
        let joins = |last: &&mut Outline| {
            last.position.index + 1 == next.first
                && last.position.ballot == next.position.ballot
                && last.configuration.is_none()
                && next.configuration.is_none()
                && last.bytes + next.bytes <= Self::BYTES_MAX
        };
        match outlines.last_mut().filter(joins) {
            Some(last) => {
                last.position = next.position;
                last.bytes += next.bytes;
            }
            None => outlines.push(next),
        }
    }

    /// Outlines of neighbouring entries.
    pub fn of(entries: &[Entry]) -> Vec<Outline> {
        let mut outlines = Vec::new();
        for entry in entries {
            Self::push(&mut outlines, entry.outline());
        }
        outlines
    }
}

impl Entry {
    /// The entry without its command.
    pub fn outline(&self) -> Outline {
        Outline {
            first: self.index,
            position: self.position(),
            bytes: self.bytes(),
            configuration: match &self.payload {
                Payload::Config(configuration) => Some(configuration.clone()),
                Payload::Noop | Payload::Command(_) => None,
            },
        }
    }

    /// Where this entry stands.
    pub fn position(&self) -> Position {
        Position {
            ballot: self.ballot,
            index: self.index,
        }
    }

    /// Bytes this entry is accounted with in every limit.
    pub fn bytes(&self) -> u64 {
        ENTRY_OVERHEAD_BYTES
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Config(configuration) => {
                    let joint = configuration.joint.as_ref().map_or(0, Vec::len);
                    16 + 24 * (configuration.members.len() + joint) as u64
                }
                Payload::Command(command) => command.len() as u64,
            }
    }
}
