//! The stored form of items: one compact, deterministic binary encoding that is used in the WAL, in LMDB and between
//! services, and that can be turned into DynamoDB JSON without building an `Item`.

use bytes::Bytes;

use crate::{AttributeValue, Item};

/// The bytes are not an encoded item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an encoded item: {0}")]
pub struct CodecError(pub &'static str);

/// Encodes an item; equal items give equal bytes.
pub fn encode_item(item: &Item) -> Bytes {
    let mut out = Vec::new();
    encode_item_into(item, &mut out);
    Bytes::from(out)
}
/// Appends the encoded item to `out`.
pub fn encode_item_into(_item: &Item, _out: &mut Vec<u8>) {
    todo!()
}
/// Decodes an item; depth and lengths are bounded, any bytes are safe input.
pub fn decode_item(_bytes: &[u8]) -> Result<Item, CodecError> {
    todo!()
}
/// Appends the item as DynamoDB JSON (`{"a":{"S":"x"},…}`) without decoding it into an `Item`. On an error `out` is as before.
pub fn write_json(_bytes: &[u8], _out: &mut Vec<u8>) -> Result<(), CodecError> {
    todo!()
}
/// Size in bytes as DynamoDB counts it (see `crate::size`), computed from the encoded form.
pub fn encoded_item_size(_bytes: &[u8]) -> Result<u64, CodecError> {
    todo!()
}
/// One top-level attribute, without decoding the others.
pub fn get_attribute(_bytes: &[u8], _name: &str) -> Result<Option<AttributeValue>, CodecError> {
    todo!()
}
/// The encoded item that has only these top-level attributes of the encoded item `bytes` (names it lacks are left out).
pub fn pick_attributes(_bytes: &[u8], _names: &[&str]) -> Result<Bytes, CodecError> {
    todo!()
}
