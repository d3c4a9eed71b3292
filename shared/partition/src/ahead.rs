//! What a log says, behind a point in time, of the transactions that were pending at it (ADR 0010). Owns the rule by which a transaction counts at
//! that time: on all of its items or on none. Never reads a log itself.

use std::collections::BTreeMap;

use model::{EncodedKey, KeyRange};
use paxos::{Entry, Payload};
use protocol::split::Split;
use protocol::transact::TransactionId;

use crate::command::{Command, CommandKind, WriteCommand};
use crate::{PartitionError, PartitionState};

/// So long behind a point in time the end of a transaction is looked for, milliseconds: far longer than recovery takes. The archive keeps as much
/// of the log behind the moments of backups.
pub const LOOK_AHEAD_MS: u64 = 600_000;

/// What was pending on one item.
#[derive(Debug)]
struct Pending {
    id: TransactionId,
    /// What came behind the point in time: nobody but its transaction writes the item meanwhile.
    writes: Vec<WriteCommand>,
}

/// Looks for the ends of the transactions that were pending at a point in time. A commit is not stamped with an earlier time than the one at which
/// its transaction counts, and no prepare comes after that: so what counts by the point in time is committed before it, or pending at it on each
/// item, and what does not is at most pending.
#[derive(Debug)]
pub struct Ahead {
    at_ms: u64,
    open: BTreeMap<EncodedKey, Pending>,
    /// A split that has begun, and may end the log.
    split: Option<Split>,
    writes: Vec<WriteCommand>,
}

impl Ahead {
    /// Behind the log that led to this state, which has all commands up to this time, milliseconds since the epoch.
    pub fn of(state: &PartitionState, at_ms: u64) -> Self {
        let pending = state.transactions.all_pending();
        let open = pending.map(|prepared| {
            let pending = Pending {
                id: prepared.transaction.id,
                writes: Vec::new(),
            };
            (prepared.key.clone(), pending)
        });
        Self {
            at_ms,
            open: open.collect(),
            split: state.split.clone(),
            writes: Vec::new(),
        }
    }

    /// Whether what was pending on this item is still undecided.
    pub fn is_open(&self, key: &EncodedKey) -> bool {
        self.open.contains_key(key)
    }

    /// How many items of this range are still undecided.
    pub fn undecided(&self, range: &KeyRange) -> usize {
        self.open.keys().filter(|key| range.contains(key)).count()
    }

    /// Takes the next entry of the log. If that ends with it, its children's logs go on.
    ///
    /// # Errors
    /// When it is no command that this version knows.
    pub fn take(&mut self, entry: &Entry) -> Result<Option<Split>, PartitionError> {
        let Payload::Command(command) = &entry.payload else {
            return Ok(None);
        };
        let command = Command::decode(command).map_err(PartitionError::BadCommand)?;
        match command.kind {
            CommandKind::Write(write) => {
                if let Some(pending) = self.open.get_mut(&write.key) {
                    pending.writes.push(write);
                }
            }
            CommandKind::Finish(settle) => {
                let ends = |pending: &Pending| pending.id == settle.id;
                if self.open.get(&settle.key).is_some_and(ends)
                    && let Some(ended) = self.open.remove(&settle.key)
                    && (1..=self.at_ms).contains(&settle.commit_ms)
                {
                    self.writes.extend(ended.writes);
                }
            }
            CommandKind::BeginSplit(split) => self.split = Some(*split),
            CommandKind::AbandonSplit(_) => self.split = None,
            CommandKind::CommitSplit(_) => return Ok(self.split.take()),
            _ => {}
        }
        Ok(None)
    }

    /// The writes of those that count at the point in time, for [`crate::Partition::bring_forward`].
    pub fn into_writes(self) -> Vec<WriteCommand> {
        self.writes
    }
}
