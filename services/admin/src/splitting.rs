//! Which partitions are split, where, and how a recorded split comes to its end (docs/adr/0006-splits.md). The decisions are pure: `wishes`
//! says what should be split, `course` what is to be done next about a split that is recorded; `rounds` carries it out. All that counts
//! is in the table's record and in the leaders' pushes, so an admin that takes over goes on wherever the last one stopped.

mod course;
mod rounds;
mod watch;
mod wishes;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(crate) use course::Courses;
pub(crate) use rounds::Splits;
pub(crate) use wishes::{Wishes, heat_permille};

use crate::partitions::Partitions;
use crate::records::TableRecord;
use crate::settings::SplitSettings;

/// What the decisions rest on.
#[derive(Clone, Copy)]
pub(crate) struct SplitView<'a> {
    pub(crate) now_ms: u64,
    /// Tables as of the last reconciliation.
    pub(crate) tables: &'a [TableRecord],
    pub(crate) partitions: &'a Partitions,
    pub(crate) settings: &'a SplitSettings,
    /// Partitions of an on-demand table, and of any table for its throughput at most.
    pub(crate) on_demand_partitions: u32,
    pub(crate) partitions_max: u32,
}
