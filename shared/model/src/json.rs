//! DynamoDB JSON for attribute values and items: streaming serde in both directions, no generic JSON tree; nesting is
//! bounded while parsing; values are validated (types, numbers, sets, base64) with DynamoDB's messages.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::{ApiError, AttributeValue, Item};

/// A value of a request. JSON of a wrong shape fails the parse (SerializationException); a value that DynamoDB refuses
/// (bad number, empty set, too deep …) is kept as the ValidationException, so that it is reported at its turn.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonValue(pub Result<AttributeValue, ApiError>);

/// An item (or key) of a request; see `JsonValue`. Holds the first error of its values.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonItem(pub Result<Item, ApiError>);

impl<'de> Deserialize<'de> for JsonValue {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        todo!()
    }
}
impl<'de> Deserialize<'de> for JsonItem {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        todo!()
    }
}
/// Serialises a value as DynamoDB JSON inside of a larger answer.
pub struct ValueJson<'a>(pub &'a AttributeValue);
/// Serialises an item as DynamoDB JSON inside of a larger answer.
pub struct ItemJson<'a>(pub &'a Item);
impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        todo!()
    }
}
impl Serialize for ItemJson<'_> {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        todo!()
    }
}
/// Parses a request body; every failure is the SerializationException that DynamoDB answers.
pub fn from_slice<T: DeserializeOwned>(_body: &[u8]) -> Result<T, ApiError> {
    todo!()
}
/// Appends a value as DynamoDB JSON (`{"S":"x"}`).
pub fn write_value(_value: &AttributeValue, _out: &mut Vec<u8>) {
    todo!()
}
/// Appends an item as DynamoDB JSON.
pub fn write_item(_item: &Item, _out: &mut Vec<u8>) {
    todo!()
}
/// Appends a JSON string, quoted and escaped.
pub fn write_string(_text: &str, _out: &mut Vec<u8>) {
    todo!()
}
