//! The partition against a naive map: any interleaving of writes, commits, flushes (also half-done ones), lost leaderships, and
//! crashes with replay answers and reads as one map would that is written in log order.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::*;
use model::Item;
use model::codec::{decode_item, encode_item, encoded_item_size};
use partition::{Batch, Evaluated, Limits, Partition, PartitionState};
use paxos::Index;
use proptest::prelude::*;
use protocol::item::{ItemFault, ItemReply, ReturnValues, Write};
use protocol::scrub::Marker;

type Map = BTreeMap<String, Item>;

#[derive(Clone, Debug)]
enum Step {
    /// Evaluate these, then propose them together.
    Writes(Vec<Change>),
    /// The log refuses this write.
    Refused(Change),
    /// Commit and apply so many entries.
    Commit(usize),
    Seal,
    /// The leader puts a marker into the log.
    Mark,
    /// The B-tree holds the sealed batch.
    FlushDone,
    /// Leadership is lost; the next leader keeps so many of the uncommitted entries.
    Lose(usize),
    /// The process dies; the B-tree may hold the sealed batch although nobody heard of it.
    Crash {
        flush_was_done: bool,
    },
    Page {
        limit: Option<u32>,
        after: Option<u8>,
        reverse: bool,
    },
}

#[derive(Clone, Debug)]
enum Change {
    Put {
        key: u8,
        n: i64,
    },
    PutIfAbsent {
        key: u8,
        n: i64,
    },
    Delete {
        key: u8,
    },
    /// If it is there and not above this.
    CountUpTo {
        key: u8,
        most: i64,
    },
}

fn name(key: u8) -> String {
    char::from(b'b' + key % 8).to_string()
}

fn change_strategy() -> impl Strategy<Value = Change> {
    let key = 0..8_u8;
    prop_oneof![
        (key.clone(), 0..9_i64).prop_map(|(key, n)| Change::Put { key, n }),
        (key.clone(), 0..9_i64).prop_map(|(key, n)| Change::PutIfAbsent { key, n }),
        key.clone().prop_map(|key| Change::Delete { key }),
        (key, 0..9_i64).prop_map(|(key, most)| Change::CountUpTo { key, most }),
    ]
}

fn step_strategy() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(change_strategy(), 1..6).prop_map(Step::Writes),
        1 => change_strategy().prop_map(Step::Refused),
        6 => (0..6_usize).prop_map(Step::Commit),
        3 => Just(Step::Seal),
        2 => Just(Step::Mark),
        3 => Just(Step::FlushDone),
        1 => (0..6_usize).prop_map(Step::Lose),
        1 => any::<bool>().prop_map(|flush_was_done| Step::Crash { flush_was_done }),
        4 => (prop::option::of(1..5_u32), prop::option::of(0..9_u8), any::<bool>())
            .prop_map(|(limit, after, reverse)| Step::Page { limit, after, reverse }),
    ]
}

impl Change {
    fn key(&self) -> String {
        match self {
            Self::Put { key, .. }
            | Self::PutIfAbsent { key, .. }
            | Self::Delete { key }
            | Self::CountUpTo { key, .. } => name(*key),
        }
    }

    fn write(&self) -> Write {
        let pk = self.key();
        let mut write = match self {
            Self::Put { n, .. } | Self::PutIfAbsent { n, .. } => put(&pk, &[("n", number(*n))]),
            Self::Delete { .. } => delete(&pk),
            Self::CountUpTo { .. } => {
                change(&pk, Some(update("ADD n :one", &[(":one", number(1))])))
            }
        };
        write.condition = match self {
            Self::PutIfAbsent { .. } => Some(condition("attribute_not_exists(pk)", &[])),
            Self::CountUpTo { most, .. } => {
                Some(condition("n <= :most", &[(":most", number(*most))]))
            }
            _ => None,
        };
        write.return_values = ReturnValues::AllOld;
        write.return_on_failure = true;
        write
    }

