//! The route cache: table definitions by name and number, partitions by key. Owns what is newer than what, and a bound on its
//! size. Pure: it is told what was learned and never asks anyone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use model::{TableDefinition, TableId};
use paxos::GroupId;
use protocol::directory::PartitionInfo;

/// Bounds of the cache.
#[derive(Clone, Debug)]
pub struct RoutesLimits {
    /// Tables kept at once.
    pub tables_max: usize,
    /// Partitions kept at once, over all tables.
    pub partitions_max: usize,
}

impl Default for RoutesLimits {
    fn default() -> Self {
        // About 500 bytes a partition: 100 MB at the very most, in a router of a very large mesh.
        Self {
            tables_max: 20_000,
            partitions_max: 200_000,
        }
    }
}

/// The cache. When it is full, tables that were not used since they were last considered are dropped first (clock order).
#[derive(Debug)]
pub struct Routes {
    limits: RoutesLimits,
    names: HashMap<String, TableId>,
    tables: HashMap<TableId, Entry>,
    clock: VecDeque<TableId>,
    partitions: usize,
}

#[derive(Debug, Default)]
struct Entry {
    definition: Option<Arc<TableDefinition>>,
    /// By the first key of their range.
    partitions: BTreeMap<Bytes, Arc<PartitionInfo>>,
    /// Used since the clock hand last came by. Atomic so that readers can share the cache.
    used: AtomicBool,
}

impl Routes {
    /// An empty cache.
    pub fn new(limits: RoutesLimits) -> Self {
        Self {
            limits,
            names: HashMap::new(),
            tables: HashMap::new(),
            clock: VecDeque::new(),
            partitions: 0,
        }
    }

    /// The table called `name`.
    pub fn table(&self, name: &str) -> Option<Arc<TableDefinition>> {
        let entry = self.tables.get(self.names.get(name)?)?;
        entry.used.store(true, Ordering::Relaxed);
        entry.definition.clone()
    }

    /// Version of the definition of table `id` that is known; 0 = none.
    pub fn table_version(&self, id: TableId) -> u64 {
        let definition = self.tables.get(&id).and_then(|e| e.definition.as_ref());
        definition.map_or(0, |d| d.version)
    }

    /// The partition of table `id` whose range holds `key`.
    pub fn partition(&self, id: TableId, key: &[u8]) -> Option<Arc<PartitionInfo>> {
        let entry = self.tables.get(&id)?;
        entry.used.store(true, Ordering::Relaxed);
        let at_or_before = (Bound::Unbounded, Bound::Included(key));
        let (_, found) = entry
            .partitions
            .range::<[u8], _>(at_or_before)
            .next_back()?;
        found.range.contains(key).then(|| found.clone())
    }

    /// Takes in a definition unless it is older than what is known. Says whether anything changed.
    pub fn learn_table(&mut self, definition: TableDefinition) -> bool {
        let id = definition.id;
        // A name that was dropped and made again has a larger number the second time.
        if self
            .names
            .get(&definition.name)
            .is_some_and(|&known| known > id)
        {
            return false;
        }
        if self.table_version(id) >= definition.version {
            return false;
        }
        if let Some(old) = self.names.insert(definition.name.clone(), id)
            && old != id
        {
            self.drop_entry(old);
        }
        self.entry(id).definition = Some(Arc::new(definition));
        self.shrink(id);
        true
    }

    /// Takes in a partition unless it is older than what is known of the same partition, or overlaps one that was made later (it
    /// has a larger number: this one was split or merged since). What it overlaps is replaced. Says whether anything changed.
    pub fn learn_partition(&mut self, info: PartitionInfo) -> bool {
        let entry = self.entry(info.table);
        let overlapping: Vec<Bytes> = overlapping(&entry.partitions, &info);
        for start in &overlapping {
            let known = &entry.partitions[start];
            let same = known.partition == info.partition;
            if known.partition > info.partition || same && !info.newer_than(known) {
                return false;
            }
        }
        for start in &overlapping {
            entry.partitions.remove(start);
        }
        let id = info.table;
        entry
            .partitions
            .insert(info.range.start.clone(), Arc::new(info));
        self.partitions = self.partitions + 1 - overlapping.len();
        self.shrink(id);
        true
    }

