//! A small table with a log of its own making: one partition, which may be split, every entry drawn. Owns the truth: what the table was at each
//! position and at each moment. Writes any part of it into an archive; and knows what every store must do.
#![allow(dead_code, reason = "each test takes what it needs")]

use std::collections::BTreeMap;
use std::sync::Arc;

use archive::check::{Checked, check, follow};
use archive::{Birth, Origin, PartitionRef, SnapshotManifest, Tail};
use bytes::Bytes;
use model::index::{IndexDefinition, IndexKeys, IndexProjection, IndexScope};
use model::key::{COLLECTION_BYTES, table_range};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{IndexId, KeyRange, TableDefinition, TableId, Units};
use objects::{
    ArchiveReader, ArchiveSettings, ArchiveWriter, Honesty, MemoryStore, Objects, Put, PutMode,
    Reason, probe,
};
use partition::{Limits, Partition, PartitionState, command};
use paxos::{Ballot, Configuration, Entry, GroupId, Index, Member, NodeId, Payload, Role};
use proptest::prelude::*;
use protocol::split::Split;

pub const UUID: &str = "0f9a64a8-5d0e-4ad7-9d2b-94f1c2b2c001";
const TABLE: TableId = TableId(20);
pub const PARENT: GroupId = GroupId(3);
pub const LEFT: GroupId = GroupId(7);
pub const RIGHT: GroupId = GroupId(8);

pub type Items = BTreeMap<Bytes, Bytes>;

/// An entry to come.
#[derive(Clone, Debug)]
pub enum Step {
    Put { key: u8, item: u8 },
    Delete { key: u8 },
    Noop,
    Configure,
    Redefine,
}

/// An entry, how much later than the one before its leader's clock was, and whether a new leader made it.
#[derive(Clone, Debug)]
pub struct Drawn {
    step: Step,
    later_ms: i64,
    elected: bool,
}

pub fn drawn() -> impl Strategy<Value = Drawn> {
    let step = prop_oneof![
        6 => (0u8..12, any::<u8>()).prop_map(|(key, item)| Step::Put { key, item }),
        3 => (0u8..12).prop_map(|key| Step::Delete { key }),
        1 => Just(Step::Noop),
        1 => Just(Step::Configure),
        1 => Just(Step::Redefine),
    ];
    (step, -30i64..100, proptest::bool::weighted(0.2)).prop_map(|(step, later_ms, elected)| Drawn {
        step,
        later_ms,
        elected,
    })
}

pub fn key(n: u8) -> Bytes {
    let mut key = TABLE.0.to_be_bytes().to_vec();
    key.extend([0, 0, n]);
    key.into()
}

pub fn definition() -> TableDefinition {
    TableDefinition {
        id: TABLE,
        name: "films".into(),
        version: 1,
        keys: KeySchema {
            partition: KeyAttribute {
                name: "title".into(),
                kind: ScalarType::S,
            },
            sort: None,
        },
        billing: BillingMode::PayPerRequest,
        status: TableStatus::Active,
        created_ms: 0,
        uuid: UUID.into(),
        deletion_protection: false,
        table_class: None,
        tags: Default::default(),
        throughput_changes: Default::default(),
        on_demand_max: Default::default(),
        ..Default::default()
    }
}

/// A partition's whole log, and what it led to after each entry.
#[derive(Clone, Debug)]
pub struct Log {
    pub birth: Birth,
    pub entries: Vec<Entry>,
    /// Tail, state and items after as many entries as the number says.
    pub after: Vec<(Tail, PartitionState, Items)>,
    time_ms: i64,
    ballot: Ballot,
}

impl Log {
    fn begin(birth: Birth, state: PartitionState, items: Items, time_ms: i64) -> Log {
        Log {
            entries: Vec::new(),
            after: vec![(birth.tail(), state, items)],
            birth,
            time_ms,
            ballot: Ballot {
                round: 1,
                node: NodeId(1),
            },
        }
    }

    pub fn partition(&self) -> &PartitionRef {
        &self.birth.partition
    }

    pub fn id(&self) -> GroupId {
        self.birth.partition.partition
    }

    fn last(&self) -> &(Tail, PartitionState, Items) {
        self.after.last().unwrap()
    }

    /// Position of the last entry.
    pub fn end(&self) -> Index {
        self.last().0.index
    }

    /// The items at a position.
    pub fn items_at(&self, index: Index) -> &Items {
        &self.after[(index - self.birth.begins()) as usize].2
    }

