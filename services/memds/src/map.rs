//! The routing metadata that a memds node holds: pure, newest wins. Owns tables, partitions and what is known to be missing; never
//! talks to anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use model::{EncodedKey, TableDefinition, TableId};
use paxos::{Ballot, GroupId};
use protocol::directory::{Lookup, LookupAnswer, PartitionInfo, Push, SyncReply, TableRef};

/// Dropped partitions that are remembered, so that a push that was under way does not bring them back. Partition numbers are
/// never used again, so forgetting the smallest first is safe in practice: its pushes are long gone.
const TOMBSTONES_MAX: usize = 100_000;

/// Partitions in one sync message; about 300 bytes each.
const SYNC_PARTITIONS_MAX: usize = 1_000;

/// All routing metadata.
#[derive(Debug, Default)]
pub struct RouteMap {
    tables: BTreeMap<TableId, TableDefinition>,
    names: BTreeMap<String, TableId>,
    partitions: BTreeMap<GroupId, PartitionInfo>,
    ranges: BTreeMap<TableId, BTreeMap<EncodedKey, GroupId>>,
    dropped: BTreeSet<GroupId>,
    /// Names of tables that the system table lists and nobody pushed yet. None: the system table was not read yet.
    missing: Option<BTreeSet<String>>,
}

