//! The shapes of data-plane requests. Parsed straight from JSON; fields that DynamoDB does not know are ignored, as it does.

use std::collections::BTreeMap;
use std::fmt;

use model::json::{JsonItem, JsonValue};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::legacy::{AttributeUpdates, Conditions, ExpectedAttributes};

/// A whole number; fractions are cut off, as DynamoDB does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Integer(pub(crate) i64);

impl<'de> Deserialize<'de> for Integer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Integer;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Integer, E> {
                Ok(Integer(value))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Integer, E> {
                Ok(Integer(i64::try_from(value).unwrap_or(i64::MAX)))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Integer, E> {
                // `as` saturates: exactly what a limit needs
                Ok(Integer(value as i64))
            }
        }
        deserializer.deserialize_any(Whole)
    }
}

/// `ExpressionAttributeNames`.
pub(crate) type Names = Option<BTreeMap<String, String>>;
/// `ExpressionAttributeValues`.
pub(crate) type Values = Option<BTreeMap<String, JsonValue>>;

/// PutItem.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PutItem {
    pub(crate) table_name: Option<String>,
    pub(crate) item: Option<JsonItem>,
    pub(crate) condition_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) expression_attribute_values: Values,
    pub(crate) return_values: Option<String>,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) return_item_collection_metrics: Option<String>,
    pub(crate) return_values_on_condition_check_failure: Option<String>,
    pub(crate) expected: ExpectedAttributes,
    pub(crate) conditional_operator: Option<String>,
}

/// GetItem.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct GetItem {
    pub(crate) table_name: Option<String>,
    pub(crate) key: Option<JsonItem>,
    pub(crate) consistent_read: Option<bool>,
    pub(crate) projection_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) attributes_to_get: Option<Vec<String>>,
}

/// DeleteItem.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteItem {
    pub(crate) table_name: Option<String>,
    pub(crate) key: Option<JsonItem>,
    pub(crate) condition_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) expression_attribute_values: Values,
    pub(crate) return_values: Option<String>,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) return_item_collection_metrics: Option<String>,
    pub(crate) return_values_on_condition_check_failure: Option<String>,
    pub(crate) expected: ExpectedAttributes,
    pub(crate) conditional_operator: Option<String>,
}

/// UpdateItem.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct UpdateItem {
    pub(crate) table_name: Option<String>,
    pub(crate) key: Option<JsonItem>,
    pub(crate) update_expression: Option<String>,
    pub(crate) condition_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) expression_attribute_values: Values,
    pub(crate) return_values: Option<String>,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) return_item_collection_metrics: Option<String>,
    pub(crate) return_values_on_condition_check_failure: Option<String>,
    pub(crate) attribute_updates: AttributeUpdates,
    pub(crate) expected: ExpectedAttributes,
    pub(crate) conditional_operator: Option<String>,
}

/// Query.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Query {
    pub(crate) table_name: Option<String>,
    pub(crate) index_name: Option<String>,
    pub(crate) select: Option<String>,
    pub(crate) limit: Option<Integer>,
    pub(crate) consistent_read: Option<bool>,
    pub(crate) scan_index_forward: Option<bool>,
    pub(crate) exclusive_start_key: Option<JsonItem>,
    pub(crate) key_condition_expression: Option<String>,
    pub(crate) filter_expression: Option<String>,
    pub(crate) projection_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) expression_attribute_values: Values,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) attributes_to_get: Option<Vec<String>>,
    pub(crate) key_conditions: Conditions,
    pub(crate) query_filter: Conditions,
    pub(crate) conditional_operator: Option<String>,
}

/// Scan.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Scan {
    pub(crate) table_name: Option<String>,
    pub(crate) index_name: Option<String>,
    pub(crate) select: Option<String>,
    pub(crate) limit: Option<Integer>,
    pub(crate) consistent_read: Option<bool>,
    pub(crate) segment: Option<Integer>,
    pub(crate) total_segments: Option<Integer>,
    pub(crate) exclusive_start_key: Option<JsonItem>,
    pub(crate) filter_expression: Option<String>,
    pub(crate) projection_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) expression_attribute_values: Values,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) attributes_to_get: Option<Vec<String>>,
    pub(crate) scan_filter: Conditions,
    pub(crate) conditional_operator: Option<String>,
}

