//! DynamoDB JSON for attribute values and items: streaming serde in both directions, no generic JSON tree; nesting is
//! bounded while parsing; values are validated (types, numbers, sets, base64) with DynamoDB's messages.
//!
//! A request can be wrong in two ways that DynamoDB tells apart. JSON of the wrong shape (a number where a string
//! belongs) fails the parse: `from_slice` gives the SerializationException. A value that is well-formed but refused (an
//! empty set, too many digits) is a ValidationException that is due only after other checks, so it is kept in the value.

mod parse;
mod write;

use serde::de::Deserialize;
use serde_json::error::Category;

use crate::error::{ApiError, texts};
use crate::{AttributeValue, Item};

pub use write::{ItemJson, ValueJson, write_base64, write_item, write_string, write_value};

/// A value of a request, or the ValidationException that it deserves.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonValue(pub Result<AttributeValue, ApiError>);

/// An item (or key) of a request, or the ValidationException that the first wrong one of its values deserves.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonItem(pub Result<Item, ApiError>);

/// Parses a request body; every failure is the SerializationException that DynamoDB answers. Malformed JSON is answered
/// without a message, a value of the wrong JSON type with one.
pub fn from_slice<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| serialization_error(&error))
}

/// The SerializationException for a body that serde could not read.
pub fn serialization_error(error: &serde_json::Error) -> ApiError {
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => ApiError::serialization(""),
        Category::Data => {
            let text = error.to_string();
            let position = format!(" at line {} column {}", error.line(), error.column());
            let message = text.strip_suffix(&position).unwrap_or(&text);
            ApiError::serialization(texts::wrong_json_type(message))
        }
    }
}
