//! Entries of local indexes: after any writes, flushes and splits they are those of the items that are there, and pages show them as a
//! recomputation would.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::{MapTree, entry, number, text, update};
use model::codec::{decode_item, encode_item, encoded_item_size};
use model::index::{IndexDefinition, IndexKeys, IndexProjection, IndexScope};
use model::key::{COLLECTION_BYTES, key_from_item, table_range};
use model::table::{KeyAttribute, KeySchema, ScalarType};
use model::{AttributeValue, IndexId, Item, TableDefinition};
use partition::split::{Filling, Side, changes_for, empty_child};
use partition::{Evaluated, Limits, Partition, PartitionState};
use paxos::{GroupId, Index};
use proptest::prelude::*;
use protocol::item::{ItemFault, ItemReply, Page, ReturnValues, Write, WriteAction};
use protocol::split::Split;

fn attribute(name: &str, kind: ScalarType) -> KeyAttribute {
    KeyAttribute {
        name: name.to_owned(),
        kind,
    }
}

fn local(id: u16, sort: &str, kind: ScalarType, projection: IndexProjection) -> IndexDefinition {
    IndexDefinition {
        id: IndexId(id),
        name: format!("by-{sort}"),
        scope: IndexScope::Local,
        keys: IndexKeys {
            partition: vec![attribute("pk", ScalarType::S)],
            sort: vec![attribute(sort, kind)],
        },
        projection,
    }
}

fn table() -> TableDefinition {
    TableDefinition {
        keys: KeySchema {
            partition: attribute("pk", ScalarType::S),
            sort: Some(attribute("sk", ScalarType::N)),
        },
        indexes: vec![
            local(1, "score", ScalarType::N, IndexProjection::KeysOnly),
            local(2, "title", ScalarType::S, IndexProjection::All),
        ],
        ..common::table()
    }
}

#[derive(Clone, Debug)]
struct Step {
    pk: u8,
    sk: u8,
    what: What,
    flush: bool,
}

#[derive(Clone, Debug)]
enum What {
    Put(Option<i64>, Option<String>),
    SetScore(i64),
    RemoveName,
    Delete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let what = prop_oneof![
        3 => (proptest::option::of(-3..3i64), proptest::option::of("[ab\u{0}]{1,10}"))
            .prop_map(|(score, name)| What::Put(score, name)),
        1 => (-3..3i64).prop_map(What::SetScore),
        1 => Just(What::RemoveName),
        1 => Just(What::Delete),
    ];
    let step = (0..3u8, 0..4u8, what, any::<bool>()).prop_map(|(pk, sk, what, flush)| Step {
        pk,
        sk,
        what,
        flush,
    });
    proptest::collection::vec(step, 1..40)
}

struct Leader {
    table: TableDefinition,
    partition: Partition<()>,
    tree: MapTree,
    log: Vec<Bytes>,
    items: BTreeMap<Bytes, Item>,
}

impl Leader {
    fn new(limits: Limits) -> Self {
        let table = table();
        let state = PartitionState {
            range: table_range(table.id),
            table: table.clone(),
            ..common::state()
        };
        Self {
            table,
            partition: Partition::new(state, limits),
            tree: MapTree::default(),
            log: Vec::new(),
            items: BTreeMap::new(),
        }
    }

    fn write(&mut self, key: &Bytes, action: WriteAction) -> ItemReply {
        let write = Write {
            key: key.clone(),
            action,
            condition: None,
            return_values: ReturnValues::AllNew,
            return_on_failure: false,
        };
        match self
            .partition
            .evaluate(&self.tree, &write, 1, ())
            .expect("healthy")
        {
            Evaluated::Propose(command) => self.log.push(command),
            Evaluated::Answer((), reply) => return reply,
            Evaluated::Waits => panic!("no condition"),
        }
        let index = self.log.len() as Index;
        self.partition.proposed(index);
        let mut answers = Vec::new();
        self.partition
            .apply(&entry(index, &self.log[self.log.len() - 1]), &mut answers)
            .expect("applies");
        answers.pop().expect("answered").1
    }