/// BatchGetItem.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BatchGetItem {
    pub(crate) request_items: Option<BTreeMap<String, KeysAndAttributes>>,
    pub(crate) return_consumed_capacity: Option<String>,
}

/// What BatchGetItem wants of one table.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct KeysAndAttributes {
    pub(crate) keys: Option<Vec<JsonItem>>,
    pub(crate) consistent_read: Option<bool>,
    pub(crate) projection_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) attributes_to_get: Option<Vec<String>>,
}

/// BatchWriteItem.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BatchWriteItem {
    pub(crate) request_items: Option<BTreeMap<String, Vec<WriteRequest>>>,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) return_item_collection_metrics: Option<String>,
}

/// A put or a delete of BatchWriteItem.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WriteRequest {
    pub(crate) put_request: Option<PutRequest>,
    pub(crate) delete_request: Option<DeleteRequest>,
}

/// The put of a `WriteRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PutRequest {
    pub(crate) item: Option<JsonItem>,
}

/// The delete of a `WriteRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteRequest {
    pub(crate) key: Option<JsonItem>,
}

/// TransactWriteItems.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TransactWriteItems {
    pub(crate) transact_items: Option<Vec<TransactWriteItem>>,
    pub(crate) client_request_token: Option<String>,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) return_item_collection_metrics: Option<String>,
}

/// One operation of TransactWriteItems: exactly one of these.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TransactWriteItem {
    pub(crate) condition_check: Option<TransactWrite>,
    pub(crate) put: Option<TransactWrite>,
    pub(crate) delete: Option<TransactWrite>,
    pub(crate) update: Option<TransactWrite>,
}

/// Whatever the operations of TransactWriteItems have.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TransactWrite {
    pub(crate) table_name: Option<String>,
    pub(crate) key: Option<JsonItem>,
    pub(crate) item: Option<JsonItem>,
    pub(crate) update_expression: Option<String>,
    pub(crate) condition_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
    pub(crate) expression_attribute_values: Values,
    pub(crate) return_values_on_condition_check_failure: Option<String>,
}

/// TransactGetItems.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TransactGetItems {
    pub(crate) transact_items: Option<Vec<TransactGetItem>>,
    pub(crate) return_consumed_capacity: Option<String>,
}

/// One operation of TransactGetItems.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TransactGetItem {
    pub(crate) get: Option<TransactGet>,
}

/// A read of TransactGetItems.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TransactGet {
    pub(crate) table_name: Option<String>,
    pub(crate) key: Option<JsonItem>,
    pub(crate) projection_expression: Option<String>,
    pub(crate) expression_attribute_names: Names,
}

/// ExecuteStatement.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExecuteStatement {
    pub(crate) statement: Option<String>,
    pub(crate) parameters: Option<Vec<JsonValue>>,
    pub(crate) consistent_read: Option<bool>,
    pub(crate) next_token: Option<String>,
    pub(crate) limit: Option<Integer>,
    pub(crate) return_consumed_capacity: Option<String>,
    pub(crate) return_values_on_condition_check_failure: Option<String>,
}

/// BatchExecuteStatement.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BatchExecuteStatement {
    pub(crate) statements: Option<Vec<BatchStatement>>,
    pub(crate) return_consumed_capacity: Option<String>,
}

/// A statement of BatchExecuteStatement.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BatchStatement {
    pub(crate) statement: Option<String>,
    pub(crate) parameters: Option<Vec<JsonValue>>,
    pub(crate) consistent_read: Option<bool>,
    pub(crate) return_values_on_condition_check_failure: Option<String>,
}

/// ExecuteTransaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ExecuteTransaction {
    pub(crate) transact_statements: Option<Vec<TransactStatement>>,
    pub(crate) client_request_token: Option<String>,
    pub(crate) return_consumed_capacity: Option<String>,
}

/// A statement of ExecuteTransaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TransactStatement {
    pub(crate) statement: Option<String>,
    pub(crate) parameters: Option<Vec<JsonValue>>,
    pub(crate) return_values_on_condition_check_failure: Option<String>,
}
