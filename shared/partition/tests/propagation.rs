//! Global indexes: whatever is lost, repeated or late on the way, and whoever leads, an index holds in the end what a recomputation from the
//! items gives.

mod common;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use common::{MapTree, entry, number, text};
use model::codec::encode_item;
use model::index::{
    FIRST_GLOBAL, GlobalIndex, IndexDefinition, IndexKeys, IndexOf, IndexProjection, IndexScope,
};
use model::key::{key_from_item, table_range};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{IndexId, Item, KeyRange, TableDefinition, TableId};
use partition::propagation::Run;
use partition::{Evaluated, Limits, Partition, PartitionState, command};
use paxos::Index;
use proptest::prelude::*;
use protocol::item::{ItemFault, ItemReply, ReturnValues, Write, WriteAction};
use protocol::propagate::{IndexChange, Propagate};

const INDEX: IndexId = IndexId(FIRST_GLOBAL);
const INDEX_TABLE: TableId = TableId(21);

fn attribute(name: &str, kind: ScalarType) -> KeyAttribute {
    KeyAttribute {
        name: name.to_owned(),
        kind,
    }
}

/// A table whose items' `a` and `b` are an index's partition and sort key.
fn table(indexed: bool, version: u64) -> TableDefinition {
    let index = IndexDefinition {
        id: INDEX,
        name: "by-a".to_owned(),
        scope: IndexScope::Global(GlobalIndex {
            table: INDEX_TABLE,
            status: TableStatus::Creating,
            backfilling: true,
            billing: BillingMode::PayPerRequest,
            maximum: Default::default(),
            warm: Default::default(),
        }),
        keys: IndexKeys {
            partition: vec![attribute("a", ScalarType::N)],
            sort: vec![attribute("b", ScalarType::S)],
        },
        projection: IndexProjection::Include(vec!["c".to_owned()]),
    };
    TableDefinition {
        version,
        keys: KeySchema {
            partition: attribute("pk", ScalarType::S),
            sort: None,
        },
        indexes: indexed.then_some(index).into_iter().collect(),
        ..common::table()
    }
}

fn index_table() -> TableDefinition {
    let base = table(true, 1);
    TableDefinition {
        id: INDEX_TABLE,
        index_of: Some(Box::new(IndexOf {
            base: base.id,
            base_keys: base.keys.clone(),
            keys: base.indexes[0].keys.clone(),
        })),
        indexes: Vec::new(),
        ..base
    }
}

/// A partition, its B-tree, and its log.
struct Place {
    partition: Partition<u64>,
    tree: MapTree,
    log: Vec<Bytes>,
}

impl Place {
    fn new(table: TableDefinition) -> Self {
        let state = PartitionState {
            range: table_range(table.id),
            table,
            ..common::state()
        };
        Self {
            partition: Partition::new(state, Limits::default()),
            tree: MapTree::default(),
            log: Vec::new(),
        }
    }

    /// Proposes and commits.
    fn commit(&mut self, command: Bytes) -> Vec<(u64, ItemReply)> {
        self.log.push(command);
        let index = self.log.len() as Index;
        self.partition.proposed(index);
        let mut answers = Vec::new();
        let last = &self.log[self.log.len() - 1];
        self.partition
            .apply(&entry(index, last), &mut answers)
            .expect("applies");
        answers
    }

    fn flush(&mut self) {
        if let Some(batch) = self.partition.seal() {
            self.tree.flush(&batch);
            self.partition.flushed(batch.state.applied);
        }
    }

    fn write(&mut self, key: &Bytes, action: WriteAction) {
        let write = Write {
            key: key.clone(),
            action,
            condition: None,
            return_values: ReturnValues::None,
            return_on_failure: false,
        };
        let evaluated = self.partition.evaluate(&self.tree, &write, 1, 0);
        match evaluated.expect("healthy") {
            Evaluated::Propose(command) => drop(self.commit(command)),
            other => panic!("{other:?}"),
        }
    }

    fn bring(&mut self, propagate: &Propagate) -> bool {
        let evaluated = self
            .partition
            .evaluate_entries(&self.tree, propagate, 1, 0)
            .expect("healthy");
        match evaluated {
            Evaluated::Propose(command) => {
                let answers = self.commit(command);
                assert!(matches!(answers[..], [(0, ItemReply::Written { .. })]));
                true
            }
            Evaluated::Answer(_, ItemReply::Written { .. }) => true,
            Evaluated::Answer(_, ItemReply::Fault(ItemFault::NotReady)) => false,
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put {
        pk: u8,
        a: Option<u8>,
        b: Option<u8>,
        c: u8,
    },
    Delete {
        pk: u8,
    },
    /// The leader sends its next run: to each half of the index it may be lost on the way, or come but its answer be lost; a copy of it comes
    /// later.
    Send {
        lost: [bool; 2],
        unheard: bool,
        late: bool,
    },
    /// A message that was on its way for long comes.
    Late,
    /// Another leader: it knows what is in the log.
    Lead,
    Flush,
    /// The definition with the index goes into the log.
    Index,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6u8, proptest::option::of(0..3u8), proptest::option::of(0..3u8), 0..3u8)
            .prop_map(|(pk, a, b, c)| Step::Put { pk, a, b, c }),
        2 => (0..6u8).prop_map(|pk| Step::Delete { pk }),
        5 => (any::<[bool; 2]>(), any::<bool>(), any::<bool>())
            .prop_map(|(lost, unheard, late)| Step::Send { lost, unheard, late }),
        2 => Just(Step::Late),
        1 => Just(Step::Lead),
        1 => Just(Step::Flush),
        1 => Just(Step::Index),
    ];
    proptest::collection::vec(step, 1..80)
}

