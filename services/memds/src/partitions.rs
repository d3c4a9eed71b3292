//! The partitions of all tables, and what is remembered of dropped ones. Owns which description of a partition counts, and which
//! partition a key belongs to.
//!
//! Of one partition the newest description counts: (generation, ballot, version of the table). Where the ranges of two partitions
//! overlap, the one that was made later counts, which has the larger number: numbers are given in order and never again. So a
//! partition that was split never shadows its parts, in whatever order news of them comes. A partition that a later one overlaps
//! is *covered*: it answers only for keys that no later one holds, and stays known until it is dropped; should the later one be
//! dropped, it counts again.

use std::collections::BTreeMap;
use std::ops::Bound;

use model::TableId;
use paxos::GroupId;
use perkle::{Entry, EntryRef, Perkle, Updated};
use protocol::directory::PartitionInfo;
use tracing::warn;

use crate::entry::{
    Codec, DROPPED_PREFIX, Kind, Stamp, covered_key, dropped_key, end_of, partition_key, table_key,
    table_prefix,
};

/// Dropped partitions that are remembered, so that a push that was under way, or a peer that missed the drop, does not bring them
/// back. Partition numbers are never used again, so forgetting the smallest first is safe in practice: its pushes are long gone,
/// and peers compare every second. All nodes forget the same ones.
const DROPPED_MAX: u64 = 100_000;

/// Bounds of what a partition may look like, far above what is ever sent: so every entry fits into the tree.
const START_BYTES_MAX: usize = 2_048;
const REPLICAS_MAX: usize = 64;

/// Entries of the index in one page.
const PAGE: u64 = 64;

/// The partitions.
#[derive(Debug, Default)]
pub(crate) struct Partitions {
    pub(crate) tree: Perkle,
    codec: Codec,
    /// Where the partitions that no later one overlaps are in the tree, by number; pages, since numbers are dense.
    index: BTreeMap<u64, Box<[Option<EntryRef>; PAGE as usize]>>,
    /// Partitions that a later one overlaps. Few: those that were split, until they are dropped.
    covered: BTreeMap<(TableId, GroupId), PartitionInfo>,
    covered_tables: BTreeMap<GroupId, TableId>,
    len: usize,
}

/// A partition that was found for a key, not decoded yet.
pub(crate) enum Found<'a> {
    InTree(Stamp, Entry<'a>),
    Covered(&'a PartitionInfo),
}

impl Found<'_> {
    pub(crate) fn stamp(&self) -> Stamp {
        match self {
            Self::InTree(stamp, _) => *stamp,
            Self::Covered(info) => Stamp::of(info),
        }
    }
}

/// What a change did to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing is different.
    None,
    /// A partition that was not known before.
    Added(TableId),
    /// A newer description of a known one; it may be of another table than before.
    Newer { was: TableId, is: TableId },
    /// A partition is gone.
    Removed(TableId),
}

impl Partitions {
    /// Number of partitions, covered ones included.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Number of covered partitions.
    pub(crate) fn covered(&self) -> usize {
        self.covered.len()
    }

    /// Bytes of the tree and of the index; covered partitions are not counted.
    pub(crate) fn memory(&self) -> usize {
        self.tree.memory().0 + self.index.len() * (4 * PAGE as usize + 16)
    }

    /// The partition of that number.
    pub(crate) fn partition(&self, partition: GroupId) -> Option<PartitionInfo> {
        if let Some(table) = self.covered_tables.get(&partition) {
            return self.covered.get(&(*table, partition)).cloned();
        }
        self.codec.partition(&self.entry(partition)?)
    }

    /// Numbers of the partitions behind `after`, ascending; at most `max`.
    pub(crate) fn numbers_behind(&self, after: GroupId, max: usize) -> Vec<GroupId> {
        let Some(from) = after.0.checked_add(1) else {
            return Vec::new();
        };
        let pages = self.index.range(from / PAGE..);
        let in_tree = pages.flat_map(|(page, refs)| {
            let numbers = refs.iter().zip(page * PAGE..);
            numbers.filter_map(|(at, number)| at.is_some().then_some(GroupId(number)))
        });
        let mut numbers: Vec<GroupId> = in_tree.filter(|id| id.0 >= from).take(max).collect();
        numbers.extend(
            self.covered_tables
                .range(GroupId(from)..)
                .map(|(id, _)| *id),
        );
        numbers.sort_unstable();
        numbers.truncate(max);
        numbers
    }