    /// What it does to a map: the item before and after, or none if the condition fails.
    fn act(&self, map: &Map) -> Option<Option<Item>> {
        let pk = self.key();
        let old = map.get(&pk);
        let n = || match old?.get("n")? {
            model::AttributeValue::N(n) => n.to_i64(),
            other => panic!("{other:?}"),
        };
        match self {
            Self::Put { n, .. } => Some(Some(item(&pk, &[("n", number(*n))]))),
            Self::PutIfAbsent { n, .. } => {
                old.is_none().then(|| Some(item(&pk, &[("n", number(*n))])))
            }
            Self::Delete { .. } => Some(None),
            Self::CountUpTo { most, .. } => n()
                .filter(|n| n <= most)
                .map(|n| Some(item(&pk, &[("n", number(n + 1))]))),
        }
    }
}

/// An entry that the map expects, and what it makes of the map.
#[derive(Clone)]
struct Logged {
    command: Bytes,
    /// None: it is a marker.
    key: Option<String>,
    after: Option<Item>,
}

impl Logged {
    fn set(&self, map: &mut Map) {
        if let Some(key) = &self.key {
            set(map, key, &self.after);
        }
    }
}

/// An answer that is due once this many entries are applied.
struct Due {
    at: usize,
    caller: u64,
    /// The item before, and the item after if the condition held.
    before: Option<Item>,
    after: Option<Option<Item>>,
}

struct World {
    partition: Partition<u64>,
    tree: MapTree,
    tree_state: PartitionState,
    sealed: Option<Batch>,
    log: Vec<Logged>,
    applied: usize,
    /// The map after all that is applied.
    map: Map,
    due: Vec<Due>,
    next_caller: u64,
}

impl World {
    fn new() -> Self {
        Self {
            partition: Partition::new(state(), Limits::default()),
            tree: MapTree::default(),
            tree_state: state(),
            sealed: None,
            log: Vec::new(),
            applied: 0,
            map: Map::new(),
            due: Vec::new(),
            next_caller: 0,
        }
    }

    /// The map after all that is in the log.
    fn proposed_map(&self) -> Map {
        let mut map = self.map.clone();
        for logged in &self.log[self.applied..] {
            logged.set(&mut map);
        }
        map
    }

    /// The map after the first entries of the log.
    fn map_at(&self, applied: usize) -> Map {
        let mut map = Map::new();
        self.log[..applied]
            .iter()
            .for_each(|logged| logged.set(&mut map));
        map
    }

    fn mark(&mut self) {
        let first = self.log.len() as Index + 1;
        let marker = Marker {
            scrub: first,
            bytes_per_second: 0,
        };
        let command = self.partition.marker(&marker, 1).expect("encoded");
        self.log.push(Logged {
            command,
            key: None,
            after: None,
        });
        self.partition.proposed(first);
    }

    fn write(&mut self, changes: &[Change]) {
        let first = self.log.len() as Index + 1;
        let mut map = self.proposed_map();
        for change in changes {
            let (pk, caller) = (change.key(), self.next_caller);
            self.next_caller += 1;
            let before = map.get(&pk).cloned();
            let after = change.act(&map);
            let touched = self.log[self.applied..]
                .iter()
                .rposition(|logged| logged.key.as_ref() == Some(&pk));
            match self
                .partition
                .evaluate(&self.tree, &change.write(), 1, caller)
                .expect("healthy")
            {
                Evaluated::Propose(command) => {
                    let after = after.expect("the condition holds");
                    self.log.push(Logged {
                        command,
                        key: Some(pk.clone()),
                        after: after.clone(),
                    });
                    let at = self.log.len();
                    set(&mut map, &pk, &after);
                    self.due.push(Due {
                        at,
                        caller,
                        before,
                        after: Some(after),
                    });
                }
                Evaluated::Waits => {
                    assert!(after.is_none(), "nothing else waits");
                    let at = self.applied + touched.expect("it rests on a write in flight") + 1;
                    self.due.push(Due {
                        at,
                        caller,
                        before,
                        after: None,
                    });
                }
                Evaluated::Answer(who, reply) => {
                    assert_eq!((who, after, touched), (caller, None, None));
                    check_failed(&reply, before.as_ref());
                }
            }
        }
        self.partition.proposed(first);
    }

