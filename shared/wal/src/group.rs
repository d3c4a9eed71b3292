//! A group as the log knows it: hard state, and where its entries are. Owns the meaning of operations for recovery,
//! writing and reading alike, so that the three cannot disagree. Never does I/O.

use std::collections::VecDeque;

use paxos::{Ballot, Configuration, GroupId, Identity, Index, PersistOp, Position};

use crate::record::{self, Reader};

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    /// Bytes of header and body.
    pub(crate) len: u32,
}

/// Entries from `first` up to the next run's first (or the log's last) are in the record at `place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: Index,
    pub(crate) place: Place,
}

/// Floor and end of a log: all that is needed to tell whether an operation fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) floor: Index,
    pub(crate) last: Index,
}

impl Ends {
    /// The ends after `ops`, or why they do not fit.
    pub(crate) fn after(mut self, ops: &[PersistOp]) -> Result<Ends, String> {
        for op in ops {
            match op {
                PersistOp::Promise(_) => {}
                PersistOp::TruncateFrom(index) => {
                    if *index <= self.floor {
                        return Err(format!("truncation from {index}, floor is {}", self.floor));
                    }
                    self.last = self.last.min(index - 1);
                }
                PersistOp::Append(entries) => {
                    for entry in entries {
                        if entry.index != self.last + 1 {
                            return Err(format!(
                                "entry {} cannot follow entry {}",
                                entry.index, self.last
                            ));
                        }
                        self.last = entry.index;
                    }
                }
                PersistOp::Install { index, .. } => {
                    self = Ends {
                        floor: *index,
                        last: *index,
                    };
                }
                PersistOp::Floor { index, .. } => {
                    if *index > self.last {
                        return Err(format!(
                            "floor {index} is behind the last entry {}",
                            self.last
                        ));
                    }
                    self.floor = self.floor.max(*index);
                }
            }
        }
        Ok(self)
    }
}

/// Durable state of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// Sequence number of its last record.
    pub(crate) sequence: u64,
    pub(crate) promised: Ballot,
    pub(crate) floor: Position,
    pub(crate) last: Index,
    pub(crate) configuration: Option<Configuration>,
    pub(crate) identity: Option<Identity>,
    pub(crate) runs: VecDeque<Run>,
    /// Entries above the floor up to here are not in `runs`: they were in segments that are gone.
    pub(crate) missing_to: Index,
    /// Records were lost to damage.
    pub(crate) damaged: bool,
}