    /// The last position whose commands are all of this time or earlier.
    pub fn position_at(&self, time_ms: u64) -> Index {
        let at = self
            .after
            .iter()
            .take_while(|(tail, ..)| tail.time_ms <= time_ms);
        at.last()
            .map_or(self.birth.begins(), |(tail, ..)| tail.index)
    }

    fn now_ms(&self) -> u64 {
        self.time_ms as u64
    }

    fn push(&mut self, payload: Payload) {
        let (tail, state, items) = self.last();
        let entry = Entry {
            index: tail.index + 1,
            ballot: self.ballot,
            payload,
        };
        let tail = follow(&self.birth, tail, &entry).unwrap();
        let mut machine = Partition::<()>::new(state.clone(), Limits::default());
        machine.apply(&entry, &mut Vec::new()).unwrap();
        let mut items = items.clone();
        if let Some(batch) = machine.seal() {
            for (key, item) in batch.items.iter() {
                match item {
                    Some(item) => items.insert(key.clone(), item.clone()),
                    None => items.remove(key),
                };
            }
        }
        let state = machine.state().clone();
        self.after.push((tail, state, items));
        self.entries.push(entry);
    }

    /// A command that comes so much later than the one before.
    pub fn command(&mut self, later_ms: i64, make: impl FnOnce(u64) -> Bytes) {
        self.time_ms += later_ms;
        let command = make(self.now_ms());
        self.push(Payload::Command(command));
    }

    fn take(&mut self, drawn: &Drawn) {
        self.time_ms += drawn.later_ms;
        if drawn.elected {
            self.ballot.round += 1;
            self.push(Payload::Noop);
        }
        let (_, state, items) = self.last();
        let (state, range) = (state.clone(), self.birth.range.clone());
        let size = |key: &Bytes| items.get(key).map_or(0, |item| item.len() as u64);
        let payload = match &drawn.step {
            Step::Put { key: n, item } if range.contains(&key(*n)) => {
                let (key, item) = (key(*n), vec![*item; 1 + usize::from(*item % 7)]);
                let sizes = (size(&key), item.len() as u64);
                Payload::Command(command::encode_write(
                    self.now_ms(),
                    &key,
                    Some(&item),
                    sizes.0,
                    sizes.1,
                ))
            }
            Step::Delete { key: n } if range.contains(&key(*n)) => {
                let key = key(*n);
                Payload::Command(command::encode_write(
                    self.now_ms(),
                    &key,
                    None,
                    size(&key),
                    0,
                ))
            }
            Step::Configure => {
                let member = |node| Member {
                    node: NodeId(node),
                    role: Role::Storage,
                    incarnation: node,
                };
                Payload::Config(Configuration {
                    generation: state.configuration.generation + 1,
                    members: vec![member(1), member(2), member(3)],
                    ..Configuration::default()
                })
            }
            Step::Redefine => {
                let newer = TableDefinition {
                    version: state.table.version + 1,
                    ..state.table
                };
                Payload::Command(command::encode_set_table(self.now_ms(), &newer).unwrap())
            }
            _ => Payload::Noop,
        };
        self.push(payload);
    }

    /// Entries `first..=last` as they would be uploaded.
    pub fn checked(&self, first: Index, last: Index) -> Checked {
        let at = |index: Index| (index - self.birth.begins()) as usize;
        let before = &self.after[at(first - 1)].0;
        check(&self.birth, before, &self.entries[at(first - 1)..at(last)]).unwrap()
    }

    /// Snapshot at a position.
    pub async fn write_snapshot(&self, writer: &ArchiveWriter, index: Index) -> SnapshotManifest {
        let (tail, state, items) = &self.after[(index - self.birth.begins()) as usize];
        let pairs: Vec<(Bytes, Bytes)> = items
            .iter()
            .map(|(key, item)| (key.clone(), item.clone()))
            .collect();
        let entries = items.keys().filter(|key| state.table.is_entry(key)).count() as u64;
        let mut parts = Vec::new();
        for (number, pairs) in (0..).zip(pairs.chunks(3)) {
            parts.push(
                writer
                    .part(self.partition(), index, number, pairs)
                    .await
                    .unwrap(),
            );
        }
        let state = PartitionState {
            items: items.len() as u64 - entries,
            entries,
            ..state.clone()
        };
        let manifest = SnapshotManifest::of(self.partition(), &state, tail, parts);
        writer.snapshot(&manifest).await.unwrap();
        manifest
    }
}

/// The table: the parent's log, then, if it was split, the children's.
#[derive(Clone, Debug)]
pub struct World {
    pub logs: Vec<Log>,
}

