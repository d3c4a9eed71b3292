//! Message texts about values, numbers, keys, items and tables, as DynamoDB words them. Texts about expressions are with
//! the expressions.

use std::fmt::Display;

use crate::number::NumberError;

/// Starts the message of most refused values.
pub const INVALID: &str = "One or more parameter values were invalid: ";

// Attribute values

/// `{}` as an attribute value.
pub const NO_DATATYPE: &str =
    "Supplied AttributeValue is empty, must contain exactly one of the supported datatypes";
/// `{"S":"a","N":"1"}`.
pub const SEVERAL_DATATYPES: &str = "Supplied AttributeValue has more than one datatypes set, must contain exactly one \
     of the supported datatypes";
/// More than 32 levels.
pub const NESTING: &str = "Nesting Levels have exceeded supported limits: Attributes in the item have nested levels \
     beyond supported limit";
/// `{"SS":[]}`.
pub const STRING_SET_EMPTY: &str =
    "One or more parameter values were invalid: An string set  may not be empty";
/// `{"NS":[]}`.
pub const NUMBER_SET_EMPTY: &str =
    "One or more parameter values were invalid: An number set  may not be empty";
/// `{"BS":[]}`.
pub const BINARY_SET_EMPTY: &str =
    "One or more parameter values were invalid: Binary sets should not be empty";
/// `{"SS":[null]}`.
pub const STRING_SET_NULL: &str = "One or more parameter values were invalid: An string set may not have a empty string as a member";
/// `{"BS":[null]}`.
pub const BINARY_SET_NULL: &str =
    "One or more parameter values were invalid: Binary sets may not contain null or empty values";
/// `{"NS":["1","1.0"]}`.
pub const DUPLICATE_NUMBERS: &str = "Input collection contains duplicates";

/// `{"SS":["a","a"]}`, in the given order.
pub fn duplicate_strings(given: &[String]) -> String {
    format!(
        "{INVALID}Input collection [{}] contains duplicates.",
        given.join(", ")
    )
}
/// `{"BS":["Yg==","Yg=="]}`, in base64 and the given order. (The missing space is the service's.)
pub fn duplicate_binaries(given: &[String]) -> String {
    format!(
        "{INVALID}Input collection [{}]of type BS contains duplicates.",
        given.join(", ")
    )
}
/// A wrong value among `ExpressionAttributeValues`.
pub fn expression_value(message: &str, key: &str) -> String {
    format!("ExpressionAttributeValues contains invalid value: {message} for key {key}")
}

// Numbers

/// An empty number.
pub const NOT_NUMERIC: &str = "The parameter cannot be converted to a numeric value";
/// More than 38 significant digits.
pub const NUMBER_PRECISION: &str =
    "Attempting to store more than 38 significant digits in a Number";
/// Too large, and any result of arithmetic that cannot be stored.
pub const NUMBER_OVERFLOW: &str =
    "Number overflow. Attempting to store a number with magnitude larger than supported range";
/// Too small.
pub const NUMBER_UNDERFLOW: &str =
    "Number underflow. Attempting to store a number with magnitude smaller than supported range";

/// Why `text` is not a number.
pub fn number(error: NumberError, text: &str) -> String {
    match error {
        NumberError::Malformed if text.is_empty() => NOT_NUMERIC.to_owned(),
        NumberError::Malformed => format!("{NOT_NUMERIC}: {text}"),
        NumberError::TooPrecise => NUMBER_PRECISION.to_owned(),
        NumberError::Overflow => NUMBER_OVERFLOW.to_owned(),
        NumberError::Underflow => NUMBER_UNDERFLOW.to_owned(),
    }
}

// JSON of a wrong type (SerializationException)

/// A scalar where an attribute value belongs.
pub const UNEXPECTED_VALUE: &str = "Unexpected value type in payload";
/// A scalar where a list or map belongs.
pub const UNEXPECTED_FIELD: &str = "Unexpected field type";
/// A map where a scalar or list belongs.
pub const UNEXPECTED_MAP: &str = "Start of structure or map found where not expected";
/// A string where a boolean belongs.
pub const UNEXPECTED_TOKEN: &str = "Unexpected token received from parser";
/// A scalar other than a string where binary belongs.
pub const NOT_BASE64: &str = "only base-64-encoded strings are convertible to bytes";
/// Wrong characters or padding. (The spelling is the service's.)
pub const BASE64_LAST: &str = "Invalid last non-pad Base64 character dectected";