    /// The partition that counts for `key`.
    pub(crate) fn floor(&self, table: TableId, key: &[u8]) -> Option<Found<'_>> {
        if let Some(entry) = self.tree.floor(&partition_key(table, key))
            && let Some(Kind::Partition(its_table, start)) = Kind::of(entry.key)
            && its_table == table
        {
            let (end, _) = end_of(&start, entry.value)?;
            if end.is_empty() || key < &end[..] {
                return Some(Found::InTree(Stamp::from_version(entry.version)?, entry));
            }
        }
        if self.covered.is_empty() {
            return None;
        }
        let mut covered = self.covered_of(table).rev();
        covered
            .find(|info| info.range.contains(key))
            .map(Found::Covered)
    }

    /// What was found, in full.
    pub(crate) fn info(&self, found: &Found<'_>) -> Option<PartitionInfo> {
        match found {
            Found::InTree(_, entry) => self.codec.partition(entry),
            Found::Covered(info) => Some((*info).clone()),
        }
    }

    /// The covered partition of that number or the one in the tree under that key.
    pub(crate) fn of_kind(&self, key: &[u8]) -> Option<PartitionInfo> {
        match Kind::of(key)? {
            Kind::Covered(id) => self.partition(id),
            _ => self.codec.partition(&self.tree.get(key)?),
        }
    }

    /// Whether the partition was dropped.
    pub(crate) fn is_dropped(&self, partition: GroupId) -> bool {
        self.tree.get(&dropped_key(partition)).is_some()
    }

    /// Takes in what a leader says of its partition. Older than known: ignored.
    pub(crate) fn learn(&mut self, mut info: PartitionInfo) -> Change {
        // True for a moment only, and nothing that a lookup is about.
        info.progress.clear();
        info.changing = false;
        let id = info.partition;
        if info.range.is_empty() || self.is_dropped(id) {
            return Change::None;
        }
        let replicas = info.members.len() + info.learners.len();
        if info.range.start.len() > START_BYTES_MAX || replicas > REPLICAS_MAX {
            warn!(
                partition = id.0,
                "an impossible description of a partition is ignored"
            );
            return Change::None;
        }
        let stamp = Stamp::of(&info);
        let known = match self.covered_tables.get(&id) {
            Some(&table) => self.covered.get(&(table, id)).map(|known| {
                let same_range = known.range == info.range && table == info.table;
                (table, Stamp::of(known), same_range)
            }),
            None => self.entry(id).and_then(|entry| {
                let Kind::Partition(table, start) = Kind::of(entry.key)? else {
                    return None;
                };
                let (end, _) = end_of(&start, entry.value)?;
                let same_range = (&start, &end) == (&info.range.start, &info.range.end);
                let same_range = same_range && table == info.table;
                Some((table, Stamp::from_version(entry.version)?, same_range))
            }),
        };
        let is = info.table;
        let Some((was, known, same_range)) = known else {
            self.place(info);
            self.len += 1;
            return Change::Added(is);
        };
        if stamp <= known {
            return Change::None;
        }
        if !same_range {
            self.take_out(was, id);
            self.place(info);
            self.uncover(was);
        } else if self.covered_tables.contains_key(&id) {
            self.cover(info);
        } else {
            self.put(info);
        }
        Change::Newer { was, is }
    }

    /// Forgets a partition that was dropped, and remembers that it was.
    pub(crate) fn drop_partition(&mut self, id: GroupId) -> Change {
        self.write(&dropped_key(id), &[], &[]);
        while self.tree.summary(DROPPED_PREFIX).entries > DROPPED_MAX {
            let Some(oldest) = self.tree.prefix(DROPPED_PREFIX).next() else {
                break;
            };
            let key = oldest.key.to_vec();
            self.tree.remove(&key, &[]);
        }
        let in_tree = || match Kind::of(self.entry(id)?.key)? {
            Kind::Partition(table, _) => Some(table),
            _ => None,
        };
        let Some(table) = self.covered_tables.get(&id).copied().or_else(in_tree) else {
            return Change::None;
        };
        self.take_out(table, id);
        self.len -= 1;
        self.uncover(table);
        Change::Removed(table)
    }

    /// Remembers which version of a table's definition is known, so that nodes can compare it.
    pub(crate) fn note_table(&mut self, table: TableId, version: u64) {
        let mut bytes = Vec::new();
        perkle::counter::put(version, &mut bytes);
        self.write(&table_key(table), &bytes, &[]);
    }

    /// Forgets the version of a table's definition.
    pub(crate) fn forget_table(&mut self, table: TableId) {
        self.tree.remove(&table_key(table), &[u8::MAX; 10]);
    }

    fn entry(&self, id: GroupId) -> Option<Entry<'_>> {
        let reference = self.index.get(&(id.0 / PAGE))?[(id.0 % PAGE) as usize]?;
        self.tree.entry_of(reference)
    }

    fn covered_of(&self, table: TableId) -> impl DoubleEndedIterator<Item = &PartitionInfo> {
        let all = (table, GroupId(0))..=(table, GroupId(u64::MAX));
        self.covered.range(all).map(|(_, info)| info)
    }

    /// Puts in a partition of which nothing is known.
    fn place(&mut self, info: PartitionInfo) {
        let overlapping = self.overlapping(&info);
        let later = |id: GroupId| id > info.partition;
        let is_covered = overlapping.iter().any(|(id, _)| later(*id))
            || self
                .covered_of(info.table)
                .any(|other| later(other.partition) && other.range.overlaps(&info.range));
        // Earlier ones are covered from now on, also if this one is covered itself: else they would hide it.
        for (id, key) in overlapping.into_iter().filter(|(id, _)| !later(*id)) {
            if let Some(entry) = self.tree.get(&key)
                && let Some(earlier) = self.codec.partition(&entry)
            {
                self.tree.remove(&key, &Stamp::of(&earlier).version());
                self.set_index(id, None);
                self.cover(earlier);
            }
        }
        if is_covered {
            self.cover(info);
            return;
        }
        self.put(info);
    }

    /// Numbers and keys of the partitions in the tree that overlap `info`.
    fn overlapping(&self, info: &PartitionInfo) -> Vec<(GroupId, Vec<u8>)> {
        let mut overlapping = Vec::new();
        let start = partition_key(info.table, &info.range.start);
        let prefix = table_prefix(info.table);
        let end = match &info.range.end {
            end if end.is_empty() => None,
            end => Some(partition_key(info.table, end)),
        };
        let from = match self.tree.floor(&start) {
            Some(entry) if entry.key.starts_with(&prefix) => entry.key,
            _ => &start[..],
        };
        for entry in self.tree.between(Bound::Included(from), Bound::Unbounded) {
            let Some(Kind::Partition(table, its_start)) = Kind::of(entry.key) else {
                break;
            };
            if table != info.table || end.as_ref().is_some_and(|end| entry.key >= &end[..]) {
                break;
            }
            let its_end = end_of(&its_start, entry.value).map(|(end, _)| end);
            let ends_before = its_end.is_some_and(|end| !end.is_empty() && end <= info.range.start);
            if let Some(stamp) = Stamp::from_version(entry.version)
                && !ends_before
            {
                overlapping.push((stamp.partition, entry.key.to_vec()));
            }
        }
        overlapping
    }

    /// After a partition of the table is gone or has another range: covered ones that no later one overlaps any more count again.
    fn uncover(&mut self, table: TableId) {
        let covered: Vec<GroupId> = self.covered_of(table).map(|info| info.partition).collect();
        // Later ones first: an earlier one may be covered by one of them.
        for id in covered.into_iter().rev() {
            if let Some(info) = self.covered.remove(&(table, id)) {
                self.covered_tables.remove(&id);
                let stamp = Stamp::of(&info);
                self.place(info);
                if !self.covered_tables.contains_key(&id) {
                    self.tree.remove(&covered_key(id), &stamp.version());
                }
            }
        }
    }

    fn take_out(&mut self, table: TableId, id: GroupId) {
        if let Some(info) = self.covered.remove(&(table, id)) {
            self.covered_tables.remove(&id);
            self.tree
                .remove(&covered_key(id), &Stamp::of(&info).version());
        } else if let Some(entry) = self.entry(id) {
            let (key, version) = (entry.key.to_vec(), entry.version.to_vec());
            self.tree.remove(&key, &version);
            self.set_index(id, None);
        }
    }

    fn cover(&mut self, info: PartitionInfo) {
        let (table, id) = (info.table, info.partition);
        self.write(&covered_key(id), &Stamp::of(&info).version(), &[]);
        self.covered_tables.insert(id, table);
        self.covered.insert((table, id), info);
    }

    fn put(&mut self, info: PartitionInfo) {
        let (id, version) = (info.partition, Stamp::of(&info).version());
        let key = partition_key(info.table, &info.range.start);
        let value = self.codec.value(info);
        let written = self.write(&key, &version, &value);
        if let Some(Updated::Inserted(at) | Updated::Replaced(at)) = written {
            self.set_index(id, Some(at));
        }
    }

    fn write(&mut self, key: &[u8], version: &[u8], value: &[u8]) -> Option<Updated> {
        match self.tree.update(key, version, value) {
            Ok(updated) => Some(updated),
            Err(error) => {
                warn!(%error, "an entry of the route map is dropped");
                None
            }
        }
    }

    fn set_index(&mut self, id: GroupId, at: Option<EntryRef>) {
        let (page, slot) = (id.0 / PAGE, (id.0 % PAGE) as usize);
        if at.is_some() {
            self.index
                .entry(page)
                .or_insert_with(|| Box::new([None; PAGE as usize]))[slot] = at;
        } else if let Some(refs) = self.index.get_mut(&page) {
            refs[slot] = None;
            if refs.iter().all(Option::is_none) {
                self.index.remove(&page);
            }
        }
    }
}