    fn step(&mut self, step: &Step) {
        let mut item = Item::from([
            ("pk".to_owned(), text(&step.pk.to_string())),
            ("sk".to_owned(), number(i64::from(step.sk))),
        ]);
        let key = key_from_item(&self.table, &item).expect("a key");
        let key_item = encode_item(&item);
        let (action, after) = match &step.what {
            What::Put(score, name) => {
                item.extend(score.map(|score| ("score".to_owned(), number(score))));
                item.extend(name.as_ref().map(|name| ("title".to_owned(), text(name))));
                (WriteAction::Put(encode_item(&item)), Some(item))
            }
            What::SetScore(score) => {
                let mut after = self.items.get(&key).cloned().unwrap_or(item);
                after.insert("score".to_owned(), number(*score));
                let update = Some(update("SET score = :s", &[(":s", number(*score))]));
                (WriteAction::Update { key_item, update }, Some(after))
            }
            What::RemoveName => {
                let mut after = self.items.get(&key).cloned();
                if let Some(item) = &mut after {
                    item.remove("title");
                }
                let update = Some(update("REMOVE title", &[]));
                let update = update.filter(|_| after.is_some());
                match update {
                    Some(update) => (
                        WriteAction::Update {
                            key_item,
                            update: Some(update),
                        },
                        after,
                    ),
                    None => (WriteAction::Delete, None),
                }
            }
            What::Delete => (WriteAction::Delete, None),
        };
        let reply = self.write(&key, action);
        assert!(matches!(reply, ItemReply::Written { .. }), "{reply:?}");
        match after {
            Some(item) => self.items.insert(key, item),
            None => self.items.remove(&key),
        };
        if step.flush {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Some(batch) = self.partition.seal() {
            self.tree.flush(&batch);
            self.partition.flushed(batch.state.applied);
        }
    }
}

/// Items and entries that a B-tree must hold for these items.
fn expected(table: &TableDefinition, items: &BTreeMap<Bytes, Item>) -> BTreeMap<Bytes, Bytes> {
    let mut pairs = BTreeMap::new();
    for (key, item) in items {
        let encoded = encode_item(item);
        for index in &table.indexes {
            if let Some((entry, _)) = index.entry(table, &encoded).expect("an item") {
                let value = Item::from([("sk".to_owned(), item["sk"].clone())]);
                pairs.insert(entry, encode_item(&value));
            }
        }
        pairs.insert(key.clone(), encoded);
    }
    pairs
}

/// What reading an index must show: in key order, with ties in any order.
fn shown(items: &BTreeMap<Bytes, Item>, sort: &str) -> Vec<Item> {
    items
        .values()
        .filter(|item| item.contains_key(sort))
        .cloned()
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entries_are_those_of_the_items(steps in steps(), limit in 1..5u32) {
        let mut leader = Leader::new(Limits::default());
        for step in &steps {
            leader.step(step);
        }
        let pages = |leader: &Leader, id: u16, reverse: bool| {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = Page {
                    range: table_range(leader.table.id),
                    after: after.clone(),
                    reverse,
                    strong: true,
                    limit: Some(limit),
                    bytes_max: 1 << 20,
                    index: Some(IndexId(id)),
                    fetch: true,
                    ..Page::default()
                };
                let ItemReply::Page(reply) = leader.partition.page(&leader.tree, &page).unwrap() else {
                    panic!("no page");
                };
                assert!(reply.count <= u64::from(limit) && reply.fetched_blocks == reply.count);
                found.extend(reply.items.iter().map(|item| decode_item(item).unwrap()));
                match reply.last_key {
                    Some(last) => after = Some(last),
                    None => return found,
                }
            }
        };
        for (id, sort) in [(1, "score"), (2, "title")] {
            let forward = pages(&leader, id, false);
            let mut backward = pages(&leader, id, true);
            backward.reverse();
            prop_assert_eq!(&forward, &backward);
            for pair in forward.windows(2).filter(|pair| pair[0]["pk"] == pair[1]["pk"]) {
                match (&pair[0][sort], &pair[1][sort]) {
                    (AttributeValue::N(a), AttributeValue::N(b)) => prop_assert!(a <= b),
                    (AttributeValue::S(a), AttributeValue::S(b)) => prop_assert!(a <= b, "{:?} {:?}", a, b),
                    other => panic!("{other:?}"),
                }
            }
            let (mut found, mut wanted) = (forward, shown(&leader.items, sort));
            for items in [&mut found, &mut wanted] {
                items.sort_by_key(encode_item);
            }
            prop_assert_eq!(found, wanted);
        }
        leader.flush();
        let all = expected(&leader.table, &leader.items);
        prop_assert_eq!(&leader.tree.0, &all);
        prop_assert_eq!(leader.partition.state().items, leader.items.len() as u64);
        let entries = all.keys().filter(|key| leader.table.is_entry(key)).count() as u64;
        prop_assert_eq!(leader.partition.state().entries, entries);
    }

    /// Counted in pieces of any size, an index holds what its entries add up to.
    #[test]
    fn indexes_are_counted(steps in steps(), looks in 1..9usize) {
        let mut leader = Leader::new(Limits::default());
        for step in &steps {
            leader.step(step);
        }
        let (mut counts, mut after) = (Vec::new(), None);
        loop {
            after = leader.partition.count_indexes(&leader.tree, after, looks, &mut counts).unwrap();
            if after.is_none() {
                break;
            }
        }
        for index in &leader.table.indexes {
            let entries = leader.items.values().filter_map(|item| {
                let entry = index.entry(&leader.table, &encode_item(item)).unwrap();
                entry.map(|(_, shown)| encoded_item_size(&shown).unwrap())
            });
            let wanted = entries.fold((0, 0), |(items, bytes), entry| (items + 1, bytes + entry));
            let counted = counts.iter().find(|count| count.index == index.id);
            let counted = counted.map_or((0, 0), |count| (count.items, count.bytes));
            prop_assert_eq!(counted, wanted);
        }
    }

