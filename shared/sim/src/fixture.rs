//! Items, keys and requests of the workload, in the product's own types. An item's value is a number that no other write
//! of the run uses.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use expression::{Condition, ConditionKind, Placeholders};
use model::codec::{encode_item, get_attribute};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{AttributeValue, Item, KeyRange, TableDefinition, TableId};
use partition::{BTree, BTreeError, PartitionState};
use paxos::{Ballot, Configuration};
use protocol::item::{Get, ReturnValues, Write, WriteAction};

/// Value of a key: absent, or the number that a write put there.
pub type Value = Option<u64>;

/// A B-tree in memory.
#[derive(Clone, Debug, Default, PartialEq)]
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
        let end = if range.end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(&range.end[..])
        };
        let start = Bound::Included(&range.start[..]);
        let mut pairs = self.0.range::<[u8], _>((start, end));
        loop {
            let next = if reverse {
                pairs.next_back()
            } else {
                pairs.next()
            };
            let Some((key, item)) = next else { break };
            if visitor(key, item).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// State of a new replica of a partition.
pub fn founding_state(configuration: &Configuration) -> PartitionState {
    PartitionState {
        applied: 0,
        ballot: Ballot::default(),
        configuration: configuration.clone(),
        range: KeyRange {
            start: Bytes::from_static(b"a"),
            end: Bytes::from_static(b"z"),
        },
        table: table(),
        members: Vec::new(),
        items: 0,
        bytes: 0,
    }
}

fn table() -> TableDefinition {
    TableDefinition {
        id: TableId(20),
        name: "simulated".to_owned(),
        version: 1,
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

/// Name and encoding of key number `key`.
pub fn key(key: u64) -> Bytes {
    Bytes::from(format!("k{key}"))
}

/// A strong read.
pub fn get(number: u64) -> Get {
    Get {
        key: key(number),
        strong: true,
        projection: None,
    }
}

/// An unconditional or conditional write of `value` (none deletes), padded to about `padding_bytes`. `expected`: the
/// value that the condition asks for.
pub fn write(number: u64, value: Value, expected: Option<Value>, padding_bytes: u64) -> Write {
    let action = match value {
        None => WriteAction::Delete,
        Some(value) => {
            let text = |text: String| AttributeValue::S(text);
            let item: Item = [
                ("pk".to_owned(), text(format!("k{number}"))),
                ("v".to_owned(), text(value.to_string())),
                (
                    "padding".to_owned(),
                    text("x".repeat(padding_bytes as usize)),
                ),
            ]
            .into_iter()
            .collect();
            WriteAction::Put(encode_item(&item))
        }
    };
    Write {
        key: key(number),
        action,
        condition: expected.and_then(condition),
        return_values: ReturnValues::None,
        return_on_failure: true,
    }
}

/// The condition that the item has this value. None only if the expression crate refuses it, which a test excludes.
fn condition(expected: Value) -> Option<Condition> {
    let kind = ConditionKind::Condition;
    let parsed = match expected {
        None => {
            let mut placeholders = Placeholders::new(None, None);
            expression::parse_condition(kind, "attribute_not_exists(pk)", &mut placeholders)
        }
        Some(value) => {
            let value = AttributeValue::S(value.to_string());
            let values = BTreeMap::from([(":v".to_owned(), value)]);
            let mut placeholders = Placeholders::new(None, Some(values));
            expression::parse_condition(kind, "v = :v", &mut placeholders)
        }
    };
    parsed.ok()
}

/// The value of an encoded item.
pub fn value_of(item: Option<&Bytes>) -> Value {
    match get_attribute(item?, "v") {
        Ok(Some(AttributeValue::S(text))) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_carry_their_value_and_their_condition() {
        let write = write(1, Some(42), Some(Some(41)), 10);
        let WriteAction::Put(item) = &write.action else {
            panic!("a put")
        };
        assert_eq!(value_of(Some(item)), Some(42));
        assert!(write.condition.is_some());
        assert!(condition(None).is_some());
    }
}
