//! Of which partitions a table consisted at a moment, over splits. Owns the choice, and the proof that what was chosen tiles the key space;
//! refuses rather than leave keys out.

use std::collections::BTreeMap;

use model::KeyRange;
use paxos::{GroupId, Index};

use crate::{Birth, Origin, SplitMark};

/// A moment in a table's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// All commands of this time or earlier, milliseconds since the epoch.
    Time(u64),
    /// Everything that is in the archive.
    End,
}

/// What is known of a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// How it began.
    pub birth: Birth,
    /// Where it ended, if the archive says so.
    pub end: Option<SplitMark>,
}

/// Keys of the table at the moment, and the partition that had them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The partition.
    pub partition: GroupId,
    /// Its keys; less than the partition's range where it has ended and the archive does not know all of its children yet: then its end is
    /// all that is known of these keys.
    pub range: KeyRange,
}

/// The partitions do not make a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineageError {
    /// There is no partition.
    #[error("no partition of the table is in the archive")]
    Empty,
    /// Nobody has these keys.
    #[error("no partition in the archive has the keys from {} to {}", hex::encode(&.0.start), hex::encode(&.0.end))]
    Hole(KeyRange),
    /// Two partitions have the same keys.
    #[error("partitions {} and {} both have the keys from {} to {}", .one.0, .other.0, hex::encode(&.range.start), hex::encode(&.range.end))]
    Overlap {
        /// One of them.
        one: GroupId,
        /// The other.
        other: GroupId,
        /// What both have.
        range: KeyRange,
    },
    /// A child is in the archive, and the end of its parent is not.
    #[error("partition {} was split at {at}, which is not in the archive", .parent.0)]
    ParentUnfinished {
        /// The parent.
        parent: GroupId,
        /// Where its log ended.
        at: Index,
    },
}

/// The pieces of the table with this range at the moment, in key order.
pub fn pieces(
    lives: &BTreeMap<GroupId, Life>,
    table: &KeyRange,
    moment: Moment,
) -> Result<Vec<Piece>, LineageError> {
    if lives.is_empty() {
        return Err(LineageError::Empty);
    }
    let over = |end: &SplitMark| match moment {
        Moment::Time(time_ms) => end.time_ms <= time_ms,
        Moment::End => true,
    };
    let has_ended = |id: &GroupId| {
        lives
            .get(id)
            .and_then(|life| life.end.as_ref())
            .is_some_and(over)
    };
    let mut pieces = Vec::new();
    for (id, life) in lives {
        if let Origin::Split { parent, at } = life.birth.origin
            && let Some(of_parent) = lives.get(&parent)
        {
            match &of_parent.end {
                None => return Err(LineageError::ParentUnfinished { parent, at }),
                // Not begun yet.
                Some(end) if !over(end) => continue,
                Some(_) => {}
            }
        }
        let mut ranges = vec![life.birth.range.clone()];
        if has_ended(id) {
            let children = lives.values().filter(
                |child| matches!(child.birth.origin, Origin::Split { parent, .. } if parent == *id),
            );
            for child in children {
                ranges = ranges
                    .iter()
                    .flat_map(|range| without(range, &child.birth.range))
                    .collect();
            }
        }
        let partition = *id;
        pieces.extend(ranges.into_iter().map(|range| Piece { partition, range }));
    }
    pieces.sort_by(|one, other| one.range.cmp(&other.range));
    tile(&pieces, table)?;
    Ok(pieces)
}

/// What is left of a range without the keys of another.
fn without(range: &KeyRange, other: &KeyRange) -> Vec<KeyRange> {
    if !range.overlaps(other) {
        return vec![range.clone()];
    }
    let before = KeyRange {
        start: range.start.clone(),
        end: other.start.clone(),
    };
    let behind = KeyRange {
        start: other.end.clone(),
        end: range.end.clone(),
    };
    let mut left = Vec::new();
    if other.start > range.start {
        left.push(before);
    }
    if !other.end.is_empty() && !behind.is_empty() {
        left.push(behind);
    }
    left
}

fn tile(pieces: &[Piece], table: &KeyRange) -> Result<(), LineageError> {
    let mut reached = Some(table.start.clone());
    let mut last: Option<&Piece> = None;
    for piece in pieces {
        let due = reached.as_ref().filter(|due| **due >= piece.range.start);
        match (due, last) {
            (Some(due), _) if *due == piece.range.start => {}
            (None, _) if reached.as_ref().is_some_and(|due| *due < piece.range.start) => {
                let start = reached.unwrap_or_default();
                let end = piece.range.start.clone();
                return Err(LineageError::Hole(KeyRange { start, end }));
            }
            (_, Some(last)) => {
                return Err(LineageError::Overlap {
                    one: last.partition,
                    other: piece.partition,
                    range: last.range.intersection(&piece.range),
                });
            }
            // Keys before the table's: another table's birth.
            (_, None) => return Err(LineageError::Hole(table.clone())),
        }
        let end = piece.range.end.clone();
        reached = (!end.is_empty()).then_some(end);
        last = Some(piece);
    }
    match reached {
        Some(start) if start != table.end => Err(LineageError::Hole(KeyRange {
            start,
            end: table.end.clone(),
        })),
        None if !table.end.is_empty() => Err(LineageError::Hole(table.clone())),
        _ => Ok(()),
    }
}
