//! DynamoDB expressions: condition, filter, key condition, projection and update. Owns their syntax (lexer, parser, reserved words,
//! limits), the resolution of `#names` and `:values`, and their evaluation against an item. Never touches storage or the network.
//!
//! The flow: the router calls the `parse_*` functions with the request's placeholders, which gives *resolved* expressions (no
//! placeholders left, all static checks done); these travel to the storage leader in MessagePack and are evaluated there.

use model::{AttributeValue, Item};
use serde::{Deserialize, Serialize};

/// A document path: an attribute name, then `.name` and `[index]` steps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Path(pub Vec<Step>);

/// One step of a path; the first is always a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// Attribute or map entry.
    Name(String),
    /// List element.
    Index(usize),
}

/// A resolved condition or filter. TODO(owner: expression): shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {}

/// A resolved update expression. TODO(owner: expression): shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {}

/// A resolved projection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// Paths, none a prefix of another.
    pub paths: Vec<Path>,
}

/// A resolved key condition: equality on the partition key, and optionally one condition on the sort key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyCondition {
    /// Value of the partition key.
    pub partition: AttributeValue,
    /// Condition on the sort key.
    pub sort: Option<SortCondition>,
}

/// A condition on the sort key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SortCondition {
    Equal(AttributeValue),
    Less(AttributeValue),
    LessOrEqual(AttributeValue),
    Greater(AttributeValue),
    GreaterOrEqual(AttributeValue),
    Between(AttributeValue, AttributeValue),
    BeginsWith(AttributeValue),
}

impl Projection {
    /// The part of `item` that the paths name.
    pub fn apply(&self, _item: &Item) -> Item {
        todo!()
    }
}
