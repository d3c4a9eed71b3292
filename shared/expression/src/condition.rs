//! Condition and filter expressions.

use model::{ApiError, Item};
use serde::{Deserialize, Serialize};

use crate::Placeholders;

/// Which parameter a condition comes from; it names the parameter in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionKind {
    /// `ConditionExpression`.
    Condition,
    /// `FilterExpression`.
    Filter,
}

/// A resolved condition or filter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {}

/// Parses, resolves and statically checks a condition or filter.
pub fn parse_condition(
    _kind: ConditionKind,
    _text: &str,
    _placeholders: &mut Placeholders,
) -> Result<Condition, ApiError> {
    todo!()
}

impl Condition {
    /// Whether it holds for `item` (an absent item is an empty one). An error is a ValidationException.
    pub fn evaluate(&self, _item: &Item) -> Result<bool, ApiError> {
        todo!()
    }

    /// For Query's filter: it may not name an attribute of the key that the query uses.
    pub fn check_filter_keys(&self, _keys: &model::table::KeySchema) -> Result<(), ApiError> {
        todo!()
    }
}