    fn refused(&mut self, change: &Change) {
        let evaluated = self
            .partition
            .evaluate(&self.tree, &change.write(), 1, u64::MAX)
            .expect("healthy");
        match evaluated {
            Evaluated::Propose(_) => {
                let mut answers = Vec::new();
                self.partition.refused(&ItemFault::NotReady, &mut answers);
                assert!(matches!(
                    answers[..],
                    [(u64::MAX, ItemReply::Fault(ItemFault::NotReady))]
                ));
            }
            Evaluated::Answer(_, reply) => check_failed(&reply, self.map.get(&change.key())),
            // Its answer comes with the write that it rests on.
            Evaluated::Waits => {
                let key = change.key();
                let at = self.log[self.applied..]
                    .iter()
                    .rposition(|logged| logged.key.as_ref() == Some(&key));
                let at = self.applied + at.expect("it rests on a write in flight") + 1;
                let before = self.proposed_map().remove(&key);
                self.due.push(Due {
                    at,
                    caller: u64::MAX,
                    before,
                    after: None,
                });
            }
        }
    }

    fn commit(&mut self, count: usize) {
        for _ in 0..count.min(self.log.len() - self.applied) {
            let logged = self.log[self.applied].clone();
            self.applied += 1;
            logged.set(&mut self.map);
            let mut answers = Vec::new();
            let entry = entry(self.applied as Index, &logged.command);
            self.partition.apply(&entry, &mut answers).expect("applies");
            self.partition
                .apply(&entry, &mut answers)
                .expect("applies twice");
            let (due, later): (Vec<Due>, _) = std::mem::take(&mut self.due)
                .into_iter()
                .partition(|due| due.at == self.applied);
            self.due = later;
            assert_eq!(answers.len(), due.len());
            for due in due {
                let at = answers
                    .iter()
                    .position(|(caller, _)| *caller == due.caller)
                    .expect("answered now");
                let (_, reply) = answers.swap_remove(at);
                match (due.after, reply) {
                    (
                        Some(after),
                        ItemReply::Written {
                            attributes,
                            old_size_bytes,
                            new_size_bytes,
                            ..
                        },
                    ) => {
                        assert_eq!(attributes, due.before.as_ref().map(encode_item));
                        assert_eq!(
                            (old_size_bytes, new_size_bytes),
                            (size(due.before.as_ref()), size(after.as_ref()))
                        );
                    }
                    (None, reply) => check_failed(&reply, due.before.as_ref()),
                    (after, reply) => panic!("{after:?}, but {reply:?}"),
                }
            }
        }
    }

    fn lose(&mut self, kept: usize) {
        let mut answers = Vec::new();
        self.partition.lose(&mut answers);
        assert_eq!(answers.len(), self.due.len());
        for due in self.due.drain(..) {
            let at = answers
                .iter()
                .position(|(caller, _)| *caller == due.caller)
                .expect("answered now");
            let fault = answers.swap_remove(at).1;
            assert!(match due.after {
                Some(_) => matches!(fault, ItemReply::Fault(ItemFault::Unknown)),
                None => matches!(fault, ItemReply::Fault(ItemFault::NotReady)),
            });
        }
        self.log.truncate(self.applied + kept);
        // The next leader's log goes on from there; as a follower this replica applies it.
        self.commit(kept);
    }

    fn flush_done(&mut self) {
        if let Some(batch) = self.sealed.take() {
            self.tree.flush(&batch);
            if let Some(marked) = &batch.marked {
                // The B-tree is exactly what the log says up to the marker.
                assert_eq!(marked.marker.scrub, batch.state.applied);
                let map = self.map_at(batch.state.applied as usize);
                let expected = map.values().map(encode_item);
                assert!(self.tree.0.values().cloned().eq(expected));
                assert_eq!(batch.state.items, map.len() as u64);
            }
            self.tree_state = batch.state.clone();
            self.partition.flushed(batch.state.applied);
        }
    }

