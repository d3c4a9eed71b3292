//! A partition over a map, and short ways to build requests.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use expression::{Condition, Placeholders, Projection, Update};
use model::codec::{decode_item, encode_item};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{AttributeValue, Item, KeyRange, Number, TableDefinition, TableId};
use partition::{BTree, BTreeError, Batch, Evaluated, Limits, Partition, PartitionState};
use paxos::{Ballot, Configuration, Entry, Index, NodeId, Payload};
use protocol::item::{Get, ItemReply, Page, PageReply, ReturnValues, Write, WriteAction};

/// A B-tree in memory.
#[derive(Clone, Default)]
pub struct MapTree(pub BTreeMap<Bytes, Bytes>);

impl BTree for MapTree {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BTreeError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        range: &KeyRange,
        reverse: bool,
        visitor: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), BTreeError> {
        let end = match range.end.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(&range.end[..]),
        };
        let mut pairs = self
            .0
            .range::<[u8], _>((Bound::Included(&range.start[..]), end));
        while let Some((key, item)) = if reverse {
            pairs.next_back()
        } else {
            pairs.next()
        } {
            if visitor(key, item).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl MapTree {
    pub fn flush(&mut self, batch: &Batch) {
        for (key, item) in batch.items.iter() {
            match item {
                Some(item) => drop(self.0.insert(key.clone(), item.clone())),
                None => drop(self.0.remove(key)),
            }
        }
    }
}

pub fn table() -> TableDefinition {
    let key = |name: &str| KeyAttribute {
        name: name.to_owned(),
        kind: ScalarType::S,
    };
    TableDefinition {
        id: TableId(20),
        name: "things".to_owned(),
        version: 1,
        keys: KeySchema {
            partition: key("pk"),
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

pub fn state() -> PartitionState {
    PartitionState {
        applied: 0,
        ballot: Ballot::default(),
        configuration: Configuration::default(),
        range: KeyRange {
            start: Bytes::from_static(b"a"),
            end: Bytes::from_static(b"x"),
        },
        table: table(),
        members: Vec::new(),
        items: 0,
        bytes: 0,
        entries: 0,
        backfills: Vec::new(),
        sources: Vec::new(),
        time_ms: 0,
        begins: 0,
        changes: Default::default(),
        parent: None,
        split: None,
        transactions: Default::default(),
        installed: false,
        filling: None,
    }
}

pub fn ballot(round: u64) -> Ballot {
    Ballot {
        round,
        node: NodeId(1),
    }
}

pub fn entry(index: Index, command: &Bytes) -> Entry {
    Entry {
        index,
        ballot: ballot(1),
        payload: Payload::Command(command.clone()),
    }
}

pub fn number(value: i64) -> AttributeValue {
    AttributeValue::N(Number::parse(&value.to_string()).expect("a number"))
}

pub fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

/// An item with key `pk` and more attributes.
pub fn item(pk: &str, attributes: &[(&str, AttributeValue)]) -> Item {
    let attributes = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    attributes.chain([("pk".to_owned(), text(pk))]).collect()
}

pub fn key(pk: &str) -> Bytes {
    Bytes::copy_from_slice(pk.as_bytes())
}

fn placeholders(values: &[(&str, AttributeValue)]) -> Placeholders {
    let values: BTreeMap<String, AttributeValue> = values
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    Placeholders::new(None, (!values.is_empty()).then_some(values))
}

pub fn condition(text: &str, values: &[(&str, AttributeValue)]) -> Condition {
    let kind = expression::ConditionKind::Condition;
    expression::parse_condition(kind, text, &mut placeholders(values)).expect("a condition")
}

pub fn update(text: &str, values: &[(&str, AttributeValue)]) -> Update {
    expression::parse_update(text, &mut placeholders(values)).expect("an update")
}

pub fn projection(text: &str) -> Projection {
    expression::parse_projection(text, &mut placeholders(&[])).expect("a projection")
}

pub fn write(pk: &str, action: WriteAction) -> Write {
    Write {
        key: key(pk),
        action,
        condition: None,
        return_values: ReturnValues::None,
        return_on_failure: false,
    }
}

pub fn put(pk: &str, attributes: &[(&str, AttributeValue)]) -> Write {
    write(pk, WriteAction::Put(encode_item(&item(pk, attributes))))
}

pub fn delete(pk: &str) -> Write {
    write(pk, WriteAction::Delete)
}

pub fn change(pk: &str, update: Option<Update>) -> Write {
    write(
        pk,
        WriteAction::Update {
            key_item: encode_item(&item(pk, &[])),
            update,
        },
    )
}

pub fn get(pk: &str) -> Get {
    Get {
        key: key(pk),
        strong: true,
        projection: None,
    }
}

pub fn page() -> Page {
    Page {
        range: KeyRange {
            start: Bytes::new(),
            end: Bytes::new(),
        },
        after: None,
        reverse: false,
        strong: true,
        limit: None,
        bytes_max: 1 << 20,
        filter: None,
        projection: None,
        count_only: false,
        believed: None,
        name_last: false,
        index: None,
        fetch: false,
    }
}

/// A leader that is alone: it proposes at once, and commits when told to.
pub struct Leader {
    pub partition: Partition<u64>,
    pub tree: MapTree,
    pub log: Vec<Bytes>,
    pub applied: usize,
    pub next_caller: u64,
}

impl Leader {
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        Self {
            partition: Partition::new(state(), limits),
            tree: MapTree::default(),
            log: Vec::new(),
            applied: 0,
            next_caller: 0,
        }
    }

    /// Evaluates and proposes; an immediate answer, if there is one.
    pub fn offer(&mut self, write: &Write) -> (u64, Option<ItemReply>) {
        let caller = self.next_caller;
        self.next_caller += 1;
        let evaluated = self
            .partition
            .evaluate(&self.tree, write, 7, caller)
            .expect("healthy");
        let answer = match evaluated {
            Evaluated::Propose(command) => {
                self.log.push(command);
                self.partition.proposed(self.log.len() as Index);
                None
            }
            Evaluated::Waits => None,
            Evaluated::Answer(who, reply) => {
                assert_eq!(who, caller);
                Some(reply)
            }
        };
        (caller, answer)
    }

    /// Commits and applies all that was proposed.
    pub fn commit(&mut self) -> Vec<(u64, ItemReply)> {
        let mut answers = Vec::new();
        while self.applied < self.log.len() {
            let index = self.applied as Index + 1;
            let entry = entry(index, &self.log[self.applied]);
            self.partition.apply(&entry, &mut answers).expect("applies");
            self.applied += 1;
        }
        answers
    }

    /// A write with its answer.
    pub fn write(&mut self, write: &Write) -> ItemReply {
        let (caller, answer) = self.offer(write);
        let mut answers = self.commit();
        match answer {
            Some(answer) => answer,
            None => {
                let at = answers
                    .iter()
                    .position(|(who, _)| *who == caller)
                    .expect("answered");
                answers.swap_remove(at).1
            }
        }
    }

    pub fn flush(&mut self) {
        if let Some(batch) = self.partition.seal() {
            self.tree.flush(&batch);
            self.partition.flushed(batch.state.applied);
        }
    }

    pub fn get(&self, pk: &str) -> Option<Item> {
        match self.partition.get(&self.tree, &get(pk)).expect("healthy") {
            ItemReply::Item { item, .. } => item.map(|item| decode_item(&item).expect("an item")),
            other => panic!("{other:?}"),
        }
    }

    pub fn page(&self, page: &Page) -> PageReply {
        match self.partition.page(&self.tree, page).expect("healthy") {
            ItemReply::Page(reply) => reply,
            other => panic!("{other:?}"),
        }
    }
}

/// Names of the items of a page.
pub fn names(reply: &PageReply) -> Vec<String> {
    let name = |item: &Bytes| match decode_item(item).expect("an item").remove("pk") {
        Some(AttributeValue::S(name)) => name,
        other => panic!("{other:?}"),
    };
    reply.items.iter().map(name).collect()
}