/// Base64 without its padding.
pub fn base64_length(characters: usize) -> String {
    format!("Base64 encoded length is expected a multiple of 4 bytes but found: {characters}")
}
/// `token` is `TRUE_VALUE`, `NUMBER_VALUE` …, `wanted` a Java type.
pub fn cannot_be(token: &str, wanted: &str) -> String {
    format!("{token} cannot be converted to {wanted}")
}
/// A list where something else belongs; `wanted` is a Java type with its kind.
pub fn unrecognized_collection(wanted: &str) -> String {
    format!("Unrecognized collection type {wanted}")
}

/// DynamoDB's text for serde's complaint about a parameter's type (`invalid type: integer `1`, expected a string`).
/// Other messages pass unchanged.
pub fn wrong_json_type(message: &str) -> String {
    let Some((found, wanted)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_owned();
    };
    let scalar = match wanted {
        _ if wanted.contains("string") => Some("String"),
        _ if wanted.contains("bool") => Some("Boolean"),
        "i8" | "i16" | "i32" | "u8" | "u16" | "u32" => Some("Integer"),
        "i64" | "u64" | "usize" | "isize" => Some("Long"),
        "f32" | "f64" => Some("Double"),
        _ => None,
    };
    let token = match found.split([' ', '`']).next().unwrap_or_default() {
        "boolean" if found.contains("true") => "TRUE_VALUE",
        "boolean" => "FALSE_VALUE",
        "integer" => "NUMBER_VALUE",
        "floating" => "DECIMAL_VALUE",
        "string" => "STRING_VALUE",
        "sequence" => {
            let class = match scalar {
                Some(class) => format!("class java.lang.{class}"),
                None => "java.util.Map".to_owned(),
            };
            return unrecognized_collection(&class);
        }
        "map" => return UNEXPECTED_MAP.to_owned(),
        _ => return message.to_owned(),
    };
    match scalar {
        Some("Boolean") if token == "STRING_VALUE" => UNEXPECTED_TOKEN.to_owned(),
        Some(class) => cannot_be(token, class),
        None => UNEXPECTED_FIELD.to_owned(),
    }
}

// Keys

/// A `Key` parameter that lacks a key attribute, has another, or has one of the wrong type.
pub const KEY_SCHEMA: &str = "The provided key element does not match the schema";
/// Partition key over 2,048 bytes. (The missing space is the service's.)
pub const PARTITION_KEY_SIZE: &str = "One or more parameter values were invalid: Size of hashkey has exceeded the \
     maximum size limit of2048 bytes";
/// Sort key over 1,024 bytes.
pub const SORT_KEY_SIZE: &str = "One or more parameter values were invalid: Aggregated size of all range keys has \
     exceeded the size limit of 1024 bytes";

/// An item without a key attribute.
pub fn missing_key(name: &str) -> String {
    format!("{INVALID}Missing the key {name} in the item")
}
/// A key attribute of the wrong type; the types are DynamoDB's letters.
pub fn key_type(name: &str, expected: impl Display, actual: &str) -> String {
    format!("{INVALID}Type mismatch for key {name} expected: {expected} actual: {actual}")
}
/// `what` is `string` or `binary`.
pub fn empty_key(what: &str, name: &str) -> String {
    format!(
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty \
         {what} value. Key: {name}"
    )
}
/// A key attribute of an index with a wrong type, in an item that is put.
pub fn index_key_type(name: &str, expected: &str, actual: &str, index: &str) -> String {
    format!(
        "{INVALID}Type mismatch for Index Key {name} Expected: {expected} Actual: {actual} IndexName: {index}"
    )
}
/// An empty key attribute of an index, in an item that is put. `what` is `string` or `binary`.
pub fn index_key_empty(what: &str, index: &str, name: &str) -> String {
    format!(
        "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The \
         AttributeValue for a key attribute cannot contain an empty {what} value. IndexName: {index}, IndexKey: {name}"
    )
}
/// An update that gives a key attribute of an index a wrong type.
pub const INDEX_KEY_UPDATE_TYPE: &str =
    "The update expression attempted to update the secondary index key to unsupported type";