    /// A child takes an item's entries with the item: a point between collections parts neither.
    #[test]
    fn splits_keep_entries_with_their_items(steps in steps(), pk in 0..3u8) {
        let mut leader = Leader::new(Limits::default());
        for step in &steps {
            leader.step(&Step { flush: false, ..step.clone() });
        }
        let batch = leader.partition.seal().expect("something was written");
        let point = model::key::items_range(&leader.table, &text(&pk.to_string()), None).unwrap().start;
        let split = Split {
            point: point.slice(..COLLECTION_BYTES),
            left: GroupId(11),
            right: GroupId(12),
            committed: None,
        };
        for side in [Side::Left, Side::Right] {
            let child = PartitionState {
                filling: Some(Filling::FULL),
                ..empty_child(leader.partition.state(), GroupId(10), &split, side)
            };
            let taken = changes_for(&batch, &child).into_iter();
            let taken: BTreeMap<Bytes, Bytes> =
                taken.filter_map(|(key, item)| Some((key, item?))).collect();
            let items = leader.items.iter().filter(|(key, _)| child.range.contains(key));
            let items = items.map(|(key, item)| (key.clone(), item.clone())).collect();
            prop_assert_eq!(taken, expected(&leader.table, &items));
        }
        let inside = Split { point: [&point[..], b"x"].concat().into(), ..split };
        let refused = partition::split::check_split(
            leader.partition.state(), GroupId(10), &inside.point, (inside.left, inside.right));
        prop_assert!(refused.is_err());
    }
}

#[test]
fn a_collection_that_is_full_does_not_grow() {
    let mut leader = Leader::new(Limits {
        collection_bytes_max: 200,
        ..Limits::default()
    });
    let step = |sk: u8, bytes: usize| Step {
        pk: 0,
        sk,
        what: What::Put(Some(1), Some("n".repeat(bytes))),
        flush: false,
    };
    let of = |leader: &Leader, sk: u8| {
        let key = Item::from([
            ("pk".to_owned(), text("0")),
            ("sk".to_owned(), number(i64::from(sk))),
        ]);
        key_from_item(&leader.table, &key).expect("a key")
    };
    // The partition holds other collections, too.
    leader.step(&step(0, 150));
    leader.step(&step(1, 150));
    let collection = of(&leader, 0).slice(..COLLECTION_BYTES);
    let state = PartitionState {
        range: model::KeyRange {
            end: model::key::behind_prefix(&collection),
            start: collection,
        },
        ..leader.partition.state().clone()
    };
    leader.flush();
    leader.partition = Partition::new(
        PartitionState {
            applied: 0,
            ..state
        },
        Limits {
            collection_bytes_max: 200,
            ..Limits::default()
        },
    );
    leader.log.clear();
    let key = of(&leader, 2);
    let item = Item::from([("pk".to_owned(), text("0")), ("sk".to_owned(), number(2))]);
    match leader.write(&key, WriteAction::Put(encode_item(&item))) {
        ItemReply::Fault(ItemFault::Api(error)) => {
            assert_eq!(
                error.kind,
                model::ErrorKind::ItemCollectionSizeLimitExceeded
            );
        }
        other => panic!("{other:?}"),
    }
    // What makes it smaller is taken.
    let reply = leader.write(&of(&leader, 0), WriteAction::Delete);
    assert!(matches!(reply, ItemReply::Written { .. }), "{reply:?}");
}

/// Whatever is looked for, a shard is not held up by items that are large.
#[test]
fn a_piece_of_large_items_ends_after_a_mebibyte() {
    let mut leader = Leader::new(Limits::default());
    for sk in 0..10 {
        let item = Item::from([
            ("pk".to_owned(), text("one")),
            ("sk".to_owned(), number(sk)),
            ("score".to_owned(), number(1)),
            ("ends".to_owned(), number(1_000)),
            ("body".to_owned(), text(&"x".repeat(300 << 10))),
        ]);
        let key = key_from_item(&leader.table, &item).expect("a key");
        leader.tree.0.insert(key, encode_item(&item));
    }
    let (partition, tree) = (&leader.partition, &leader.tree);
    let (mut counts, mut pieces, mut after) = (Vec::new(), 0, None);
    loop {
        pieces += 1;
        after = partition
            .count_indexes(tree, after, 1_000, &mut counts)
            .expect("counted");
        if after.is_none() {
            break;
        }
    }
    // Four of them are over a MiB.
    assert_eq!((pieces, counts[0].items), (3, 10));
    let (mut expired, mut after) = (Vec::new(), None);
    for _ in 0..3 {
        let (found, last) = partition
            .expired(tree, after, ("ends", 2_000), (1_000, 1_000))
            .expect("looked at");
        expired.push(found.len());
        after = last;
    }
    assert_eq!((expired, after), (vec![4, 4, 2], None));
}
