//! Key conditions of Query.

use model::{ApiError, AttributeValue, table::KeySchema};
use serde::{Deserialize, Serialize};

use crate::Placeholders;

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

/// A key condition whose form was checked, but not yet against a table's keys (which DynamoDB does only once it knows the table).
#[derive(Clone, Debug, PartialEq)]
pub struct KeyTerms {}

/// First half of `parse_key_condition`: syntax, placeholders and form.
pub fn parse_key_terms(_text: &str, _placeholders: &mut Placeholders) -> Result<KeyTerms, ApiError> {
    todo!()
}

impl KeyTerms {
    /// Second half of `parse_key_condition`: against the keys of the table or index.
    pub fn resolve(self, _keys: &KeySchema) -> Result<KeyCondition, ApiError> {
        todo!()
    }
}

/// Parses, resolves and checks a key condition against the keys of the table or index.
pub fn parse_key_condition(
    text: &str,
    placeholders: &mut Placeholders,
    keys: &KeySchema,
) -> Result<KeyCondition, ApiError> {
    parse_key_terms(text, placeholders)?.resolve(keys)
}