struct World {
    base: Place,
    /// Two partitions of the index.
    halves: [Place; 2],
    delivered: (Index, u32),
    late: VecDeque<(usize, Propagate)>,
    items: BTreeMap<Bytes, Item>,
}

impl World {
    fn new() -> Self {
        let middle = model::key::hash_middle(&table_range(INDEX_TABLE)).expect("a middle");
        let whole = table_range(INDEX_TABLE);
        let half = |range: KeyRange| {
            let mut place = Place::new(index_table());
            let state = PartitionState {
                range,
                ..place.partition.state().clone()
            };
            place.partition = Partition::new(state, Limits::default());
            place
        };
        Self {
            base: Place::new(table(false, 1)),
            halves: [
                half(KeyRange {
                    start: whole.start.clone(),
                    end: middle.clone(),
                }),
                half(KeyRange {
                    start: middle,
                    end: whole.end,
                }),
            ],
            delivered: (0, 0),
            late: VecDeque::new(),
            items: BTreeMap::new(),
        }
    }

    fn messages(&self, run: &Run) -> Vec<(usize, Propagate)> {
        let entries = run.entries.get(&INDEX).cloned().unwrap_or_default();
        let of = |half: usize| {
            let range = &self.halves[half].partition.state().range;
            let within = entries.iter().filter(|(key, _)| range.contains(key));
            Propagate {
                source: self.base.partition.state().range.clone(),
                upto: run.upto,
                entries: within
                    .map(|(key, item)| IndexChange {
                        key: key.clone(),
                        item: item.clone(),
                    })
                    .collect(),
            }
        };
        (0..2)
            .map(|half| (half, of(half)))
            .filter(|(_, message)| !message.entries.is_empty())
            .collect()
    }

    /// Sends the next run; whether there was one.
    fn send(&mut self, lost: [bool; 2], unheard: bool, late: bool) -> bool {
        let run = self
            .base
            .partition
            .next_run(&self.base.tree, self.delivered)
            .expect("healthy");
        let Some(run) = run else { return false };
        let mut all = !unheard;
        for (half, message) in self.messages(&run) {
            if late {
                self.late.push_back((half, message.clone()));
            }
            all &= !lost[half] && self.halves[half].bring(&message);
        }
        if all {
            self.delivered = self.delivered.max(run.upto);
            let noted = self.base.partition.acknowledge(run.position, 1);
            let filled = run
                .backfill
                .and_then(|backfill| self.base.partition.note_backfill(&backfill, 1));
            for command in noted.into_iter().chain(filled) {
                self.base.commit(command);
            }
        }
        true
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Put { pk, a, b, c } => {
                let mut item = Item::from([
                    ("pk".to_owned(), text(&pk.to_string())),
                    ("c".to_owned(), number(i64::from(*c))),
                    ("d".to_owned(), number(i64::from(*c))),
                ]);
                item.extend(a.map(|a| ("a".to_owned(), number(i64::from(a)))));
                item.extend(b.map(|b| ("b".to_owned(), text(&b.to_string()))));
                let key = key_from_item(&table(true, 1), &item).expect("a key");
                self.base.write(&key, WriteAction::Put(encode_item(&item)));
                self.items.insert(key, item);
            }
            Step::Delete { pk } => {
                let item = Item::from([("pk".to_owned(), text(&pk.to_string()))]);
                let key = key_from_item(&table(true, 1), &item).expect("a key");
                self.base.write(&key, WriteAction::Delete);
                self.items.remove(&key);
            }
            Step::Send {
                lost,
                unheard,
                late,
            } => {
                self.send(*lost, *unheard, *late);
            }
            Step::Late => {
                if let Some((half, message)) = self.late.pop_front() {
                    self.halves[half].bring(&message);
                }
            }
            Step::Lead => self.delivered = (0, 0),
            Step::Flush => {
                self.base.flush();
                self.halves.iter_mut().for_each(Place::flush);
            }
            Step::Index => {
                let set = command::encode_set_table(1, &table(true, 2)).expect("encodes");
                self.base.commit(set);
            }
        }
    }

    /// The entries that the index must hold.
    fn expected(&self) -> BTreeMap<Bytes, Bytes> {
        let table = table(true, 1);
        let entry = |item: &Item| {
            let entry = table.indexes[0].entry(&table, &encode_item(item));
            entry.expect("an item")
        };
        self.items.values().filter_map(entry).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_index_comes_to_hold_what_the_items_say(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.step(&Step::Index);
        let mut runs = 0;
        while world.send([false; 2], false, false) {
            runs += 1;
            prop_assert!(runs < 1_000, "propagation comes to no end");
        }
        // What is on its way still is no news.
        while !world.late.is_empty() {
            world.step(&Step::Late);
        }
        let state = world.base.partition.state();
        prop_assert!(state.backfills.iter().all(|backfill| backfill.done));
        world.step(&Step::Flush);
        let mut held = BTreeMap::new();
        for half in &world.halves {
            prop_assert_eq!(half.partition.state().items, half.tree.0.len() as u64);
            prop_assert!(half.partition.state().sources.len() <= 1);
            held.extend(half.tree.0.clone());
        }
        prop_assert_eq!(held, world.expected());
    }
}

