//! Where a prefix of a partition's log ends. Owns what is carried from one segment to the next; equal logs have equal tails.

use partition::command::{Command, CommandKind};
use paxos::{Ballot, Entry, GroupId, Index, Payload};
use serde::{Deserialize, Serialize};

/// The `CommitSplit` in a partition's log: there it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitMark {
    /// Position of the command.
    pub at: Index,
    /// Running maximum of the time there, milliseconds since the epoch: the children's time begins with it.
    pub time_ms: u64,
    /// The left child.
    pub left: GroupId,
}

/// The end of a prefix of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Position of the last entry …
    pub index: Index,
    /// … and its ballot.
    pub ballot: Ballot,
    /// The greatest `time_ms` of all commands up to there (a running maximum: leaders' clocks differ), 0 = no command yet.
    pub time_ms: u64,
    /// Generation of the newest configuration up to there.
    pub generation: u64,
    /// Where the partition ended, if it did.
    pub split: Option<SplitMark>,
}

impl Tail {
    /// The tail after the next entry, whose command, if it has one, is this.
    pub fn after(&self, entry: &Entry, command: Option<&Command>) -> Tail {
        let mut tail = *self;
        tail.index = entry.index;
        tail.ballot = entry.ballot;
        if let Payload::Config(configuration) = &entry.payload {
            tail.generation = configuration.generation;
        }
        if let Some(command) = command {
            tail.time_ms = tail.time_ms.max(command.time_ms);
            if let CommandKind::CommitSplit(left) = command.kind
                && tail.split.is_none()
            {
                tail.split = Some(SplitMark {
                    at: entry.index,
                    time_ms: tail.time_ms,
                    left,
                });
            }
        }
        tail
    }
}

/// The command of an entry; none if it carries none.
///
/// # Errors
/// When it cannot be decoded.
pub fn command_of(entry: &Entry) -> Result<Option<Command>, String> {
    match &entry.payload {
        Payload::Command(bytes) => Command::decode(bytes).map(Some),
        Payload::Noop | Payload::Config(_) => Ok(None),
    }
}
