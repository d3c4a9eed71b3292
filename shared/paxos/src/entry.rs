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

/// What the log must know of an entry whose content stays on disk: nobody needs it for correctness, since it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// Where it stands.
    pub position: Position,
    /// `Entry::bytes`.
    pub bytes: u64,
    /// The membership change that it carries.
    pub configuration: Option<Configuration>,
}

impl Entry {
    /// The entry without its command.
    pub fn outline(&self) -> Outline {
        Outline {
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