pub fn world(split: bool) -> impl Strategy<Value = World> {
    let steps = |least| proptest::collection::vec(drawn(), least..40);
    (steps(1), steps(0), steps(0), 1u8..12).prop_map(move |(parent, left, right, point)| {
        World::new(&parent, split.then_some((&left[..], &right[..], point)))
    })
}

impl World {
    pub fn new(parent: &[Drawn], split: Option<(&[Drawn], &[Drawn], u8)>) -> World {
        let birth = Birth {
            partition: PartitionRef::new(UUID, PARENT).unwrap(),
            range: table_range(TABLE),
            origin: Origin::Founded,
            table: definition(),
        };
        let state = birth.state();
        let mut log = Log::begin(birth, state, Items::new(), 1_000);
        parent.iter().for_each(|drawn| log.take(drawn));
        match split {
            Some((left, right, point)) => World::divide(log, (left, right, point)),
            None => World { logs: vec![log] },
        }
    }

    /// Splits a table of one partition, and goes on in its children.
    pub fn divide(mut log: Log, (left, right, point): (&[Drawn], &[Drawn], u8)) -> World {
        let split = Split {
            point: key(point),
            left: LEFT,
            right: RIGHT,
            committed: None,
        };
        log.push(Payload::Command(
            command::encode_begin_split(log.now_ms(), &split).unwrap(),
        ));
        log.push(Payload::Command(
            command::encode_commit_split(log.now_ms(), LEFT).unwrap(),
        ));
        let at = log.end();
        // The parent's group goes on for a while.
        log.push(Payload::Noop);
        let children =
            partition::split::SIDES
                .into_iter()
                .zip([left, right])
                .map(|(side, steps)| {
                    let (_, state, items) = log.last();
                    let split = state.split.as_ref().unwrap();
                    let committed = split.committed.as_ref().unwrap();
                    let begun =
                        partition::split::begun_child(state, PARENT, split, committed, side);
                    let birth = Birth {
                        partition: PartitionRef::new(UUID, partition::split::child_of(split, side))
                            .unwrap(),
                        range: begun.range.clone(),
                        origin: Origin::Split { parent: PARENT, at },
                        table: begun.table.clone(),
                    };
                    let own = items.iter().filter(|(key, _)| begun.range.contains(key));
                    let own: Items = own.map(|(key, item)| (key.clone(), item.clone())).collect();
                    let begun = PartitionState {
                        items: own.len() as u64,
                        ..begun
                    };
                    let mut child = Log::begin(birth, begun, own, log.time_ms);
                    steps.iter().for_each(|drawn| child.take(drawn));
                    child
                });
        let children: Vec<Log> = children.collect();
        World {
            logs: std::iter::once(log).chain(children).collect(),
        }
    }

    /// One partition of a table with a local index: so many writes, each of which puts an item and moves its entry.
    pub fn indexed(writes: u8) -> World {
        let mut table = definition();
        table.indexes = vec![IndexDefinition {
            id: IndexId(1),
            name: "by-year".into(),
            scope: IndexScope::Local,
            keys: IndexKeys::default(),
            projection: IndexProjection::All,
        }];
        let birth = Birth {
            partition: PartitionRef::new(UUID, PARENT).unwrap(),
            range: table_range(TABLE),
            origin: Origin::Founded,
            table,
        };
        let place = |slot: u8, number: u8| {
            let mut place = key(0).to_vec();
            place.resize(COLLECTION_BYTES, 0);
            place.extend([slot, number]);
            Bytes::from(place)
        };
        let state = birth.state();
        let mut log = Log::begin(birth, state, Items::new(), 1_000);
        for number in 0..writes {
            log.time_ms += 10;
            let item = place(0, number % 5);
            let old = log.last().2.get(&item).map_or(0, |old| old.len() as u64);
            let write = command::encode_write(log.now_ms(), &item, Some(&[number; 3]), old, 3);
            let mut entries = vec![(place(1, number), Some(Bytes::from_static(b"e")))];
            if let Some(before) = number.checked_sub(5) {
                entries.push((place(1, before), None));
            }
            let write = command::with_entries(log.now_ms(), write, &entries, Units::ZERO);
            log.push(Payload::Command(write));
        }
        World { logs: vec![log] }
    }

    pub fn log(&self, id: GroupId) -> &Log {
        self.logs.iter().find(|log| log.id() == id).unwrap()
    }

