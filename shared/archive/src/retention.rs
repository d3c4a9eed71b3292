//! What may be deleted from the archive of a table. Owns the rule: an object goes only if no restore to a moment in the point-in-time window, to
//! a pin, or after the loss of all nodes would read it, were any one snapshot found damaged. Never deletes anything itself.

use std::collections::{BTreeMap, BTreeSet};

use partition::ahead::LOOK_AHEAD_MS;
use paxos::{GroupId, Index};

use crate::{Birth, Origin, SegmentName, SnapshotName, SplitMark};

/// What must stay restorable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Start of the point-in-time window, milliseconds since the epoch: every moment from there on stays restorable. None: there is no window.
    pub window_from_ms: Option<u64>,
    /// Moments of backups, milliseconds since the epoch.
    pub pins_ms: BTreeSet<u64>,
    /// The table lives: after the loss of all nodes its newest state is rebuilt from here.
    pub recoverable: bool,
}

/// A segment, and the running maximum of the time at its end (its manifest's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSegment {
    /// Its name.
    pub name: SegmentName,
    /// At its last entry, milliseconds since the epoch.
    pub last_time_ms: u64,
}

/// A snapshot, as its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSnapshot {
    /// Its name.
    pub name: SnapshotName,
    /// Running maximum of the time at its position, milliseconds since the epoch.
    pub time_ms: u64,
    /// It was read and found damaged: nothing may rest on it.
    pub damaged: bool,
}

/// A partition's archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// How the partition began.
    pub birth: Birth,
    /// Where it ended, if it did.
    pub end: Option<SplitMark>,
    /// Its segments.
    pub segments: Vec<KeptSegment>,
    /// Its snapshots.
    pub snapshots: Vec<KeptSnapshot>,
}

/// What of a partition may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Snapshots: manifests first, then the parts that no manifest names any more.
    pub snapshots: Vec<SnapshotName>,
    /// Segments: manifests first.
    pub segments: Vec<SegmentName>,
    /// Nothing of the partition is needed any more: its births, too, when all else is gone.
    pub whole: bool,
}

/// Snapshots that each moment keeps: the newest before it, and one more in case that one cannot be read.
const SNAPSHOTS_KEPT: usize = 2;

/// What is needed of one partition.
#[derive(Clone, Debug, Default)]
struct Needed {
    snapshots: BTreeSet<SnapshotName>,
    /// Positions behind which entries are needed, each up to a position (inclusive; none = the end).
    spans: BTreeSet<(Index, Option<Index>)>,
}

/// What a rebuild may begin with.
#[derive(Clone, Copy, Debug)]
enum Before {
    /// A snapshot whose commands are all of this time or earlier.
    Time(u64),
    /// A snapshot at this position or before it.
    Index(Index),
}

/// What may go from the archive of a table whose partitions are these.
pub fn expired(
    partitions: &BTreeMap<GroupId, Kept>,
    policy: &Policy,
) -> BTreeMap<GroupId, Expired> {
    let mut needed = Needs {
        partitions,
        of: BTreeMap::new(),
    };
    for (id, kept) in partitions {
        let born_ms = born_ms(partitions, kept);
        // A parent whose children are not all known is what there is of their keys.
        let ended_ms = kept
            .end
            .filter(|_| children(partitions, *id) >= 2)
            .map(|end| end.time_ms);
        let is_over_by = |moment: u64| ended_ms.is_some_and(|end| end <= moment);
        for moment in &policy.pins_ms {
            if is_over_by(*moment) {
                continue;
            }
            // Behind the moment lie the ends of the transactions that were under way; in a child, if its parent was split meanwhile.
            let until = moment.saturating_add(LOOK_AHEAD_MS);
            let last = Some(last_at(kept, until));
            if born_ms <= *moment {
                needed.add(*id, Before::Time(*moment), last);
            } else if born_ms <= until {
                let span = (kept.birth.begins(), last);
                needed.of.entry(*id).or_default().spans.insert(span);
            }
        }
        if let Some(from) = policy.window_from_ms
            && !is_over_by(from)
        {
            // All of it, from the window's start or its own birth on.
            needed.add(*id, Before::Time(from), None);
        }
        if policy.recoverable && ended_ms.is_none() {
            needed.add(*id, Before::Index(Index::MAX), None);
        }
    }
    // While anything of a partition is needed, so is its end: it says when the children began.
    for (id, needed) in &mut needed.of {
        if let Some(end) = partitions.get(id).and_then(|kept| kept.end) {
            needed.spans.insert((end.at, Some(end.at)));
        }
    }
    let of = |id: &GroupId| needed.of.get(id);
    partitions
        .iter()
        .map(|(id, kept)| (*id, expired_of(kept, of(id))))
        .collect()
}

