//! The chain of a partition's segments. Owns which of them cover a position, how far they reach, and where there are holes. Segments may overlap
//! and be there several times: racing writers cut the same log differently. Knows names only, as they are in a listing of manifests.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use paxos::Index;

use crate::SegmentName;

/// Names of a partition's segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    names: BTreeSet<SegmentName>,
}

impl FromIterator<SegmentName> for Chain {
    fn from_iter<I: IntoIterator<Item = SegmentName>>(names: I) -> Self {
        Self {
            names: names.into_iter().collect(),
        }
    }
}

impl Chain {
    /// Takes another segment in.
    pub fn insert(&mut self, name: SegmentName) {
        self.names.insert(name);
    }

    /// Leaves a segment out, because it is damaged. Says whether it was in.
    pub fn remove(&mut self, name: &SegmentName) -> bool {
        self.names.remove(name)
    }

    /// All of them, by first position.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &SegmentName> {
        self.names.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The segment with which to go on at `next`: of those that hold this position the one that reaches farthest.
    pub fn covering(&self, next: Index) -> Option<&SegmentName> {
        let begun = self.names.iter().take_while(|name| name.first <= next);
        begun
            .filter(|name| name.last >= next)
            .max_by_key(|name| (name.last, std::cmp::Reverse(name.first), &name.digest))
    }

    /// The segments to read for everything behind `after`, in order, up to the first hole.
    pub fn path(&self, after: Index) -> Vec<&SegmentName> {
        let (mut path, mut reached) = (Vec::new(), after);
        // One pass: names ascend by first position, and the best of those begun so far is all that counts.
        let mut names = self.names.iter().peekable();
        loop {
            let mut best: Option<&SegmentName> = None;
            while let Some(name) = names.next_if(|name| name.first <= reached.saturating_add(1)) {
                if name.last > best.map_or(reached, |best| best.last) {
                    best = Some(name);
                }
            }
            let Some(best) = best else { return path };
            reached = best.last;
            path.push(best);
        }
    }

    /// How far the archive goes without a hole behind `after`.
    pub fn reach(&self, after: Index) -> Index {
        self.path(after).last().map_or(after, |last| last.last)
    }

    /// Last position of all.
    pub fn last(&self) -> Index {
        self.names.iter().map(|name| name.last).max().unwrap_or(0)
    }

    /// Positions behind `after`, up to `to`, that no segment holds.
    pub fn holes(&self, after: Index, to: Index) -> Vec<RangeInclusive<Index>> {
        let (mut holes, mut reached) = (Vec::new(), after);
        for name in &self.names {
            if name.first > to {
                break;
            }
            if name.first > reached + 1 {
                holes.push(reached + 1..=name.first - 1);
            }
            reached = reached.max(name.last);
        }
        if reached < to {
            holes.push(reached + 1..=to);
        }
        holes
    }

    /// Pairs of segments of the same range with different contents: at most one of each can be right.
    pub fn contradictions(&self) -> Vec<(&SegmentName, &SegmentName)> {
        let next = self.names.iter().skip(1);
        let pairs = self.names.iter().zip(next);
        pairs
            .filter(|(one, other)| (one.first, one.last) == (other.first, other.last))
            .collect()
    }
}
