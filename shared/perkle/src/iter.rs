//! Entries of a range in order, from both ends. Each step is one descent, so an iterator holds nothing but its bounds.

use std::ops::Bound;

use crate::tree::{Entry, Perkle};

/// Entries between two bounds, ascending; `rev()` descends.
#[derive(Clone, Debug)]
pub struct Range<'a> {
    tree: &'a Perkle,
    next: Option<Entry<'a>>,
    next_back: Option<Entry<'a>>,
}

impl Perkle {
    /// The entries whose keys lie between the bounds.
    pub fn between(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Range<'_> {
        let next = match from {
            Bound::Unbounded => self.first(),
            Bound::Included(key) => self.ceiling(key),
            Bound::Excluded(key) => self.greater_than(key),
        };
        let next_back = match to {
            Bound::Unbounded => self.last(),
            Bound::Included(key) => self.floor(key),
            Bound::Excluded(key) => self.less_than(key),
        };
        let mut range = Range {
            tree: self,
            next,
            next_back,
        };
        range.end_when_crossed();
        range
    }

    /// The entries whose keys start with `prefix`.
    pub fn prefix(&self, prefix: &[u8]) -> Range<'_> {
        let behind = behind_prefix(prefix);
        let to = behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.between(Bound::Included(prefix), to)
    }

    /// All entries.
    pub fn iter(&self) -> Range<'_> {
        self.between(Bound::Unbounded, Bound::Unbounded)
    }
}

impl Range<'_> {
    fn end_when_crossed(&mut self) {
        let crossed = match (&self.next, &self.next_back) {
            (Some(next), Some(back)) => next.key > back.key,
            _ => true,
        };
        if crossed {
            (self.next, self.next_back) = (None, None);
        }
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = self.next?;
        self.next = self.tree.greater_than(entry.key);
        self.end_when_crossed();
        Some(entry)
    }
}

impl<'a> DoubleEndedIterator for Range<'a> {
    fn next_back(&mut self) -> Option<Entry<'a>> {
        let entry = self.next_back?;
        self.next_back = self.tree.less_than(entry.key);
        self.end_when_crossed();
        Some(entry)
    }
}

/// The first key behind all keys with that prefix. None: there is none.
pub(crate) fn behind_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}
