//! The items: lists that numbers are appended to, so that an item tells who wrote it and in which order.

use std::collections::BTreeMap;

use bytes::Bytes;
use expression::{Placeholders, parse_update};
use model::codec::{decode_item, encode_item};
use model::table::{BillingMode, KeyAttribute, KeySchema, ScalarType, TableStatus};
use model::{AttributeValue, Item, Number, TableDefinition, TableId};
use protocol::item::{Get, ReturnValues, Write, WriteAction};

use super::SHARDS;

pub(super) fn table() -> TableDefinition {
    TableDefinition {
        id: TableId(20),
        name: "lists".to_owned(),
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
        ..TableDefinition::default()
    }
}

pub(super) fn item_name(number: u64) -> String {
    format!("item{number}")
}

pub(super) fn shard_of(item: &str) -> usize {
    usize::from(item.as_bytes()[item.len() - 1]) % SHARDS
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(Number::parse(&value.to_string()).expect("a number"))
}

/// Appends this number to an item's list.
pub(super) fn append(item: &str, value: u64) -> Write {
    let values = BTreeMap::from([
        (":n".to_owned(), AttributeValue::L(vec![number(value)])),
        (":none".to_owned(), AttributeValue::L(Vec::new())),
    ]);
    let mut placeholders = Placeholders::new(None, Some(values));
    let text = "SET l = list_append(if_not_exists(l, :none), :n)";
    let key_item = Item::from([("pk".to_owned(), AttributeValue::S(item.to_owned()))]);
    Write {
        key: Bytes::copy_from_slice(item.as_bytes()),
        action: WriteAction::Update {
            key_item: encode_item(&key_item),
            update: Some(parse_update(text, &mut placeholders).expect("an update")),
        },
        condition: None,
        return_values: ReturnValues::None,
        return_on_failure: false,
    }
}

pub(super) fn list_of(item: Option<&Bytes>) -> Vec<u64> {
    let Some(item) = item else { return Vec::new() };
    match &decode_item(item).expect("an item")["l"] {
        AttributeValue::L(list) => list
            .iter()
            .map(|value| match value {
                AttributeValue::N(number) => number.to_string().parse().expect("whole"),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn get(item: &str) -> Get {
    Get {
        key: Bytes::copy_from_slice(item.as_bytes()),
        strong: true,
        projection: None,
    }
}
