//! What of a replica is durable.

use paxos::{Ballot, Configuration, Entry, Identity, Index, PersistOp, Position, Restored};

/// A replica's part of its node's disk. Entries are few: a vector will do.
#[derive(Clone, Debug, Hash)]
pub struct Disk {
    /// Highest ballot promised.
    pub promised: Ballot,
    /// Up to here the log is truncated.
    pub floor: Position,
    /// Configuration at the floor.
    pub configuration: Configuration,
    /// Entries above the floor.
    pub entries: Vec<Entry>,
    /// Position of the B-tree, which is flushed with every commit or never (as the scenario says).
    pub applied: Position,
    /// Configuration at that position.
    pub applied_configuration: Configuration,
    /// What the replica is; none until its founding is durable.
    pub identity: Option<Identity>,
}

impl Disk {
    /// A disk on which this replica is about to be made.
    pub fn empty(configuration: Configuration) -> Disk {
        Disk {
            promised: Ballot::default(),
            floor: Position::default(),
            configuration: configuration.clone(),
            entries: Vec::new(),
            applied: Position::default(),
            applied_configuration: configuration,
            identity: None,
        }
    }

    /// Makes an operation durable. The error says how it breaks the contract of `PersistOp`.
    pub fn write(&mut self, op: &PersistOp) -> Result<(), String> {
        match op {
            PersistOp::Promise(ballot) => {
                if *ballot <= self.promised {
                    return Err(format!("{ballot:?} written over {:?}", self.promised));
                }
                self.promised = *ballot;
            }
            PersistOp::TruncateFrom(index) => self.entries.retain(|entry| entry.index < *index),
            PersistOp::Append(entries) => {
                for entry in entries {
                    if entry.index != self.last().index + 1 {
                        return Err(format!("{entry:?} written behind {:?}", self.last()));
                    }
                    self.entries.push(entry.clone());
                }
            }
            PersistOp::Install {
                index,
                ballot,
                configuration,
                identity,
            } => {
                self.identity = Some(*identity);
                self.entries.clear();
                self.start_behind(*index, *ballot, configuration);
            }
            PersistOp::Floor {
                index,
                ballot,
                configuration,
            } => {
                self.entries.retain(|entry| entry.index > *index);
                self.start_behind(*index, *ballot, configuration);
            }
        }
        Ok(())
    }

    fn start_behind(&mut self, index: Index, ballot: Ballot, configuration: &Configuration) {
        self.floor = Position { ballot, index };
        self.configuration = configuration.clone();
    }

    /// The last entry.
    pub fn last(&self) -> Position {
        self.entries.last().map_or(self.floor, Entry::position)
    }

    /// The entry at this index, if it is above the floor and there.
    pub fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.checked_sub(self.floor.index + 1)?;
        self.entries.get(at as usize)
    }

    /// Whether this very entry is here, or truncated because it is applied.
    pub fn has(&self, position: Position) -> bool {
        position.index <= self.floor.index
            || self.entry(position.index).map(Entry::position) == Some(position)
    }

    /// What a replica finds here when its node starts.
    pub fn restored(&self, identity: Identity) -> Restored {
        if self.identity.is_none() {
            return Restored::founding(identity, self.configuration.clone());
        }
        Restored {
            promised: self.promised,
            floor: self.floor,
            configuration: self.configuration.clone(),
            entries: self.entries.clone(),
            applied: self.applied,
            applied_configuration: Some(self.applied_configuration.clone()),
            fresh: false,
            identity,
        }
    }
}
