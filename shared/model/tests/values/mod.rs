//! Strategies for values that several test files draw from.
#![allow(dead_code, missing_docs)]

use bytes::Bytes;
use model::{AttributeValue, Item, Number};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

/// Texts of valid numbers of all magnitudes, in many spellings.
pub fn number_text() -> impl Strategy<Value = String> {
    let plain = any::<i64>().prop_map(|n| n.to_string());
    let scientific =
        ("-?", "[1-9][0-9]{0,36}", -130i32..=125).prop_map(|(sign, digits, leading)| {
            let exponent = leading - (digits.len() as i32 - 1);
            format!("{sign}{digits}e{exponent}")
        });
    let pointed = ("-?", "[0-9]{1,19}", "[0-9]{1,19}")
        .prop_map(|(sign, whole, part)| format!("{sign}{whole}.{part}"));
    prop_oneof![plain, scientific, pointed, "-?[0-9]{1,3}", "-?[0-9]0{0,5}"]
}

pub fn number() -> impl Strategy<Value = Number> {
    number_text().prop_map(|text| Number::parse(&text).expect("a valid number"))
}

pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,12}",
        any::<String>(),
        "[\\x00-\\x1f\"\\\\é€😀a]{0,40}",
        "[ -~]{0,80}",
    ]
}

pub fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

pub fn value() -> impl Strategy<Value = AttributeValue> {
    let leaf = prop_oneof![
        text().prop_map(AttributeValue::S),
        number().prop_map(AttributeValue::N),
        binary().prop_map(AttributeValue::B),
        any::<bool>().prop_map(AttributeValue::Bool),
        Just(AttributeValue::Null),
        btree_set(text(), 1..5)
            .prop_map(|set| AttributeValue::StringSet(set.into_iter().collect())),
        btree_set(number(), 1..5)
            .prop_map(|set| AttributeValue::NumberSet(set.into_iter().collect())),
        btree_set(binary(), 1..5)
            .prop_map(|set| AttributeValue::BinarySet(set.into_iter().collect())),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(AttributeValue::L),
            btree_map(text(), inner, 0..6).prop_map(AttributeValue::M),
        ]
    })
}

pub fn item() -> impl Strategy<Value = Item> {
    btree_map(text(), value(), 0..8)
}

/// A value of `wraps` lists and maps around a string.
pub fn nested(wraps: usize) -> AttributeValue {
    let mut value = AttributeValue::S("leaf".to_owned());
    for wrap in 0..wraps {
        value = if wrap % 2 == 0 {
            AttributeValue::L(vec![value])
        } else {
            AttributeValue::M(Item::from([("n".to_owned(), value)]))
        };
    }
    value
}