/// The leader evaluates writes while the definition with the index is on its way: they leave no change records, so the index can hold them only
/// by the backfill, which must not pass their items before they are there.
#[test]
fn a_backfill_waits_for_writes_that_know_of_no_index() {
    let mut world = World::new();
    let base = &mut world.base;
    let mut commands = Vec::new();
    let item = |pk: &str, a: i64| {
        Item::from([
            ("pk".to_owned(), text(pk)),
            ("a".to_owned(), number(a)),
            ("b".to_owned(), text("b")),
        ])
    };
    let definition = base.partition.evaluate_table(&table(true, 2), 1, 0);
    let Evaluated::Propose(definition) = definition else {
        panic!("{definition:?}")
    };
    commands.push(definition);
    for (pk, a) in [("x", 1), ("y", 2)] {
        let item = item(pk, a);
        let key = key_from_item(&table(true, 1), &item).expect("a key");
        let write = Write {
            key: key.clone(),
            action: WriteAction::Put(encode_item(&item)),
            condition: None,
            return_values: ReturnValues::None,
            return_on_failure: false,
        };
        let evaluated = base.partition.evaluate(&base.tree, &write, 1, 0);
        let Evaluated::Propose(command) = evaluated.expect("healthy") else {
            panic!("it is free")
        };
        commands.push(command);
        world.items.insert(key, item);
    }
    base.partition.proposed(1);
    for (index, command) in (1..).zip(commands) {
        let mut answers = Vec::new();
        let applied = base.partition.apply(&entry(index, &command), &mut answers);
        applied.expect("applies");
        assert_eq!(answers.len(), 1);
        base.log.push(command);
        if index < 3 {
            let run = base.partition.next_run(&base.tree, (0, 0));
            assert!(run.expect("healthy").is_none(), "behind entry {index}");
        }
    }
    while world.send([false; 2], false, false) {}
    world.step(&Step::Flush);
    let halves = world.halves.iter();
    let held: BTreeMap<_, _> = halves.flat_map(|half| half.tree.0.clone()).collect();
    assert_eq!(held, world.expected());
    assert_eq!(held.len(), 2);
}

#[test]
fn a_parent_that_was_split_brings_no_news_once_a_child_was_heard() {
    let mut world = World::new();
    let whole = table_range(common::table().id);
    let middle = model::key::hash_middle(&whole).expect("a middle");
    let key = |value: u8| {
        let item = Item::from([
            ("pk".to_owned(), text("x")),
            ("a".to_owned(), number(i64::from(value))),
            ("b".to_owned(), text("b")),
        ]);
        let table = table(true, 1);
        table.indexes[0]
            .entry(&table, &encode_item(&item))
            .expect("an item")
            .expect("an entry")
    };
    let (entry, item) = key(1);
    let half = usize::from(!world.halves[0].partition.state().range.contains(&entry));
    let message = |source: KeyRange, upto: u64, item: Option<Bytes>| Propagate {
        source,
        upto: (upto, 0),
        entries: vec![IndexChange {
            key: entry.clone(),
            item,
        }],
    };
    let left = KeyRange {
        start: whole.start.clone(),
        end: middle.clone(),
    };
    let right = KeyRange {
        start: middle,
        end: whole.end.clone(),
    };
    let index = &mut world.halves[half];
    index.bring(&message(whole.clone(), 5, Some(item.clone())));
    index.bring(&message(left, 9, None));
    index.bring(&message(whole.clone(), 7, Some(item.clone())));
    index.flush();
    assert!(index.tree.0.is_empty(), "the parent was late");
    assert_eq!(index.partition.state().sources.len(), 2);
    index.bring(&message(right, 8, Some(item)));
    let sources = &index.partition.state().sources;
    assert!(
        sources.iter().all(|mark| mark.source != whole),
        "{sources:?}"
    );
}