impl RouteMap {
    /// Whether "there is no such table" may be said.
    pub fn ready(&self) -> bool {
        self.missing.is_some()
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Number of tables.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Whether tables are known to exist that no leader has pushed yet.
    pub fn incomplete(&self) -> bool {
        self.missing
            .as_ref()
            .is_some_and(|missing| !missing.is_empty())
    }

    /// The partition of that number.
    pub fn partition(&self, partition: GroupId) -> Option<&PartitionInfo> {
        self.partitions.get(&partition)
    }

    /// Takes in what a leader says. Older than known: ignored.
    pub fn push(&mut self, push: Push) {
        for partition in push.dropped {
            self.drop_partition(partition);
        }
        self.learn(push.partitions, push.tables);
    }

    fn learn(&mut self, partitions: Vec<PartitionInfo>, tables: Vec<TableDefinition>) {
        for partition in partitions {
            self.learn_partition(partition);
        }
        for table in tables {
            // A late push of a dropped table's definition must not bring the table back.
            if self.ranges.contains_key(&table.id) {
                self.learn_table(table);
            }
        }
    }

    fn learn_table(&mut self, table: TableDefinition) {
        if let Some(missing) = &mut self.missing {
            missing.remove(&table.name);
        }
        if let Some(known) = self.tables.get(&table.id)
            && known.version >= table.version
        {
            return;
        }
        // A name can be used again by a later table, which has a larger number.
        let newest = self.names.entry(table.name.clone()).or_insert(table.id);
        *newest = (*newest).max(table.id);
        self.tables.insert(table.id, table);
    }

    fn learn_partition(&mut self, partition: PartitionInfo) {
        if self.dropped.contains(&partition.partition) {
            return;
        }
        if let Some(known) = self.partitions.get(&partition.partition) {
            if !partition.newer_than(known) && partition.table_version <= known.table_version {
                return;
            }
            if known.range.start != partition.range.start {
                let start = known.range.start.clone();
                if let Some(ranges) = self.ranges.get_mut(&partition.table) {
                    ranges.remove(&start);
                }
            }
        }
        self.ranges
            .entry(partition.table)
            .or_default()
            .insert(partition.range.start.clone(), partition.partition);
        self.partitions.insert(partition.partition, partition);
    }

    fn drop_partition(&mut self, partition: GroupId) {
        self.dropped.insert(partition);
        if self.dropped.len() > TOMBSTONES_MAX {
            self.dropped.pop_first();
        }
        let Some(known) = self.partitions.remove(&partition) else {
            return;
        };
        let Some(ranges) = self.ranges.get_mut(&known.table) else {
            return;
        };
        ranges.remove(&known.range.start);
        if !ranges.is_empty() {
            return;
        }
        self.ranges.remove(&known.table);
        if let Some(table) = self.tables.remove(&known.table)
            && self.names.get(&table.name) == Some(&table.id)
        {
            self.names.remove(&table.name);
        }
    }

    /// Takes in the table names that a strong scan of the system table gave: the map is ready from then on, and says "not ready"
    /// for those of them that nobody pushed yet.
    pub fn expect_tables(&mut self, names: impl IntoIterator<Item = String>) {
        let missing = names
            .into_iter()
            .filter(|name| !self.names.contains_key(name))
            .collect();
        self.missing = Some(missing);
    }

    /// Takes in a part of a ready peer's map.
    pub fn sync(&mut self, reply: SyncReply) {
        self.learn(reply.partitions, reply.tables);
        if reply.next.is_none() && reply.ready && self.missing.is_none() {
            self.missing = Some(BTreeSet::new());
        }
    }

    /// A part of this map for a peer.
    pub fn part(&self, after: GroupId) -> SyncReply {
        if !self.ready() || self.incomplete() {
            return SyncReply {
                ready: false,
                partitions: Vec::new(),
                tables: Vec::new(),
                next: None,
            };
        }
        let partitions: Vec<PartitionInfo> = self
            .partitions
            .range((Bound::Excluded(after), Bound::Unbounded))
            .take(SYNC_PARTITIONS_MAX)
            .map(|(_, partition)| partition.clone())
            .collect();
        let ids: BTreeSet<TableId> = partitions.iter().map(|p| p.table).collect();
        let next = (partitions.len() == SYNC_PARTITIONS_MAX)
            .then(|| partitions.last().map(|p| p.partition))
            .flatten();
        SyncReply {
            ready: true,
            tables: ids
                .iter()
                .filter_map(|id| self.tables.get(id).cloned())
                .collect(),
            partitions,
            next,
        }
    }

    /// Answers one lookup.
    pub fn lookup(&self, lookup: &Lookup) -> LookupAnswer {
        let id = match &lookup.table {
            TableRef::Id(id) => Some(*id),
            TableRef::Name(name) => self.names.get(name).copied(),
        };
        let Some(table) = id.and_then(|id| self.tables.get(&id)) else {
            return self.unknown(&lookup.table);
        };
        let partition = match &lookup.key {
            None => None,
            Some(key) => match self.floor(table.id, key) {
                Some(partition) => Some(partition),
                // The table is there, the partition was not pushed yet.
                None => return LookupAnswer::NotReady,
            },
        };
        let newer_table = table.version > lookup.known_table_version;
        let newer_partition = partition.is_some_and(|partition| {
            newer_than_known(partition, lookup.known_partition)
                || partition.table_version < table.version && lookup.known_partition.is_none()
        });
        if !newer_table && !newer_partition {
            return LookupAnswer::Unchanged;
        }
        LookupAnswer::Found {
            table: newer_table.then(|| Box::new(table.clone())),
            partition: partition
                .filter(|_| newer_partition)
                .map(|partition| Box::new(partition.clone())),
        }
    }

    fn unknown(&self, table: &TableRef) -> LookupAnswer {
        match (&self.missing, table) {
            (None, _) => LookupAnswer::NotReady,
            (Some(missing), TableRef::Name(name)) if missing.contains(name) => {
                LookupAnswer::NotReady
            }
            (Some(_), TableRef::Id(TableId(id))) if *id < 16 => LookupAnswer::NotReady,
            (Some(_), _) => LookupAnswer::NoTable,
        }
    }

    fn floor(&self, table: TableId, key: &EncodedKey) -> Option<&PartitionInfo> {
        let (_, group) = self
            .ranges
            .get(&table)?
            .range::<EncodedKey, _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()?;
        self.partitions
            .get(group)
            .filter(|partition| partition.range.contains(key))
    }
}

fn newer_than_known(partition: &PartitionInfo, known: Option<(u64, Ballot)>) -> bool {
    known.is_none_or(|known| (partition.generation, partition.ballot) > known)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::KeyRange;
    use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
    use paxos::NodeId;

    use super::*;

    fn table(id: u64, name: &str, version: u64) -> TableDefinition {
        TableDefinition {
            id: TableId(id),
            name: name.to_owned(),
            version,
            keys: KeySchema {
                partition: KeyAttribute {
                    name: "pk".to_owned(),
                    kind: ScalarType::S,
                },
                sort: None,
            },
            billing: BillingMode::PayPerRequest,
            status: TableStatus::Active,
            created_ms: 0,
            uuid: String::new(),
            deletion_protection: false,
            table_class: None,
            tags: BTreeMap::new(),
            throughput_changes: Default::default(),
        }
    }

    fn partition(
        id: u64,
        table: u64,
        start: &'static [u8],
        end: &'static [u8],
        round: u64,
    ) -> PartitionInfo {
        PartitionInfo {
            partition: GroupId(id),
            table: TableId(table),
            range: KeyRange {
                start: Bytes::from_static(start),
                end: Bytes::from_static(end),
            },
            generation: 1,
            ballot: Ballot {
                round,
                node: NodeId(1),
            },
            leader: Some(NodeId(1)),
            members: Vec::new(),
            learners: Vec::new(),
            progress: Vec::new(),
            changing: false,
            table_version: 1,
            items: 0,
            bytes: 0,
        }
    }

    fn push(tables: Vec<TableDefinition>, partitions: Vec<PartitionInfo>) -> Push {
        Push {
            node: NodeId(1),
            partitions,
            tables,
            dropped: Vec::new(),
        }
    }

    fn by_name(name: &str, key: &'static [u8]) -> Lookup {
        Lookup {
            table: TableRef::Name(name.to_owned()),
            key: Some(Bytes::from_static(key)),
            known_table_version: 0,
            known_partition: None,
        }
    }

    fn found(answer: LookupAnswer) -> GroupId {
        match answer {
            LookupAnswer::Found {
                partition: Some(partition),
                ..
            } => partition.partition,
            other => panic!("{other:?}"),
        }
    }

    fn two_partitions() -> RouteMap {
        let mut map = RouteMap::default();
        map.push(push(
            vec![table(20, "t", 1)],
            vec![
                partition(7, 20, b"a", b"m", 1),
                partition(8, 20, b"m", b"z", 1),
            ],
        ));
        map
    }

    #[test]
    fn finds_the_partition_that_holds_the_key() {
        let map = two_partitions();
        assert_eq!(found(map.lookup(&by_name("t", b"b"))), GroupId(7));
        assert_eq!(found(map.lookup(&by_name("t", b"m"))), GroupId(8));
        assert!(matches!(
            map.lookup(&by_name("t", b"zz")),
            LookupAnswer::NotReady
        ));
    }

    #[test]
    fn says_no_table_only_once_the_system_table_was_read() {
        let mut map = two_partitions();
        assert!(matches!(
            map.lookup(&by_name("x", b"b")),
            LookupAnswer::NotReady
        ));
        map.expect_tables(["t".to_owned(), "late".to_owned()]);
        assert!(matches!(
            map.lookup(&by_name("x", b"b")),
            LookupAnswer::NoTable
        ));
        assert!(matches!(
            map.lookup(&by_name("late", b"b")),
            LookupAnswer::NotReady
        ));
        assert!(map.incomplete());
        map.push(push(
            vec![table(21, "late", 1)],
            vec![partition(9, 21, b"", b"", 1)],
        ));
        assert!(!map.incomplete());
        assert_eq!(found(map.lookup(&by_name("late", b"b"))), GroupId(9));
    }

    #[test]
    fn newest_wins_whatever_the_order() {
        let mut map = two_partitions();
        map.push(push(vec![], vec![partition(7, 20, b"a", b"m", 5)]));
        map.push(push(vec![], vec![partition(7, 20, b"a", b"m", 3)]));
        assert_eq!(map.partition(GroupId(7)).map(|p| p.ballot.round), Some(5));
        let mut known = by_name("t", b"b");
        known.known_table_version = 1;
        known.known_partition = Some((
            1,
            Ballot {
                round: 5,
                node: NodeId(1),
            },
        ));
        assert!(matches!(map.lookup(&known), LookupAnswer::Unchanged));
    }

    #[test]
    fn a_dropped_table_stays_dropped_and_its_name_is_free() {
        let mut map = two_partitions();
        map.expect_tables([]);
        map.push(Push {
            dropped: vec![GroupId(7), GroupId(8)],
            ..push(vec![], vec![])
        });
        map.push(push(
            vec![table(20, "t", 1)],
            vec![partition(7, 20, b"a", b"m", 9)],
        ));
        assert!(matches!(
            map.lookup(&by_name("t", b"b")),
            LookupAnswer::NoTable
        ));
        map.push(push(
            vec![table(30, "t", 1)],
            vec![partition(40, 30, b"", b"", 1)],
        ));
        assert_eq!(found(map.lookup(&by_name("t", b"b"))), GroupId(40));
    }

    #[test]
    fn a_peer_copies_everything() {
        let mut map = two_partitions();
        map.expect_tables(["t".to_owned()]);
        let mut copy = RouteMap::default();
        copy.sync(map.part(GroupId(0)));
        assert!(copy.ready());
        assert_eq!(copy.partitions(), 2);
        assert_eq!(found(copy.lookup(&by_name("t", b"b"))), GroupId(7));
    }

    #[test]
    fn an_unready_peer_gives_nothing() {
        let mut copy = RouteMap::default();
        copy.sync(two_partitions().part(GroupId(0)));
        assert!(!copy.ready());
        assert_eq!(copy.partitions(), 0);
    }
}
