//! Items, keys and requests of the workload, in the product's own types. An item's value is a number that no other write
//! of the run uses.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use expression::{Condition, ConditionKind, Placeholders};
use model::codec::{encode_item, get_attribute};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{AttributeValue, Item, KeyRange, Number, TableDefinition, TableId};
use partition::{BTree, BTreeError, PartitionState};
use paxos::{Ballot, Configuration};
use protocol::item::{Get, ReturnValues, Write, WriteAction};

use crate::client::{Call, Wish};

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

/// Keys of the partitions that a run begins with.
pub fn whole_range() -> KeyRange {
    KeyRange {
        start: Bytes::from_static(b"a"),
        end: Bytes::from_static(b"z"),
    }
}

/// State of a new replica of a partition.
pub fn founding_state(configuration: &Configuration) -> PartitionState {
    PartitionState {
        applied: 0,
        ballot: Ballot::default(),
        configuration: configuration.clone(),
        range: whole_range(),
        table: table(),
        members: Vec::new(),
        items: 0,
        bytes: 0,
        time_ms: 0,
        begins: 0,
        changes: Default::default(),
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
        on_demand_max: Default::default(),
        ..Default::default()
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

/// The write that a call asks for; none: it asks for a read.
pub fn write_of(call: &Call) -> Option<Write> {
    let (action, expected, return_values) = match call.wish {
        Wish::Read => return None,
        Wish::Write {
            value: None,
            expected,
            ..
        } => (WriteAction::Delete, expected, ReturnValues::None),
        Wish::Write {
            value: Some(value),
            expected,
            update: false,
        } => {
            let mut item = key_item(call.key);
            item.insert("v".to_owned(), text(value));
            item.insert("padding".to_owned(), padding(call));
            let put = WriteAction::Put(encode_item(&item));
            (put, expected, ReturnValues::None)
        }
        Wish::Write {
            value: Some(value),
            expected,
            update: true,
        } => {
            let how = "SET v = :v, padding = :p ADD changes :one";
            (update(call, how, value), expected, ReturnValues::None)
        }
        Wish::Once { value } => {
            let how = "SET v = if_not_exists(v, :v), padding = :p ADD changes :one";
            (update(call, how, value), None, ReturnValues::AllNew)
        }
    };
    Some(Write {
        key: key(call.key),
        action,
        condition: expected.and_then(condition),
        return_values,
        return_on_failure: true,
    })
}

fn text(number: u64) -> AttributeValue {
    AttributeValue::S(number.to_string())
}

fn padding(call: &Call) -> AttributeValue {
    AttributeValue::S("x".repeat(call.padding as usize))
}

fn key_item(number: u64) -> Item {
    [("pk".to_owned(), AttributeValue::S(format!("k{number}")))]
        .into_iter()
        .collect()
}

fn update(call: &Call, how: &str, value: u64) -> WriteAction {
    let values = BTreeMap::from([
        (":v".to_owned(), text(value)),
        (":p".to_owned(), padding(call)),
        (":one".to_owned(), AttributeValue::N(Number::from(1_u64))),
    ]);
    let mut placeholders = Placeholders::new(None, Some(values));
    WriteAction::Update {
        key_item: encode_item(&key_item(call.key)),
        // None only if the expression crate refuses it, which a test excludes.
        update: expression::parse_update(how, &mut placeholders).ok(),
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

    fn call(wish: Wish) -> Call {
        Call {
            id: 42,
            client: 0,
            key: 1,
            group: paxos::GroupId(1),
            wish,
            padding: 10,
            called: 0,
        }
    }

    #[test]
    fn writes_carry_their_value_and_their_condition() {
        let put = Wish::Write {
            value: Some(42),
            expected: Some(Some(41)),
            update: false,
        };
        let write = write_of(&call(put)).expect("a write");
        let WriteAction::Put(item) = &write.action else {
            panic!("a put")
        };
        assert_eq!(value_of(Some(item)), Some(42));
        assert!(write.condition.is_some());
        assert!(condition(None).is_some());
        assert!(write_of(&call(Wish::Read)).is_none());
    }

    #[test]
    fn updates_are_updates() {
        for wish in [
            Wish::Once { value: 42 },
            Wish::Write {
                value: Some(42),
                expected: None,
                update: true,
            },
        ] {
            let write = write_of(&call(wish)).expect("a write");
            let WriteAction::Update { key_item, update } = write.action else {
                panic!("an update")
            };
            let item = model::codec::decode_item(&key_item).expect("an item");
            let update = update.expect("an update");
            let updated = update.apply(&item).expect("applies");
            assert_eq!(value_of(Some(&encode_item(&updated.item))), Some(42));
        }
    }
}