/// An update that makes a key attribute of an index too long.
pub const INDEX_KEY_UPDATE_SIZE: &str =
    "The update expression attempted to update the secondary index key beyond allowed size limits";
/// An update that makes a key attribute of an index empty. `what` is `string` or `binary`.
pub fn index_key_update_empty(what: &str) -> String {
    format!(
        "One or more parameter values are not valid. The update expression attempted to update a secondary index key to \
         a value that is not supported. The AttributeValue for a key attribute cannot contain an empty {what} value."
    )
}
/// An item collection of a table with local secondary indexes has 10 GB.
pub const COLLECTION_SIZE: &str = "Item collection size limit exceeded.";

// Items

/// An item over 400 KB, of PutItem.
pub const ITEM_SIZE: &str = "Item size has exceeded the maximum allowed size";
/// An item over 400 KB, as the result of UpdateItem.
pub const ITEM_SIZE_UPDATE: &str = "Item size to update has exceeded the maximum allowed size";
/// The condition did not hold.
pub const CONDITION_FAILED: &str = "The conditional request failed";

// Throughput

/// A provisioned table's, or one of its partitions' (API reference, TransactWriteItems).
pub const PROVISIONED_THROUGHPUT: &str = "The level of configured provisioned throughput for the table was exceeded. Consider increasing your provisioning level \
     with the UpdateTable API.";
/// A provisioned index's.
pub const PROVISIONED_INDEX_THROUGHPUT: &str = "The level of configured provisioned throughput for one or more global secondary indexes of the table was exceeded. \
     Consider increasing your provisioning level for the under-provisioned global secondary indexes with the UpdateTable API";
/// What a partition of an on-demand table can serve.
pub const ON_DEMAND_THROUGHPUT: &str = "Throughput exceeds the current capacity of your table or index. DynamoDB is automatically scaling your table or index \
     so please try again shortly. If exceptions persist, check if you have a hot key: \
     https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html.";
/// What a partition of an on-demand index can serve.
pub const ON_DEMAND_INDEX_THROUGHPUT: &str = "Throughput exceeds the current capacity for one or more global secondary indexes. DynamoDB is automatically scaling \
     your index so please try again shortly.";
/// `MaxReadRequestUnits` and `MaxWriteRequestUnits`.
pub const ON_DEMAND_MAXIMUM: &str =
    "Throughput exceeds the maximum OnDemandThroughput configured on table or index";
/// The account's quota for one table.
pub const ACCOUNT_LIMIT: &str = "Throughput exceeds the current throughput limit for your account. Please contact AWS Support at \
     https://aws.amazon.com/support request a limit increase";

// Tables and requests

/// No such table, data plane.
pub const RESOURCE_NOT_FOUND: &str = "Requested resource not found";
/// Something went wrong inside, or it is not known whether a write was done.
pub const INTERNAL: &str = "Internal server error";

/// A job fills a table that has been filled: its work was done by another one.
pub const TABLE_IS_FILLED: &str =
    "Attempt to change a resource which is still in use: the table is not being filled any more";

/// No such table, control plane.
pub fn table_not_found(name: &str) -> String {
    format!("{RESOURCE_NOT_FOUND}: Table: {name} not found")
}
/// CreateTable of a name that is taken.
pub fn table_exists(name: &str) -> String {
    format!("Table already exists: {name}")
}

// Transactions

/// A single write, or an operation of a transaction, to an item on which another transaction is pending.
pub const TRANSACTION_CONFLICT: &str = "Transaction is ongoing for the item";
/// Followed by the codes of all operations in brackets.
pub const TRANSACTION_CANCELED: &str =
    "Transaction cancelled, please refer cancellation reasons for specific reasons";
