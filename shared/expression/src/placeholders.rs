//! `#name` and `:value` placeholders of one request.

use std::collections::BTreeMap;

use model::{ApiError, AttributeValue};

/// The placeholders of one request and which of them were used, over all of its expressions.
#[derive(Clone, Debug, Default)]
pub struct Placeholders {}

impl Placeholders {
    /// The request's `ExpressionAttributeNames` and `ExpressionAttributeValues`, `None` where the request has none.
    /// Nothing is checked yet: `check` does.
    pub fn new(
        _names: Option<BTreeMap<String, String>>,
        _values: Option<BTreeMap<String, AttributeValue>>,
    ) -> Self {
        todo!()
    }

    /// Checks that names and values are not empty and have a valid syntax, and, when the request `has_expression` none, that there are
    /// no placeholders. `expression_names` are the operation's expression parameters, in DynamoDB's order, for that message
    /// (`&["UpdateExpression", "ConditionExpression"]`). Call it before parsing.
    pub fn check(&self, _has_expression: bool, _parameters: &[&str]) -> Result<(), ApiError> {
        todo!()
    }

    /// Call it after all expressions of the request were parsed: every placeholder must have been used.
    pub fn finish(&self) -> Result<(), ApiError> {
        todo!()
    }
}