    /// The whole table at a moment; none = at the end.
    pub fn table_at(&self, time_ms: Option<u64>) -> Items {
        let ended = self.logs[0]
            .last()
            .0
            .split
            .filter(|mark| time_ms.is_none_or(|time_ms| mark.time_ms <= time_ms));
        let logs = match ended {
            Some(_) => &self.logs[1..],
            None => &self.logs[..1],
        };
        let items = logs.iter().flat_map(|log| {
            let index = time_ms.map_or(log.end(), |time_ms| log.position_at(time_ms));
            log.items_at(index).clone()
        });
        items.collect()
    }

    /// All times at which something happened, and those around them.
    pub fn times(&self) -> Vec<u64> {
        let all = self.logs.iter().flat_map(|log| &log.after);
        let mut times: Vec<u64> = all
            .flat_map(|(tail, ..)| {
                [
                    tail.time_ms.saturating_sub(1),
                    tail.time_ms,
                    tail.time_ms + 1,
                ]
            })
            .collect();
        times.sort_unstable();
        times.dedup();
        times
    }
}

/// An archive in memory.
pub struct Archive {
    pub store: Arc<MemoryStore>,
    pub reader: ArchiveReader,
    pub writer: ArchiveWriter,
}

pub fn settings() -> ArchiveSettings {
    ArchiveSettings {
        attempts_max: 3,
        pause_ms: 1,
        pause_ms_max: 2,
        timeout_ms: 2_000,
        ..ArchiveSettings::default()
    }
}

impl Archive {
    pub fn new() -> Archive {
        let store = Arc::new(MemoryStore::default());
        let objects = Objects::over(store.clone(), &settings());
        Archive {
            store,
            reader: ArchiveReader::new(objects.clone()),
            writer: ArchiveWriter::new(objects),
        }
    }

    /// Writes a log in segments of at most this many entries.
    pub async fn write(&self, log: &Log, entries_max: u64) {
        self.writer.birth(&log.birth).await.unwrap();
        let mut first = log.birth.begins() + 1;
        while first <= log.end() {
            let last = (first + entries_max - 1).min(log.end());
            self.writer
                .segment(&log.checked(first, last))
                .await
                .unwrap();
            first = last + 1;
        }
    }
}

pub fn range(from: u8, to: u8) -> KeyRange {
    KeyRange {
        start: key(from),
        end: key(to),
    }
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

/// What every store must do.
pub async fn conform(objects: &Objects) {
    let body = Bytes::from_static(b"one");
    assert_eq!(
        objects.put("a/b/1", body.clone(), PutMode::Create).await,
        Ok(Put::Written)
    );
    assert_eq!(
        objects
            .put("a/b/1", Bytes::from_static(b"two"), PutMode::Create)
            .await,
        Ok(Put::Exists)
    );
    assert_eq!(objects.get("a/b/1").await, Ok(body));
    objects
        .put("a/b/1", Bytes::new(), PutMode::Replace)
        .await
        .unwrap();
    assert_eq!(objects.get("a/b/1").await, Ok(Bytes::new()));
    objects
        .put("a/c/2", Bytes::from_static(b"2"), PutMode::Create)
        .await
        .unwrap();
    objects
        .put("a/b/0", Bytes::from_static(b"0"), PutMode::Create)
        .await
        .unwrap();
    let listed = objects.list("a/b/").await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|l| (&l.key[..], l.bytes))
            .collect::<Vec<_>>(),
        [("a/b/0", 1), ("a/b/1", 0)]
    );
    assert_eq!(objects.list("a/x/").await, Ok(Vec::new()));
    assert_eq!(objects.folders("a/").await.unwrap(), ["a/b/", "a/c/"]);
    assert_eq!(objects.folders("x/").await, Ok(Vec::new()));
    objects.delete("a/c/2").await.unwrap();
    objects.delete("a/c/2").await.unwrap();
    let error = objects.get("a/c/2").await.unwrap_err();
    assert_eq!(error.reason, Reason::NotFound);
    assert!(error.to_string().contains("a/c/2"), "{error}");
    let few = ArchiveSettings {
        listed_max: 1,
        object_bytes_max: 2,
        ..objects.settings().clone()
    };
    let few = Objects::over(objects.store(), &few);
    assert_eq!(
        few.list("a/").await.unwrap_err().reason,
        Reason::TooLarge(1)
    );
    objects
        .put("a/large", Bytes::from_static(b"large"), PutMode::Create)
        .await
        .unwrap();
    assert_eq!(
        few.get("a/large").await.unwrap_err().reason,
        Reason::TooLarge(2)
    );
    assert_eq!(probe(objects).await, Ok(Honesty::Honest));
    assert_eq!(
        objects.list("probes/").await,
        Ok(Vec::new()),
        "the probe tidies up"
    );
}
