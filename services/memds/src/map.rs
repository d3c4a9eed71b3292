//! The routing metadata that a memds node holds: pure, newest wins. Owns tables, their names and what is known to be missing, and
//! answers lookups; `partitions` owns the partitions. Never talks to anyone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use model::{TableDefinition, TableId};
use paxos::GroupId;
use perkle::{Perkle, Summary};
use protocol::directory::{Lookup, LookupAnswer, PartitionInfo, Push, SyncReply, TableRef};

use crate::entry::Kind;
use crate::partitions::{Change, Found, Partitions};

/// Partitions in one sync message; about 300 bytes each.
const SYNC_PARTITIONS_MAX: usize = 1_000;

/// All routing metadata.
#[derive(Debug, Default)]
pub struct RouteMap {
    partitions: Partitions,
    tables: BTreeMap<TableId, Table>,
    names: BTreeMap<String, TableId>,
    /// Names of tables that the system table lists and nobody pushed yet. None: the system table was not read yet.
    missing: Option<BTreeSet<String>>,
}

/// A table of which partitions are known.
#[derive(Debug, Default)]
struct Table {
    definition: Option<TableDefinition>,
    partitions: usize,
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

    /// Number of partitions that a later one overlaps.
    pub fn covered(&self) -> usize {
        self.partitions.covered()
    }

    /// Number of tables.
    pub fn tables(&self) -> usize {
        self.tables.len()
    }

    /// Bytes that the partitions take.
    pub fn memory(&self) -> usize {
        self.partitions.memory()
    }

    /// Number of entries and hash of everything that nodes have in common.
    pub fn root(&self) -> Summary {
        self.partitions.tree.root()
    }

    /// The tree that nodes compare.
    pub(crate) fn tree(&self) -> &Perkle {
        &self.partitions.tree
    }

    /// Whether tables are known to exist that no leader has pushed yet.
    pub fn incomplete(&self) -> bool {
        self.missing
            .as_ref()
            .is_some_and(|missing| !missing.is_empty())
    }

    /// The partition of that number.
    pub fn partition(&self, partition: GroupId) -> Option<PartitionInfo> {
        self.partitions.partition(partition)
    }

    /// Takes in what a leader or a peer says; says how much of it was new. Older than known: ignored.
    pub fn push(&mut self, push: Push) -> usize {
        let mut news = 0;
        for partition in push.dropped {
            let known = self.partitions.is_dropped(partition);
            let change = self.partitions.drop_partition(partition);
            self.count(change);
            news += usize::from(!known);
        }
        news + self.learn(push.partitions, push.tables)
    }

    fn learn(&mut self, partitions: Vec<PartitionInfo>, tables: Vec<TableDefinition>) -> usize {
        let mut news = 0;
        for partition in partitions {
            let change = self.partitions.learn(partition);
            self.count(change);
            news += usize::from(change != Change::None);
        }
        for table in tables {
            news += usize::from(self.learn_table(table));
        }
        news
    }

    fn learn_table(&mut self, definition: TableDefinition) -> bool {
        // A late push of a dropped table's definition must not bring the table back.
        let Some(table) = self.tables.get_mut(&definition.id) else {
            return false;
        };
        if let Some(missing) = &mut self.missing {
            missing.remove(&definition.name);
        }
        if let Some(known) = &table.definition
            && known.version >= definition.version
        {
            return false;
        }
        // A name can be used again by a later table, which has a larger number.
        let newest = self
            .names
            .entry(definition.name.clone())
            .or_insert(definition.id);
        *newest = (*newest).max(definition.id);
        self.partitions
            .note_table(definition.id, definition.version);
        table.definition = Some(definition);
        true
    }