    /// Forgets a partition of table `id` that is gone.
    pub(crate) fn forget_partition(&mut self, id: TableId, partition: GroupId) {
        if let Some(entry) = self.tables.get_mut(&id) {
            let before = entry.partitions.len();
            entry.partitions.retain(|_, p| p.partition != partition);
            self.partitions -= before - entry.partitions.len();
        }
    }

    /// Forgets a table that is gone.
    pub fn forget_table(&mut self, id: TableId) {
        self.drop_entry(id);
    }

    /// Forgets the table that is known by `name`.
    pub fn forget_name(&mut self, name: &str) {
        if let Some(&id) = self.names.get(name) {
            self.drop_entry(id);
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::new(self.limits.clone());
    }

    /// Tables and partitions kept.
    pub fn len(&self) -> (usize, usize) {
        (self.tables.len(), self.partitions)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    fn entry(&mut self, id: TableId) -> &mut Entry {
        self.tables.entry(id).or_insert_with(|| {
            self.clock.push_back(id);
            Entry::default()
        })
    }

    fn drop_entry(&mut self, id: TableId) {
        let Some(entry) = self.tables.remove(&id) else {
            return;
        };
        self.partitions -= entry.partitions.len();
        self.clock.retain(|&other| other != id);
        if let Some(definition) = entry.definition
            && self.names.get(&definition.name) == Some(&id)
        {
            self.names.remove(&definition.name);
        }
    }

    /// Makes room, sparing the table `newest` that was just added to unless it alone is too large.
    fn shrink(&mut self, newest: TableId) {
        let mut spared = 0;
        while self.tables.len() > self.limits.tables_max.max(1)
            || self.partitions > self.limits.partitions_max.max(1)
        {
            let Some(&id) = self.clock.front() else {
                return;
            };
            let entry = &self.tables[&id];
            let in_use = id == newest || entry.used.swap(false, Ordering::Relaxed);
            if in_use && spared <= self.tables.len() {
                spared += 1;
                self.clock.rotate_left(1);
            } else {
                self.drop_entry(id);
            }
        }
    }
}

/// Starts of the known ranges that overlap `info`'s.
fn overlapping(known: &BTreeMap<Bytes, Arc<PartitionInfo>>, info: &PartitionInfo) -> Vec<Bytes> {
    let range = &info.range;
    let before = (Bound::Unbounded, Bound::Excluded(&range.start[..]));
    let left = known
        .range::<[u8], _>(before)
        .next_back()
        .filter(|(_, p)| p.range.end.is_empty() || p.range.end > range.start)
        .map(|(start, _)| start.clone());
    let from = (Bound::Included(&range.start[..]), Bound::Unbounded);
    let inside = known
        .range::<[u8], _>(from)
        .map(|(start, _)| start)
        .take_while(|start| range.end.is_empty() || **start < range.end)
        .cloned();
    left.into_iter().chain(inside).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{partition, table};

    fn routes() -> Routes {
        Routes::new(RoutesLimits {
            tables_max: 3,
            partitions_max: 6,
        })
    }

    #[test]
    fn finds_tables_by_name_and_partitions_by_key() {
        let mut routes = routes();
        assert!(routes.learn_table(table(20, "music", 1)));
        assert!(routes.learn_partition(partition(7, 20, b"a", b"m", 1)));
        assert!(routes.learn_partition(partition(8, 20, b"m", b"", 1)));
        assert_eq!(routes.table("music").unwrap().id, TableId(20));
        assert!(routes.table("films").is_none());
        assert_eq!(routes.partition(TableId(20), b"c").unwrap().partition.0, 7);
        assert_eq!(routes.partition(TableId(20), b"m").unwrap().partition.0, 8);
        assert_eq!(routes.partition(TableId(20), b"zz").unwrap().partition.0, 8);
        assert!(routes.partition(TableId(20), b"A").is_none());
        assert!(routes.partition(TableId(21), b"c").is_none());
    }

    #[test]
    fn older_news_changes_nothing() {
        let mut routes = routes();
        assert!(routes.learn_table(table(20, "music", 5)));
        assert!(!routes.learn_table(table(20, "music", 5)));
        assert!(!routes.learn_table(table(20, "music", 4)));
        assert!(routes.learn_partition(partition(7, 20, b"a", b"", 3)));
        assert!(!routes.learn_partition(partition(7, 20, b"a", b"", 3)));
        assert!(!routes.learn_partition(partition(7, 20, b"a", b"", 2)));
        assert!(routes.learn_partition(partition(7, 20, b"a", b"", 4)));
        assert_eq!(routes.partition(TableId(20), b"b").unwrap().ballot.round, 4);
        assert_eq!(routes.len(), (1, 1));
    }

    #[test]
    fn a_table_made_again_replaces_the_dropped_one() {
        let mut routes = routes();
        routes.learn_table(table(20, "music", 9));
        routes.learn_partition(partition(7, 20, b"a", b"", 3));
        assert!(routes.learn_table(table(21, "music", 1)));
        assert_eq!(routes.table("music").unwrap().id, TableId(21));
        assert!(routes.partition(TableId(20), b"b").is_none());
        assert!(!routes.learn_table(table(20, "music", 10)));
    }

    #[test]
    fn halves_replace_a_split_partition() {
        let mut routes = routes();
        routes.learn_partition(partition(7, 20, b"a", b"z", 3));
        assert!(routes.learn_partition(partition(9, 20, b"m", b"z", 1)));
        assert!(routes.partition(TableId(20), b"b").is_none());
        assert!(routes.learn_partition(partition(8, 20, b"a", b"m", 1)));
        assert_eq!(routes.partition(TableId(20), b"b").unwrap().partition.0, 8);
        assert_eq!(routes.partition(TableId(20), b"m").unwrap().partition.0, 9);
        assert_eq!(routes.len(), (1, 2));
    }

    #[test]
    fn an_earlier_partition_never_replaces_its_parts() {
        let mut routes = routes();
        routes.learn_partition(partition(8, 20, b"a", b"m", 1));
        assert!(!routes.learn_partition(partition(7, 20, b"a", b"z", 9)));
        assert_eq!(routes.partition(TableId(20), b"b").unwrap().partition.0, 8);
        assert!(routes.partition(TableId(20), b"n").is_none());
        routes.forget_partition(TableId(20), GroupId(8));
        assert_eq!(routes.len(), (1, 0));
        assert!(routes.learn_partition(partition(7, 20, b"a", b"z", 9)));
        assert_eq!(routes.partition(TableId(20), b"n").unwrap().partition.0, 7);
    }

    #[test]
    fn stays_within_its_bounds_and_keeps_what_is_used() {
        let mut routes = routes();
        for id in 0..3 {
            routes.learn_table(table(20 + id, &format!("t{id}"), 1));
        }
        assert!(routes.table("t0").is_some());
        routes.learn_table(table(30, "t9", 1));
        assert_eq!(routes.len().0, 3);
        assert!(routes.table("t0").is_some(), "it was used");
        assert!(routes.table("t1").is_none(), "it was not");
        for n in 0..40u8 {
            routes.learn_partition(partition(100 + u64::from(n), 50, &[n], &[n + 1], 1));
            assert!(routes.len().1 <= 6);
            assert!(routes.len().0 <= 3);
        }
    }

    #[test]
    fn a_forgotten_table_is_gone_by_name_and_number() {
        let mut routes = routes();
        routes.learn_table(table(20, "music", 1));
        routes.learn_partition(partition(7, 20, b"a", b"", 3));
        routes.forget_table(TableId(20));
        assert!(routes.table("music").is_none());
        assert!(routes.is_empty());
        assert_eq!(routes.len(), (0, 0));
        routes.learn_table(table(20, "music", 1));
        routes.forget_name("music");
        assert!(routes.is_empty());
        routes.learn_table(table(20, "music", 1));
        routes.learn_partition(partition(7, 20, b"a", b"", 3));
        routes.clear();
        assert_eq!((routes.len(), routes.table("music")), ((0, 0), None));
    }
}
