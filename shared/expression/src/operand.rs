//! Operands of conditions, and how values compare. Owns the semantics of comparison: values of different types are never equal and
//! never ordered; strings and binaries are ordered by their bytes, numbers by value; nothing else is ordered.

use std::borrow::Cow;
use std::cmp::Ordering;

use model::{AttributeValue, Item, Number};
use serde::{Deserialize, Serialize};

use crate::path::Path;

/// A resolved operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Operand {
    /// A value of the request.
    #[serde(rename = "v")]
    Value(AttributeValue),
    /// What a path names in the item.
    #[serde(rename = "p")]
    Path(Path),
    /// Size of what a path names.
    #[serde(rename = "s")]
    Size(Path),
}

impl Operand {
    /// Its value for `item`; none when the attribute is missing or has no size.
    pub(crate) fn value<'a>(&'a self, item: &'a Item) -> Option<Cow<'a, AttributeValue>> {
        match self {
            Self::Value(value) => Some(Cow::Borrowed(value)),
            Self::Path(path) => path.find(item).map(Cow::Borrowed),
            Self::Size(path) => {
                let size = size(path.find(item)?)?;
                Some(Cow::Owned(AttributeValue::N(Number::from(size))))
            }
        }
    }

    /// Its type, where that does not depend on the item.
    pub(crate) fn static_type(&self) -> Option<&'static str> {
        match self {
            Self::Value(value) => Some(value.type_name()),
            Self::Path(_) => None,
            Self::Size(_) => Some("N"),
        }
    }

    /// The path that it reads.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Value(_) => None,
            Self::Path(path) | Self::Size(path) => Some(path),
        }
    }
}

/// `size`: UTF-16 units of a string, bytes of a binary, elements of a set, list or map.
pub(crate) fn size(value: &AttributeValue) -> Option<u64> {
    let size = match value {
        AttributeValue::S(text) if text.is_ascii() => text.len(),
        AttributeValue::S(text) => text.encode_utf16().count(),
        AttributeValue::B(bytes) => bytes.len(),
        AttributeValue::StringSet(set) => set.len(),
        AttributeValue::NumberSet(set) => set.len(),
        AttributeValue::BinarySet(set) => set.len(),
        AttributeValue::L(list) => list.len(),
        AttributeValue::M(map) => map.len(),
        AttributeValue::N(_) | AttributeValue::Bool(_) | AttributeValue::Null => return None,
    };
    Some(size as u64)
}

/// Order of two values of the same scalar type.
pub(crate) fn order(left: &AttributeValue, right: &AttributeValue) -> Option<Ordering> {
    match (left, right) {
        (AttributeValue::S(left), AttributeValue::S(right)) => Some(left.cmp(right)),
        (AttributeValue::N(left), AttributeValue::N(right)) => Some(left.cmp(right)),
        (AttributeValue::B(left), AttributeValue::B(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// `begins_with`.
pub(crate) fn begins_with(value: &AttributeValue, prefix: &AttributeValue) -> bool {
    match (value, prefix) {
        (AttributeValue::S(value), AttributeValue::S(prefix)) => value.starts_with(prefix.as_str()),
        (AttributeValue::B(value), AttributeValue::B(prefix)) => value.starts_with(prefix),
        _ => false,
    }
}

/// `contains`: part of a string or binary, element of a set or list.
pub(crate) fn contains(value: &AttributeValue, element: &AttributeValue) -> bool {
    match (value, element) {
        (AttributeValue::S(value), AttributeValue::S(part)) => value.contains(part.as_str()),
        (AttributeValue::B(value), AttributeValue::B(part)) => contains_bytes(value, part),
        (AttributeValue::StringSet(set), AttributeValue::S(element)) => set.contains(element),
        (AttributeValue::NumberSet(set), AttributeValue::N(element)) => set.contains(element),
        (AttributeValue::BinarySet(set), AttributeValue::B(element)) => set.contains(element),
        (AttributeValue::L(list), element) => list.contains(element),
        _ => false,
    }
}

/// Knuth, Morris and Pratt's search: linear, so that 400 KB within 400 KB is no attack.
fn contains_bytes(value: &[u8], part: &[u8]) -> bool {
    if part.len() <= 1 || part.len() >= value.len() {
        return match part {
            [] => true,
            [byte] => value.contains(byte),
            _ => value == part,
        };
    }
    // borders[i]: length of the longest proper prefix of part[..=i] that is its suffix too
    let mut borders = vec![0_usize; part.len()];
    let mut length = 0;
    for at in 1..part.len() {
        while length > 0 && part[at] != part[length] {
            length = borders[length - 1];
        }
        if part[at] == part[length] {
            length += 1;
        }
        borders[at] = length;
    }
    let mut matched = 0;
    for byte in value {
        while matched > 0 && *byte != part[matched] {
            matched = borders[matched - 1];
        }
        if *byte == part[matched] {
            matched += 1;
        }
        if matched == part.len() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_are_found_as_by_trying_all(
            value in prop::collection::vec(0_u8..3, 0..24),
            part in prop::collection::vec(0_u8..3, 0..6),
        ) {
            let expected = (0..=value.len()).any(|at| value[at..].starts_with(&part));
            prop_assert_eq!(contains_bytes(&value, &part), expected);
        }
    }
}
