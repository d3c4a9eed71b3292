//! Attribute values and items.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Number;

/// How deep values may be nested: the attribute itself is level 1, an element of a list in it level 2, and so on.
pub const NESTING_LEVELS_MAX: usize = 32;

/// An item, or a map attribute: attribute name to value, ordered by name so that every encoding is deterministic.
pub type Item = BTreeMap<String, AttributeValue>;

/// One DynamoDB attribute value. The serde form is for MessagePack between services (externally tagged, the variant
/// names are DynamoDB's type letters); DynamoDB JSON is `crate::json`, the stored form is `crate::codec`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// String, UTF-8.
    S(String),
    /// Number of up to 38 significant digits.
    N(Number),
    /// Binary.
    B(Bytes),
    /// Boolean.
    #[serde(rename = "BOOL")]
    Bool(bool),
    /// Null.
    #[serde(rename = "NULL")]
    Null,
    /// String set: not empty, no duplicates, kept sorted.
    #[serde(rename = "SS")]
    StringSet(Vec<String>),
    /// Number set: not empty, no duplicates (by value), kept sorted.
    #[serde(rename = "NS")]
    NumberSet(Vec<Number>),
    /// Binary set: not empty, no duplicates, kept sorted.
    #[serde(rename = "BS")]
    BinarySet(Vec<Bytes>),
    /// Map.
    M(Item),
    /// List.
    L(Vec<AttributeValue>),
}

impl AttributeValue {
    /// DynamoDB's type descriptor: `S`, `N`, `B`, `BOOL`, `NULL`, `SS`, `NS`, `BS`, `M` or `L`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::S(_) => "S",
            Self::N(_) => "N",
            Self::B(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::StringSet(_) => "SS",
            Self::NumberSet(_) => "NS",
            Self::BinarySet(_) => "BS",
            Self::M(_) => "M",
            Self::L(_) => "L",
        }
    }

    /// Whether the value is nested at most `levels` deep; 1 suffices for scalars, sets, and empty lists and maps. Looks
    /// no deeper than `levels`.
    pub fn within_levels(&self, levels: usize) -> bool {
        levels > 0
            && match self {
                Self::M(map) => map.values().all(|value| value.within_levels(levels - 1)),
                Self::L(list) => list.iter().all(|value| value.within_levels(levels - 1)),
                _ => true,
            }
    }
}