    fn crash(&mut self, flush_was_done: bool) {
        if flush_was_done && let Some(batch) = &self.sealed {
            self.tree.flush(batch);
            self.tree_state = batch.state.clone();
        }
        self.sealed = None;
        // Nobody is left to be answered; what was not committed is gone.
        self.due.clear();
        let committed = std::mem::replace(&mut self.applied, self.tree_state.applied as usize);
        self.log.truncate(committed);
        self.partition = Partition::new(self.tree_state.clone(), Limits::default());
        self.map = Map::new();
        for logged in &self.log[..self.applied] {
            logged.set(&mut self.map);
        }
        self.commit(committed);
    }

    fn check_page(&self, limit: Option<u32>, after: Option<u8>, reverse: bool) {
        let mut page = page();
        (page.limit, page.reverse) = (limit, reverse);
        page.after = after.map(|key| Bytes::from(vec![b'a' + key]));
        let ItemReply::Page(reply) = self.partition.page(&self.tree, &page).expect("healthy")
        else {
            panic!("no page");
        };
        let after = page
            .after
            .as_ref()
            .map(|key| std::str::from_utf8(key).expect("text"));
        let behind =
            |key: &str| after.is_none_or(|after| if reverse { key < after } else { key > after });
        let mut expected: Vec<&Item> = self
            .map
            .iter()
            .filter(|(key, _)| behind(key))
            .map(|(_, item)| item)
            .collect();
        if reverse {
            expected.reverse();
        }
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        assert_eq!(reply.last_key.is_some(), expected.len() >= limit);
        expected.truncate(limit);
        let items: Vec<Item> = reply
            .items
            .iter()
            .map(|item| decode_item(item).expect("an item"))
            .collect();
        assert_eq!(items.iter().collect::<Vec<_>>(), expected);
    }

    fn check(&self) {
        for key in 0..8 {
            let pk = name(key);
            let ItemReply::Item { item, size_bytes } =
                self.partition.get(&self.tree, &get(&pk)).expect("healthy")
            else {
                panic!("no item");
            };
            let expected = self.map.get(&pk);
            assert_eq!(item, expected.map(encode_item));
            assert_eq!(size_bytes, size(expected));
        }
        let bytes: u64 = self.map.values().map(|item| size(Some(item))).sum();
        let state = self.partition.state();
        assert_eq!((state.items, state.bytes), (self.map.len() as u64, bytes));
        assert_eq!(state.applied as usize, self.applied);
        let in_flight = self.log[self.applied..].iter();
        let in_flight = in_flight.filter(|logged| logged.key.is_some()).count();
        assert_eq!(self.partition.in_flight(), in_flight);
        self.check_page(None, None, false);
    }
}

fn set(map: &mut Map, key: &str, item: &Option<Item>) {
    match item {
        Some(item) => drop(map.insert(key.to_owned(), item.clone())),
        None => drop(map.remove(key)),
    }
}

fn size(item: Option<&Item>) -> u64 {
    item.map_or(0, |item| {
        encoded_item_size(&encode_item(item)).expect("an item")
    })
}

fn check_failed(reply: &ItemReply, before: Option<&Item>) {
    match reply {
        ItemReply::Fault(ItemFault::ConditionFailed { item, size_bytes }) => {
            assert_eq!(*item, before.map(encode_item));
            assert_eq!(*size_bytes, size(before));
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn behaves_like_a_map_written_in_log_order(steps in prop::collection::vec(step_strategy(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Writes(changes) => world.write(&changes),
                Step::Refused(change) => world.refused(&change),
                Step::Commit(count) => world.commit(count),
                Step::Seal => {
                    if let Some(batch) = world.partition.seal() {
                        assert!(world.sealed.is_none(), "one at a time");
                        world.sealed = Some(batch);
                    }
                }
                Step::Mark => world.mark(),
                Step::FlushDone => world.flush_done(),
                Step::Lose(kept) => {
                    let kept = kept.min(world.log.len() - world.applied);
                    world.lose(kept);
                }
                Step::Crash { flush_was_done } => world.crash(flush_was_done),
                Step::Page { limit, after, reverse } => world.check_page(limit, after, reverse),
            }
            world.check();
        }
    }
}