/// When a partition began, milliseconds since the epoch.
fn born_ms(partitions: &BTreeMap<GroupId, Kept>, kept: &Kept) -> u64 {
    match kept.birth.origin {
        Origin::Split { parent, .. } => {
            let parent = partitions.get(&parent);
            parent.and_then(|p| p.end).map_or(0, |end| end.time_ms)
        }
        Origin::Founded | Origin::Adopted { .. } => 0,
    }
}

fn children(partitions: &BTreeMap<GroupId, Kept>, id: GroupId) -> usize {
    let of =
        |kept: &&Kept| matches!(kept.birth.origin, Origin::Split { parent, .. } if parent == id);
    partitions.values().filter(of).count()
}

/// The last position that must be read to find where the log passes this time: the end of the segment in which it does.
fn last_at(kept: &Kept, time_ms: u64) -> Index {
    let beyond = kept.segments.iter().filter(|s| s.last_time_ms > time_ms);
    beyond.map(|s| s.name.last).min().unwrap_or(Index::MAX)
}

/// What is needed of the partitions of a table.
struct Needs<'a> {
    partitions: &'a BTreeMap<GroupId, Kept>,
    of: BTreeMap<GroupId, Needed>,
}

impl Needs<'_> {
    /// Notes what a rebuild reads that begins as late as it can, or with one snapshot less; up to a position, or to any later one.
    fn add(&mut self, id: GroupId, before: Before, to: Option<Index>) {
        let Some(kept) = self.partitions.get(&id) else {
            return;
        };
        let fits = |snapshot: &&KeptSnapshot| match before {
            Before::Time(time_ms) => snapshot.time_ms <= time_ms,
            Before::Index(index) => snapshot.name.applied <= index,
        };
        let bases = kept.snapshots.iter().filter(|snapshot| !snapshot.damaged);
        // Copies of one position count once.
        let positions: BTreeSet<Index> = bases.filter(fits).map(|s| s.name.applied).collect();
        let kept_positions: Vec<Index> = positions.into_iter().rev().take(SNAPSHOTS_KEPT).collect();
        let of_partition = self.of.entry(id).or_default();
        for snapshot in &kept.snapshots {
            let is_later = to.is_none() && !fits(&snapshot);
            if is_later || kept_positions.contains(&snapshot.name.applied) {
                of_partition.snapshots.insert(snapshot.name.clone());
            }
        }
        let enough = kept_positions.len() == SNAPSHOTS_KEPT;
        // Fewer snapshots: the log from its birth on stands in for the missing one.
        let oldest = kept_positions.last().filter(|_| enough).copied();
        of_partition
            .spans
            .insert((oldest.unwrap_or_else(|| kept.birth.begins()), to));
        if !enough && let Origin::Split { parent, at } = kept.birth.origin {
            self.add(parent, Before::Index(at), Some(at));
        }
    }
}

fn expired_of(kept: &Kept, needed: Option<&Needed>) -> Expired {
    let Some(needed) = needed else {
        return Expired {
            snapshots: kept.snapshots.iter().map(|s| s.name.clone()).collect(),
            segments: kept.segments.iter().map(|s| s.name.clone()).collect(),
            whole: true,
        };
    };
    let in_span = |segment: &KeptSegment| {
        let mut spans = needed.spans.iter();
        spans.any(|(after, to)| {
            segment.name.last >= *after && to.is_none_or(|to| segment.name.first <= to)
        })
    };
    let unneeded = |s: &&KeptSnapshot| !needed.snapshots.contains(&s.name);
    let snapshots = kept.snapshots.iter().filter(unneeded);
    let segments = kept.segments.iter().filter(|segment| !in_span(segment));
    Expired {
        snapshots: snapshots.map(|s| s.name.clone()).collect(),
        segments: segments.map(|s| s.name.clone()).collect(),
        whole: false,
    }
}
