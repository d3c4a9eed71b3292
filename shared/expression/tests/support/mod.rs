//! Short ways to write values, items and placeholders.
#![allow(dead_code)] // every test file uses its own part

use std::collections::BTreeMap;

use bytes::Bytes;
use expression::Placeholders;
use model::table::{KeyAttribute, KeySchema, ScalarType};
use model::{AttributeValue, Item, Number};

pub fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub fn number(text: &str) -> Number {
    Number::parse(text).expect("a number")
}

pub fn n(text: &str) -> AttributeValue {
    AttributeValue::N(number(text))
}

pub fn b(bytes: &'static [u8]) -> AttributeValue {
    AttributeValue::B(Bytes::from_static(bytes))
}

pub fn ss(elements: &[&str]) -> AttributeValue {
    let mut set: Vec<String> = elements.iter().map(|element| element.to_string()).collect();
    set.sort();
    AttributeValue::StringSet(set)
}

pub fn ns(elements: &[&str]) -> AttributeValue {
    let mut set: Vec<Number> = elements.iter().map(|element| number(element)).collect();
    set.sort();
    AttributeValue::NumberSet(set)
}

pub fn bs(elements: &[&'static [u8]]) -> AttributeValue {
    let mut set: Vec<Bytes> = elements.iter().map(|e| Bytes::from_static(e)).collect();
    set.sort();
    AttributeValue::BinarySet(set)
}

pub fn l(elements: impl IntoIterator<Item = AttributeValue>) -> AttributeValue {
    AttributeValue::L(elements.into_iter().collect())
}

pub fn item<const N: usize>(attributes: [(&str, AttributeValue); N]) -> Item {
    attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

pub fn m<const N: usize>(attributes: [(&str, AttributeValue); N]) -> AttributeValue {
    AttributeValue::M(item(attributes))
}

/// A value of every type, under `:` and a letter each.
pub fn all_values() -> BTreeMap<String, AttributeValue> {
    let values = [
        (":s", s("text")),
        (":n", n("5")),
        (":b", b(b"bytes")),
        (":t", AttributeValue::Bool(true)),
        (":z", AttributeValue::Null),
        (":ss", ss(&["x", "y"])),
        (":ns", ns(&["1", "2"])),
        (":bs", bs(&[b"x"])),
        (":m", m([("k", n("1"))])),
        (":l", l([n("1"), s("x")])),
        (":n2", n("7")),
        (":type", s("S")),
    ];
    values
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// `#a` is "a" and so on; `#dot` is "a.b", `#three` is "[3]", `#set` is a reserved word.
pub fn all_names() -> BTreeMap<String, String> {
    [
        ("#a", "a"),
        ("#b", "b"),
        ("#c", "c"),
        ("#dot", "a.b"),
        ("#three", "[3]"),
        ("#set", "set"),
    ]
    .into_iter()
    .map(|(key, name)| (key.to_owned(), name.to_owned()))
    .collect()
}

/// Names and values that hardly any test uses all of.
pub fn placeholders() -> Placeholders {
    Placeholders::new(Some(all_names()), Some(all_values()))
}

/// Placeholders with values of the test's own.
pub fn with_values<const N: usize>(values: [(&str, AttributeValue); N]) -> Placeholders {
    Placeholders::new(Some(all_names()), Some(item(values)))
}

/// Partition key `pk` (S) and, perhaps, sort key `sk`.
pub fn keys(sort: Option<ScalarType>) -> KeySchema {
    KeySchema {
        partition: KeyAttribute {
            name: "pk".to_owned(),
            kind: ScalarType::S,
        },
        sort: sort.map(|kind| KeyAttribute {
            name: "sk".to_owned(),
            kind,
        }),
    }
}
