//! What tests of B-trees are made of: small trees, items, keys and states. Compiled for tests only.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{AttributeValue, Item, KeyRange, TableDefinition, TableId};
use partition::{BTree, Batch, PartitionState};
use paxos::{Ballot, Configuration, Index, NodeId};

use crate::TreeOptions;

/// A map so small that tests see it grow.
pub const SMALL: TreeOptions = TreeOptions {
    map_bytes: 256 << 10,
    map_bytes_max: 64 << 20,
};

/// The state of a replica at this position.
pub fn state(applied: Index) -> PartitionState {
    let partition = KeyAttribute {
        name: "pk".into(),
        kind: ScalarType::S,
    };
    PartitionState {
        applied,
        ballot: Ballot {
            round: applied,
            node: NodeId(1),
        },
        configuration: Configuration {
            generation: 1,
            ..Configuration::default()
        },
        range: KeyRange {
            start: Bytes::new(),
            end: Bytes::new(),
        },
        table: TableDefinition {
            id: TableId(20),
            name: "t".into(),
            version: 1,
            keys: KeySchema {
                partition,
                sort: None,
            },
            billing: BillingMode::PayPerRequest,
            status: TableStatus::Active,
            created_ms: 1,
            uuid: String::new(),
            deletion_protection: false,
            table_class: None,
            tags: BTreeMap::new(),
            throughput_changes: Default::default(),
            on_demand_max: Default::default(),
            ..Default::default()
        },
        members: vec![],
        time_ms: 0,
        begins: 0,
        changes: Default::default(),
        items: 77,
        bytes: 78,
        parent: None,
        split: None,
        transactions: Default::default(),
        installed: false,
        entries: 0,
        backfills: Vec::new(),
        sources: Vec::new(),
        filling: None,
    }
}

/// An encoded item of about so many bytes.
pub fn item(len: usize) -> Bytes {
    let value = AttributeValue::S("x".repeat(len));
    model::codec::encode_item(&Item::from([("a".to_owned(), value)]))
}

/// The key of a number.
pub fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// New item by key; none = removed.
pub type Content = BTreeMap<Bytes, Option<Bytes>>;

/// A batch that leads to this position.
pub fn batch(applied: Index, items: Content) -> Batch {
    Batch {
        state: state(applied),
        items: Arc::new(items),
        marked: None,
    }
}

/// Items of about `len` bytes under the numbers from `from` to below `to`.
pub fn fill(from: u64, to: u64, len: usize) -> Content {
    (from..to)
        .map(|number| (key(number), Some(item(len))))
        .collect()
}

/// All pairs of a range.
pub fn content(tree: &impl BTree, range: &KeyRange, reverse: bool) -> Vec<(Bytes, Bytes)> {
    let mut found = vec![];
    let mut visit = |key: &[u8], item: &[u8]| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(item)));
        ControlFlow::Continue(())
    };
    tree.scan(range, reverse, &mut visit).unwrap();
    found
}

/// The range of all keys.
pub fn everything() -> KeyRange {
    KeyRange {
        start: Bytes::new(),
        end: Bytes::new(),
    }
}