impl Group {
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            floor: self.floor.index,
            last: self.last,
        }
    }

    /// Applies operations that fit (`Ends::after`) and are in the record at `place`; `runs` hears of each
    /// run that is new or no longer needed.
    pub(crate) fn apply(&mut self, ops: &[PersistOp], place: Place, runs: &mut impl RunCount) {
        for op in ops {
            match op {
                PersistOp::Promise(ballot) => self.promised = self.promised.max(*ballot),
                PersistOp::TruncateFrom(index) => self.truncate(*index, runs),
                PersistOp::Append(entries) => {
                    let Some(first) = entries.first() else {
                        continue;
                    };
                    // A second append in the same record continues its run.
                    if self.runs.back().is_none_or(|run| run.place != place) {
                        self.runs.push_back(Run {
                            first: first.index,
                            place,
                        });
                        runs.added(place.segment);
                    }
                    self.last = first.index + entries.len() as u64 - 1;
                }
                PersistOp::Install {
                    index,
                    ballot,
                    configuration,
                    identity,
                } => {
                    self.clear_runs(runs);
                    self.floor = Position {
                        index: *index,
                        ballot: *ballot,
                    };
                    self.last = *index;
                    self.missing_to = 0;
                    self.identity = Some(*identity);
                    self.configuration = Some(configuration.clone());
                }
                PersistOp::Floor {
                    index,
                    ballot,
                    configuration,
                } => {
                    if *index < self.floor.index {
                        continue;
                    }
                    self.floor = Position {
                        index: *index,
                        ballot: *ballot,
                    };
                    self.configuration = Some(configuration.clone());
                    self.drop_below_floor(runs);
                }
            }
        }
    }

    fn truncate(&mut self, from: Index, runs: &mut impl RunCount) {
        while self.runs.back().is_some_and(|run| run.first >= from) {
            if let Some(run) = self.runs.pop_back() {
                runs.dropped(run.place.segment);
            }
        }
        self.last = self.last.min(from.saturating_sub(1));
        self.missing_to = self.missing_to.min(self.last);
        self.none_missing_below_floor();
    }

    fn none_missing_below_floor(&mut self) {
        if self.missing_to <= self.floor.index {
            self.missing_to = 0;
        }
    }

    fn drop_below_floor(&mut self, runs: &mut impl RunCount) {
        let floor = self.floor.index;
        while let Some(run) = self.runs.front() {
            let end = self.runs.get(1).map_or(self.last, |next| next.first - 1);
            if end > floor {
                break;
            }
            runs.dropped(run.place.segment);
            self.runs.pop_front();
        }
        self.none_missing_below_floor();
    }

    /// Forgets where entries are.
    pub(crate) fn clear_runs(&mut self, runs: &mut impl RunCount) {
        self.runs
            .drain(..)
            .for_each(|run| runs.dropped(run.place.segment));
    }

    /// Takes the hard state from a checkpoint; entries between floor and last count as missing.
    pub(crate) fn restart_from(&mut self, saved: Group, runs: &mut impl RunCount) {
        self.clear_runs(runs);
        *self = saved;
        self.missing_to = if self.last > self.floor.index {
            self.last
        } else {
            0
        };
    }

    /// Whether everything above the floor is there.
    pub(crate) fn whole(&self) -> bool {
        !self.damaged && self.missing_to == 0
    }

    /// The runs that hold entries from `from` on.
    pub(crate) fn runs_from(&self, from: Index) -> impl Iterator<Item = (Run, Index)> + '_ {
        let start = self
            .runs
            .partition_point(|run| run.first <= from)
            .saturating_sub(1);
        (start..self.runs.len()).filter_map(move |at| {
            let run = *self.runs.get(at)?;
            let end = self
                .runs
                .get(at + 1)
                .map_or(self.last, |next| next.first - 1);
            (end >= from).then_some((run, end))
        })
    }

    /// Appends the hard state, for a checkpoint.
    pub(crate) fn write_hard_state(&self, group: GroupId, out: &mut Vec<u8>) {
        out.extend_from_slice(&group.0.to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        record::write_ballot(self.promised, out);
        out.extend_from_slice(&self.floor.index.to_le_bytes());
        record::write_ballot(self.floor.ballot, out);
        out.extend_from_slice(&self.last.to_le_bytes());
        let flags = [
            self.damaged,
            self.configuration.is_some(),
            self.identity.is_some(),
        ];
        out.push(
            (0..)
                .zip(flags)
                .map(|(bit, set)| u8::from(set) << bit)
                .sum(),
        );
        if let Some(configuration) = &self.configuration {
            record::write_configuration(configuration, out);
        }
        if let Some(identity) = self.identity {
            record::write_identity(identity, out);
        }
    }

    /// Reads what `write_hard_state` wrote.
    pub(crate) fn read_hard_state(reader: &mut Reader<'_>) -> Option<(GroupId, Group)> {
        let group = GroupId(reader.u64()?);
        let sequence = reader.u64()?;
        let promised = reader.ballot()?;
        let index = reader.u64()?;
        let floor = Position {
            index,
            ballot: reader.ballot()?,
        };
        let last = reader.u64()?;
        let flags = reader.u8()?;
        let configuration = if flags & 2 != 0 {
            Some(reader.configuration()?)
        } else {
            None
        };
        let identity = if flags & 4 != 0 {
            Some(reader.identity()?)
        } else {
            None
        };
        let damaged = flags & 1 != 0;
        let saved = Group {
            sequence,
            promised,
            floor,
            last,
            configuration,
            identity,
            damaged,
            ..Group::default()
        };
        Some((group, saved))
    }
}

/// Counts the runs that live in each segment: a segment without any may go.
pub(crate) trait RunCount {
    /// A run was added in this segment.
    fn added(&mut self, segment: u32);
    /// A run in this segment is no longer needed.
    fn dropped(&mut self, segment: u32);
}