    /// Keeps the number of each table's partitions; a table goes with its last one.
    fn count(&mut self, change: Change) {
        let (added, removed) = match change {
            Change::None => return,
            Change::Added(table) => (Some(table), None),
            Change::Newer { was, is } if was == is => return,
            Change::Newer { was, is } => (Some(is), Some(was)),
            Change::Removed(table) => (None, Some(table)),
        };
        if let Some(id) = added {
            self.tables.entry(id).or_default().partitions += 1;
        }
        let Some(id) = removed else {
            return;
        };
        let Some(table) = self.tables.get_mut(&id) else {
            return;
        };
        table.partitions -= 1;
        if table.partitions > 0 {
            return;
        }
        self.partitions.forget_table(id);
        if let Some(Table {
            definition: Some(definition),
            ..
        }) = self.tables.remove(&id)
            && self.names.get(&definition.name) == Some(&id)
        {
            self.names.remove(&definition.name);
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
        let numbers = self.partitions.numbers_behind(after, SYNC_PARTITIONS_MAX);
        let next = (numbers.len() == SYNC_PARTITIONS_MAX)
            .then(|| numbers.last().copied())
            .flatten();
        let partitions: Vec<PartitionInfo> = numbers
            .into_iter()
            .filter_map(|id| self.partition(id))
            .collect();
        let ids: BTreeSet<TableId> = partitions.iter().map(|p| p.table).collect();
        SyncReply {
            ready: true,
            tables: ids.iter().filter_map(|id| self.definition(*id)).collect(),
            partitions,
            next,
        }
    }

    /// What stands under these keys of the tree.
    pub(crate) fn entries(&self, keys: &[Bytes]) -> Push {
        let mut push = Push {
            node: paxos::NodeId(0),
            partitions: Vec::new(),
            tables: Vec::new(),
            dropped: Vec::new(),
        };
        for key in keys {
            match Kind::of(key) {
                Some(Kind::Table(id)) => push.tables.extend(self.definition(id)),
                Some(Kind::Dropped(id)) if self.partitions.is_dropped(id) => push.dropped.push(id),
                Some(Kind::Dropped(_)) | None => {}
                Some(_) => push.partitions.extend(self.partitions.of_kind(key)),
            }
        }
        push
    }

    fn definition(&self, id: TableId) -> Option<TableDefinition> {
        self.tables.get(&id)?.definition.clone()
    }

    /// Answers one lookup.
    pub fn lookup(&self, lookup: &Lookup) -> LookupAnswer {
        let id = match &lookup.table {
            TableRef::Id(id) => Some(*id),
            TableRef::Name(name) => self.names.get(name).copied(),
        };
        let table = id.and_then(|id| self.tables.get(&id)?.definition.as_ref());
        let Some(table) = table else {
            return self.unknown(&lookup.table);
        };
        let partition = match &lookup.key {
            None => None,
            Some(key) => match self.partitions.floor(table.id, key) {
                Some(partition) => Some(partition),
                // The table is there, the partition was not pushed yet.
                None => return LookupAnswer::NotReady,
            },
        };
        let newer_table = table.version > lookup.known_table_version;
        let newer_partition =
            partition.filter(|partition| self.newer_than_known(partition, lookup));
        if !newer_table && newer_partition.is_none() {
            return LookupAnswer::Unchanged;
        }
        LookupAnswer::Found {
            table: newer_table.then(|| Box::new(table.clone())),
            partition: newer_partition
                .and_then(|partition| self.partitions.info(&partition))
                .map(Box::new),
        }
    }

    fn newer_than_known(&self, partition: &Found<'_>, lookup: &Lookup) -> bool {
        let Some(known) = lookup.known_partition else {
            return true;
        };
        let stamp = partition.stamp();
        match lookup.known_id {
            // The asker may know of a split or merge before this node does, unless that came to nothing.
            Some(id) if id > stamp.partition => self.partitions.is_dropped(id),
            Some(id) if id < stamp.partition => true,
            _ => (stamp.generation, stamp.ballot) > known,
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
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use model::KeyRange;
    use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
    use paxos::{Ballot, NodeId};

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
            on_demand_max: Default::default(),
            ..Default::default()
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
            ..PartitionInfo::default()
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
            known_id: None,
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
