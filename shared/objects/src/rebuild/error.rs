//! Why a partition cannot be rebuilt. Owns what is said of it: what is missing or wrong, and which damaged objects were passed over.

use std::ops::RangeInclusive;

use archive::{PartitionRef, Refusal, SegmentName};
use paxos::Index;

use crate::error::ReadError;
use crate::sink::SinkError;

/// A partition cannot be rebuilt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RebuildError {
    /// The store's fault: try again later.
    #[error(transparent)]
    Store(#[from] crate::error::ObjectError),
    /// The archive does not know the partition.
    #[error("{0} has no birth in the archive")]
    Unknown(PartitionRef),
    /// An object that nothing replaces is not what it must be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Entries are missing.
    #[error("entries {} to {} of {partition} are not in the archive{}", .missing.start(), .missing.end(), passed_over(.damaged))]
    Hole {
        /// The partition, or one that it was split off from.
        partition: PartitionRef,
        /// What is missing.
        missing: RangeInclusive<Index>,
        /// Objects that were damaged, and would have helped.
        damaged: Vec<Refusal>,
    },
    /// The log of before the archive is gone, and there is no good snapshot at or before the target.
    #[error("{partition} began before the archive and has no good snapshot at or before the target{}", passed_over(.damaged))]
    NoSnapshot {
        /// The partition.
        partition: PartitionRef,
        /// Damaged ones.
        damaged: Vec<Refusal>,
    },
    /// Whole objects contradict each other.
    #[error("segment {name:?} of {partition} contradicts the log before it: {why}")]
    Contradiction {
        /// The partition.
        partition: PartitionRef,
        /// The segment.
        name: SegmentName,
        /// How.
        why: String,
    },
    /// What was rebuilt has another number of items than the log says.
    #[error("{partition} rebuilt to {index} has {found} items, its log says {expected}")]
    Count {
        /// The partition.
        partition: PartitionRef,
        /// Position.
        index: Index,
        /// By the log.
        expected: u64,
        /// In the sink.
        found: u64,
    },
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

fn passed_over(damaged: &[Refusal]) -> String {
    damaged
        .iter()
        .map(|refusal| format!("; {refusal}"))
        .collect()
}

impl From<ReadError> for RebuildError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::Refused(refusal) => refusal.into(),
        }
    }
}
