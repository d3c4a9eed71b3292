//! What logs say of transactions that are pending elsewhere, where no leader and no ledger can be asked any more. Owns the rule by which an entry shows
//! that a transaction is committed. Never reads a log itself.

use std::collections::{BTreeMap, BTreeSet};

use model::EncodedKey;
use paxos::{Entry, Index, Payload};
use protocol::transact::TransactionId;

use crate::PartitionError;
use crate::command::{Command, CommandKind};

/// Looks for the commits of some transactions in the logs of any partitions, one log after the other.
#[derive(Debug)]
pub struct Commits {
    wanted: BTreeSet<TransactionId>,
    /// When they count, milliseconds since the epoch; 0: nobody said.
    found: BTreeMap<TransactionId, u64>,
    /// What is pending in the log in hand.
    pending: BTreeMap<EncodedKey, TransactionId>,
    taken: Index,
}

impl Commits {
    /// Of these.
    pub fn of(wanted: BTreeSet<TransactionId>) -> Self {
        Self {
            wanted,
            found: BTreeMap::new(),
            pending: BTreeMap::new(),
            taken: 0,
        }
    }

    /// What comes next is another partition's log.
    pub fn begin_log(&mut self) {
        self.pending.clear();
        self.taken = 0;
    }

    /// Takes an entry; one that was taken already changes nothing.
    ///
    /// # Errors
    /// When it is no command that this version knows.
    pub fn take(&mut self, entry: &Entry) -> Result<(), PartitionError> {
        if entry.index <= self.taken {
            return Ok(());
        }
        self.taken = entry.index;
        let Payload::Command(command) = &entry.payload else {
            return Ok(());
        };
        let command = Command::decode(command).map_err(PartitionError::BadCommand)?;
        match command.kind {
            CommandKind::Prepare(prepared) if self.wanted.contains(&prepared.transaction.id) => {
                self.pending.insert(prepared.key, prepared.transaction.id);
            }
            // Nobody but its transaction writes an item on which one is pending.
            CommandKind::Write(write) => {
                if let Some(id) = self.pending.get(&write.key) {
                    self.found.entry(*id).or_default();
                }
            }
            CommandKind::Finish(settle) if self.wanted.contains(&settle.id) => {
                self.pending.remove(&settle.key);
                if settle.commit_ms > 0 {
                    self.found.insert(settle.id, settle.commit_ms);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a transaction is known to be committed, and counts at this time, milliseconds since the epoch (none: whenever).
    pub fn counts(&self, id: TransactionId, at_ms: Option<u64>) -> bool {
        self.found
            .get(&id)
            .is_some_and(|&commit_ms| at_ms.is_none_or(|at_ms| (1..=at_ms).contains(&commit_ms)))
    }
}
